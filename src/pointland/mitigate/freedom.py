r"""Guidance held by local freedom: never fewer degrees of freedom than the model leaves to normal prompts.

The trace of the denoiser's Jacobian at a sampled point counts the directions left free at its noise scale; a memorized
prompt leaves none long before the picture is finished. The guided denoiser is linear in its scale, and so is its trace,

.. math:: \operatorname{tr} J_g = \operatorname{tr} J_u + g\,(\operatorname{tr} J_c - \operatorname{tr} J_u),

so that the largest scale whose freedom is at the normal level has a closed form: two Jacobian products a step, no
search. Where even no guidance leaves too little, the step is taken without. Above the level nothing is changed.

Source: sampling that watches LID is what Ross et al. 2025 ask for as future work; the method is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import draws
from pointland.denoiser import per_item
from pointland.mitigate.guidance_schedule import mixed
from pointland.mitigate.mitigation import Callback, Decision, Generated
from pointland.mitigate.normal_level import NormalLevel
from pointland.mitigate.opening import Opening, opening
from pointland.mitigate.perturbation import untouched
from pointland.mitigate.steering import Step
from pointland.model import PromptedModel

STEP = 0.01  # of the finite difference, in units of sigma


class Traces(NamedTuple):
    """Traces of the Jacobian under the prompts and without, shape ``(b,)`` each."""

    conditional: Float[Tensor, " b"]
    unconditional: Float[Tensor, " b"]

    def guided(self, scale: float) -> Float[Tensor, " b"]:
        """Return the trace of the guided denoiser."""
        return self.unconditional + scale * (self.conditional - self.unconditional)


@dataclass(frozen=True)
class GuidedFreedom:
    """Measure the trace of the guided Jacobian at a step.

    Attributes:
        n_probes: Sign probes; every image has the same ones.
        seed: Of the probes.

    Cost:
        ``2 n_probes`` evaluations.
    """

    n_probes: int = 1
    seed: int = 0

    def traces(self, start: Opening, step: Step) -> Traces:
        """Return both traces, by differences against what the step already knows."""
        probes = draws.signs(step.x[:1], ["freedom"], self.n_probes, self.seed)
        both = torch.cat([step.conditional, step.unconditional])
        condition, h = start.condition.joined(start.base), STEP * per_item(step.sigma, step.x)
        found = []
        with torch.no_grad():  # sampling charges what its rules call
            for v in probes:
                moved = (step.x + h * v).repeat(2, *(1,) * (step.x.ndim - 1))
                change = start.model.denoise(moved, step.sigma.repeat(2), condition) - both
                found.append((change * v).flatten(1).sum(-1) / h.flatten().repeat(2))
        conditional, unconditional = torch.stack(found).mean(0).chunk(2)
        return Traces(conditional, unconditional)

    def __call__(self, start: Opening, step: Step) -> Float[Tensor, " b"]:
        """Return the trace of the guided denoiser, in dimensions."""
        return self.traces(start, step).guided(step.scale)


ONE_PROBE = GuidedFreedom()


@dataclass(frozen=True)
class HeldFreedom:
    """Lower the guidance wherever less freedom is left than for normal prompts.

    Attributes:
        level: The normal level of ``measure``, from :func:`~pointland.mitigate.normal_level` with ``beyond="below"``.
        measure: How freedom is measured.
        until: Noise scale below which nothing is measured or changed.

    Cost:
        The measure's at every step above ``until``.
    """

    level: NormalLevel
    measure: GuidedFreedom = ONE_PROBE
    until: float = 0.0

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
        decisions = [untouched(None, prompt) for prompt in prompts]

        def rule(step: Step) -> Float[Tensor, "b *event"] | None:
            if float(step.sigma.max()) <= self.until:
                return None
            traces, level = self.measure.traces(start, step), self.level.at(step.sigma)
            low = traces.guided(step.scale) < level
            for i in low.nonzero().flatten().tolist():
                decisions[i] = Decision(True, "guidance lowered to the normal freedom", prompt=prompts[i])
            return mixed(step, low, largest_scale(traces, level, step.scale))

        return start.sample(decisions, rule=rule)


def largest_scale(traces: Traces, level: Float[Tensor, " b"], most: float) -> Float[Tensor, " b"]:
    """Return the largest scale from 0 to ``most`` whose guided trace is at least ``level``; 0 where there is none."""
    slope = traces.conditional - traces.unconditional
    room = traces.unconditional - level
    crossing = torch.where(slope < 0, room / (-slope).clamp(min=1e-12), torch.full_like(slope, most))
    return torch.where(traces.guided(most) >= level, torch.full_like(slope, most), crossing.clamp(0.0, most))
