"""Comparing two audits: before and after a fine-tune, a clean-up of the data, a mitigation, or at another setting.

Pictures are paired, so that differences are of one picture with itself and what pictures have in common cancels. A
difference is read against its error: the combined standard error of the two values, and the interval of the median over
pictures.
"""

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pointland.auditing.derived import COLUMNS as DERIVED
from pointland.auditing.derived import deciding as deciding_of
from pointland.auditing.derived import derive, without_overlap
from pointland.auditing.directory import Run
from pointland.report import evidence
from pointland.report.compare import cautions
from pointland.report.compare.differences import interval, paired, rank_correlation
from pointland.report.compare.pairs import Pairs, match
from pointland.report.compare.schema import (
    SCHEMA_VERSION,
    Change,
    ColumnChange,
    Comparison,
    Flags,
    Movers,
    Pictures,
    Side,
)
from pointland.report.compare.settings import column_incomparable, differing, incomparable
from pointland.report.items import Items, of_role
from pointland.report.kinds import decided as decide_run  # flags here are those of each run's own report
from pointland.report.words import clean, counted, private
from pointland.verdict import Decisions

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

LISTED, MOVERS, NAMES = 500, 20, 100
NEEDED = ("model", "data", "sigma", "columns", "fdr", "decide_by", "seed")
NONE = np.empty(0, dtype=np.int64)


class Decided(NamedTuple):
    """A run with its verdict.

    Attributes:
        run: The run.
        audited: Its audited pictures.
        reference: Its reference pictures.
        columns: The contract of every column, by name.
        deciding: The column that the verdict rests on.
        fdr: The rate.
        decisions: What it decided about every audited picture.
    """

    run: Run
    audited: Items
    reference: Items
    columns: dict[str, dict[str, Any]]
    deciding: str
    fdr: float
    decisions: Decisions


def compare(run_a: Run, run_b: Run, *, fdr: float | None = None) -> Comparison:
    """Compare two audits that have pictures in common.

    Args:
        run_a: The earlier one, or the one to compare with; finished or not.
        run_b: The later one.
        fdr: False discovery rate of both verdicts; each run's own by default.

    Returns:
        A dictionary that JSON can hold, documented in ``docs/compare.md``.

    Raises:
        ValueError: If both are the same run, a record lacks what a comparison needs, a run has no pictures, the two
            have none in common, or ``fdr`` is not in (0, 1).
    """
    if run_a.folder.resolve() == run_b.folder.resolve():
        raise ValueError(f"{run_a.folder} and {run_b.folder} are the same run; give two")
    a, b = decided(run_a, fdr), decided(run_b, fdr)
    pairs = match(a.audited, b.audited)
    if not len(pairs.a):
        raise ValueError(_nothing_in_common(a, b, pairs))
    why = incomparable(run_a.record, run_b.record)
    columns = _columns(a, b, pairs, why)
    lines = _lines(a, b, pairs, why, columns)
    flags = _flags(a, b, pairs, lines)
    comparison = Comparison(
        schema_version=SCHEMA_VERSION,
        headline=_headline(a, b, pairs, flags),
        comparable=not why,
        why_not=why,
        a=_side(a),
        b=_side(b),
        warnings=[],
        settings=differing(run_a.record, run_b.record),
        pictures=_pictures(a, b, pairs),
        flags=flags,
        columns=columns,
        movers=_movers(a, b, pairs, columns),
    )
    comparison["warnings"] = cautions.of(comparison, run_a.record, run_b.record)
    return comparison


def decided(run: Run, fdr: float | None) -> Decided:
    """Decide about every picture of a run, as its own report does.

    Raises:
        ValueError: If its record lacks something, or it has no audited pictures yet.
    """
    lacking = [name for name in NEEDED if name not in run.record]
    if lacking:
        raise ValueError(f"{run.folder}/run.json lacks {', '.join(lacking)}; audit again with this version")
    if not {*DERIVED} & {*run.rows.column_names}:
        run = derive(without_overlap(run)[0])
    audited, reference = of_role(run, "audited"), of_role(run, "reference")
    if not len(audited):
        raise ValueError(f"{run.folder} has no scored picture yet; finish it first with the command that began it")
    columns = {column["name"]: column for column in run.record["columns"] if column.get("parts", 1) == 1}
    deciding = str(deciding_of(run)["name"])
    rate = float(run.record["fdr"] if fdr is None else fdr)
    decisions = decide_run(audited, reference, deciding, columns[deciding]["memorized_when"], rate)
    return Decided(run, audited, reference, columns, deciding, rate, decisions)


