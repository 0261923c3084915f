"""The kind of every flagged picture, with its evidence: copies, LID of the data, complexity.

LID of the data (LID_*) comes from the neighbours of a picture among the audited ones, in the sketches that the rows
keep of them in model space; the reference's data LID says what is ordinary. It needs the audited pictures to be all, or
nearly all, of the training set: copies elsewhere are not seen.
"""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointland.auditing.derived import deciding, derive, vectors, without_overlap
from pointland.auditing.directory import Run
from pointland.lid.data import censored_hill, nearest
from pointland.metrics.model_gap import GAP
from pointland.report.copies import CopyGroups, groups_of
from pointland.report.items import Items, of_role, sample
from pointland.verdict import Decisions, Told, conformal_p_values, decide, tell

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

SKETCH, PNG = "sketch", "png_bytes"
K = 20
MINIMUM_AUDITED = 100
MINIMUM_REFERENCE = 49  # below it no share of the reference is as small as what the decision table asks for
LARGEST = 5_000
COPY = 0.25  # of what the nearest neighbour of a reference picture is away


class DataEvidence(NamedTuple):
    """What the data is like at some pictures.

    Attributes:
        lid: LID of the data, in dimensions, NaN where unknown.
        p: Share of the reference whose data LID is as low, NaN where unknown.
        n_near: Audited pictures so near that they are copies, the picture itself included.
    """

    lid: Floats
    p: Floats
    n_near: NDArray[np.int64]


def kinds(
    audited: Items, reference: Items, flagged: NDArray[np.bool_], groups: CopyGroups, seed: int
) -> dict[int, Told]:
    """Tell the kind of every flagged picture, at most the first 5,000, by its place among the audited ones."""
    places = np.flatnonzero(flagged)[:LARGEST]
    if not len(places):
        return {}
    data = data_evidence(audited, reference, places, seed)
    simple = _simplicity(audited.floats(PNG)[places], reference.floats(PNG))
    exact = _sizes(groups.exact[audited.places])
    return {
        place: tell(
            n_exact=int(exact[place]),
            n_near=max(int(data.n_near[i]), int(exact[place])),
            data_lid=_known(data.lid[i]),
            data_lid_p=_known(data.p[i]),
            complexity_p=_known(simple[i]),
        )
        for i, place in enumerate(places.tolist())
    }


def kinds_of(run: Run) -> dict[str, str]:
    """Return the kind of every picture that the run's own verdict flags, by key."""
    run = derive(without_overlap(run)[0])
    audited, reference = of_role(run, "audited"), of_role(run, "reference")
    column = deciding(run)
    flagged = decided(audited, reference, column["name"], column["memorized_when"], run.record["fdr"]).flagged
    keys = audited.texts("key")
    told = kinds(audited, reference, flagged, groups_of(run), run.record["seed"])
    return {str(keys[place]): one.kind for place, one in told.items()}


def decided(audited: Items, reference: Items, name: str, memorized_when: str, fdr: float) -> Decisions:
    """Decide by one column, within strata of PNG size where the reference is large enough."""
    sized = PNG in audited.table.column_names and name != PNG
    return decide(
        audited.floats(name),
        reference.floats(name),
        memorized_when="high" if memorized_when == "high" else "low",
        fdr=fdr,
        complexity=audited.floats(PNG) if sized else None,
        reference_complexity=reference.floats(PNG) if sized else None,
        mirror=name == GAP,
        cleared=audited.screened_out(),
    )


def data_evidence(audited: Items, reference: Items, places: Places, seed: int) -> DataEvidence:
    """Measure the LID of the data at some audited pictures, and what is ordinary from the reference."""
    unknown = np.full(len(places), np.nan)
    nothing = DataEvidence(unknown, unknown, np.ones(len(places), dtype=np.int64))
    if SKETCH not in audited.table.column_names or len(audited) < MINIMUM_AUDITED:
        return nothing
    mine = vectors(audited.table, SKETCH)
    known = np.flatnonzero(np.isfinite(mine).all(1))
    if len(known) < MINIMUM_AUDITED:
        return nothing
    back = np.full(len(mine), -1)
    back[known] = np.arange(len(known))
    asked = np.flatnonzero(back[places] >= 0)
    theirs = vectors(reference.table, SKETCH) if len(reference) else np.empty((0, mine.shape[1]))
    theirs = theirs[np.isfinite(theirs).all(1)]
    theirs = theirs[sample(np.arange(len(theirs)), LARGEST, seed)]
    pool = mine[known]
    around = nearest(mine[places[asked]], pool, K, exclude=back[places[asked]])
    ordinary = nearest(theirs, pool, K) if len(theirs) else None
    first = around.distances[:, 0] if ordinary is None else ordinary.distances[:, 0]
    floor = COPY * float(np.median(first))
    lid, p = unknown.copy(), unknown.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # flagged pictures may well be copies: that is what is asked
        lid[asked] = censored_hill(around, floor).value
    if ordinary is not None and len(theirs) >= MINIMUM_REFERENCE:
        p[asked] = conformal_p_values(lid[asked], censored_hill(ordinary, floor).value)
    n_near = np.ones(len(places), dtype=np.int64)
    n_near[asked] += (around.distances <= floor).sum(1)
    return DataEvidence(lid, p, n_near)


def _simplicity(values: Floats, reference: Floats) -> Floats:
    reference = reference[np.isfinite(reference)]
    p = np.full(len(values), np.nan)
    if len(reference) >= MINIMUM_REFERENCE:
        there = np.isfinite(values)
        p[there] = conformal_p_values(values[there], reference)
    return p


def _sizes(group: Places) -> Places:
    """How many audited pictures are in the group of each; 1 where it is alone."""
    counts = np.bincount(group[group >= 0], minlength=1)
    return np.where(group >= 0, counts[np.maximum(group, 0)], 1)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
