"""What to know before believing that something changed."""

from collections.abc import Mapping
from typing import Any

from pointland.report.compare.schema import Comparison
from pointland.report.schema import Warned
from pointland.report.words import counted, percent


def of(comparison: Comparison, record_a: Mapping[str, Any], record_b: Mapping[str, Any]) -> list[Warned]:
    """Return what limits a comparison, the gravest first."""
    found: list[Warned] = []

    def warn(kind: str, text: str) -> None:
        found.append(Warned(level="warning", kind=kind, text=text))

    def note(kind: str, text: str) -> None:
        found.append(Warned(level="note", kind=kind, text=text))

    a, b, flags, pictures = comparison["a"], comparison["b"], comparison["flags"], comparison["pictures"]
    if comparison["why_not"]:
        warn(
            "incomparable",
            f"The dimensions of the two runs are not comparable: {'; '.join(comparison['why_not'])}. Only ranks and "
            "q-values are compared, each within its own run.",
        )
    for side, letter in ((a, "A"), (b, "B")):
        if not side["finished"]:
            warn("unfinished", f"{letter} is not finished; pictures that it has not scored yet count as missing there.")
        if side["undecided"]:
            warn("undecided", f"{letter} made no decision: {side['undecided']}.")
    if a["fdr"] != b["fdr"]:
        warn("fdr", f"A flags at {percent(a['fdr'])}, B at {percent(b['fdr'])}; pass --fdr to judge both alike.")
    if a["decide_by"] != b["decide_by"]:
        warn("decide_by", f"A decides by {a['title']}, B by {b['title']}: a changed flag may be the column's doing.")
    if record_a.get("schema_version") != record_b.get("schema_version"):
        note("schema", "The runs were written by different versions; only columns that both have are compared.")
    references = [(record["data"].get("reference") or {}).get("listing_sha256") for record in (record_a, record_b)]
    if references[0] != references[1] and all(references):
        warn("reference", "The references differ, so p- and q-values, and with them flags, are against other pictures.")
    same_weights = a["weights_sha256"] is not None and a["weights_sha256"] == b["weights_sha256"]
    if same_weights:
        note("weights", "Both audits are of the same weights: what changed lies in the settings or the data.")
    elif comparison["comparable"] and a["space"].startswith("latents"):
        note(
            "codec", f"Both count dimensions of {a['space']}; that is one space only if the autoencoders are the same."
        )
    if flags["n_newly_within_noise"]:
        note(
            "noise",
            f"{flags['n_newly_within_noise']:,} of {flags['n_newly']:,} newly flagged moved by less than two combined "
            "standard errors: flagged by chance (more --n-draws would tell), or because others moved and the rate is "
            "judged over all pictures together.",
        )
    if record_a["seed"] == record_b["seed"] and not comparison["why_not"]:
        note("seed", "Both runs drew the same noise, part of which cancels: combined standard errors are too large.")
    if pictures["n_caption_changed"]:
        note(
            "caption",
            f"{counted(pictures['n_caption_changed'], 'picture')} with another caption than before: columns with "
            "caption compare different things there.",
        )
    if pictures["n_by_name"]:
        note("by_name", f"{counted(pictures['n_by_name'], 'picture')} matched by name and looks; the bytes differ.")
    if pictures["n_replaced"]:
        note(
            "replaced",
            f"{counted(pictures['n_replaced'], 'name')} in both for pictures that look different: not compared.",
        )
    if pictures["n_only_a_failed"]:
        note("failed", f"{counted(pictures['n_only_a_failed'], 'picture')} of A could not be read or scored in B.")
    spans = [one["values"]["difference"] for one in comparison["columns"] if one["values"] is not None]
    still = not comparison["movers"]["toward"] and not comparison["movers"]["away"]
    if spans and still and not any(span["low"] or span["high"] for span in spans):
        note("identical", "No value differs: the runs repeat each other.")
    return found
