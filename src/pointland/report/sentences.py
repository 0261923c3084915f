"""The sentences of the report: what was decided, how to read each part, and what the numbers do not say."""

from collections.abc import Sequence
from typing import Any

from pointland.report import figures, words
from pointland.report.schema import ColumnSummary, Summary
from pointland.report.summary import REFERENCE, direction_words
from pointland.report.words import counted, percent


def meaning(summary: Summary) -> str:
    """Say what the verdict means, in one sentence."""
    v = summary["verdict"]
    if v["state"] == "flagged":
        return (
            f"About {percent(v['fdr'])} of the flags are expected to be false, and a flag is not "
            "proof: confirm it by generating."
        )
    if v["state"] == "none":
        return "That is no proof that nothing is memorized; below are the pictures that come closest."
    if v["state"] == "ranked":
        return "A low number alone is no memorization: simple pictures have low numbers too."
    return ""


def gone(gone: int, n: int) -> list[str]:
    """Say how many pictures have a placeholder."""
    if not gone:
        return []
    what = "No picture shown" if gone == n else f"{gone:,} of the {n:,} pictures shown"
    verb, them = ("is", "it") if gone == 1 or gone == n else ("are", "them")
    verb = verb if gone == n else f"{verb} not"
    return [f"{what} {verb} where the audit read {them}; a placeholder stands for each."]


def gallery_how(summary: Summary, n: int) -> str:
    """Say how to read the gallery."""
    v = summary["verdict"]
    if v["state"] == "flagged":
        end = "Those after the last flag are shown for comparison. " if n > v["n_flagged"] else ""
        unit = f" in {v['unit']}" if v["unit"] != "1" else ""
        return (
            f"{v['title']}{unit} with its standard error, and the smallest false discovery rate at "
            f"which the picture would be flagged (q). {end}Open a picture for all its numbers."
        )
    if v["state"] == "none":
        return "None of them is flagged; these come closest. Open a picture for all its numbers."
    return "Ranked by the deciding column alone, without a decision. Open a picture for all its numbers."


def beyond(summary: Summary, n: int) -> str:
    """Say how many flagged pictures the gallery leaves out."""
    flagged = summary["verdict"]["n_flagged"]
    return (
        (
            f"{flagged - n:,} more are flagged; the table has "
            f"{'them' if flagged <= len(summary['rows']) else 'the first of them'}."
        )
        if flagged > n
        else ""
    )


def table_how(summary: Summary) -> str:
    """Say which rows the table holds."""
    n, total = len(summary["rows"]), summary["n_rows"]
    which = (
        "flagged pictures first, then the most suspicious"
        if summary["verdict"]["n_flagged"]
        else "the most suspicious first"
    )
    if n == total:
        return f"All {counted(total, 'picture')}, {which}. Select a heading to sort."
    return (
        f"{n:,} of {total:,} pictures, {which}; the Parquet files in rows/ have all of them. Select a heading to sort."
    )


def failed_how(summary: Summary) -> str:
    """Say how many could not be read."""
    n, total = len(summary["failed"]), summary["n_failed"]
    which = f"The first {n:,} of {counted(total, 'picture')}" if n < total else counted(total, "picture")
    return f"{which} that are in no number above, each with its reason."


def limits(summary: Summary) -> list[tuple[str, str]]:
    """Say what the numbers do not say: headings and texts."""
    space = str(summary["provenance"].get("model", {}).get("space", "the model's space"))
    return [
        (
            "A flag is not proof.",
            (
                "It says that the model has fewer directions here than for comparable pictures. Confirm "
                "it by generating: can the model be made to produce this picture?"
            ),
        ),
        (
            "No flag is not innocence.",
            (
                "Memorization that shows only with another caption, at another noise scale, or in a part "
                "of the picture may be missed."
            ),
        ),
        (
            "The reference must be alike.",
            (
                "p-values hold if a picture that is not memorized could as well have been in the "
                "reference: same source, same processing, never trained on. Another kind of pictures "
                "gives false flags or hides true ones."
            ),
        ),
        (
            "FLIPD ranks.",
            (
                "For a trained network it may be negative, most of all at memorized pictures; read it as "
                "an order, not as a number of dimensions."
            ),
        ),
        (
            "Dimensions of which space?",
            (
                f"Numbers are about {space}, at the noise scale named above. Other models, spaces and "
                "scales have other numbers."
            ),
        ),
        (
            "The rate is an average.",
            "A false discovery rate is an expectation over audits: this one may hold more false flags, or none.",
        ),
    ]


def density_how(summary: Summary) -> str:
    """Say how to read the histograms."""
    if len(summary["groups"]) > figures.OVERLAID:
        return (
            "Each group in its own row, scaled to its own peak; the dashed outline is the "
            "reference. A group that is memorized stands apart from it, to the side that the column says."
        )
    if REFERENCE in summary["groups"]:
        return (
            "Audited pictures over the reference, each with area 1. Memorization shows as a part "
            "of the audited ones that the reference does not have."
        )
    return "Audited pictures alone; a reference would show what is ordinary."


def density_words(found: Any, column: ColumnSummary) -> str:
    """Say which end of one histogram is suspicious, and what it leaves out."""
    outside = sum(group["outside"] for group in found["groups"])
    parts = [direction_words(column["memorized_when"]).capitalize() + "."]
    if outside:
        parts.append(f"{counted(outside, 'value')} beyond the axis.")
    return " ".join(parts)


def roc_words(found: Sequence[Any], decide_by: str) -> str:
    """Say a group's AUROC and its best floor."""
    main = next((one for one in found if one["column"] == decide_by), None)
    floors = [one for one in found if one["floor"]]
    parts = [] if main is None else [f"AUROC {words.interval(**main['auroc'])}, n = {main['n']:,}."]
    if floors:
        best = max(floors, key=lambda one: one["auroc"]["value"])
        parts.append(f"Best floor: {best['title']}, {best['auroc']['value']:.3f}.")
    return " ".join(parts)


def sigma_how(summary: Summary) -> str:
    """Say how sigma was chosen."""
    sigma = summary["sigma"]
    if not sigma.get("curve"):
        return ""
    if sigma["chosen"] != "auto":
        return f"σ = {words.level(sigma['value'])} was used."
    return (
        f"On {counted(sigma['curve']['n_images'], 'picture')}, before any was scored, the noise scale was chosen at "
        f"which pictures are told apart best for their measuring error: σ = {words.level(sigma['value'])}. The choice "
        "looks at no label and no threshold."
    )


def expected(summary: Summary) -> str:
    """Say how many of the flags are expected to be false."""
    expected = summary["verdict"]["fdr"] * summary["verdict"]["n_flagged"]
    return "fewer than one" if expected < 1 else f"about {expected:.0f}"
