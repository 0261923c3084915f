"""The summary of a run: everything that a report shows, computed once. Renderers only format it.

Its size does not grow with the number of pictures: at most 500 rows, 100 failures, 2,000 points, 48 bins. Text from
data is cut to 300 characters and cleaned of control characters; absolute paths and tokens are taken out of everything
else.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pointland.auditing.derived import deciding as deciding_of
from pointland.auditing.derived import derive, without_overlap
from pointland.auditing.directory import Run, check_pictures
from pointland.auditing.rows import SCREENED_OUT
from pointland.report import cautions, copies, evidence
from pointland.report.density import density
from pointland.report.explained import explained
from pointland.report.extracted import counts, extracted
from pointland.report.items import Items, labels_of, of_role, sample, saved_labels, spread
from pointland.report.kinds import decided, kinds
from pointland.report.schema import (
    SCHEMA_VERSION,
    ColumnSummary,
    Density,
    Direction,
    Extracted,
    Failure,
    Row,
    Scatter,
    ScatterPoint,
    State,
    Summary,
    Verdict,
)
from pointland.report.words import clean, counted, percent, private
from pointland.verdict import Decisions, Told

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

ROWS, FAILURES, POINTS, COPIES = 500, 100, 2_000, 8
LABEL_GROUPS = 9
UNLABELLED, REFERENCE, OTHERS = "audited", "reference", "other labels"


def summarize(run: Run, *, fdr: float | None = None, labels: Mapping[str, str] | None = None) -> Summary:
    """Compute everything that a report shows about a run.

    Args:
        run: The run, finished or not.
        fdr: False discovery rate; the run's own by default.
        labels: What is known beforehand, label by key; by default the run's ``labels.csv``, if it has one.

    Returns:
        A dictionary that JSON can hold, documented in ``docs/summary.md``.

    Raises:
        ValueError: If ``fdr`` is not in (0, 1), ``labels.csv`` lacks its header, ``explain/index.json`` is malformed,
            or the run lacks the column that its verdict rests on.
    """
    check_pictures(run)
    run, n_overlapping = without_overlap(run)
    run = derive(run)
    record = run.record
    known = saved_labels(run.folder / "labels.csv") if labels is None else labels
    audited, reference = of_role(run, "audited"), of_role(run, "reference")
    columns = _columns(record["columns"], audited, reference)
    titles = {column["name"]: column["title"] for column in columns} | evidence.FLOOR_TITLES
    deciding = next(column for column in columns if column["name"] == deciding_of(run)["name"])
    rate = record["fdr"] if fdr is None else fdr
    decisions = decided(audited, reference, deciding["name"], deciding["memorized_when"], rate)
    values = audited.floats(deciding["name"])
    groups = copies.groups_of(run)
    told = kinds(audited, reference, decisions.flagged, groups, record["seed"])
    screened = int(audited.screened_out().sum())
    verdict = _verdict(
        decisions, values, reference.floats(deciding["name"]), deciding, rate, run, len(audited), told, screened
    )
    copied = copies.count(groups, n_overlapping)
    given = labels_of(audited, known)
    shown = _groups(audited, reference, given)
    everyones = [column for column in columns if SCREENED_OUT not in column["missing"]]  # else misses would not count
    data = evidence.labelled(audited, reference, known, everyones, record["seed"])
    separated = evidence.separate(data, titles, record["seed"])
    order = _order(decisions)
    given_back = extracted(run)
    densities = [
        found
        for column in columns
        if (found := _density(column, audited, reference, shown, decisions.flagged, verdict)) is not None
    ]
    return Summary(
        schema_version=SCHEMA_VERSION,
        finished=run.finished,
        verdict=verdict,
        warnings=[
            *cautions.about_run(run, verdict, columns, copied, audited),
            *cautions.about_labels(known, given, data),
            *evidence.beaten(verdict, separated),
        ],
        columns=columns,
        copies=copied,
        groups=list(shown),
        overview=_density(deciding, audited, reference, _groups(audited, reference, []), decisions.flagged, verdict),
        densities=densities,
        separations=separated,
        dose_response=evidence.respond(data, separated, columns, record["seed"]),
        scatter=_scatter(audited, reference, deciding, decisions.flagged, record["seed"]),
        sigma=_jsonable(record["sigma"]),
        extraction=counts(given_back),
        rows=_rows(run, audited, order[:ROWS], columns, decisions, given, groups, told, given_back),
        n_rows=len(audited),
        failed=[
            Failure(key=clean(one["key"] or ""), role=one["role"], reason=clean(private(one["reason"] or "")))
            for one in run.failed.slice(0, FAILURES).to_pylist()
        ],
        n_failed=run.failed.num_rows,
        provenance=_provenance(record),
    )


def _columns(declared: Sequence[dict[str, Any]], audited: Items, reference: Items) -> list[ColumnSummary]:
    missing = audited.missing()
    return [
        ColumnSummary(
            name=column["name"],
            title=column["title"],
            unit=column["unit"],
            memorized_when=column["memorized_when"],
            needs=column["needs"],
            stderr=column["stderr"],
            description=column["description"],
            source=column["source"],
            audited=spread(audited.floats(column["name"])),
            reference=spread(reference.floats(column["name"])) if len(reference) else None,
            missing=missing.get(column["name"], {}),
        )
        for column in declared
        if column.get("parts", 1) == 1
    ]


def _verdict(
    decisions: Decisions,
    values: Floats,
    reference: Floats,
    deciding: ColumnSummary,
    fdr: float,
    run: Run,
    n_audited: int,
    told: Mapping[int, Told],
    n_screened: int,
) -> Verdict:
    n_flagged = int(decisions.flagged.sum())
    state: State = "flagged" if n_flagged else "ranked" if decisions.undecided else "none"
    if not n_audited:
        state = "empty"
    at = f"at a false discovery rate of {percent(fdr)}"
    of = counted(n_audited, "picture")
    others = "the reference" if decisions.n_reference else "the others"  # a gap of two models needs no reference
    is_memorized = "is flagged as memorized" if n_flagged == 1 else "are flagged as memorized"
    headline = {
        "flagged": f"{n_flagged:,} of {of} {is_memorized} {at}.",
        "none": f"Nothing flagged: none of {of} stands out from {others}.",
        "ranked": f"Ranked only: {of} from most to least suspicious, without a decision.",
        "empty": "No picture has been scored" + (" yet." if not run.finished else "."),
    }[state]
    sign = -1.0 if deciding["memorized_when"] == "high" else 1.0
    beyond = 0
    if decisions.n_reference:
        beyond = int((sign * values < np.nanmin(sign * reference)).sum())
    threshold = None
    if n_flagged and decisions.n_strata == 1:
        flagged = values[decisions.flagged]
        threshold = float(flagged.min() if deciding["memorized_when"] == "high" else flagged.max())
    return Verdict(
        state=state,
        headline=headline,
        n_audited=n_audited,
        n_valued=int(np.isfinite(values).sum()),
        n_screened=n_screened,
        n_reference=decisions.n_reference,
        n_flagged=n_flagged,
        n_beyond=beyond,
        fdr=fdr,
        decide_by=deciding["name"],
        title=deciding["title"],
        unit=deciding["unit"],
        memorized_when=deciding["memorized_when"],
        threshold=threshold,
        smallest_p=_finite(decisions.smallest_p),
        needed=decisions.needed,
        n_strata=decisions.n_strata,
        undecided=decisions.undecided,
        kinds=dict(Counter(one.kind for one in told.values())),
    )


def _groups(audited: Items, reference: Items, given: Sequence[str | None]) -> dict[str, tuple[str, Places]]:
    """Groups for charts: name, then role and places. Labels where there are some, at most nine; then the reference."""
    if not any(given):
        groups = {UNLABELLED: ("audited", np.arange(len(audited)))} if len(audited) else {}
    else:
        largest = [label for label, _ in Counter(label for label in given if label).most_common()]
        kept = set(largest if len(largest) <= LABEL_GROUPS else largest[: LABEL_GROUPS - 1])
        named = np.array(
            [UNLABELLED if label is None else label if label in kept else OTHERS for label in given], dtype=object
        )
        names = [*evidence.in_order(sorted(kept)), OTHERS, UNLABELLED]
        groups = {
            clean(name, 40): ("audited", np.flatnonzero(named == name)) for name in names if (named == name).any()
        }
    if len(reference):
        groups[REFERENCE] = ("reference", np.arange(len(reference)))
    return groups


def _density(
    column: ColumnSummary,
    audited: Items,
    reference: Items,
    groups: Mapping[str, tuple[str, Places]],
    flagged: NDArray[np.bool_],
    verdict: Verdict,
) -> Density | None:
    of = {"audited": audited.floats(column["name"]), "reference": reference.floats(column["name"])}
    values = {name: of[role][places] for name, (role, places) in groups.items()}
    deciding = column["name"] == verdict["decide_by"]
    return density(column["name"], values, of["audited"][flagged], verdict["threshold"] if deciding else None, deciding)


def _scatter(
    audited: Items, reference: Items, deciding: ColumnSummary, flagged: NDArray[np.bool_], seed: int
) -> Scatter | None:
    """The deciding column against PNG size: at most 2,000 pictures, flagged ones first, others in proportion."""
    if deciding["name"] == evidence.PNG:
        return None
    x = np.concatenate([audited.floats(evidence.PNG), reference.floats(evidence.PNG)])
    y = np.concatenate([audited.floats(deciding["name"]), reference.floats(deciding["name"])])
    group = np.array(
        ["flagged" if is_flagged else "audited" for is_flagged in flagged] + ["reference"] * len(reference)
    )
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not len(known):
        return None
    first = sample(known[group[known] == "flagged"], POINTS, seed)
    rest = sample(known[group[known] != "flagged"], POINTS - len(first), seed)
    points = [
        ScatterPoint(x=float(x[i]), y=_rounded(float(y[i])), group=cast(Any, str(group[i])))
        for i in np.concatenate([rest, first]).tolist()
    ]
    return Scatter(x=evidence.PNG, y=deciding["name"], n=len(known), points=points)


def _order(decisions: Decisions) -> Places:
    """Flagged first, then from the most suspicious down, those without a value last."""
    rank = np.where(decisions.rank == 0, np.iinfo(np.int64).max, decisions.rank)
    return np.lexsort((rank, ~decisions.flagged))


def _rows(
    run: Run,
    audited: Items,
    order: Places,
    columns: Sequence[ColumnSummary],
    decisions: Decisions,
    given: Sequence[str | None],
    groups: copies.CopyGroups,
    told: Mapping[int, Told],
    given_back: Mapping[str, list[Extracted]],
) -> list[Row]:
    shown = run.rows.take(audited.places[order]).to_pylist() if len(order) else []
    members = copies.members(groups, audited.places[order])
    names = [name for column in columns for name in (column["name"], column["stderr"]) if name is not None]
    pages = explained(run.folder)
    numbers: dict[int, int] = {}
    rows = []
    for raw, place in zip(shown, order.tolist(), strict=True):
        caption = raw["caption"]
        mine = audited.places[place]
        exact, near = int(groups.exact[mine]), int(groups.near[mine])
        same = [] if exact < 0 else members["exact"][exact]
        like = [] if near < 0 else members["near"][near]
        first = [*same[: COPIES + 1], *like[: COPIES + 1]]  # groups may be large
        others = [other for other in dict.fromkeys(first) if other != mine]
        rows.append(
            Row(
                key=clean(raw["key"]),
                file=raw["file"],
                caption=None if caption is None else clean(caption),
                caption_length=None if caption is None else len(caption),
                label=None if (label := given[place]) is None else clean(label, 40),
                note=None if raw.get("note") is None else clean(raw["note"]),
                width=raw["width"],
                height=raw["height"],
                sha256=raw["sha256"],
                rank=int(decisions.rank[place]),
                flagged=bool(decisions.flagged[place]),
                p=_finite(float(decisions.p[place])),
                q=_finite(float(decisions.q[place])),
                stratum=int(decisions.stratum[place]),
                values={name: _finite(raw.get(name)) for name in names},
                reasons={name: clean(private(why)) for name, why in json.loads(raw["reasons"] or "{}").items()},
                kind=told[place].kind if place in told else None,
                evidence=told[place].evidence if place in told else [],
                n_exact=len(same) or 1,
                n_near=len(like) or 1,
                group=None if near < 0 else numbers.setdefault(near, len(numbers) + 1),
                copies=[copies.copy_of(run, other, other in same) for other in others[:COPIES]],
                extracted=given_back.get(clean(raw["key"]), []),
                explained=pages.get(raw["key"]),
            )
        )
    return rows


def _provenance(record: Mapping[str, Any]) -> dict[str, Any]:
    """Everything about how the run was made, without absolute paths, tokens or columns (which have their own entry)."""
    left_out = {"columns", "sigma", "model_source"}
    return {name: _jsonable(value) for name, value in record.items() if name not in left_out}


def _jsonable(value: Any) -> Any:
    """Return a copy that strict JSON can hold and anyone may see."""
    match value:
        case str():
            return clean(private(value), 2_000)
        case dict():
            return {clean(str(name)): _jsonable(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_jsonable(inner) for inner in value]
        case float():
            return _finite(value)
        case _:
            return value


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def direction_words(direction: Direction) -> str:
    """Say which end of a column is suspicious."""
    return {"low": "low is suspicious", "high": "high is suspicious", "neither": "no end is suspicious by itself"}[
        direction
    ]
