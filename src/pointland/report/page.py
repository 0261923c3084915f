"""What the page shows, ready for its template, which escapes all text: cards, gallery, rows, charts, provenance."""

import posixpath
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pointland.report import sentences, words
from pointland.report.exhibits import evidence_of
from pointland.report.extracted import ASKED
from pointland.report.schema import ColumnSummary, Row, Spread, Summary
from pointland.report.summary import direction_words
from pointland.report.thumbnails import gallery_rows, name_of
from pointland.report.words import counted, number, percent, probability, upright

TINY_SIDE = 96


def page_of(summary: Summary, pictures: Mapping[str, str]) -> dict[str, Any]:
    """Return the variables of the template; pictures are data URIs by :func:`~pointland.report.thumbnails.name_of`."""
    v = summary["verdict"]
    columns = {column["name"]: column for column in summary["columns"]}
    labelled = any(row["label"] for row in summary["rows"])
    gallery = [_card(row, summary, pictures) for row in gallery_rows(summary)]
    rows = [_table_row(row, summary, pictures, i < len(gallery)) for i, row in enumerate(summary["rows"])]
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
            for column in _table_columns(summary)
        ],
        "failed_how": sentences.failed_how(summary),
        "meanings": [_column_meaning(column) for column in summary["columns"]],
        "provenance": _provenance(summary),
        "limits": sentences.limits(summary),
        "data": _data(summary),
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


def _card(row: Row, summary: Summary, pictures: Mapping[str, str]) -> dict[str, Any]:
    v = summary["verdict"]
    stderr = next(column["stderr"] for column in summary["columns"] if column["name"] == v["decide_by"])
    value = row["values"].get(v["decide_by"])
    error = row["values"].get(stderr) if stderr else None
    same = [pictures.get(name_of(copy["role"], copy["file"])) for copy in row["copies"][:3]]
    return {
        **_named(row),
        "picture": pictures.get(name_of("audited", row["file"])),
        "alt": f"Picture {upright(words.clean(row['key'], 80))}",
        "value": number(value),
        "stderr": number(error) if value is not None and error is not None else "",
        "q": probability(row["q"]) if row["q"] is not None else "",
        "extracted": _extracted(row, pictures),
        "copies_line": _copies_line(row),
        "copies_pictures": [uri for uri in same if uri is not None],
    }


def _extracted(row: Row, pictures: Mapping[str, str]) -> dict[str, Any] | None:
    """The nearest sample, its difference to the picture, and how often it was given back."""
    if not row["extracted"]:
        return None
    best = row["extracted"][0]
    how = ASKED.get(best["way"], best["way"]) + (", the template's part" if best["part"] == "template" else "")
    if best["k"] is None or best["low"] is None or best["high"] is None:
        line = f"nearest of {best['n']:,} samples {how}"
    else:
        line = f"given back by {best['k']:,} of {best['n']:,} {how} ({percent(best['low'])} to {percent(best['high'])})"
    shown = [pictures.get(name_of(role, best["file"])) for role in ("extracted", "difference")]
    return {"line": line, "pictures": [uri for uri in shown if uri is not None], "alarm": bool(best["k"])}


def _named(row: Row) -> dict[str, Any]:
    return {
        "rank": row["rank"],
        "flagged": row["flagged"],
        "label": row["label"],
        "kind": row["kind"],
        "short": _short_name(row["key"]),
        "caption": _caption(row),
        "tiny": max(row["width"], row["height"]) <= TINY_SIDE,
    }


def _short_name(key: str) -> str:
    return key if len(key) <= 80 else f"{key[:50]}…{key[-24:]}"


def _caption(row: Row) -> str | None:
    if row["caption"] is None or row["caption_length"] is None:
        return None
    length = f" ({row['caption_length']:,} characters)" if row["caption_length"] > words.SHOWN else ""
    return (row["caption"] or "(empty caption)") + length


def _copies_line(row: Row) -> str:
    parts = []
    if row["n_exact"] > 1:
        parts.append(f"{row['n_exact']:,} exact")
    if row["n_near"] > row["n_exact"]:
        parts.append(f"{row['n_near']:,} alike")
    return ", ".join(parts)


def _table_row(row: Row, summary: Summary, pictures: Mapping[str, str], in_gallery: bool) -> dict[str, Any]:
    cells = []
    for column in _table_columns(summary):
        value = row["values"].get(column["name"])
        error = row["values"].get(column["stderr"]) if column["stderr"] else None
        with_error = column["name"] == summary["verdict"]["decide_by"]
        text = words.with_error(value, error) if with_error else number(value)
        why = row["reasons"].get(column["name"], "")
        cells.append({"v": None if value is None else float(f"{value:.6g}"), "text": text, "why": why})
    thumb = pictures.get(name_of("audited", row["file"]))
    return {
        **_named(row),
        "q": probability(row["q"]) if row["q"] is not None else None,
        "q_value": None if row["q"] is None else float(f"{row['q']:.6g}"),
        "thumb": "borrowed" if thumb and in_gallery else thumb,
        "cells": cells,
    }


def _table_columns(summary: Summary) -> list[ColumnSummary]:
    """The deciding column first, the others as they come."""
    decide_by = summary["verdict"]["decide_by"]
    return sorted(summary["columns"], key=lambda column: column["name"] != decide_by)


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


def _data(summary: Summary) -> dict[str, Any]:
    """What the page's script shows of one picture, as text; captions it takes from the table."""
    audited = summary["provenance"].get("data", {}).get("audited") or {}
    folder = audited.get("folder", "") if audited.get("kind") == "folder" else ""
    columns = summary["columns"]

    def numbers(row: Row) -> list[list[str]]:
        found = []
        for column in columns:
            value = row["values"].get(column["name"])
            error = row["values"].get(column["stderr"]) if column["stderr"] else None
            if value is None:
                found.append(["–", row["reasons"].get(column["name"], "")])
            else:
                found.append([words.with_unit(words.with_error(value, error), column["unit"])])
        return [entry if len(entry) > 1 else [*entry, ""] for entry in found]

    return {
        "decided": summary["verdict"]["smallest_p"] is not None and not summary["verdict"]["undecided"],
        "columns": [column["title"] for column in columns],
        "rows": [
            {
                "k": _short_name(row["key"]),
                "u": _link(folder, row["file"]),
                "r": row["rank"],
                "f": row["flagged"],
                "q": probability(row["q"]) if row["q"] is not None else "",
                "p": probability(row["p"]) if row["p"] is not None else "",
                "l": row["label"] or "",
                "s": f"{row['width']:,} × {row['height']:,} pixels",
                "h": row["sha256"],
                "n": row["note"] or "",
                "y": row["kind"] or "",
                "e": "; ".join(row["evidence"]),
                "c": _copies_line(row) or "none among the pictures of this run",
                "o": [
                    [
                        words.clean(copy["key"], 60),
                        f"{'Exact copy' if copy['exact'] else 'Alike'}{', reference' * (copy['role'] == 'reference')}",
                    ]
                    for copy in row["copies"][:4]
                ],
                "v": numbers(row),
            }
            for row in summary["rows"]
        ],
    }


def _link(folder: str, file: str) -> str:
    """Return a relative link to a picture; empty if its folder is not beside the run."""
    if posixpath.isabs(folder) or ":" in folder.split("/")[0] or not folder or len(file) > 1_000:
        return ""
    joined = quote(posixpath.join(folder, file).encode("utf-8", "surrogateescape"), safe="/")
    return joined if joined.startswith("../") else f"./{joined}"


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
