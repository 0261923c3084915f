"""The tables of a comparison as plain text cells; renderers only escape and lay them out."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from pointland.report.compare.schema import Change, ColumnChange, Comparison, Side
from pointland.report.schema import Estimate
from pointland.report.summary import direction_words
from pointland.report.words import counted, level, number, percent, probability, with_error, with_unit

KINDS = (
    ("newly", "Newly flagged"),
    ("only_b", "Flagged in B, not in A at all"),
    ("lost", "Flagged in A, without a value in B"),
    ("no_longer", "No longer flagged"),
    ("only_a", "Flagged in A, not in B at all"),
    ("both", "Flagged in both"),
)


class Block(NamedTuple):
    """A table with its heading, the words before it, and how many rows it leaves out."""

    title: str
    words: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left_out: int


def sides(comparison: Comparison) -> Block:
    """Return what A and B are."""
    return Block("The two runs", "", ("", "A", "B"), list(zip(*map(_side, _both(comparison)), strict=True)), 0)


def settings(comparison: Comparison) -> Block:
    """Return the settings that differ."""
    rows = [(one["group"], one["name"], _value(one["a"]), _value(one["b"])) for one in comparison["settings"]]
    words = "" if rows else "None: the runs differ in their pictures only, or repeat each other."
    return Block("Settings that differ", words, ("", "Setting", "A", "B"), rows, 0)


def flags(comparison: Comparison, top: int) -> list[Block]:
    """Return one table for every change of a flag that occurs, at most ``top`` rows each."""
    found = comparison["flags"]
    blocks = []
    for kind, title in KINDS:
        changes: Sequence[Change] = found[kind]  # type: ignore[literal-required]  # KINDS are its lists
        n: int = found[f"n_{kind}"]  # type: ignore[literal-required]
        if n and (kind != "both" or top):
            shown = changes[:top]
            blocks.append(Block(f"{title}: {n:,}", "", CHANGE, [change_row(one) for one in shown], n - len(shown)))
    return blocks


def columns(comparison: Comparison) -> Block:
    """Return the paired differences of every column."""
    rows = [_column(one) for one in comparison["columns"]]
    words = (
        "Medians over pictures in both, their paired difference (B less A) with its 95 % bootstrap interval, the "
        "median combined standard error of one difference, how many moved down and up beyond 1.96 of it, the "
        "difference less that of the reference, and the rank correlation."
    )
    head = ("Column", "Median A", "Median B", "Difference", "± one", "Down / up", "Net of reference", "Ranks", "n")
    return Block("Columns", words, head, rows, 0)


def movers(comparison: Comparison, top: int) -> list[Block]:
    """Return the pictures that moved most, toward the suspicious end and away from it."""
    found = comparison["movers"]
    if found["column"] is None:
        return []
    what = found["title"] if found["by"] == "value" else f"place in the ranking by {found['title']}"
    return [
        Block(
            f"Moved most {where}", f"By {what}; this column alone.", CHANGE, [change_row(one) for one in some[:top]], 0
        )
        for where, some in (("toward memorized", found["toward"]), ("away from it", found["away"]))
        if some and top
    ]


def pictures(comparison: Comparison) -> str:
    """Say how pictures were matched."""
    p = comparison["pictures"]
    parts = [f"{counted(p['n_paired'], 'picture')} in both ({p['n_by_content']:,} by content"]
    parts[0] += f", {p['n_by_name']:,} by name and looks)" if p["n_by_name"] else ")"
    for side, other in (("a", "B"), ("b", "A")):
        n, copies = (p["n_only_a"], p["n_only_a_copies"]) if side == "a" else (p["n_only_b"], p["n_only_b_copies"])
        tail = f", {copies:,} of them copies of one that {other} has" if copies else ""
        parts.append(f"{n:,} only in {side.upper()}{tail}")
    return "; ".join(parts) + "."


CHANGE = ("Picture", "A", "B", "Difference", "In errors", "q in A", "q in B", "Place in A", "Place in B", "Caption")


def change_row(one: Change) -> tuple[str, ...]:
    """Return the cells of one picture under :data:`CHANGE`."""
    return (
        one["key"] if one["key_b"] is None else f"{one['key']} → {one['key_b']}",
        with_error(one["value_a"], one["stderr_a"]),
        with_error(one["value_b"], one["stderr_b"]),
        _signed(one["difference"]),
        "–" if one["z"] is None else _signed(one["z"]),
        probability(one["q_a"]),
        probability(one["q_b"]),
        _share(one["share_a"]),
        _share(one["share_b"]),
        one["caption"] or "",
    )


def _value(text: str | None) -> str:
    return "–" if text is None else f"{text[:12]}…" if re.fullmatch("[0-9a-f]{40,}", text) else text


def _both(comparison: Comparison) -> tuple[Side | None, Side, Side]:
    return None, comparison["a"], comparison["b"]


def _side(side: Side | None) -> tuple[str, ...]:
    if side is None:
        return ("Run", "Model", "Weights", "Space", "Sigma", "Judged by", "Audited", "Reference", "Flagged")
    flagged = f"{side['n_flagged']:,} at {percent(side['fdr'])}"
    return (
        side["name"],
        side["model"],
        (side["weights_sha256"] or "unknown")[:12],
        side["space"],
        level(side["sigma"]),
        f"{side['title']}, {direction_words(side['memorized_when'])}",
        f"{side['n_audited']:,}" + (f", {side['n_failed']:,} not read" if side["n_failed"] else ""),
        f"{side['n_reference']:,}",
        "no decision" if side["undecided"] else flagged,
    )


def _column(one: ColumnChange) -> tuple[str, ...]:
    values = one["values"]
    title = with_unit(one["title"], "" if one["unit"] == "1" else f"({one['unit']})")
    ranks = "–" if one["rank_correlation"] is None else _estimate(one["rank_correlation"])
    if values is None:
        why = "not comparable" if one["why_not"] else "too few values"
        return (title, "–", "–", why, "–", "–", "–", ranks, f"{one['n']:,}")
    return (
        title,
        number(values["median_a"]),
        number(values["median_b"]),
        _estimate(values["difference"], signed=True),
        number(values["stderr"]),
        "–" if values["n_down"] is None else f"{values['n_down']:,} / {values['n_up']:,}",
        "–" if one["net"] is None else _estimate(one["net"], signed=True),
        ranks,
        f"{one['n']:,}",
    )


def _estimate(one: Estimate, *, signed: bool = False) -> str:
    show = _signed if signed else number
    return f"{show(one['value'])} [{show(one['low'])}, {show(one['high'])}]"


def _signed(value: float | None) -> str:
    return f"+{number(value)}" if value is not None and value > 0 else number(value)


def _share(share: float | None) -> str:
    return "–" if share is None else percent(share)
