"""Similarity against alignment, every mitigation a dot: up and to the left is better."""

from pointland.benchmarks.lid.chart import COLORS
from pointland.benchmarks.mitigation.evaluate import Comparison
from pointland.experiments.axes import Panel, dot, line, page, text


def draw(result: Comparison) -> str:
    """Draw a comparison as SVG."""
    rows = result.methods
    plain = rows[0]
    across = [row.similarity for row in rows] + [plain.normal_similarity]
    up = [row.alignment for row in rows]
    x, y = _range(across), _range(up)
    panel = Panel(80, 60, 480, 380, x, y)
    parts = [
        panel.frame(
            "Memorized prompts under every mitigation",
            "similarity to the nearest training picture",
            "alignment with the prompt",
            _ticks(x),
            _ticks(y),
        ),
        line([panel.at(plain.normal_similarity, y[0]), panel.at(plain.normal_similarity, y[1])], "#a0aec0", 1.2),
        text(*panel.at(plain.normal_similarity, y[1]), "unmemorized", color="#718096"),
        line([panel.at(x[0], plain.alignment), panel.at(x[1], plain.alignment)], "#a0aec0", 1.2),
    ]
    for i, row in enumerate(rows):
        color = COLORS[i % len(COLORS)]
        parts.append(dot(panel.at(row.similarity, row.alignment), color, 5))
        parts.append(text(*panel.at(row.similarity, row.alignment), str(i), color="#1a202c"))
        parts.append(dot((600, 70 + 20 * i), color, 5))
        parts.append(text(612, 74 + 20 * i, f"{i}  {row.method} ({row.cost:.1f} times the cost)", anchor="start"))
    return page(900, 520, "Similarity against alignment of mitigations", *parts)


def _range(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    edge = max(0.02, 0.1 * (high - low))
    return low - edge, high + edge


def _ticks(ends: tuple[float, float]) -> list[float]:
    step = (ends[1] - ends[0]) / 5
    return [round(ends[0] + step * i, 2) for i in range(1, 5)]