def _nothing_in_common(a: Decided, b: Decided, pairs: Pairs) -> str:
    models = a.run.record["model"].get("weights_sha256"), b.run.record["model"].get("weights_sha256")
    what = "different models over different pictures" if models[0] != models[1] else "one model over different pictures"
    named = (
        f"; {counted(len(pairs.replaced), 'name')} occur in both, for pictures that look different"
        if len(pairs.replaced)
        else ""
    )
    return (
        f"{a.run.folder} ({len(a.audited):,} pictures) and {b.run.folder} ({len(b.audited):,}) have no picture in "
        f"common{named}: {what} cannot be compared; audit the same pictures with both"
    )


def _columns(a: Decided, b: Decided, pairs: Pairs, why: list[str]) -> list[ColumnChange]:
    same_space = a.run.record["model"].get("space") == b.run.record["model"].get("space")
    seed = int(a.run.record["seed"])
    controls = match(a.reference, b.reference)
    found = []
    for name in (name for name in a.columns if name in b.columns):
        ours, theirs = a.columns[name], b.columns[name]
        reason = column_incomparable(ours, theirs, why, same_space)
        values_a, values_b = a.audited.floats(name)[pairs.a], b.audited.floats(name)[pairs.b]
        values = reference = net = None
        if not reason:
            values, medians = paired(values_a, values_b, _combined(a, b, "audited", name, pairs), seed)
            reference, of_reference = paired(
                a.reference.floats(name)[controls.a],
                b.reference.floats(name)[controls.b],
                _combined(a, b, "reference", name, controls),
                seed + 1,
            )
            if values is not None and reference is not None:
                gap = values["difference"]["value"] - reference["difference"]["value"]
                net = interval(gap, medians - of_reference)
        found.append(
            ColumnChange(
                name=name,
                title=ours["title"],
                unit=ours["unit"],
                memorized_when=ours["memorized_when"],
                n=int((np.isfinite(values_a) & np.isfinite(values_b)).sum()),
                why_not=reason,
                values=values,
                reference=reference,
                net=net,
                rank_correlation=rank_correlation(values_a, values_b),
            )
        )
    return found


def _combined(a: Decided, b: Decided, role: str, name: str, pairs: Pairs) -> Floats:
    """Return the combined standard error of every pair's difference; NaN where a run has none."""
    of_a, of_b = (a.audited, b.audited) if role == "audited" else (a.reference, b.reference)
    errors_a, errors_b = _stderr(a, of_a, name)[pairs.a], _stderr(b, of_b, name)[pairs.b]
    return np.asarray(np.hypot(errors_a, errors_b), dtype=np.float64)


def _stderr(side: Decided, items: Items, name: str) -> Floats:
    column = side.columns.get(name, {}).get("stderr")
    return np.full(len(items), np.nan) if column is None else items.floats(column)


class Lines(NamedTuple):
    """How to make a :class:`Change` of any pair, for one column of each run."""

    a: Decided
    b: Decided
    pairs: Pairs
    column_a: str
    column_b: str
    difference: Floats
    z: Floats
    share_a: Floats
    share_b: Floats

    def of_pair(self, place: int) -> Change:
        """Describe one pair."""
        return self.describe(int(self.pairs.a[place]), int(self.pairs.b[place]), place)

    def describe(self, i: int | None, j: int | None, place: int | None = None) -> Change:
        """Describe the picture at place ``i`` of A and ``j`` of B, ``None`` where a run does not have it."""
        row_a, row_b = _row(self.a, i), _row(self.b, j)
        key_a, key_b = row_a.get("key"), row_b.get("key")
        caption = row_b.get("caption") if i is None else row_a.get("caption")
        stderr_a = self.a.columns[self.column_a]["stderr"]
        stderr_b = self.b.columns[self.column_b]["stderr"]
        return Change(
            key=clean(key_b or "" if key_a is None else key_a),
            key_b=clean(key_b) if key_a is not None and key_b is not None and key_a != key_b else None,
            caption=None if caption is None else clean(caption),
            caption_changed=i is not None and j is not None and row_a.get("caption") != row_b.get("caption"),
            value_a=_finite(row_a.get(self.column_a)),
            value_b=_finite(row_b.get(self.column_b)),
            stderr_a=_finite(row_a.get(stderr_a)) if stderr_a else None,
            stderr_b=_finite(row_b.get(stderr_b)) if stderr_b else None,
            difference=None if place is None else _finite(self.difference[place]),
            z=None if place is None else _finite(self.z[place]),
            q_a=None if i is None else _finite(self.a.decisions.q[i]),
            q_b=None if j is None else _finite(self.b.decisions.q[j]),
            share_a=None if place is None else _finite(self.share_a[place]),
            share_b=None if place is None else _finite(self.share_b[place]),
        )


