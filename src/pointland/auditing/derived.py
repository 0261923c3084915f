"""Derived columns: what follows from the rows of a run and its reference, without the network.

==============  =======================================================  ==========================================
column          what it is                                               needs
==============  =======================================================  ==========================================
caption_gap     LID with caption minus LID without                       captions
swap_control    LID with caption, the reference's under audited captions  ``--also swapped``
lid_excess      LID minus what the reference has at equal PNG size       100 reference pictures
local_lid       how low the LID of the most frozen windows is            100 reference pictures, a map
combined        FLIPD, LID excess and local LID, by Fisher's rule         the same
==============  =======================================================  ==========================================

A reference picture is compared with the others, itself left out, so that audited and reference values are alike where
nothing is memorized.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pointland.auditing.directory import Run
from pointland.metrics.metric import Column
from pointland.verdict import combine

Floats = NDArray[np.float64]

LID, CONDITIONAL, MAP, PNG = (
    "denoising_loss_unconditional",
    "denoising_loss_conditional",
    "loss_map_unconditional",
    "png_bytes",
)
FLIPD = "flipd_unconditional"
SWAPPED = "denoising_loss_swapped"
MINIMUM = 100
WINDOW = 2
FOLDS = 5

COLUMNS = {
    "caption_gap": Column(
        "caption_gap",
        "LID with caption minus without",
        "dimensions",
        "low",
        "caption",
        None,
        "What the caption froze: denoising loss with caption minus that without.",
        "Ours, after Wen et al. 2024",
    ),
    "swap_control": Column(
        "swap_control",
        "LID with caption, reference under their captions",
        "dimensions",
        "low",
        "caption",
        None,
        "Control: audited pictures with their caption against reference pictures with the captions of audited "
        "ones. No better than chance if only the caption were recognized.",
        "Lopez Amado et al. 2026, caption-swapped pairs",
    ),
    "lid_excess": Column(
        "lid_excess",
        "LID beyond its complexity",
        "dimensions",
        "low",
        "nothing",
        None,
        "Denoising loss minus what the reference has at equal PNG size: a picture that is only simple has 0.",
        "Ours, after Ross et al. 2024, appendix A",
    ),
    "local_lid": Column(
        "local_lid",
        "Lowest local LID",
        "standard deviations",
        "low",
        "nothing",
        None,
        "The most frozen quarter of the picture: log LID by window against the reference's there at equal PNG size.",
        "Ours",
    ),
    "combined": Column(
        "combined",
        "FLIPD, LID excess and local LID combined",
        "1",
        "low",
        "nothing",
        None,
        "Sum of the log p-values of FLIPD, LID excess and local LID, calibrated on the reference.",
        "Fisher 1925",
    ),
}


class Sides(NamedTuple):
    """One quantity at audited and at reference pictures."""

    audited: Floats
    reference: Floats


def derivable(columns: Sequence[str], *, with_reference: bool) -> list[str]:
    """Return the derived columns that these measured ones allow."""
    has = {*columns}
    found = ["caption_gap"] if {LID, CONDITIONAL} <= has else []
    if with_reference:
        found += ["swap_control"] if {CONDITIONAL, SWAPPED} <= has else []
        found += ["lid_excess"] if {LID, PNG} <= has else []
        found += ["local_lid", "combined"] if {LID, MAP, PNG} <= has else []
    return found


def derive(run: Run) -> Run:
    """Return the run with its derived columns, in the rows and among the record's columns."""
    rows = run.rows
    if not rows.num_rows or "role" not in rows.column_names:
        return run
    of_reference = np.array(rows["role"].to_pylist(), dtype=object) == "reference"
    enough = int(of_reference.sum()) >= MINIMUM
    names = derivable(rows.column_names, with_reference=enough)
    values: dict[str, Floats] = {}
    if "caption_gap" in names:
        values["caption_gap"] = floats(rows, CONDITIONAL) - floats(rows, LID)
    if "swap_control" in names:
        values["swap_control"] = np.where(of_reference, floats(rows, SWAPPED), floats(rows, CONDITIONAL))
    known = of_reference.copy()
    for name in {LID, FLIPD} & {*rows.column_names}:
        known &= np.isfinite(floats(rows, name))
    for name in ("lid_excess", "local_lid", "combined"):
        if name in names and known.sum() >= MINIMUM:
            sides = _with_reference(name, rows, of_reference, values)
            if np.isfinite(sides.reference).sum() >= MINIMUM:
                values[name] = np.empty(len(of_reference))
                values[name][~of_reference], values[name][of_reference] = sides
    values = {name: column for name, column in values.items() if np.isfinite(column).any()}
    for name, column in values.items():
        rows = rows.append_column(name, pa.array(column, from_pandas=True))
    rows = _with_reasons(rows, values)
    declared = [*run.record["columns"], *(asdict(COLUMNS[name]) for name in values)]
    return run.with_rows(rows, {**run.record, "columns": declared})


def deciding(run: Run) -> dict[str, Any]:
    """Return the contract of the column that the verdict of a derived run rests on.

    Raises:
        ValueError: If the run has no such column: it could not be derived.
    """
    name = run.record["decide_by"]
    found: dict[str, Any] | None = next((column for column in run.record["columns"] if column["name"] == name), None)
    if found is None:
        needs = (
            "no picture has values with and without caption"
            if name in ("caption_gap", "swap_control")
            else f"fewer than {MINIMUM} reference pictures have the values that it needs (exact copies of audited ones "
            "are left out)"
        )
        raise ValueError(
            f"the verdict rests on {name!r}, which {run.folder} does not have: {needs}; audit again into another "
            "folder, with more of them or another --decide-by"
        )
    return found


