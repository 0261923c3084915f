r"""Away from the training set: no sample comes closer to a training picture than a margin.

With the training set's encoded pictures :math:`y_i` at hand, the denoised estimate :math:`D_g` of every late step is
compared with its nearest :math:`y`. Within the margin, the picture's pull is taken out: guidance is dropped, and what
then still lies inside is moved out along :math:`D - y`, minus the gradient of the distance, to the margin itself.

Source: Chen et al. 2024 (CVPR), anti-memorization guidance, which does this with SSCD similarity on decoded estimates,
reduces guidance, repels the duplicate's caption and follows the similarity's gradient. In the model's own latents the
gradient is closed and nothing needs decoding; no caption is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pointland.denoiser import per_item
from pointland.mitigate.mitigation import Callback, Decision, Generated
from pointland.mitigate.opening import opening
from pointland.mitigate.perturbation import untouched
from pointland.mitigate.steering import Step
from pointland.model import PromptedModel


class Neighbors(NamedTuple):
    """Nearest training pictures.

    Attributes:
        distance: Root mean square distance in model space, shape ``(b,)``.
        place: Which, shape ``(b,)``.
    """

    distance: Float[Tensor, " b"]
    place: Int[Tensor, " b"]


@dataclass(frozen=True, eq=False)
class AwayFromNearest:
    """Keep every sample a margin away from the training set.

    Attributes:
        training: Training pictures in model space, ``model.codec.encode(images)``, shape ``(n, *event)``.
        margin: Root mean square distance in that space; :func:`usual_margin` is what unseen pictures have.
        until: Noise scale above which nothing is done: estimates there are averages, near to nothing in particular.

    Cost:
        No evaluation; a search of ``n`` pictures a step.
    """

    training: Float[Tensor, "n *event"]
    margin: float
    until: float = float("inf")

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
            close = (nearest(step.guided, self.training).distance < self.margin) & (step.sigma <= self.until)
            if not bool(close.any()):
                return None
            for i in close.nonzero().flatten().tolist():
                decisions[i] = Decision(True, f"kept {self.margin:.3g} away from the training set", prompt=prompts[i])
            apart = moved_out(step.unconditional, self.training, self.margin)
            return torch.where(close.reshape(-1, *(1,) * (step.x.ndim - 1)), apart, step.guided)

        return start.sample(decisions, rule=rule)


def nearest(x: Float[Tensor, "b *event"], training: Float[Tensor, "n *event"]) -> Neighbors:
    """Return the nearest training picture of every item."""
    distances = torch.cdist(x.flatten(1).float(), training.flatten(1).to(x)) / x[0].numel() ** 0.5
    found = distances.min(1)
    return Neighbors(found.values, found.indices)


def moved_out(
    x: Float[Tensor, "b *event"], training: Float[Tensor, "n *event"], margin: float
) -> Float[Tensor, "b *event"]:
    """Return the points, those within the margin of their nearest picture moved straight away from it to the margin."""
    found = nearest(x, training)
    away = x - training.to(x)[found.place]
    return x + away * per_item((margin / found.distance.clamp(min=1e-6) - 1).clamp(min=0), x)


def usual_margin(
    unseen: Float[Tensor, "m *event"], training: Float[Tensor, "n *event"], *, rate: float = 0.01
) -> float:
    """Return the distance within which a share ``rate`` of pictures never trained on have a training picture.

    Args:
        unseen: Pictures never trained on, in model space.
        training: Training pictures in the same space.
        rate: Share of the unseen within the margin.
    """
    return float(nearest(unseen, training).distance.quantile(rate))