def _lines(
    a: Decided, b: Decided, pairs: Pairs, why: list[str], columns: list[ColumnChange], column: str | None = None
) -> Lines:
    """Prepare descriptions by one column, or by each run's deciding one."""
    name_a, name_b = (column, column) if column is not None else (a.deciding, b.deciding)
    values_a, values_b = a.audited.floats(name_a)[pairs.a], b.audited.floats(name_b)[pairs.b]
    difference = np.full(len(pairs.a), np.nan)
    z = difference.copy()
    if name_a == name_b and not next(one["why_not"] for one in columns if one["name"] == name_a):
        difference = values_b - values_a
        errors = _combined(a, b, "audited", name_a, pairs)
        z = np.where(errors > 0, difference / np.where(errors > 0, errors, 1), np.nan)
    return Lines(
        a,
        b,
        pairs,
        name_a,
        name_b,
        difference,
        z,
        _shares(values_a, a.columns[name_a]["memorized_when"]),
        _shares(values_b, b.columns[name_b]["memorized_when"]),
    )


def _shares(values: Floats, memorized_when: str) -> Floats:
    """Return places in the ranking from 0 (the most suspicious) to 1; NaN without a value."""
    known = np.isfinite(values)
    shares = np.full(len(values), np.nan)
    if known.sum() > 1:
        ranks = rankdata(-values[known] if memorized_when == "high" else values[known])
        shares[known] = (ranks - 1) / (known.sum() - 1)
    return shares


def _flags(a: Decided, b: Decided, pairs: Pairs, lines: Lines) -> Flags:
    flagged_a, flagged_b = a.decisions.flagged[pairs.a], b.decisions.flagged[pairs.b]
    valued_b = np.isfinite(b.audited.floats(b.deciding))[pairs.b]
    order = np.argsort(np.where(np.isnan(lines.share_b), 2.0, lines.share_b), kind="stable")

    def listed(wanted: NDArray[np.bool_]) -> list[Change]:
        return [lines.of_pair(place) for place in order[wanted[order]][:LISTED].tolist()]

    newly, both = ~flagged_a & flagged_b, flagged_a & flagged_b
    no_longer, lost = flagged_a & ~flagged_b & valued_b, flagged_a & ~flagged_b & ~valued_b
    gone, fresh = pairs.only_a[a.decisions.flagged[pairs.only_a]], pairs.only_b[b.decisions.flagged[pairs.only_b]]
    gone, fresh = gone[np.argsort(a.decisions.rank[gone])], fresh[np.argsort(b.decisions.rank[fresh])]
    z = np.abs(lines.z[newly])
    return Flags(
        n_newly=int(newly.sum()),
        n_no_longer=int(no_longer.sum()),
        n_both=int(both.sum()),
        n_lost=int(lost.sum()),
        n_only_a=len(gone),
        n_only_b=len(fresh),
        n_newly_within_noise=int((z < 2).sum()) if np.isfinite(z).any() else None,
        newly=listed(newly),
        no_longer=listed(no_longer),
        both=listed(both),
        lost=listed(lost),
        only_a=[lines.describe(i, None) for i in gone[:LISTED].tolist()],
        only_b=[lines.describe(None, j) for j in fresh[:LISTED].tolist()],
    )


