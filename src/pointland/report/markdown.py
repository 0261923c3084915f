"""The report as Markdown, for a pull request. Text from data is escaped, so that it can neither mark up nor link."""

import re
from collections.abc import Sequence

from pointland.report.schema import Row, Summary
from pointland.report.words import (
    clean,
    counted,
    interval,
    level,
    number,
    percent,
    probability,
    upright,
    with_error,
    with_unit,
)

TOP = 20
CAPTION = 120
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$:=])")


def render_markdown(summary: Summary) -> str:
    """Render a summary: verdict, warnings, the 20 most suspicious pictures, separations, and where it comes from."""
    v = summary["verdict"]
    provenance = summary["provenance"]
    model = provenance["model"]
    lines = ["# Memorization audit", "", f"**{v['headline']}**", ""]
    lines += [
        f"- Model: {escape(', '.join(str(model[name]) for name in ('name', 'class', 'space') if model.get(name)))}",
        (
            f"- Judged by: {escape(v['title'])} ({escape(v['unit'])}), at noise scale σ = "
            f"{level(summary['sigma'].get('value'))}"
        ),
        (
            f"- Audited: {counted(v['n_audited'], 'picture')}, reference: {v['n_reference']:,}, not read: "
            f"{summary['n_failed']:,}"
        ),
    ]
    if v["threshold"] is not None:
        sign = "≥" if v["memorized_when"] == "high" else "≤"
        lines.append(f"- Flagged when {sign} {with_unit(number(v['threshold']), escape(v['unit']))}")
    if v["kinds"]:
        lines.append("- Of those flagged: " + ", ".join(f"{n:,} {kind}" for kind, n in v["kinds"].items()))
    if summary["warnings"]:
        lines += ["", "## Before believing the numbers", ""]
        lines += [f"- {one['level'].capitalize()}: {escape(one['text'])}" for one in summary["warnings"]]
    lines += ["", "## Most suspicious", ""]
    if summary["rows"]:
        shown = summary["rows"][:TOP]
        lines += [
            (
                f"{len(shown):,} of {counted(summary['n_rows'], 'picture')}; report.html has pictures, "
                "the Parquet files have all rows."
            ),
            "",
        ]
        lines += table(
            ["Rank", "Flagged", "Name", f"{v['title']} ({v['unit']})", "q", "Kind", "Copies", "Caption"],
            [_cells(row, summary) for row in shown],
        )
    else:
        lines.append("No picture has been scored.")
    if summary["separations"]:
        lines += [
            "",
            "## How well it separates what is known",
            "",
            "AUROC and true positive rate at 1 % false positives, with 95 % intervals.",
            "",
        ]
        lines += table(
            ["Group", "Column", "AUROC", "TPR at 1 % FPR", "n"],
            [
                [
                    escape(one["group"]),
                    escape(one["title"]) + (" (floor)" if one["floor"] else ""),
                    interval(**one["auroc"]),
                    "too few controls" if one["tpr"] is None else interval(**one["tpr"]),
                    f"{one['n']:,}",
                ]
                for one in summary["separations"]
            ],
        )
    if summary["failed"]:
        lines += ["", "## Not read or not scored", ""]
        lines += [f"- {escape(one['key'])}: {escape(one['reason'])}" for one in summary["failed"][:TOP]]
        if summary["n_failed"] > TOP:
            lines.append(f"- and {summary['n_failed'] - TOP:,} more, in summary.json and failed/")
    lines += ["", "## Where this comes from", ""]
    lines += [f"- Weights: {escape(str(model.get('weights_sha256', 'unknown')))}"]
    for role, part in provenance["data"].items():
        if part:
            lines.append(
                f"- {role.capitalize()} pictures: {part['n']:,}, listing {escape(str(part['listing_sha256']))}"
            )
    lines += [
        f"- Seed {provenance['seed']}, batch size {provenance['batch_size']}, false discovery rate {percent(v['fdr'])}",
        f"- Command: {escape(str(provenance['command']))}",
        f"- Versions: {escape(', '.join(f'{name} {value}' for name, value in provenance['environment'].items()))}",
        "",
        "A flag is not proof: confirm it by generating. FLIPD may be negative; it ranks. p-values "
        "hold if the reference is of the same "
        "kind as the audited pictures and was never trained on.",
        "",
    ]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, on one line, whatever it holds."""
    text = " ".join(upright(clean(text, 2_000)).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    return _SPECIAL.sub(r"\\\1", text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; cells are escaped already, headings are ours."""
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]


def _cells(row: Row, summary: Summary) -> list[str]:
    v = summary["verdict"]
    stderr = next(column["stderr"] for column in summary["columns"] if column["name"] == v["decide_by"])
    value = with_error(row["values"].get(v["decide_by"]), row["values"].get(stderr) if stderr else None)
    caption = "" if row["caption"] is None else escape(clean(row["caption"], CAPTION))
    return [
        f"{row['rank']:,}" if row["rank"] else "–",
        "yes" if row["flagged"] else "",
        escape(clean(row["key"], 80)),
        value,
        probability(row["q"]),
        row["kind"] or "",
        str(max(row["n_exact"], row["n_near"])) if max(row["n_exact"], row["n_near"]) > 1 else "",
        caption,
    ]
