"""One reading of a monitor: what the dimensions of the pictures say, given the readings before."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from pointland.monitoring.gap import compared
from pointland.monitoring.probes import FEWEST

Lids = tuple[tuple[float | None, ...], tuple[float | None, ...]]  # of training and of held-out pictures


@dataclass(frozen=True)
class Reading:
    """What the monitor saw at one step.

    Attributes:
        step: Of the training.
        train: Mean LID of the training pictures, in dimensions.
        held_out: Mean LID of the held-out pictures.
        gap: Dimensions that training pictures have less, at equal complexity.
        low: Lower end of the gap's 95 % interval, over pictures.
        high: Its upper end.
        lost: Dimensions that training pictures have less at equal complexity and equal dimensions at ``since``: what
            they lost from then on; ``None`` where there is no reading to compare with.
        since: The last step read in the first half of the training so far.
        p: One-sided p-value of no gap and nothing lost, of this reading alone.
        level: What it is compared with, so that all readings together alarm falsely at most at the rate asked for.
        alarm: Whether ``p`` is at most ``level``.
        n_missing: Pictures left out, whose network output was not finite at this reading or at ``since``.
        seconds: That the reading took.
        lids: Of every training picture and every held-out one, in dimensions; ``None`` where not finite.
    """

    step: int
    train: float
    held_out: float
    gap: float
    low: float
    high: float
    lost: float | None
    since: int | None
    p: float
    level: float
    alarm: bool
    n_missing: int
    seconds: float
    lids: Lids = field(repr=False)

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers by the names that loggers show."""
        shown = ("train", "held_out", "gap", "low", "high", "lost", "p", "alarm")
        known = {name: getattr(self, name) for name in shown}
        return {f"memorization/{name}": float(value) for name, value in known.items() if value is not None}


def reading_of(
    step: int,
    lids: Lids,
    complexity: Float[np.ndarray, " n"],
    earlier: Sequence[Reading],
    rate: float,
    *,
    seconds: float = 0.0,
) -> Reading:
    """Read the dimensions of the pictures at a step.

    Args:
        step: Of the training.
        lids: Of every training picture and every held-out one.
        complexity: Of the same pictures, training pictures first.
        earlier: The readings before, of the same pictures.
        rate: Share of trainings without memorization that may ever alarm.
        seconds: That it took to get them.

    Raises:
        ValueError: If too few pictures have a finite value, or the earlier readings are of other pictures.
    """
    trained = np.repeat([True, False], [len(side) for side in lids])
    values, before = _together(lids), halfway(step, earlier)
    levels = [complexity]
    if before is not None:
        if [len(side) for side in before.lids] != [len(side) for side in lids]:
            raise ValueError("the record was made with other pictures; choose another file, or the same pictures")
        levels.append(_together(before.lids))
    used = np.isfinite(np.stack([values, *levels])).all(axis=0)
    n_train, n_held_out = int((used & trained).sum()), int((used & ~trained).sum())
    if min(n_train, n_held_out) < FEWEST:
        raise ValueError(
            f"step {step}: the model's output is finite for {n_train} training and {n_held_out} held-out pictures; "
            f"a monitor needs {FEWEST} of both. Has the training diverged?"
        )
    found = compared(values[used], trained[used], [complexity[used]])
    p, lost = found.p, None
    if before is not None:
        change = compared(values[used], trained[used], [level[used] for level in levels])
        p, lost = min(1.0, 2 * min(found.p, change.p)), change.gap
    k = len(earlier) + 1
    level = rate / (k * (k + 1))
    return Reading(
        step=step,
        train=float(values[used & trained].mean()),
        held_out=float(values[used & ~trained].mean()),
        gap=found.gap,
        low=found.low,
        high=found.high,
        lost=lost,
        since=None if before is None else before.step,
        p=p,
        level=level,
        alarm=p <= level,
        n_missing=int((~used).sum()),
        seconds=seconds,
        lids=lids,
    )


def first_alarm(readings: Sequence[Reading]) -> Reading | None:
    """Return the first reading that alarmed, if one did."""
    return next((reading for reading in readings if reading.alarm), None)


def halfway(step: int, earlier: Sequence[Reading]) -> Reading | None:
    """Return the last reading in the first half of the training so far, if there is one."""
    return next((one for one in reversed(earlier) if 2 * one.step <= step), None)


def fallen(readings: Sequence[Reading]) -> NDArray[np.float64]:
    """Return how many dimensions every training picture lost since the last reading's ``since``, beyond held-out ones.

    Where there is no such reading: how many it has less than the held-out ones' mean.
    """
    last = readings[-1]
    before = halfway(last.step, readings[:-1])
    train, held_out = (np.array(side, float) for side in last.lids)
    if before is not None:
        train, held_out = train - np.array(before.lids[0], float), held_out - np.array(before.lids[1], float)
    return np.asarray(np.nanmean(held_out) - train)


def rounded(lids: NDArray[np.float64]) -> tuple[float | None, ...]:
    """Return dimensions to six digits, as a record keeps them; ``None`` where not finite."""
    return tuple(float(f"{lid:.6g}") if math.isfinite(lid) else None for lid in lids.tolist())


def _together(lids: Lids) -> NDArray[np.float64]:
    return np.array([math.nan if lid is None else lid for side in lids for lid in side])
