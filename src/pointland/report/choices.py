"""What a reader can choose in the gallery and the table: which pictures to show, of which copies, in which order."""

from collections import Counter

from pointland.report.pictures import table_columns
from pointland.report.schema import Summary
from pointland.report.words import counted


def choices_of(summary: Summary, *, labelled: bool) -> dict[str, list[tuple[str, str]]]:
    """Return the options of the page's menus as pairs of value and text, with counts among the rows shown.

    ``show`` is the verdict or the kind, ``copies`` the group of copies, ``sort`` the order. A menu that would not tell
    any pictures apart is empty.
    """
    rows = summary["rows"]
    flagged = sum(row["flagged"] for row in rows)
    kinds = Counter(row["kind"] for row in rows if row["kind"])
    show = [("flagged", f"flagged ({flagged:,})"), ("not-flagged", f"not flagged ({len(rows) - flagged:,})")]
    show += [(f"kind:{kind}", f"{kind} ({n:,})") for kind, n in kinds.items()]
    return {
        "show": [("", f"all ({len(rows):,})"), *show] if flagged else [],
        "copies": _groups(summary),
        "sort": _orders(summary, labelled=labelled),
    }


def _groups(summary: Summary) -> list[tuple[str, str]]:
    rows = summary["rows"]
    grouped = [row for row in rows if row["group"] is not None]
    if not grouped:
        return []
    sizes = {row["group"]: max(row["n_exact"], row["n_near"]) for row in grouped}
    several = [group for group, n in Counter(row["group"] for row in grouped).items() if n > 1]
    return [
        ("", "all"),
        ("some", f"with copies ({len(grouped):,})"),
        ("none", f"without copies ({len(rows) - len(grouped):,})"),
        *((str(group), f"group {group}: {counted(sizes[group], 'picture')}") for group in several),
    ]


def _orders(summary: Summary, *, labelled: bool) -> list[tuple[str, str]]:
    decided = summary["verdict"]["smallest_p"] is not None
    return [
        ("rank", "suspicion"),
        *((f"c{i}", column["title"]) for i, column in enumerate(table_columns(summary))),
        *([("p", "p-value"), ("q", "q-value")] if decided else []),
        *([("kind", "kind")] if summary["verdict"]["kinds"] else []),
        *([("label", "label")] if labelled else []),
        ("copies", "number of copies"),
        ("name", "name"),
    ]
