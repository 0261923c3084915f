r"""Signals and triggers: which prompts a mitigation acts on, and how it knows that it has done enough.

A signal is an objective of the prompt, signed so that memorized is *high*, measured where the pipeline is about to
start or, when ``n_steps`` is above 0, after so many Euler steps of the probability flow under the caption alone

.. math:: x \leftarrow D_c + (x - D_c)\, \sigma' / \sigma

from there down to ``sigma``: memorization shows at the very start of large models, and in small ones only where the
noise hides no more than details; see :mod:`pointland.metrics.guidance_jump`, which is one step, for why. A trigger is a
signal with the level above which a prompt is acted on; :func:`calibrated` finds the level that so many normal prompts
exceed. Without a level the trigger lets every prompt through.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pointland.mitigate.opening import Opening, opening
from pointland.model import Condition, PromptedModel
from pointland.prompts.objectives import Objective, guidance_norm


@dataclass(frozen=True)
class Signal:
    """An objective, where it is measured, and which side of it is memorized.

    Attributes:
        objective: From :mod:`pointland.prompts`; the guidance norm is per coordinate (root mean square).
        memorized_when: Which side of the objective; the signal of a ``low`` one is its negative.
        sigma: Noise scale where it is measured; ``None`` is where the pipeline starts.
        n_steps: Euler steps from the start to ``sigma``.

    Cost:
        ``n_steps`` evaluations and those of the objective.
    """

    objective: Objective = guidance_norm
    memorized_when: Literal["high", "low"] = "high"
    sigma: float | None = None
    n_steps: int = 0

    def __post_init__(self) -> None:
        if (self.sigma is None) != (self.n_steps == 0):
            raise ValueError(
                f"a signal away from the start needs both sigma and at least one step to get there, got sigma "
                f"{self.sigma} and n_steps {self.n_steps}"
            )

    def at(
        self,
        model: PromptedModel,
        x: Float[Tensor, "b *event"],
        sigma: Float[Tensor, " b"],
        c: Condition,
        base: Condition,
    ) -> Float[Tensor, " b"]:
        """Return the signal at a point already reached, high for memorized; differentiable."""
        value = self.objective(model, x, sigma, c, base)
        return value if self.memorized_when == "high" else -value

    def reached(
        self, start: Opening, condition: Condition, rows: Sequence[int]
    ) -> tuple[Float[Tensor, "n *event"], Float[Tensor, " n"]]:
        """Walk from the starts of these images to where the signal is measured, and charge them for it."""
        x, sigma = start.x[list(rows)], start.sigma[list(rows)]
        if self.sigma is None or not len(rows):
            return x, sigma
        with torch.no_grad(), start.charging(rows):
            for now, then in pairwise(self._ladder(start)):
                at = x.new_full((len(x),), now)
                denoised = start.model.denoise(x, at, condition)
                x = denoised + (x - denoised) * (then / now)
        return x, x.new_full((len(x),), then)

    def __call__(self, start: Opening, condition: Condition, rows: Sequence[int]) -> Float[Tensor, " n"]:
        """Measure the signal of these images, whose condition has one row each, and charge them for it."""
        x, sigma = self.reached(start, condition, rows)
        with torch.no_grad(), start.charging(rows):
            return self.at(start.model, x, sigma, condition, start.base.select(rows))

    def _ladder(self, start: Opening) -> list[float]:
        high, low = float(start.sigma[0]), float(self.sigma or 0)
        if not 0 < low < high:
            raise ValueError(f"the signal's sigma {low:.4g} must lie between 0 and the start's, {high:.4g}")
        inner = np.geomspace(high, low, self.n_steps + 1)[1:].tolist()
        return [high, *(start.model.levels.nearest(sigma).sigma for sigma in inner)]


AT_START = Signal()


@dataclass(frozen=True)
class Trigger:
    """Which prompts are acted on.

    Attributes:
        threshold: Level of the signal above which; ``None`` acts on every prompt and measures nothing.
        signal: What is measured.
    """

    threshold: float | None = None
    signal: Signal = AT_START

    def measured(self, start: Opening) -> list[float | None]:
        """Return the signal of every image, or ``None`` for each where nothing is measured."""
        if self.threshold is None:
            return [None] * len(start.prompts)
        return list(self.signal(start, start.condition, range(len(start.prompts))).tolist())

    def above(self, values: Sequence[float | None]) -> list[int]:
        """Return which of these are acted on; a value that is not finite is."""
        level = self.threshold
        return [i for i, value in enumerate(values) if level is None or value is None or not value <= level]


EVERY = Trigger()


def signals(
    signal: Signal,
    pipe: Any,
    prompts: Sequence[str],
    generators: Sequence[torch.Generator],
    *,
    model: PromptedModel | None = None,
    batch_size: int = 16,
    **arguments: Any,
) -> list[float]:
    """Return the signal of every prompt from its generator's noise.

    Args:
        signal: What to measure.
        pipe: The pipeline.
        prompts: One an image.
        generators: One a prompt.
        model: Of the pipeline's modules; made if ``None``.
        batch_size: Prompts in one call.
        arguments: Of the pipeline, which decide where it starts.
    """
    found: list[float] = []
    for first in range(0, len(prompts), batch_size):
        part = slice(first, first + batch_size)
        start = opening(pipe, prompts[part], generators[part], None, model, arguments)
        found += signal(start, start.condition, range(len(start.prompts))).tolist()
    return found


def calibrated(
    signal: Signal,
    pipe: Any,
    normal_prompts: Sequence[str],
    generators: Sequence[torch.Generator],
    *,
    rate: float = 0.01,
    model: PromptedModel | None = None,
    batch_size: int = 16,
    **arguments: Any,
) -> Trigger:
    """Return the trigger that acts on at most a share ``rate`` of prompts like ``normal_prompts``.

    The level is a conformal quantile: of ``n`` normal prompts the ``ceil((n + 1)(1 - rate))``-th smallest signal, so
    that the rate holds for new ones too; it needs ``n >= 1 / rate - 1``.

    Args:
        signal: What to measure.
        pipe: The pipeline.
        normal_prompts: Prompts of the user's kind that are known to be unmemorized, or nearly all of them.
        generators: One a prompt.
        rate: Share of normal prompts that may be touched.
        model: The model of the pipeline's modules, as for :class:`~pointland.mitigate.Mitigation`.
        batch_size: Prompts in one batch.
        arguments: The pipeline's own, as they will be used.

    Raises:
        ValueError: If ``rate`` is not between 0 and 1, or there are too few prompts for it.
    """
    rank = conformal_rank(len(normal_prompts), rate)
    values = signals(signal, pipe, normal_prompts, generators, model=model, batch_size=batch_size, **arguments)
    return Trigger(sorted(values)[rank - 1], signal)


def conformal_rank(n: int, rate: float) -> int:
    """Return which of ``n`` ascending normal values new ones exceed at most at ``rate``, counted from 1."""
    if not 0 < rate < 1:
        raise ValueError(f"rate must be between 0 and 1, got {rate}")
    rank = int(np.ceil((n + 1) * (1 - rate) - 1e-9))
    if rank > n:
        raise ValueError(
            f"{n} normal prompts cannot tell a rate of {rate:g}; pass at least {int(np.ceil(1 / rate)) - 1}, or a "
            "larger rate"
        )
    return rank
