"""What to know before believing the numbers of a report."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pointland.auditing.directory import Run
from pointland.auditing.rows import SCREENED_OUT
from pointland.report import evidence
from pointland.report.items import Items
from pointland.report.schema import ColumnSummary, CopyCounts, Verdict, Warned
from pointland.report.words import clean, counted, probability


def about_run(
    run: Run, verdict: Verdict, columns: Sequence[ColumnSummary], copies: CopyCounts, audited: Items
) -> list[Warned]:
    """Return what limits the verdict: an unfinished run, a small reference, copies across both sets, missing values."""
    found: list[Warned] = []

    def warn(kind: str, text: str) -> None:
        found.append(Warned(level="warning", kind=kind, text=text))

    def note(kind: str, text: str) -> None:
        found.append(Warned(level="note", kind=kind, text=text))

    expected = sum(part["n"] for part in run.record["data"].values() if part)
    seen = run.rows.num_rows + run.failed.num_rows
    if not run.finished:
        warn(
            "unfinished",
            f"This run is not finished: {seen:,} of {expected:,} pictures so far. The same command continues it.",
        )
    if verdict["undecided"]:
        text = verdict["undecided"]
        warn("undecided", text[:1].upper() + text[1:] + ".")
    elif verdict["needed"] > 1:
        strata = (
            f", the largest of {verdict['n_strata']} strata of PNG size deciding," if verdict["n_strata"] > 1 else ""
        )
        n = verdict["n_reference"]
        against = f"With {counted(n, 'reference picture')}{strata}" if n else "Without a reference"
        more = "A larger reference lowers that number." if n else "A reference lowers that number."
        note(
            "resolution",
            f"{against} the smallest p-value is "
            f"{probability(verdict['smallest_p'])}: at least {counted(verdict['needed'], 'picture')} "
            "must reach it together before "
            f"any can be flagged. {more}",
        )
    chance = (verdict["n_valued"] + verdict["n_screened"]) / (verdict["n_reference"] + 1)
    if verdict["n_reference"] and not verdict["n_flagged"] and verdict["n_beyond"] >= max(3.0, 3 * chance):
        warn(
            "beyond",
            (
                f"{verdict['n_beyond']:,} pictures are {verdict['memorized_when']}er than every reference "
                "picture, where chance alone gives "
                f"about {max(1, round(chance)):,}. They are too few to be flagged at this rate with this "
                "reference: look at them, and enlarge it."
            ),
        )
    if copies["across"]:
        warn(
            "leak",
            f"{counted(copies['across'], 'reference picture')} "
            f"{'is an exact copy' if copies['across'] == 1 else 'are exact copies'} of an audited one and "
            f"{'was' if copies['across'] == 1 else 'were'} left out: the reference must be pictures the model never "
            "trained on.",
        )
    if run.failed.num_rows:
        warn(
            "unreadable",
            f"{counted(run.failed.num_rows, 'picture')} could not be read or scored, and "
            f"{'is' if run.failed.num_rows == 1 else 'are'} "
            "in no number here; the reasons are listed below.",
        )
    reasons: dict[tuple[str, int], list[str]] = {}
    for column in columns:
        for reason, n in column["missing"].items():
            if reason != SCREENED_OUT:
                reasons.setdefault((clean(reason), n), []).append(column["title"])
    if verdict["n_screened"]:
        n = verdict["n_screened"]
        note(
            "screened",
            f"{counted(n, 'picture')} {'was' if n == 1 else 'were'} screened out by one network evaluation each; they "
            "count as tested, with p-value 1, have no other value, and are in no curve and no median of audited ones.",
        )
    for (reason, n), titles in reasons.items():
        deciding = verdict["title"] in titles
        what = titles[0] if len(titles) == 1 else f"{len(titles)} columns ({', '.join(titles)})"
        (warn if deciding else note)("missing", f"{counted(n, 'picture')} without a value in {what}: {reason}.")
    for text, n in Counter(text for text in audited.texts("note") if text).most_common(3):
        note("note", f"{counted(n, 'picture')}: {clean(text)}.")
    return found


def about_labels(known: Mapping[str, str], given: Sequence[str | None], data: evidence.Labelled) -> list[Warned]:
    """Return what limits the separations: labels of nothing, no controls, groups too large to take whole."""
    if not known:
        return []
    found = []
    unused = len(known) - sum(label is not None for label in given)
    if unused:
        text = (
            f"{counted(unused, 'label')} of {len(known):,} {'names' if unused == 1 else 'name'} no "
            "picture that was scored."
        )
        found.append(Warned(level="warning" if unused == len(known) else "note", kind="labels", text=text))
    if data.groups and not len(data.controls):
        text = (
            "Labels without controls: give a reference, or label some pictures held_out, to "
            "measure how well columns separate."
        )
        found.append(Warned(level="note", kind="labels", text=text))
    if data.sampled:
        text = (
            f"Label groups above {evidence.LARGEST_GROUP:,} pictures are represented by a sample "
            "of that size in separations."
        )
        found.append(Warned(level="note", kind="labels", text=text))
    return found
