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
        gap: Dimensions that training pictures have less at equal complexity and first reading; above 0 where they have
            lost them.
        low: Lower end of the gap's 95 % interval, over pictures.
        high: Its upper end.
        p: One-sided p-value of no gap, of this reading alone.
        level: What it is compared with, so that all readings together alarm falsely at most at the rate asked for.
        alarm: Whether ``p`` is at most ``level``.
        n_missing: Pictures left out, whose network output was not finite at this reading or at the first.
        seconds: That the reading took.
        lids: Of every training picture and every held-out one, in dimensions; ``None`` where not finite.
    """

    step: int
    train: float
    held_out: float
    gap: float
    low: float
    high: float
    p: float
    level: float
    alarm: bool
    n_missing: int
    seconds: float
    lids: Lids = field(repr=False)

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers by the names that loggers show."""
        shown = ("train", "held_out", "gap", "low", "high", "p", "alarm")
        return {f"memorization/{name}": float(getattr(self, name)) for name in shown}


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
        earlier: The readings before, of the same pictures; the first is what this one is compared at.
        rate: Share of trainings without memorization that may ever alarm.
        seconds: That it took to get them.

    Raises:
        ValueError: If too few pictures have a finite value, or the earlier readings are of other pictures.
    """
    trained = np.repeat([True, False], [len(side) for side in lids])
    values, levels = _together(lids), [complexity]
    if earlier:
        if [len(side) for side in earlier[0].lids] != [len(side) for side in lids]:
            raise ValueError("the record was made with other pictures; choose another file, or the same pictures")
        levels.append(_together(earlier[0].lids))
    used = np.isfinite(np.stack([values, *levels])).all(axis=0)
    n_train, n_held_out = int((used & trained).sum()), int((used & ~trained).sum())
    if min(n_train, n_held_out) < FEWEST:
        raise ValueError(
            f"step {step}: the model's output is finite for {n_train} training and {n_held_out} held-out pictures; "
            f"a monitor needs {FEWEST} of both. Has the training diverged?"
        )
    found = compared(values[used], trained[used], [level[used] for level in levels])
    k = len(earlier) + 1
    level = rate / (k * (k + 1))
    return Reading(
        step=step,
        train=float(values[used & trained].mean()),
        held_out=float(values[used & ~trained].mean()),
        gap=found.gap,
        low=found.low,
        high=found.high,
        p=found.p,
        level=level,
        alarm=found.p <= level,
        n_missing=int((~used).sum()),
        seconds=seconds,
        lids=lids,
    )


def fallen(readings: Sequence[Reading]) -> NDArray[np.float64]:
    """Return how many dimensions every training picture lost since the first reading, more than held-out ones did.

    At the first reading there is nothing to have lost since: how many it has less than the held-out ones' mean.
    """
    train, held_out = (np.array(side, float) for side in readings[-1].lids)
    if len(readings) > 1:
        before = [np.array(side, float) for side in readings[0].lids]
        train, held_out = train - before[0], held_out - before[1]
    return np.asarray(np.nanmean(held_out) - train)


def rounded(lids: NDArray[np.float64]) -> tuple[float | None, ...]:
    """Return dimensions to six digits, as a record keeps them; ``None`` where not finite."""
    return tuple(float(f"{lid:.6g}") if math.isfinite(lid) else None for lid in lids.tolist())


def _together(lids: Lids) -> NDArray[np.float64]:
    return np.array([math.nan if lid is None else lid for side in lids for lid in side])
