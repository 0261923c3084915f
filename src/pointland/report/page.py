"""What the page shows, ready for its template, which escapes all text: cards, gallery, rows, charts, provenance."""

from collections.abc import Mapping
from typing import Any

from pointland.report import sentences
from pointland.report.choices import choices_of
from pointland.report.exhibits import evidence_of
from pointland.report.pictures import card, script_data, table_columns, table_row
from pointland.report.schema import ColumnSummary, Spread, Summary
from pointland.report.summary import direction_words
from pointland.report.thumbnails import gallery_rows, name_of
from pointland.report.words import counted, number, percent, probability


def page_of(summary: Summary, pictures: Mapping[str, str]) -> dict[str, Any]:
    """Return the variables of the template; pictures are data URIs by :func:`~pointland.report.thumbnails.name_of`."""
    v = summary["verdict"]
    columns = {column["name"]: column for column in summary["columns"]}
    labelled = any(row["label"] for row in summary["rows"])
    gallery = [card(row, summary, pictures) for row in gallery_rows(summary)]
    rows = [table_row(row, summary, pictures, i < len(gallery)) for i, row in enumerate(summary["rows"])]
    gone = sum(name_of("audited", row["file"]) not in pictures for row in summary["rows"])
    model = summary["provenance"].get("model", {})
    context = {
        "summary": summary,
        "v": v,
        "title": f"{v['headline']} Pointland",
        "model_name": str(model.get("name", "a model")),
        "model_line": ", ".join(str(model[name]) for name in ("name", "class", "space") if model.get(name)),
        "day": str(summary["provenance"].get("created") or "")[:10],
        "version": summary["provenance"].get("environment", {}).get("pointland", ""),
        "sigma": summary["sigma"].get("value"),
        "meaning": sentences.meaning(summary),
        "cards": _cards(summary),
        "notices": sentences.gone(gone, len(summary["rows"])),
        "gallery": gallery,
        "gallery_how": sentences.gallery_how(summary, len(gallery)),
        "beyond": sentences.beyond(summary, len(gallery)),
        "labelled": labelled,
        "kinds": list(v["kinds"]),
        "rows": rows,
        "rows_shown": counted(len(rows), "row"),
        "table_how": sentences.table_how(summary),
        "table_columns": [
            {"title": column["title"], "unit": "" if column["unit"] == "1" else column["unit"]}
            for column in table_columns(summary)
        ],
        "failed_how": sentences.failed_how(summary),
        "meanings": [_column_meaning(column) for column in summary["columns"]],
        "provenance": _provenance(summary),
        "limits": sentences.limits(summary),
        "data": script_data(summary),
        "choices": choices_of(summary, labelled=labelled),
        **evidence_of(summary, columns),
    }
    context["parts"] = [
        (name, title)
        for name, title, there in (
            ("gallery", "Pictures", True),
            ("densities", "Densities", True),
            ("dose", "Copies", context["dose"]),
            ("separation", "Separation", context["roc"]),
            ("complexity", "Complexity", context["scatter"]),
            ("sigma", "Scale", context["sigma_charts"]),
            ("table", "Table", True),
            ("failed", "Failures", summary["failed"]),
            ("provenance", "Provenance", True),
            ("limits", "Limits", True),
        )
        if there
    ]
    return context