def without_overlap(run: Run) -> tuple[Run, int]:
    """Return the run without the reference pictures that are exact copies of audited ones, and how many they were.

    The model trained on them, so they are no reference: with them p-values are too large.
    """
    rows = run.rows
    if not rows.num_rows or not {"role", "sha256"} <= {*rows.column_names}:
        return run, 0
    of_reference = np.array(rows["role"].to_pylist(), dtype=object) == "reference"
    hashes = np.array(rows["sha256"].to_pylist(), dtype=object)
    audited = set(hashes[~of_reference].tolist())
    overlapping = np.array([there and key in audited for there, key in zip(of_reference, hashes, strict=True)])
    if not overlapping.any():
        return run, 0
    return run.with_rows(rows.filter(pa.array(~overlapping))), int(overlapping.sum())


def floats(rows: pa.Table, name: str) -> Floats:
    """Return a column as numbers, NaN where it is null."""
    return np.asarray(rows[name].to_numpy(zero_copy_only=False), dtype=np.float64)


def vectors(rows: pa.Table, name: str) -> Floats:
    """Return a column of vectors, shape ``(n, parts)``, NaN where it is null."""
    column = rows[name].combine_chunks()
    there = np.asarray(column.is_valid())
    flat = column.filter(pa.array(there)).flatten().to_numpy(zero_copy_only=False)
    parts = column.type.list_size
    found = np.full((len(there), parts), np.nan)
    found[there] = flat.reshape(-1, parts)
    return found


def excess(values: Sides, complexity: Sides) -> Sides:
    """Return values minus what the reference has at equal complexity, by isotonic regression.

    A reference picture is compared with a fit that leaves out its fold of five; audited ones with the mean of the fits.
    """
    from sklearn.isotonic import IsotonicRegression

    known = np.flatnonzero(np.isfinite(values.reference) & np.isfinite(complexity.reference))
    audited, reference = np.zeros(len(values.audited)), np.full(len(values.reference), np.nan)
    for fold in range(FOLDS):
        inside = np.arange(len(known)) % FOLDS == fold
        fitted = IsotonicRegression(out_of_bounds="clip").fit(
            complexity.reference[known[~inside]], values.reference[known[~inside]]
        )
        reference[known[inside]] = fitted.predict(complexity.reference[known[inside]])
        audited += fitted.predict(np.nan_to_num(complexity.audited)) / FOLDS
    return Sides(values.audited - audited, values.reference - reference)


def lowest_windows(audited: Floats, reference: Floats, complexity: Sides) -> Sides:
    """Return how low the lowest quarter of the windows of 8 x 8 maps is, in standard deviations of the reference.

    A window is a quarter of the side. Its log sum is compared with what the reference has at that place in pictures of
    this complexity, by a line in log PNG size; a reference picture with the line that leaves it out.
    """
    mine, theirs = _windows(audited), _windows(reference)
    here, there = (np.stack([np.ones(len(c)), np.log(c)], axis=1) for c in complexity)
    known = np.isfinite(theirs).all(1) & np.isfinite(there).all(1)
    line = np.linalg.pinv(there[known]) @ theirs[known]
    left = theirs - there @ line
    leverage = (there @ np.linalg.pinv(there[known].T @ there[known]) * there).sum(1)
    left /= (1 - leverage)[:, None]
    spread = left[known].std(0)
    return Sides(*(_lowest_quarter(off / spread) for off in (mine - here @ line, left)))


def _lowest_quarter(off: Floats) -> Floats:
    lowest: Floats = np.sort(off, axis=1)[:, : off.shape[1] // 4].mean(1)
    return lowest


def _windows(maps: Floats) -> Floats:
    side = round(maps.shape[1] ** 0.5)
    summed = np.pad(maps.reshape(-1, side, side).cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    w = WINDOW
    found = summed[:, w:, w:] - summed[:, :-w, w:] - summed[:, w:, :-w] + summed[:, :-w, :-w]
    logs: Floats = np.log(np.maximum(found, 1e-6)).reshape(len(maps), -1)
    return logs


def _with_reference(name: str, rows: pa.Table, of_reference: NDArray[np.bool_], values: dict[str, Floats]) -> Sides:
    def sides(column: Floats) -> Sides:
        return Sides(column[~of_reference], column[of_reference])

    lid = sides(floats(rows, LID))
    if name == "lid_excess":
        return excess(lid, sides(floats(rows, PNG)))
    if name == "local_lid":
        maps = vectors(rows, MAP)
        return lowest_windows(maps[~of_reference], maps[of_reference], sides(floats(rows, PNG)))
    parts = [sides(values[part]) for part in ("lid_excess", "local_lid") if part in values]
    parts.append(sides(floats(rows, FLIPD)) if FLIPD in rows.column_names else lid)
    return Sides(*combine([(*part, "low") for part in parts]))


def _with_reasons(rows: pa.Table, values: dict[str, Floats]) -> pa.Table:
    missing = {name: np.flatnonzero(~np.isfinite(column)) for name, column in values.items()}
    if not any(len(places) for places in missing.values()) or "reasons" not in rows.column_names:
        return rows
    texts = rows["reasons"].to_pylist()
    for name, places in missing.items():
        for place in places.tolist():
            known = json.loads(texts[place]) if texts[place] else {}
            why = next(iter(known.values()), "not measured")
            texts[place] = json.dumps({**known, name: known.get(CONDITIONAL if name == "caption_gap" else LID, why)})
    return rows.set_column(rows.column_names.index("reasons"), "reasons", pa.array(texts, pa.string()))
