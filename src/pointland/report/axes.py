"""Scales, ticks and frames of small SVG charts.

Colors are classes, so that the page's light and dark themes paint them.
"""

import math
from typing import NamedTuple

from markupsafe import Markup


class Scale(NamedTuple):
    """A linear or logarithmic map from values to pixels.

    Attributes:
        low: Value at ``start``.
        high: Value at ``end``.
        start: First pixel.
        end: Last pixel.
        log: Whether it is logarithmic.
    """

    low: float | int
    high: float | int
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float | int) -> float:
        """Return the pixel of a value."""
        low, high, at = (
            math.log(v) if self.log else v for v in (self.low, self.high, max(value, 1e-300) if self.log else value)
        )
        return round(self.start + (at - low) / ((high - low) or 1) * (self.end - self.start), 1)

    def ticks(self, most: int = 6) -> list[float]:
        """Return at most about ``most`` round values inside."""
        if self.log:
            return _log_ticks(self.low, self.high, most)
        step = _nice((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def scale(
    low: float | int,
    high: float | int,
    start: float | int,
    end: float | int,
    *,
    log: bool = False,
    room: float | int = 0.0,
) -> Scale:
    """Return a scale with some room beyond both ends, and never of no width."""
    if log:
        low, high = math.log(low), math.log(high)
    if not high > low:
        low, high = low - (abs(low) * 0.05 or 0.5), high + (abs(high) * 0.05 or 0.5)
    low, high = low - room * (high - low), high + room * (high - low)
    return Scale(math.exp(low) if log else low, math.exp(high) if log else high, float(start), float(end), log)


def x_axis(x: Scale, bottom: float | int, title: str, ticks: list[float] | None = None) -> Markup:
    """Draw an axis below, with ticks that do not touch and its title."""
    parts = [Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(x.start, x.end, bottom, bottom)]
    last = -math.inf
    for tick in x.ticks() if ticks is None else ticks:
        at, text = x(tick), _short(tick)
        if at - last < 6.4 * len(text) + 4:
            continue
        last = at + 3.2 * len(text)
        at = round(at, 1)
        parts.append(
            Markup(
                '<line class="tick" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text x="{0}" y="{3}" '
                'text-anchor="middle">{4}</text>'
            ).format(at, bottom, bottom + 4, bottom + 16, text)
        )
    middle = round((x.start + x.end) / 2)
    parts.append(
        Markup('<text class="name" x="{}" y="{}" text-anchor="middle">{}</text>').format(middle, bottom + 33, title)
    )
    return Markup("").join(parts)


def y_axis(y: Scale, left: float | int, right: float | int, title: str, most: int = 4) -> Markup:
    """Draw horizontal grid lines with their values, and the title above the axis."""
    parts = []
    for tick in y.ticks(most):
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(left, right, y(tick), y(tick), left - 6, y(tick) + 4, _short(tick))
        )
    parts.append(Markup('<text class="name" x="{}" y="{}">{}</text>').format(4, round(y.end - 10), title))
    return Markup("").join(parts)


def svg(width: float | int, height: float | int, title: str, *parts: Markup, says: str = "") -> Markup:
    """Wrap parts in an SVG that scales with its box; ``title`` names what it shows, ``says`` what is to be seen."""
    described = Markup("<desc>{}</desc>").format(says) if says else Markup("")
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img"><title>{}</title>{}{}</svg>').format(
        round(width), round(height), title, described, Markup("").join(parts)
    )


def path(points: list[tuple[float, float]], css: str, *, closed: bool = False) -> Markup:
    """Draw a line through points."""
    steps = " ".join(f"{'M' if i == 0 else 'L'}{a:g} {b:g}" for i, (a, b) in enumerate(points))
    return Markup('<path class="{}" d="{}{}"/>').format(css, steps, "Z" if closed else "")


def with_unit(title: str, unit: str) -> str:
    """Return an axis title with its unit."""
    return title if unit in ("", "1") else f"{title} ({unit})"


def _short(tick: float | int) -> str:
    if tick and abs(tick) >= 10_000:
        for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(tick) >= size:
                return f"{tick / size:g}{letter}".replace("-", "−")
    return f"{round(tick, 10):g}".replace("-", "−")


def _nice(step: float | int) -> float:
    if step <= 0 or not math.isfinite(step):
        return 1.0
    power = 10 ** math.floor(math.log10(step))
    return float(next(nice * power for nice in (1, 2, 2.5, 5, 10) if nice * power >= step * 0.999))


def _log_ticks(low: float | int, high: float | int, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leads in ((1, 2, 5), (1, 3), (1,)):
        ticks = [lead * 10.0**decade for decade in decades for lead in leads if low <= lead * 10.0**decade <= high]
        if len(ticks) <= max(most, 3) + 2:
            break
    return ticks or [low, high]
