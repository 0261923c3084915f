r"""Initial noise: start where the caption does not pull, from a noise that is still a plain one to the sampler.

With :math:`\Delta(x) = (D_u - D_c) / \sigma`, the guidance in noise units, at the start of sampling:

- SAIL (Jeon et al. 2025) descends :math:`\|\Delta(x + r\,\hat\Delta)\| + 0.05 \|x\|`, a finite difference that is large
  where the caption makes the density sharp, from several fresh noises;
- Han et al. 2025 (NeurIPS) either takes a few steps :math:`x \leftarrow x - \gamma\,(\Delta(x + \rho\hat\Delta) -
  \Delta(x))`, without guidance for the first steps, or descends :math:`\|\Delta\|` itself for every image.

Norms are root mean squares here, :math:`\hat\Delta` has root mean square 1, and ``x`` is the noise in the pipeline's
latents, of standard deviation 1. The published settings, for 16,384 coordinates, are divided by 128: radius 1 is
0.0078, :math:`\rho = 50` is 0.39, SAIL's 8.2 less the constant 6.4 is 0.014, Han's 0.9 is 0.0070.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import draws
from pointland.denoiser import per_item
from pointland.metrics.rms import root_mean_square
from pointland.mitigate.guidance_schedule import early_guidance
from pointland.mitigate.mitigation import Callback, Decision, Generated
from pointland.mitigate.opening import Opening, opening
from pointland.mitigate.perturbation import untouched
from pointland.mitigate.signal import EVERY, Trigger
from pointland.model import PromptedModel
from pointland.prompts.objectives import predictions

SAIL, HAN = 1.8 / 128, 0.9 / 128


@dataclass(frozen=True)
class Sail:
    """Descend sharpness from several noises until one start is normal.

    Attributes:
        trigger: Which prompts; all by default.
        target: Sharpness at which a start is taken, without the term of the noise's own size.
        rate: Adam's learning rate.
        n_steps: The most steps from each noise.
        n_candidates: Noises tried, the first being the image's own.
        radius: Of the finite difference.
        weight: Of the noise's own root mean square.

    Cost:
        4 evaluations, 2 of them with a backward pass, a step: 8; at most ``n_candidates (n_steps + 1)`` of them.
    """

    trigger: Trigger = EVERY
    target: float = SAIL
    rate: float = 0.05
    n_steps: int = 10
    n_candidates: int = 8
    radius: float = 1 / 128
    weight: float = 0.05

    def __call__(
        self,
        pipe: Any,
        prompts: Sequence[str],
        generators: Sequence[torch.Generator],
        callback: Callback | None = None,
        *,
        model: PromptedModel | None = None,
        **arguments: Any,
    ) -> Generated:
        """Sample; see :class:`~pointland.mitigate.Mitigation`."""
        start = opening(pipe, prompts, generators, callback, model, arguments)
        values = self.trigger.measured(start)
        decisions = [untouched(value, prompt) for value, prompt in zip(values, prompts, strict=True)]
        latents = start.latents.clone()
        for row in self.trigger.above(values):
            key = f"{generators[row].initial_seed()} {prompts[row]}"
            best = float("inf")
            for n in range(self.n_candidates):
                noise = start.latents[row : row + 1].float()
                noise = noise if n == 0 else draws.normal(noise, [key], 1, 0, start=n)[0]
                optimizer = _adam(self.rate)
                found, value, _ = _descended(start, row, noise, self._loss, optimizer, self.target, self.n_steps)
                if value < best:
                    best, latents[row] = value, found[0].to(latents.dtype)
                if best <= self.target:
                    break
            words = f"noise {n + 1} of {self.n_candidates}: sharpness {best:.3g}"
            decisions[row] = Decision(True, words, values[row], prompt=prompts[row])
        return start.sample(decisions, latents=latents)

    def _loss(self, start: Opening, row: int, noise: Float[Tensor, "1 *event"]) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), start.charging([row]):
            pull = gap(start, row, noise)
            unit = pull / root_mean_square(pull).clamp(min=1e-12)
        with start.charging([row], backward=True):
            sharpness = root_mean_square(gap(start, row, noise + self.radius * unit))
        return sharpness, sharpness + self.weight * root_mean_square(noise)


@dataclass(frozen=True)
class HanPerImage:
    """Descend the guidance norm at the start until it is normal.

    Attributes:
        trigger: Which prompts; all by default.
        target: Guidance norm at which a start is taken.
        rate: AdamW's learning rate.
        n_steps: The most steps; published with 1,000.

    Cost:
        2 evaluations with a backward pass a step: 6.
    """

    trigger: Trigger = EVERY
    target: float = HAN
    rate: float = 0.01
    n_steps: int = 1000

    def __call__(
        self,
        pipe: Any,
        prompts: Sequence[str],
        generators: Sequence[torch.Generator],
        callback: Callback | None = None,
        *,
        model: PromptedModel | None = None,
        **arguments: Any,
    ) -> Generated:
        """Sample; see :class:`~pointland.mitigate.Mitigation`."""
        start = opening(pipe, prompts, generators, callback, model, arguments)
        values = self.trigger.measured(start)
        decisions = [untouched(value, prompt) for value, prompt in zip(values, prompts, strict=True)]
        latents = start.latents.clone()
        for row in self.trigger.above(values):
            noise = start.latents[row : row + 1].float()
            made = _adamw(self.rate)
            found, value, steps = _descended(start, row, noise, self._loss, made, self.target, self.n_steps)
            latents[row] = found[0].to(latents.dtype)
            words = f"start moved in {steps} steps to guidance norm {value:.3g}"
            decisions[row] = Decision(True, words, values[row], prompt=prompts[row])
        return start.sample(decisions, latents=latents)

    def _loss(self, start: Opening, row: int, noise: Float[Tensor, "1 *event"]) -> tuple[Tensor, Tensor]:
        with start.charging([row], backward=True):
            norm = root_mean_square(gap(start, row, noise))
        return norm, norm


@dataclass(frozen=True)
class HanSteps:
    r"""Take a few steps against the change of the guidance along itself, and begin without guidance.

    Published as "batch-wise", with one norm over the batch; the norm here is each image's own.

    Attributes:
        trigger: Which prompts; all by default.
        n_rounds: Steps.
        radius: :math:`\rho`, the length along the guidance.
        rate: :math:`\gamma`, the step.
        unguided: Sampling steps without guidance at the beginning.

    Cost:
        4 evaluations a round.
    """

    trigger: Trigger = EVERY
    n_rounds: int = 2
    radius: float = 50 / 128
    rate: float = 0.7
    unguided: int = 5

    def __call__(
        self,
        pipe: Any,
        prompts: Sequence[str],
        generators: Sequence[torch.Generator],
        callback: Callback | None = None,
        *,
        model: PromptedModel | None = None,
        **arguments: Any,
    ) -> Generated:
        """Sample; see :class:`~pointland.mitigate.Mitigation`."""
        start = opening(pipe, prompts, generators, callback, model, arguments)
        values = self.trigger.measured(start)
        rows = self.trigger.above(values)
        decisions = [untouched(value, prompt) for value, prompt in zip(values, prompts, strict=True)]
        latents = start.latents.clone()
        for row in rows:
            noise = start.latents[row : row + 1].float()
            for _ in range(self.n_rounds):
                with torch.no_grad(), start.charging([row]):
                    pull = gap(start, row, noise)
                    unit = pull / root_mean_square(pull).clamp(min=1e-12)
                    noise = noise - self.rate * (gap(start, row, noise + self.radius * unit) - pull)
            latents[row] = noise[0].to(latents.dtype)
            words = f"start moved in {self.n_rounds} rounds, {self.unguided} steps without guidance"
            decisions[row] = Decision(True, words, values[row], prompt=prompts[row])
        rule = early_guidance(rows, start.x, lambda step: step.sigma.new_full((), step.index) < self.unguided)
        return start.sample(decisions, latents=latents, rule=rule if rows else None)


def gap(start: Opening, row: int, noise: Float[Tensor, "1 *event"]) -> Float[Tensor, "1 *event"]:
    """Return the guidance in noise units from another starting noise."""
    x, sigma = noise * per_item(start.stretch[row : row + 1], noise), start.sigma[row : row + 1]
    found = predictions(start.model, x, sigma, start.condition.select([row]), start.base.select([row]))
    return (found.unconditional - found.conditional) / per_item(sigma, x)


Loss = Callable[[Opening, int, Tensor], tuple[Tensor, Tensor]]
Made = Callable[[list[Tensor]], torch.optim.Optimizer]


def _descended(
    start: Opening, row: int, noise: Tensor, loss: Loss, made: Made, target: float, n_steps: int
) -> tuple[Tensor, float, int]:
    """Return the noise after the descent, its value, and the steps; stops at the target."""
    leaf = noise.detach().clone().requires_grad_()
    optimizer = made([leaf])
    step = 0
    while True:
        with torch.enable_grad():
            value, total = loss(start, row, leaf)
            if value.item() <= target or step == n_steps:
                return leaf.detach(), value.item(), step
            (leaf.grad,) = torch.autograd.grad(total.sum(), leaf)
        optimizer.step()
        step += 1


def _adam(rate: float) -> Made:
    return lambda leaves: torch.optim.Adam(leaves, lr=rate)


def _adamw(rate: float) -> Made:
    return lambda leaves: torch.optim.AdamW(leaves, lr=rate)
