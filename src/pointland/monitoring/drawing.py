"""The readings of a training as a chart: dimensions of both sides, and the gap with its interval and the alarm."""

from collections.abc import Sequence

from pointland.experiments.axes import BLUE, GRAY, ORANGE, RED, Panel, legend, line, page, text
from pointland.monitoring.reading import Reading, first_alarm

WIDE, HIGH = 760, 322


def as_svg(readings: Sequence[Reading]) -> str:
    """Draw readings, the first step on the left.

    Raises:
        ValueError: If there are none.
    """
    if not readings:
        raise ValueError("there is no reading to draw yet")
    steps = [reading.step for reading in readings]
    across = (min(steps), max(max(steps), min(steps) + 1))
    most = max(0.1, *(max(reading.train, reading.held_out) for reading in readings))
    lids = Panel(60, 40, 290, 200, across, (0, 1.05 * most))
    low, high = min(0.0, *(one.low for one in readings)), max(0.1, *(one.high for one in readings))
    room = 0.05 * (high - low)
    gaps = Panel(450, 40, 290, 200, across, (low - room, high + room))
    parts = [
        lids.frame("Mean LID (dimensions)", "step", "LID", _ticks(*across), _ticks(0, most)),
        lids.line([(one.step, one.held_out) for one in readings], BLUE, 2),
        lids.line([(one.step, one.train) for one in readings], ORANGE, 2, "6 3"),
        legend(80, 308, [(BLUE, "held out")]),
        legend(180, 308, [(ORANGE, "trained on (dashed)")]),
        gaps.frame("Gap and 95 % interval (dimensions)", "step", "gap", _ticks(*across), _ticks(low, high)),
        gaps.line([(across[0], 0), (across[1], 0)], GRAY, 1, "4 3"),
        gaps.intervals([(one.step, one.low, one.high) for one in readings], BLUE),
        gaps.dots([(one.step, one.gap) for one in readings if not one.alarm], BLUE, 3),
        gaps.crosses([(one.step, one.gap) for one in readings if one.alarm], RED, 5),
    ]
    alarmed = first_alarm(readings)
    if alarmed:
        x = gaps.at(alarmed.step, 0)[0]
        parts.append(line([(x, 40), (x, 240)], RED, 1.2, "2 3"))
    told = f"first alarm at step {alarmed.step:,} (crosses: alarmed)" if alarmed else "no alarm"
    parts.append(text(595, 308, told, color=RED if alarmed else GRAY))
    return page(WIDE, HIGH, f"LID along a training of {len(readings)} readings; {told}", *parts)


def _ticks(low: float | int, high: float | int) -> list[float]:
    """Return five values or so, round ones."""
    step = (high - low) / 4
    size = 10 ** len(str(int(step))) / 10 if step >= 1 else 0.1
    step = max(round(step / size) * size, size)
    first = -int(-low // step) * step if low > 0 else int(low / step) * step
    return [round(first + i * step, 6) for i in range(8) if low <= first + i * step <= high]
