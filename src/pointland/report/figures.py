"""The charts of the report as inline SVG: densities, dose-response, ROC curves, complexity, the choice of sigma."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from markupsafe import Markup

from pointland.report.axes import Scale, path, scale, svg, with_unit, x_axis, y_axis
from pointland.report.schema import ColumnSummary, Density, DoseResponse, GroupDensity, Scatter, SeparationSummary
from pointland.report.words import level, number

WIDTH = 350
ROC = 260
OVERLAID = 2
REFERENCE = "reference"
MARKS = {  # after the point's place; shapes, for who cannot tell the colors
    "reference": ("ref", "m-2.5 0h5m-2.5-2.5v5"),
    "audited": ("c0", "h0"),
    "flagged": ("flag", "m-3.5 0l3.5-3.5 3.5 3.5-3.5 3.5z"),
}


def colors(groups: Sequence[str]) -> dict[str, str]:
    """Give every group a color class; the reference is grey."""
    others = [group for group in groups if group != REFERENCE]
    return {REFERENCE: "ref"} | {group: f"c{i % 7}" for i, group in enumerate(others)}


def density_chart(found: Density, column: ColumnSummary, paint: dict[str, str]) -> Markup:
    """Draw the histograms of one column: two groups overlaid, more in rows with the reference's outline behind each."""
    groups = found["groups"]
    rows = [groups] if len(groups) <= OVERLAID else [[group] for group in groups]
    behind = next((group for group in groups if group["group"] == REFERENCE), None) if len(rows) > 1 else None
    height = 165 if len(rows) == 1 else 34
    top, left = 18, 12 if len(rows) == 1 else 78
    x = scale(found["edges"][0], found["edges"][-1], left, WIDTH - 12)
    parts: list[Markup] = []
    for number_, row in enumerate(rows):
        base = top + (number_ + 1) * height + number_ * 4
        drawn = [*row, *([behind] if behind is not None and behind is not row[0] else [])]
        highest = [max(group["density"], default=0) for group in drawn]
        common = max(highest, default=1) or 1
        for group, peak in zip(drawn, highest, strict=True):
            y = scale(0, (common if len(rows) == 1 else peak) or 1, base, base - height + 3)
            outline = _steps(group, found["edges"], x, y, base)
            if group is behind and group is not row[0]:
                parts.append(path(outline, "outline ref"))
            else:
                parts += [
                    path(outline, f"area {paint[group['group']]}", closed=True),
                    path(outline, f"outline {paint[group['group']]}"),
                ]
        if len(rows) > 1:
            name = row[0]["group"]
            parts.append(
                Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(left, WIDTH - 12, base, base)
            )
            label = name if len(name) <= 11 else name[:10] + "…"
            parts.append(
                Markup('<text class="group" x="{}" y="{}" text-anchor="end">{}</text>').format(
                    left - 8, base - 14, label
                )
            )
            parts.append(
                Markup('<text x="{}" y="{}" text-anchor="end">n = {}</text>').format(
                    left - 8, base - 2, f"{row[0]['n']:,}"
                )
            )
    bottom = top + len(rows) * height + (len(rows) - 1) * 4
    if found["threshold"] is not None:
        parts.append(_threshold(x(found["threshold"]), top, bottom, column, x))
    marks = [x(mark) for mark in found["flagged"] if found["edges"][0] <= mark <= found["edges"][-1]]
    if marks:
        parts.append(
            Markup('<path class="rug" d="{}"/>').format(
                "".join(f"M{mark:g} {bottom + 1}v7" for mark in sorted(set(marks)))
            )
        )
    parts.append(x_axis(x, bottom + (9 if marks else 0), with_unit(column["title"], column["unit"])))
    medians = ", ".join(f"{group['group']} ({group['n']:,})" for group in groups)
    title = f"Density of {column['title']} for {medians}"
    return svg(WIDTH, bottom + (49 if marks else 40), title, *parts, says=_density_says(found, column))


def dose_charts(responses: Sequence[DoseResponse], decide_by: str) -> list[Markup]:
    """Draw the deciding column's median against the copies, and the AUROC of every column."""
    main = next((one for one in responses if one["column"] == decide_by), None)
    if main is None:
        return []
    most = max(dose["copies"] for dose in main["doses"])
    ticks = [float(dose["copies"]) for dose in main["doses"]]
    x = scale(min(ticks), most, 52, WIDTH - 20, log=True, room=0.04)
    return [_dose_median(main, x, ticks), _dose_auroc(responses, main, x, ticks)]