def _movers(a: Decided, b: Decided, pairs: Pairs, columns: list[ColumnChange]) -> Movers:
    """Return the pictures that moved most, in a column that both runs have: B's deciding one, else A's, else any."""
    shared = [one for one in columns if one["memorized_when"] != "neither" and one["n"]]
    wanted = [b.deciding, a.deciding, *(one["name"] for one in shared if one["name"] != evidence.PNG)]
    chosen = next((one for name in wanted for one in shared if one["name"] == name), None)
    if chosen is None:
        return Movers(column=None, title="", unit="", by="rank", toward=[], away=[])
    lines = _lines(a, b, pairs, [], columns, chosen["name"])
    by_value = not chosen["why_not"]
    step = lines.share_b - lines.share_a
    if by_value:
        step = lines.difference if chosen["memorized_when"] == "low" else -lines.difference
    moved = np.flatnonzero(np.isfinite(step) & (step != 0))
    order = moved[np.argsort(step[moved], kind="stable")]
    toward = order[step[order] < 0][:MOVERS]
    away = order[step[order] > 0][::-1][:MOVERS]
    return Movers(
        column=chosen["name"],
        title=chosen["title"],
        unit=chosen["unit"],
        by="value" if by_value else "rank",
        toward=[lines.of_pair(place) for place in toward.tolist()],
        away=[lines.of_pair(place) for place in away.tolist()],
    )


def _pictures(a: Decided, b: Decided, pairs: Pairs) -> Pictures:
    captions_a, captions_b = a.audited.texts("caption"), b.audited.texts("caption")
    changed = sum(captions_a[i] != captions_b[j] for i, j in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
    failed_b = set(b.run.failed["key"].to_pylist())
    keys_a = a.audited.texts("key")
    return Pictures(
        n_paired=len(pairs.a),
        n_by_content=int((~pairs.by_name).sum()),
        n_by_name=int(pairs.by_name.sum()),
        n_caption_changed=changed,
        n_only_a=len(pairs.only_a),
        n_only_a_copies=_copies(a, b, pairs.only_a),
        n_only_a_failed=sum(keys_a[i] in failed_b for i in pairs.only_a.tolist()),
        n_only_b=len(pairs.only_b),
        n_only_b_copies=_copies(b, a, pairs.only_b),
        n_replaced=len(pairs.replaced),
        only_a=_names(a, pairs.only_a),
        only_b=_names(b, pairs.only_b),
        replaced=_names(a, pairs.replaced),
    )


def _copies(of: Decided, other: Decided, places: Places) -> int:
    """Count the pictures without a partner whose very bytes the other run has once more or less often."""
    there = set(other.audited.texts("sha256"))
    hashes = of.audited.texts("sha256")
    return sum(hashes[place] in there for place in places.tolist())


def _names(side: Decided, places: Places) -> list[str]:
    keys = side.audited.texts("key")
    return [clean(keys[place] or "") for place in places[:NAMES].tolist()]


def _side(side: Decided) -> Side:
    record, model = side.run.record, side.run.record["model"]
    column = side.columns[side.deciding]
    return Side(
        name=clean(side.run.folder.resolve().name, 80),
        model=clean(private(str(model.get("name", "unnamed"))), 80),
        weights_sha256=model.get("weights_sha256"),
        space=clean(str(model.get("space", "")), 80),
        sigma=record["sigma"].get("value"),
        finished=side.run.finished,
        fdr=side.fdr,
        decide_by=side.deciding,
        title=column["title"],
        unit=column["unit"],
        memorized_when=column["memorized_when"],
        n_audited=len(side.audited),
        n_reference=side.decisions.n_reference,
        n_failed=side.run.failed.num_rows,
        n_flagged=int(side.decisions.flagged.sum()),
        undecided=side.decisions.undecided,
    )


def _headline(a: Decided, b: Decided, pairs: Pairs, flags: Flags) -> str:
    compared = f"of {counted(len(pairs.a), 'picture')} in both"
    if b.decisions.undecided:
        return f"No decision in B, so nothing can be newly flagged; {compared[3:]} are compared by their numbers."
    parts = [
        f"{flags['n_newly']:,} newly flagged",
        f"{flags['n_no_longer']:,} no longer",
        f"{flags['n_both']:,} flagged in both",
    ]
    rest = f"; {flags['n_only_b']:,} more flagged in B that A does not have" if flags["n_only_b"] else ""
    before = " (A made no decision)" if a.decisions.undecided else ""
    return f"{', '.join(parts)}, {compared}{before}{rest}."


def _row(side: Decided, place: int | None) -> dict[str, Any]:
    if place is None:
        return {}
    return cast(dict[str, Any], side.audited.table.slice(place, 1).to_pylist()[0])


def _finite(value: float | np.floating | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
