"""What the page shows of single pictures: a card in the gallery, a row of the table, all numbers for the script."""

import posixpath
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pointland.report import words
from pointland.report.explained import FOLDER
from pointland.report.extracted import ASKED
from pointland.report.schema import ColumnSummary, Row, Summary
from pointland.report.thumbnails import name_of
from pointland.report.words import number, percent, probability, upright

TINY_SIDE = 96


def card(row: Row, summary: Summary, pictures: Mapping[str, str]) -> dict[str, Any]:
    """Return what the gallery shows of a picture."""
    v = summary["verdict"]
    stderr = next(column["stderr"] for column in summary["columns"] if column["name"] == v["decide_by"])
    value = row["values"].get(v["decide_by"])
    error = row["values"].get(stderr) if stderr else None
    same = [pictures.get(name_of(copy["role"], copy["file"])) for copy in row["copies"][:3]]
    return {
        **_named(row),
        "picture": pictures.get(name_of("audited", row["file"])),
        "value": number(value),
        "stderr": number(error) if value is not None and error is not None else "",
        "q": probability(row["q"]) if row["q"] is not None else "",
        "extracted": _extracted(row, pictures),
        "copies_line": _copies_line(row),
        "copies_pictures": [uri for uri in same if uri is not None],
    }


def table_row(row: Row, summary: Summary, pictures: Mapping[str, str], in_gallery: bool) -> dict[str, Any]:
    """Return what the table shows of a picture; it borrows the gallery's thumbnail where there is one."""
    cells = []
    for column in table_columns(summary):
        value = row["values"].get(column["name"])
        error = row["values"].get(column["stderr"]) if column["stderr"] else None
        with_error = column["name"] == summary["verdict"]["decide_by"]
        text = words.with_error(value, error) if with_error else number(value)
        why = row["reasons"].get(column["name"], "")
        cells.append({"v": _short_number(value), "text": text, "why": why})
    thumb = pictures.get(name_of("audited", row["file"]))
    return {
        **_named(row),
        "q": probability(row["q"]) if row["q"] is not None else None,
        "q_value": _short_number(row["q"]),
        "thumb": "borrowed" if thumb and in_gallery else thumb,
        "cells": cells,
    }


def table_columns(summary: Summary) -> list[ColumnSummary]:
    """Return the columns of the table: the deciding one first, the others as they come."""
    decide_by = summary["verdict"]["decide_by"]
    return sorted(summary["columns"], key=lambda column: column["name"] != decide_by)


def script_data(summary: Summary) -> dict[str, Any]:
    """Return what the page's script needs beyond the table: all numbers of every row, as text, and what it sorts by."""
    audited = summary["provenance"].get("data", {}).get("audited") or {}
    folder = audited.get("folder", "") if audited.get("kind") == "folder" else ""
    return {
        "decided": summary["verdict"]["smallest_p"] is not None and not summary["verdict"]["undecided"],
        "columns": [column["title"] for column in summary["columns"]],
        "rows": [
            {
                "k": _short_name(row["key"]),
                "u": _link(folder, row["file"]),
                "x": _explain_link(row),
                "r": row["rank"],
                "f": row["flagged"],
                "q": probability(row["q"]) if row["q"] is not None else "",
                "p": probability(row["p"]) if row["p"] is not None else "",
                "pv": _short_number(row["p"]),
                "g": row["group"],
                "m": max(row["n_exact"], row["n_near"]),
                "l": row["label"] or "",
                "s": f"{row['width']:,} × {row['height']:,} pixels",
                "h": row["sha256"],
                "n": row["note"] or "",
                "y": row["kind"] or "",
                "e": "; ".join(row["evidence"]),
                "c": _copies_line(row),
                "o": [
                    [
                        words.clean(copy["key"], 60),
                        f"{'Exact copy' if copy['exact'] else 'Alike'}{', reference' * (copy['role'] == 'reference')}",
                    ]
                    for copy in row["copies"][:4]
                ],
                "v": _numbers(row, summary),
            }
            for row in summary["rows"]
        ],
    }


def _numbers(row: Row, summary: Summary) -> list[list[str]]:
    """Every column with its unit, or why it is missing."""
    found = []
    for column in summary["columns"]:
        value = row["values"].get(column["name"])
        error = row["values"].get(column["stderr"]) if column["stderr"] else None
        if value is None:
            found.append(["–", row["reasons"].get(column["name"], "")])
        else:
            found.append([words.with_unit(words.with_error(value, error), column["unit"]), ""])
    return found


def _named(row: Row) -> dict[str, Any]:
    return {
        "rank": row["rank"],
        "flagged": row["flagged"],
        "label": row["label"],
        "kind": row["kind"],
        "short": _short_name(row["key"]),
        "alt": f"Picture {upright(words.clean(row['key'], 80))}",
        "caption": _caption(row),
        "explain": _explain_link(row),
        "tiny": max(row["width"], row["height"]) <= TINY_SIDE,
    }


def _short_name(key: str) -> str:
    return key if len(key) <= 80 else f"{key[:50]}…{key[-24:]}"


def _short_number(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


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


def _link(folder: str, file: str) -> str:
    """Return a relative link to a picture; empty if its folder is not beside the run."""
    if posixpath.isabs(folder) or ":" in folder.split("/")[0] or not folder or len(file) > 1_000:
        return ""
    joined = quote(posixpath.join(folder, file).encode("utf-8", "surrogateescape"), safe="/")
    return joined if joined.startswith("../") else f"./{joined}"


def _explain_link(row: Row) -> str:
    """Return a relative link to the explain page of a picture; empty if it has none."""
    return f"./{FOLDER}/{quote(row['explained'])}" if row["explained"] else ""