def roc_chart(group: str, found: Sequence[SeparationSummary], decide_by: str) -> Markup:
    """Draw the ROC curves of one group: the deciding column, other columns thin, floors dashed."""
    x, y = scale(0, 1, 36, ROC - 10), scale(0, 1, ROC - 20, 26)
    parts = [y_axis(y, 36, ROC - 10, "True positive rate"), path([(x(0), y(0)), (x(1), y(1))], "chance")]
    for one in sorted(found, key=lambda one: (one["column"] == decide_by, one["floor"])):
        css = "roc main" if one["column"] == decide_by else "roc floor" if one["floor"] else "roc other"
        parts.append(path([(x(a), y(b)) for a, b in one["roc"]], css))
    parts.append(x_axis(x, ROC - 20, "False positive rate", [0.0, 0.5, 1.0]))
    areas = ", ".join(f"{one['title']} {one['auroc']['value']:.2f}" for one in found)
    return svg(ROC, ROC + 20, f"ROC curves of group {group}", *parts, says=f"Areas under the curves: {areas}.")


def scatter_chart(
    found: Scatter, x_column: ColumnSummary, y_column: ColumnSummary, threshold: float | int | None
) -> Markup:
    """Draw the deciding column against PNG size; flagged pictures on top."""
    wide, points = 720, found["points"]
    xs, ys = [p["x"] for p in points], [p["y"] for p in points]
    log = min(xs) > 0 and max(xs) / min(xs) > 20
    x = scale(min(xs), max(xs), 56, wide - 16, log=log, room=0.03)
    y = scale(min(ys), max(ys), 300, 30, room=0.04)
    parts = [y_axis(y, 56, wide - 16, with_unit(y_column["title"], y_column["unit"]), 5)]
    if threshold is not None:
        at = y(threshold)
        parts.append(Markup('<line class="threshold" x1="56" x2="{}" y1="{}" y2="{}"/>').format(wide - 16, at, at))
        parts.append(
            Markup('<text class="threshold-name" x="{}" y="{}" text-anchor="end">threshold {}</text>').format(
                wide - 18, at - 5, number(threshold)
            )
        )
    for group, (css, mark) in MARKS.items():
        steps = "".join(f"M{x(p['x']):g} {y(p['y']):g}{mark}" for p in points if p["group"] == group)
        if steps:
            parts.append(Markup('<path class="dot {}" d="{}"/>').format(css, steps))
    name = with_unit(x_column["title"], x_column["unit"])
    parts.append(x_axis(x, 300, f"{name}, logarithmic" if log else name, x.ticks(7)))
    counts = Counter(point["group"] for point in points)
    says = ", ".join(f"{counts[group]:,} {group}" for group in ("flagged", "audited", "reference") if counts[group])
    title = f"{y_column['title']} against {x_column['title']} of {len(points):,} pictures"
    return svg(wide, 340, title, *parts, says=f"Drawn: {says}.")


def sigma_charts(curve: dict[str, list[float]], used: float | int) -> list[Markup]:
    """Draw LID against sigma with its quartiles, and the resolution whose peak chose sigma."""
    sigmas = curve["sigmas"]
    x = scale(min(sigmas), max(sigmas), 52, WIDTH - 16, log=True, room=0.03)
    charts = []
    for values, low, high, title in (
        (curve["median"], curve["low"], curve["high"], "Denoising loss (dimensions): median, quartiles"),
        (curve["resolution"], None, None, "Spread between pictures / standard error"),
    ):
        known = [v for v in (*values, *(high or ()), *(low or ())) if v is not None]
        y = scale(min([0.0, *known]), 1.15 * max(known), 190, 30)
        parts = [y_axis(y, 52, WIDTH - 16, title)]
        if low is not None and high is not None:
            band = [(x(s), y(v)) for s, v in zip(sigmas, high, strict=True)]
            band += [(x(s), y(v)) for s, v in reversed(list(zip(sigmas, low, strict=True)))]
            parts.append(path(band, "band c0", closed=True))
        line = [(x(s), y(v)) for s, v in zip(sigmas, values, strict=True)]
        parts.append(path(line, "line c0"))
        parts += [Markup('<circle class="mark c0" cx="{}" cy="{}" r="3"/>').format(*point) for point in line]
        parts.append(_marker(x(used), 30, 190, f"used: {level(used)}", x))
        parts.append(x_axis(x, 190, "Noise scale σ, logarithmic"))
        says = ", ".join(f"{number(v)} at {level(s)}" for s, v in zip(sigmas, values, strict=True))
        charts.append(svg(WIDTH, 230, f"{title} against sigma; {level(used)} was used", *parts, says=f"{says}."))
    return charts


def _steps(group: GroupDensity, edges: list[float], x: Scale, y: Scale, base: float | int) -> list[tuple[float, float]]:
    points = [(x(edges[0]), float(base))]
    for height, start, end in zip(group["density"], edges, edges[1:], strict=False):
        points += [(x(start), y(height)), (x(end), y(height))]
    return [*points, (x(edges[-1]), float(base))]


