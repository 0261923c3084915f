"""Panels of small SVG charts: a map from values to pixels, a frame with ticks, and marks. Plain strings, no library."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

BLUE, RED, GREEN, ORANGE, GRAY, PALE = "#2b6cb0", "#c53030", "#2f855a", "#c05621", "#718096", "#bcd4ec"
Number = float | int
Point = tuple[Number, Number]


@dataclass(frozen=True)
class Panel:
    """A rectangle of pixels that shows a rectangle of values.

    Attributes:
        left: First pixel across.
        top: First pixel down.
        width: Pixels across.
        height: Pixels down.
        x: Least and greatest value across.
        y: Least and greatest value up.
        log_x: Whether the scale across is logarithmic.
        log_y: Whether the scale up is logarithmic.
    """

    left: Number
    top: Number
    width: Number
    height: Number
    x: Point
    y: Point
    log_x: bool = False
    log_y: bool = False

    def at(self, x: Number, y: Number) -> Point:
        """Return the pixel of a value."""
        across, up = _share(x, self.x, self.log_x), _share(y, self.y, self.log_y)
        return self.left + across * self.width, self.top + (1 - up) * self.height

    def frame(self, title: str, across: str, up: str, x_ticks: Sequence[Number], y_ticks: Sequence[Number]) -> str:
        """Draw the axes with ticks and grid lines, the name of the panel and those of its axes."""
        bottom, right = self.top + self.height, self.left + self.width
        parts = [text(self.left + self.width / 2, self.top - 12, title, weight="600")]
        for value in y_ticks:
            y = self.at(self.x[0], value)[1]
            parts.append(line([(self.left, y), (right, y)], "#e8ecf1", 1))
            parts.append(text(self.left - 7, y + 4, number(value), anchor="end", color=GRAY))
        for value in x_ticks:
            x = self.at(value, self.y[0])[0]
            parts.append(line([(x, bottom), (x, bottom + 4)], GRAY, 1))
            parts.append(text(x, bottom + 18, number(value), color=GRAY))
        parts.append(line([(self.left, bottom), (right, bottom)], GRAY, 1))
        parts.append(text(self.left + self.width / 2, bottom + 38, across))
        x, y = self.left - 40, self.top + self.height / 2
        parts.append(f'<g transform="translate({x:.1f} {y:.1f}) rotate(-90)">{text(0, 0, up)}</g>')
        return "".join(parts)

    def line(self, points: Sequence[Point], color: str, width: Number = 1.6, dash: str = "") -> str:
        """Draw a line through values."""
        return line([self.at(*point) for point in points], color, width, dash)

    def dots(self, points: Sequence[Point], color: str, radius: Number = 3) -> str:
        """Draw a dot at every value."""
        return "".join(dot(self.at(*point), color, radius) for point in points)

    def crosses(self, points: Sequence[Point], color: str, size: Number = 4) -> str:
        """Draw a cross at every value."""
        return "".join(cross(self.at(*point), color, size) for point in points)

    def intervals(self, rows: Sequence[tuple[Number, Number, Number]], color: str) -> str:
        """Draw a vertical interval at every ``x, low, high``."""
        return "".join(self.line([(x, low), (x, high)], color, 1.2) for x, low, high in rows)


def page(width: Number, height: Number, title: str, *parts: str) -> str:
    """Wrap parts in an SVG with a white ground and a title for those who cannot see it."""
    label = escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{label}" font-family="system-ui, Helvetica, Arial, sans-serif" '
        f'font-size="12"><title>{label}</title><rect width="100%" height="100%" fill="#ffffff"/>'
        + "".join(parts)
        + "</svg>\n"
    )


def text(
    x: Number, y: Number, words: str, *, anchor: str = "middle", color: str = "#1a202c", weight: str = "400"
) -> str:
    """Write words."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{color}" font-weight="{weight}">{escape(words)}</text>'


def line(points: Sequence[Point], color: str, width: Number = 1.6, dash: str = "") -> str:
    """Draw a line through pixels."""
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{steps}" fill="none" stroke="{color}" stroke-width="{width:g}" '
        f'stroke-linejoin="round"{dashes}/>'
    )


def dot(at: Point, color: str, radius: Number = 3) -> str:
    """Draw a dot at a pixel."""
    return f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:g}" fill="{color}"/>'


def cross(at: Point, color: str, size: Number = 4) -> str:
    """Draw a cross at a pixel."""
    (x, y), s = at, size
    return (
        f'<path d="M{x - s:.1f} {y - s:.1f}L{x + s:.1f} {y + s:.1f}M{x - s:.1f} {y + s:.1f}L{x + s:.1f} {y - s:.1f}" '
        f'stroke="{color}" stroke-width="1.8"/>'
    )


def legend(x: Number, y: Number, rows: Sequence[tuple[str, str]]) -> str:
    """List colors and what they mean, downwards."""
    return "".join(
        dot((x, y + 18 * i - 4), color, 4) + text(x + 10, y + 18 * i, words, anchor="start")
        for i, (color, words) in enumerate(rows)
    )


def number(value: Number) -> str:
    """Write a number shortly, with a proper minus."""
    return f"{round(value, 10):g}".replace("-", "−")


def lid_color(value: Number, most: Number = 2.0) -> str:
    """Return a color from red at dimension 0 through orange to blue at ``most``."""
    share = min(max(value / most, 0.0), 1.0)
    stops = ((197, 48, 48), (221, 158, 60), (43, 108, 176))
    i = min(int(share * 2), 1)
    a, b, along = stops[i], stops[i + 1], share * 2 - i
    red, green, blue = (round(p + (q - p) * along) for p, q in zip(a, b, strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _share(value: Number, ends: Point, log: bool) -> Number:
    low, high = ends
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)
