r"""Guidance schedules: no guidance while it would pull into the memorized picture's basin, full guidance afterwards.

Until a transition the sampler goes by :math:`D_u + g_0 (D_c - D_u)` with :math:`g_0` 0 (without the prompt) or negative
("opposite"), then by the pipeline's own scale. The transition is at a noise scale, or at the first local minimum of the
guidance norm, which memorized prompts keep high until their basin is left behind.

Source: Jain et al. 2025 (CVPR), "Classifier-free guidance inside the attraction basin may cause memorization":
transition at step 500 of 1000 (650 for opposite guidance of -2) of Stable Diffusion's schedule, sigma 1.61 and 3.18.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pointland.denoiser import per_item
from pointland.metrics.rms import root_mean_square
from pointland.mitigate.mitigation import Callback, Decision, Generated
from pointland.mitigate.opening import opening
from pointland.mitigate.perturbation import untouched
from pointland.mitigate.signal import EVERY, Trigger
from pointland.mitigate.steering import Rule, Step
from pointland.model import PromptedModel


@dataclass(frozen=True)
class LateGuidance:
    """Another guidance scale above a noise scale.

    Attributes:
        until: Noise scale at and below which the pipeline's own scale is used.
        early: The scale above it: 0 without the prompt, negative for opposite guidance.
        trigger: Which prompts; all by default.

    Cost:
        Nothing beside the trigger's.
    """

    until: float = 1.61
    early: float = 0.0
    trigger: Trigger = EVERY

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
        for i in rows:
            words = f"guidance {self.early:g} down to sigma {self.until:g}"
            decisions[i] = Decision(True, words, values[i], prompt=prompts[i])
        rule = early_guidance(rows, start.x, lambda step: step.sigma > self.until, self.early)
        return start.sample(decisions, rule=rule if rows else None)


@dataclass(frozen=True)
class GuidanceAfterMinimum:
    """Another guidance scale until the guidance norm has its first local minimum, for each image by itself.

    Attributes:
        early: The scale until then.
        trigger: Which prompts; all by default.

    Cost:
        Nothing beside the trigger's.
    """

    early: float = 0.0
    trigger: Trigger = EVERY

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
        for i in rows:
            decisions[i] = Decision(True, "no minimum of the guidance norm found", values[i], prompt=prompts[i])
        return start.sample(decisions, rule=self._rule(rows, decisions, start.x) if rows else None)

    def _rule(self, rows: list[int], decisions: list[Decision], x: Tensor) -> Rule:
        waiting = _mask(rows, x)
        norms: list[Tensor] = []

        def rule(step: Step) -> Float[Tensor, "b *event"] | None:
            nonlocal waiting
            norms.append(guidance(step))
            if len(norms) > 1:
                risen = waiting & (norms[-1] > norms[-2])
                for i in risen.nonzero().flatten().tolist():
                    words = f"guidance {self.early:g} until its norm rose at sigma {float(step.sigma[i]):.3g}"
                    decisions[i] = Decision(True, words, decisions[i].signal, prompt=decisions[i].prompt)
                waiting = waiting & ~risen
            return mixed(step, waiting, step.x.new_tensor(self.early))

        return rule


def early_guidance(
    rows: list[int], x: Float[Tensor, "b *event"], early: Callable[[Step], Bool[Tensor, "*b"]], scale: float = 0.0
) -> Rule:
    """Return the rule of another scale for these images wherever it is early."""
    chosen = _mask(rows, x)
    return lambda step: mixed(step, chosen & early(step), step.x.new_tensor(scale))


def guidance(step: Step) -> Float[Tensor, " b"]:
    """Return the guidance norm of every image: the root mean square difference of the two noise predictions."""
    return root_mean_square((step.conditional - step.unconditional) / per_item(step.sigma, step.x))


def mixed(step: Step, chosen: Bool[Tensor, " b"], scale: Float[Tensor, "*b"]) -> Float[Tensor, "b *event"] | None:
    """Return the guided denoised points with another scale for the chosen images; ``None`` if there are none."""
    if not bool(chosen.any()):
        return None
    scale = scale.expand(len(step.x)) if scale.ndim == 0 else scale
    other = step.unconditional + per_item(scale, step.x) * (step.conditional - step.unconditional)
    return torch.where(chosen.reshape(-1, *(1,) * (step.x.ndim - 1)), other, step.guided)


def _mask(rows: list[int], x: Tensor) -> Bool[Tensor, " b"]:
    mask = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    mask[rows] = True
    return mask