def _density_says(found: Density, column: ColumnSummary) -> str:
    """The medians of the groups, to the width of a bin, and the threshold."""
    medians = [f"{group['group']} {number(_median(group, found['edges']))}" for group in found["groups"]]
    end = "at least" if column["memorized_when"] == "high" else "at most"
    flagged = "" if found["threshold"] is None else f" Flagged: {end} {number(found['threshold'])}."
    return f"Medians: {', '.join(medians)}.{flagged}"


def _median(group: GroupDensity, edges: list[float]) -> float:
    areas = [height * (end - start) for height, start, end in zip(group["density"], edges, edges[1:], strict=False)]
    passed = list(accumulate(areas))
    return edges[bisect_left(passed, passed[-1] / 2)]


def _threshold(at: float | int, top: float | int, bottom: float | int, column: ColumnSummary, x: Scale) -> Markup:
    return _marker(at, top, bottom, "flagged", x, high=column["memorized_when"] == "high")


def _marker(
    at: float | int, top: float | int, bottom: float | int, text: str, x: Scale, *, high: bool | None = None
) -> Markup:
    if high is None:
        end = at > (x.start + x.end) / 2
        shown = text
    else:
        end = not high
        shown = f"{text} →" if high else f"← {text}"
        if (end and at - x.start < 60) or (not end and x.end - at < 60):
            end = not end
    return Markup(
        '<line class="threshold" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text class="threshold-name" x="{3}" y="{4}" '
        'text-anchor="{5}">{6}</text>'
    ).format(at, top - 4, bottom, at - 5 if end else at + 5, top + 5, "end" if end else "start", shown)


def _dose_median(main: DoseResponse, x: Scale, ticks: list[float]) -> Markup:
    controls = main["controls"]
    known = [v for dose in main["doses"] for v in (dose["median"]["low"], dose["median"]["high"])]
    if controls and controls["low"] is not None and controls["high"] is not None:
        known += [controls["low"], controls["high"]]
    y = scale(min(0.0, *known), max(known), 220, 30, room=0.02)
    parts = [y_axis(y, 52, WIDTH - 20, f"Median of {main['title']} ({main['unit']})")]
    if controls and controls["low"] is not None and controls["high"] is not None and controls["median"] is not None:
        parts.append(
            Markup('<rect class="band ref" x="52" width="{}" y="{}" height="{}"/>').format(
                WIDTH - 72, y(controls["high"]), round(y(controls["low"]) - y(controls["high"]), 1)
            )
        )
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="end">never trained on (quartiles)</text>').format(
                WIDTH - 24, y(controls["high"]) + 13
            )
        )
    parts += _ladder(
        [
            (dose["copies"], dose["median"]["value"], dose["median"]["low"], dose["median"]["high"])
            for dose in main["doses"]
        ],
        x,
        y,
    )
    parts.append(x_axis(x, 220, "Copies in the training set", ticks))
    says = ", ".join(f"{number(dose['median']['value'])} at {dose['copies']:,}" for dose in main["doses"])
    return svg(WIDTH, 260, f"Median of {main['title']} against copies", *parts, says=f"{says} copies.")


def _dose_auroc(responses: Sequence[DoseResponse], main: DoseResponse, x: Scale, ticks: list[float]) -> Markup:
    lines = {
        one["column"]: [(dose["copies"], dose["auroc"]) for dose in one["doses"] if dose["auroc"] is not None]
        for one in responses
    }
    lowest = min((area["low"] for line in lines.values() for _, area in line), default=0.0)
    y = scale(min(0.4, lowest), 1, 220, 30)
    parts = [y_axis(y, 52, WIDTH - 20, "AUROC against pictures never trained on")]
    parts.append(path([(x.start, y(0.5)), (x.end, y(0.5))], "chance"))
    for one in responses:
        if one is not main and len(lines[one["column"]]) > 1:
            css = "roc floor" if one["floor"] else "roc other"
            parts.append(path([(x(copies), y(area["value"])) for copies, area in lines[one["column"]]], css))
    parts += _ladder(
        [(copies, area["value"], area["low"], area["high"]) for copies, area in lines[main["column"]]], x, y
    )
    parts.append(x_axis(x, 220, "Copies in the training set", ticks))
    says = ", ".join(f"{area['value']:.2f} at {copies:,}" for copies, area in lines[main["column"]])
    return svg(WIDTH, 260, f"AUROC of {main['title']} against copies", *parts, says=f"{says} copies.")


def _ladder(points: list[tuple[int, float, float, float]], x: Scale, y: Scale) -> list[Markup]:
    parts = [path([(x(copies), y(value)) for copies, value, _, _ in points], "line c0")]
    for copies, value, low, high in points:
        parts.append(
            Markup(
                '<line class="whisker c0" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><circle class="mark '
                'c0" cx="{0}" cy="{3}" r="4"/>'
            ).format(x(copies), y(low), y(high), y(value))
        )
    return parts
