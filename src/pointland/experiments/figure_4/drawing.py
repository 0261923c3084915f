"""Figure 4 as SVG: one panel a metric and setting, densities of every folder on common axes."""

import math
from collections.abc import Sequence

from pointland.experiments.axes import BLUE, GRAY, GREEN, ORANGE, RED, Panel, legend, page, text
from pointland.experiments.figure_4.result import CONFIGURATION, FLOOR, OURS, PUBLISHED, Histogram, Result

COLORS = (RED, BLUE, GREEN, ORANGE, GRAY, "#6b46c1", "#0987a0")
COLUMNS, WIDTH, HEIGHT = 4, 250, 250
ROWS = (
    (PUBLISHED, "As published", ("FLIPD with caption", "FLIPD without caption", "Guidance norm", "Score norm without")),
    (
        CONFIGURATION,
        "As in the authors' configuration",
        ("FLIPD with caption", "FLIPD without caption", "Guidance norm", "Score norm without"),
    ),
    (OURS, "Pointland's default, and PNG size", ("Denoising loss with caption", "Denoising loss without", "Guidance")),
    (FLOOR, "", ("PNG size",)),
)


def draw(result: Result) -> str:
    """Draw the densities: the memorized in red, every folder of others in its own color.

    Args:
        result: Of the experiment.
    """
    names = [group.group for group in result.groups]
    colors = {name: COLORS[min(place, len(COLORS) - 1)] for place, name in enumerate(names)}
    parts = [
        text(24, 28, f"Memorized pictures against others: {result.model}", anchor="start", weight="600"),
        legend(30, 50, [(colors[one.group], f"{one.group} ({one.n:,})") for one in result.groups]),
    ]
    top = 70 + 18 * len(names)
    place = 0
    for setting, heading, metrics in ROWS:
        if heading:
            place = -(-place // COLUMNS) * COLUMNS
            words = text(24, top + HEIGHT * (place // COLUMNS) + 6, heading, anchor="start", weight="600")
            parts.append(words)
        for metric in metrics:
            left, down = 62 + WIDTH * (place % COLUMNS), top + 48 + HEIGHT * (place // COLUMNS)
            parts.append(_panel(result, setting, metric, left, down, colors))
            place += 1
    height = top + HEIGHT * -(-place // COLUMNS) + 10
    return page(62 + WIDTH * COLUMNS, height, "Densities of every metric, memorized pictures against others", *parts)


def _panel(result: Result, setting: str, metric: str, left: int, top: int, colors: dict[str, str]) -> str:
    found = [one for one in result.histograms if one.setting == setting and one.metric.startswith(metric)]
    if not found:
        return text(left + 90, top + 70, f"{metric}: not measured", color=GRAY)
    edges = found[0].edges
    highest = max(max(one.density) for one in found) or 1.0
    panel = Panel(left, top, 185, 120, (edges[0], edges[-1]), (0.0, highest * 1.05))
    row = next((row for row in result.separations if (row.metric, row.setting) == (found[0].metric, setting)), None)
    sigma = [
        one.sigma for one in result.settings if one.setting == setting and one.metric.split()[0] == metric.split()[0]
    ]
    under = "" if row is None else f"AUROC {row.auroc:.3f} [{row.auroc_low:.3f}, {row.auroc_high:.3f}]"
    frame = panel.frame(found[0].metric, under, "", ticks(edges[0], edges[-1]), [])
    if sigma:
        frame += text(left + 92, top + 174, f"at sigma {sigma[0]:.3g}", color=GRAY)
    lines = [panel.line(steps(one), colors[one.group], 2.2 if one is found[0] else 1.4) for one in found]
    return frame + "".join(reversed(lines))  # the memorized, which come first, on top


def steps(one: Histogram) -> list[tuple[float, float]]:
    """Return the outline of a histogram."""
    points = [(one.edges[0], 0.0)]
    for height, start, end in zip(one.density, one.edges, one.edges[1:], strict=False):
        points += [(start, height), (end, height)]
    return [*points, (one.edges[-1], 0.0)]


def ticks(low: float, high: float, most: int = 4) -> Sequence[float]:
    """Return at most about ``most`` round values inside."""
    raw = (high - low) / most
    power = 10 ** math.floor(math.log10(raw))
    step = next(lead * power for lead in (1, 2, 5, 10) if lead * power >= raw * 0.999)
    return [float(k * step) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
