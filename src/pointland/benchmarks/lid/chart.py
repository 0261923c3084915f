"""A suite as a picture: one panel a table, one line a case, one dot an estimator."""

import math

from pointland.benchmarks.lid.result import CONCORDANCE, Result, Table
from pointland.experiments.axes import Number, cross, dot, line, number, page, text

COLORS = (
    "#2b6cb0",
    "#c53030",
    "#2f855a",
    "#c05621",
    "#6b46c1",
    "#0987a0",
    "#97266d",
    "#744210",
    "#4a5568",
    "#d69e2e",
    "#38a169",
    "#e53e3e",
    "#805ad5",
    "#319795",
    "#dd6b20",
)
LEAST = 1e-3  # errors are drawn from here on; smaller ones, and 0, stand on the edge
LEFT, WIDTH, STEP = 330, 430, 20


def draw(result: Result) -> str:
    """Draw a result as SVG: errors on a logarithmic scale, shares on a plain one, figures of others as crosses."""
    parts = [text(20, 28, f"pointland benchmark lid --suite {result.suite}", anchor="start", weight="600")]
    top: Number = 70
    for table in result.tables:
        height = STEP * len(table.rows)
        parts.append(panel(table, top, height))
        top += max(height, 18 * (len(table.columns) + len(table.published))) + 96
    return page(980, top - 20, f"Estimators of local intrinsic dimension on suite {result.suite}", *parts)


def panel(table: Table, top: Number, height: Number) -> str:
    """Draw one table."""
    shares = table.what == CONCORDANCE or "share" in table.what
    most = 1.0 if shares else max([LEAST * 10, *(v for row in table.rows for v in row.values.values())])
    high = 1.0 if shares else 10.0 ** math.ceil(math.log10(most))
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0] if shares else decades(high)
    colors = dict(zip(table.columns, COLORS * 2, strict=False))
    parts = [text(20, top - 16, f"{table.title}: {table.what}", anchor="start", weight="600")]
    for tick in ticks:
        x = place(tick, high, shares)
        parts.append(line([(x, top), (x, top + height)], "#e8ecf1", 1))
        words = f"≤ {number(tick)}" if not shares and tick == LEAST else number(tick)
        parts.append(text(x, top + height + 18, words, color="#718096"))
    for i, row in enumerate(table.rows):
        y = top + STEP * (i + 0.5)
        parts.append(line([(LEFT, y), (LEFT + WIDTH, y)], "#f4f6f8", 1))
        parts.append(text(LEFT - 12, y + 4, row.case, anchor="end"))
        for source in table.published.values():
            if row.case in source:
                parts.append(cross((place(min(source[row.case], high), high, shares), y), "#a0aec0", 3.5))
        for j, (name, value) in enumerate(row.values.items()):
            offset = (j - (len(row.values) - 1) / 2) * min(1.6, 12 / max(1, len(row.values)))
            parts.append(dot((place(value, high, shares), y + offset), colors[name], 3.2))
    for j, (name, color) in enumerate(colors.items()):
        parts.append(dot((LEFT + WIDTH + 30, top + 18 * j + 6), color, 4))
        parts.append(text(LEFT + WIDTH + 40, top + 18 * j + 10, name, anchor="start"))
    if any(row.case in source for source in table.published.values() for row in table.rows):
        y = top + 18 * len(colors) + 6
        parts.append(cross((LEFT + WIDTH + 30, y), "#a0aec0", 3.5))
        parts.append(text(LEFT + WIDTH + 40, y + 4, "published by others", anchor="start"))
    return "".join(parts)


def place(value: float, high: float, shares: bool) -> Number:
    """Return the pixel across of a number."""
    if shares:
        return LEFT + WIDTH * value / high
    low = math.log10(LEAST)
    return LEFT + WIDTH * (math.log10(max(value, LEAST)) - low) / (math.log10(high) - low)


def decades(high: float) -> list[float]:
    """Return the powers of ten that are drawn."""
    return [10.0**i for i in range(round(math.log10(LEAST)), round(math.log10(high)) + 1)]
