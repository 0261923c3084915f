r"""Clipped guidance: never let the caption pull harder than it pulls for normal prompts.

At every step the difference :math:`D_c - D_u` is scaled down until a norm is at the normal level of its noise scale:
that of the guidance :math:`\|D_c - D_u\| / (\sigma\sqrt d)`, or that of the guided score :math:`\|x - D_g\| /
(\sigma\sqrt d)`. In the second :math:`x - D_g = a - s b` with :math:`a = x - D_u` and :math:`b = g (D_c - D_u)`, whose
norm is a parabola in the share :math:`s` of guidance, so that the largest share within the level has a closed form.
Below the level nothing is changed.

Source: "controlling the score norm" is what Ross et al. 2025 propose against memorization; the level for each noise
scale and prompt is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.denoiser import per_item
from pointland.metrics.rms import root_mean_square
from pointland.mitigate.guidance_schedule import guidance, mixed
from pointland.mitigate.mitigation import Callback, Decision, Generated
from pointland.mitigate.normal_level import NormalLevel
from pointland.mitigate.opening import Opening, opening
from pointland.mitigate.perturbation import untouched
from pointland.mitigate.steering import Step
from pointland.model import PromptedModel

Norm = Literal["guidance", "score"]


@dataclass(frozen=True)
class ClippedGuidance:
    """Scale guidance down wherever its norm is above normal.

    Attributes:
        level: The normal level of the norm, from :func:`~pointland.mitigate.normal_level` of :attr:`measure`.
        norm: Of the guidance, or of the guided score.
        tightness: Factor on the level below 1 once an image was found above it: how far it is pushed back.

    Cost:
        Nothing.
    """

    level: NormalLevel
    norm: Norm = "guidance"
    tightness: float = 1.0

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
        measure = norm_of(self.norm)
        decisions = [untouched(None, prompt) for prompt in prompts]
        touched = torch.zeros(len(prompts), dtype=torch.bool, device=start.x.device)

        def rule(step: Step) -> Float[Tensor, "b *event"] | None:
            nonlocal touched
            level = self.level.at(step.sigma)
            touched = touched | (measure(start, step) > level)
            for i in touched.nonzero().flatten().tolist():
                decisions[i] = Decision(True, f"{self.norm} norm clipped to the normal level", prompt=prompts[i])
            share = self._share(step, level * self.tightness)
            return mixed(step, touched & (share < 1), step.scale * share)

        return start.sample(decisions, rule=rule)

    def _share(self, step: Step, level: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        if self.norm == "guidance":
            return (level / guidance(step).clamp(min=1e-12)).clamp(0, 1)
        size = per_item(step.sigma, step.x)
        a = ((step.x - step.unconditional) / size).flatten(1)
        b = (step.scale * (step.conditional - step.unconditional) / size).flatten(1)
        squares, cross = b.square().mean(-1).clamp(min=1e-24), (a * b).mean(-1)
        room = (cross.square() - squares * (a.square().mean(-1) - level.square())).clamp(min=0)
        return ((cross + room.sqrt()) / squares).clamp(0, 1)


def norm_of(norm: Norm) -> "_Measure":
    """Return the measure whose normal level :class:`ClippedGuidance` takes.

    Args:
        norm: Of guidance or of the guided score.
    """
    return _Measure(norm)


@dataclass(frozen=True)
class _Measure:
    norm: Norm

    def __call__(self, start: Opening, step: Step) -> Float[Tensor, " b"]:
        if self.norm == "guidance":
            return guidance(step)
        return root_mean_square((step.x - step.guided) / per_item(step.sigma, step.x))
