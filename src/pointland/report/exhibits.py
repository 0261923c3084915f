"""Charts and tables of evidence on the page: densities, dose, ROC curves and separations, complexity, scale."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pointland.report import figures, sentences
from pointland.report.schema import ColumnSummary, Summary
from pointland.report.summary import REFERENCE, UNLABELLED

MOST_ROC = 9


def evidence_of(summary: Summary, columns: Mapping[str, ColumnSummary]) -> dict[str, Any]:
    """Return the variables of the template that hold charts; ``columns`` by name."""
    v = summary["verdict"]
    paint = figures.colors(summary["groups"])
    grouped: dict[str, list[Any]] = {}
    for one in summary["separations"]:
        grouped.setdefault(one["group"], []).append(one)
    curve = summary["sigma"].get("curve")
    scatter = summary["scatter"]
    overview = summary["overview"]
    return {
        "hero": None
        if overview is None
        else figures.density_chart(overview, columns[v["decide_by"]], figures.colors([UNLABELLED, REFERENCE])),
        "hero_legend": []
        if overview is None
        else [(g["group"], "ref" if g["group"] == REFERENCE else "c0") for g in overview["groups"]],
        "densities": [
            {
                "title": columns[found["column"]]["title"],
                "chart": figures.density_chart(found, columns[found["column"]], paint),
                "words": sentences.density_words(found, columns[found["column"]]),
            }
            for found in summary["densities"]
        ],
        "legend": list(paint.items())[1:] + list(paint.items())[:1]
        if REFERENCE in summary["groups"]
        else list(paint.items())[1:],
        "density_how": sentences.density_how(summary),
        "dose": figures.dose_charts(summary["dose_response"], v["decide_by"]),
        "roc": [
            {
                "group": group,
                "chart": figures.roc_chart(group, found, v["decide_by"]),
                "words": sentences.roc_words(found, v["decide_by"]),
            }
            for group, found in list(grouped.items())[:MOST_ROC]
        ],
        "roc_legend": _roc_legend(v["title"]),
        "n_controls": max((one["n_controls"] for one in summary["separations"]), default=0),
        "matrix": _matrix(grouped, v["decide_by"]),
        "matrix_groups": [{"group": group, "n": max(one["n"] for one in found)} for group, found in grouped.items()],
        "scatter": None
        if scatter is None
        else figures.scatter_chart(scatter, columns[scatter["x"]], columns[scatter["y"]], v["threshold"]),
        "scatter_how": ""
        if scatter is None or scatter["n"] == len(scatter["points"])
        else f"{len(scatter['points']):,} of {scatter['n']:,} pictures are drawn, flagged ones first.",
        "scatter_legend": _scatter_legend(summary),
        "sigma_charts": figures.sigma_charts(curve, summary["sigma"]["value"]) if curve else [],
        "sigma_how": sentences.sigma_how(summary),
    }


def _roc_legend(title: str) -> Markup:
    items = ((title, "roc main"), ("other columns", "roc other"), ("floors", "roc floor"), ("chance", "chance"))
    return Markup('<ul class="legend">{}</ul>').format(
        Markup("").join(
            Markup(
                '<li><svg viewBox="0 0 22 12" aria-hidden="true"><path class="{}" d="M0 6H22"/></svg>{}</li>'
            ).format(css, name)
            for name, css in items
        )
    )


def _scatter_legend(summary: Summary) -> list[tuple[str, str, str]]:
    there = {point["group"] for point in summary["scatter"]["points"]} if summary["scatter"] else set()
    return [(group, *mark) for group, mark in reversed(figures.MARKS.items()) if group in there]


def _matrix(grouped: Mapping[str, Sequence[Any]], decide_by: str) -> list[dict[str, Any]]:
    """One row a column or floor, one cell a group."""
    titles = {one["column"]: one for found in grouped.values() for one in found}
    rows = []
    for column, any_group in sorted(titles.items(), key=lambda item: item[1]["floor"]):
        cells = []
        for found in grouped.values():
            one = next((one for one in found if one["column"] == column), None)
            cells.append(None if one is None else _matrix_cell(one))
        css = "main" if column == decide_by else "floor" if any_group["floor"] else ""
        rows.append({"css": css, "title": any_group["title"], "cells": cells})
    return rows


def _matrix_cell(one: Any) -> dict[str, str]:
    area, rate = one["auroc"], one["tpr"]
    return {
        "auroc": f"{area['value']:.3f}",
        "interval": f"{area['low']:.3f}–{area['high']:.3f}",
        "tpr": "" if rate is None else f"{rate['value']:.2f} ({rate['low']:.2f}–{rate['high']:.2f})",
    }