def _cards(summary: Summary) -> list[dict[str, Any]]:
    v, copies = summary["verdict"], summary["copies"]
    cards: list[dict[str, Any]] = []

    def card(label: str, big: str, small: str, alarm: bool = False) -> None:
        cards.append({"label": label, "big": big, "small": small, "alarm": alarm})

    if v["n_reference"] or v["n_flagged"]:
        share = f"{percent(v['n_flagged'] / v['n_audited'])} of the audited" if v["n_audited"] else "none audited yet"
        card("Flagged", f"{v['n_flagged']:,}", share, alarm=v["n_flagged"] > 0)
    if v["kinds"]:
        first, *others = sorted(v["kinds"].items(), key=lambda entry: -entry[1])
        rest = ", ".join(f"{n:,} {kind}" for kind, n in others)
        card(first[0].capitalize(), f"{first[1]:,}", f"of those flagged; {rest}" if rest else "all of those flagged")
    lacking = v["n_audited"] - v["n_valued"] - v["n_screened"]
    screened = f"{v['n_screened']:,} screened out" if v["n_screened"] else ""
    card(
        "Audited",
        f"{v['n_audited']:,}",
        ", ".join(filter(None, [screened, f"{lacking:,} without a value" if lacking else ""]))
        if lacking or screened
        else "pictures, all with a value"
        if v["n_audited"]
        else "pictures so far",
    )
    if v["n_reference"]:
        card("Reference", f"{v['n_reference']:,}", f"smallest p-value {probability(v['smallest_p'])}")
        card(
            "False flags",
            f"≤ {percent(v['fdr'])}",
            f"on average: {sentences.expected(summary)} here" if v["n_flagged"] else "asked for, on average",
        )
    else:
        card("Reference", "none", "so there is a ranking, and no decision")
    if v["threshold"] is not None:
        sign = "at least" if v["memorized_when"] == "high" else "at most"
        card(
            "Flagged when",
            f"{'≥' if sign == 'at least' else '≤'} {number(v['threshold'])}",
            f"{v['title']}, {v['unit']}",
        )
    elif v["n_audited"]:
        median = next(c for c in summary["columns"] if c["name"] == v["decide_by"])["audited"]["median"]
        card("Median", number(median), f"{v['title']}, {v['unit']}")
    if (asked := summary["extraction"]) is not None:
        given_back = asked["given_back"]
        card("Given back", f"{given_back:,}", f"of {asked['asked']:,} that were asked for", alarm=given_back > 0)
    some = copies["exact_pictures"]
    near = f"{copies['near_pictures']:,} with near copies"
    card("Exact copies", f"{some:,}", f"in {counted(copies['exact_groups'], 'group')}; {near}" if some else f"{near}")
    if summary["n_failed"]:
        card("Not read", f"{summary['n_failed']:,}", "listed below with reasons")
    return cards


def _column_meaning(column: ColumnSummary) -> dict[str, str]:
    def quartiles(spread: Spread | None) -> str:
        if spread is None or spread["median"] is None:
            return "–"
        return f"{number(spread['median'])} ({number(spread['low'])} to {number(spread['high'])})"

    return {
        "title": column["title"],
        "direction": ", ".join(
            filter(None, ("" if column["unit"] == "1" else column["unit"], direction_words(column["memorized_when"])))
        ),
        "description": column["description"],
        "source": column["source"],
        "audited": quartiles(column["audited"]),
        "reference": quartiles(column["reference"]),
        "missing": f"{sum(column['missing'].values()):,}",
    }


def _provenance(summary: Summary) -> list[tuple[str, list[tuple[str, str]]]]:
    record = summary["provenance"]
    shown = {"model", "data", "metrics", "environment"}
    run = [(name.replace("_", " "), _words(value)) for name, value in record.items() if name not in shown]
    sigma = summary["sigma"]
    run.append(("sigma", f"{number(sigma.get('value'))} ({sigma.get('chosen')})"))
    data = [
        (f"{role} {name.replace('_', ' ')}", _words(value))
        for role, part in record["data"].items()
        if part
        for name, value in part.items()
    ]
    metrics = [
        (str(one.get("name")), _words({k: v for k, v in one.items() if k != "name"}) or "–")
        for one in record["metrics"]
    ]
    found = [
        ("Model", [(str(k).replace("_", " "), _words(value)) for k, value in record["model"].items()]),
        ("Pictures", data),
        ("Run", run),
        ("Metrics", metrics),
        ("Versions", [(str(k), _words(value)) for k, value in record.get("environment", {}).items()]),
    ]
    return [(heading, pairs) for heading, pairs in found if pairs]


def _words(value: Any) -> str:
    match value:
        case None:
            return "–"
        case dict():
            return ", ".join(f"{k} {_words(v)}" for k, v in value.items())
        case list():
            return ", ".join(_words(v) for v in value)
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value)
        case float():
            return number(value)
        case _:
            return str(value)
