r"""Objectives: what a model says of a prompt at a noised point, as one differentiable number an item.

All are read from one primitive, the denoised point under the prompt and without it, :math:`D_c` and :math:`D_u`, from
one network call, at most with their derivative along a probe :math:`v`. With
:math:`D_g = D_u + g (D_c - D_u)`, the denoiser under classifier-free guidance of scale ``g``, and ``d`` coordinates:

=======================  ===========================================================================  =========
objective                formula                                                                      memorized
=======================  ===========================================================================  =========
:func:`guidance_norm`    :math:`\|D_u - D_c\| / (\sigma \sqrt d)`                                     high
:class:`ScoreNorm`       :math:`\|x - D_g\| / (\sigma \sqrt d)`                                       high
:class:`Flipd`           :math:`\operatorname{tr} J_{D_g} + \|D_g - x\|^2 / \sigma^2`                 low
:class:`Freedom`         :math:`\operatorname{tr} J_{D_c}`                                            low
=======================  ===========================================================================  =========

They are root mean squares or sums over one item, never over a batch, so that neighbours change nothing. Gradients flow
to the point and to both conditions, wherever the caller asks for them.

Sources: Wen et al. 2024 (ICLR) for the guidance norm; Webster 2023, arXiv:2305.08694, for the score norm; Kamkari et
al. 2024, arXiv:2406.03537, for FLIPD, and Ross et al. 2025 for its use here.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pointland import draws
from pointland.denoiser import per_item
from pointland.metrics.rms import root_mean_square
from pointland.model import Condition, PromptedModel

Objective = Callable[
    [PromptedModel, Float[Tensor, "b *event"], Float[Tensor, "#b"], Condition, Condition], Float[Tensor, " b"]
]
"""What is attributed to words, one number an item, of a model, points, their scale, the condition and none."""
"""``objective(model, x, sigma, condition, base)``, one value an item; ``base`` is the condition without the prompt."""

Slope = Literal["backward", "finite-difference"]
STEP = 0.01  # of a finite difference, in units of sigma


class Predictions(NamedTuple):
    """Denoised points under the prompt and without it, shape ``(b, *event)`` each."""

    conditional: Float[Tensor, "b *event"]
    unconditional: Float[Tensor, "b *event"]

    def guided(self, scale: float) -> Float[Tensor, "b *event"]:
        """Combine by classifier-free guidance: scale 0 is without the prompt, 1 without guidance."""
        return self.unconditional + scale * (self.conditional - self.unconditional)


def predictions(
    model: PromptedModel,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    condition: Condition,
    base: Condition,
) -> Predictions:
    """Return the denoised points under both conditions from one network call of ``2 b`` rows.

    Args:
        model: The model.
        x: Points in model space, shape ``(b, *event)``.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        condition: Of the prompts, one row an item.
        base: Of no prompt, one row an item.

    Raises:
        ValueError: If a condition has not one row an item.
    """
    _check_rows(x, condition, base)
    both = model.denoise(torch.cat([x, x]), sigma.expand(len(x)).repeat(2), condition.joined(base))
    conditional, unconditional = both.chunk(2)
    return Predictions(conditional, unconditional)


def guidance_norm(
    model: PromptedModel,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    condition: Condition,
    base: Condition,
) -> Float[Tensor, " b"]:
    """Return the root mean square difference of the two noise predictions; memorized when high.

    Args:
        model: The model.
        x: Points in model space, shape ``(b, *event)``.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        condition: Of the prompts, one row an item.
        base: Of no prompt, one row an item.

    Cost:
        2 evaluations.
    """
    found = predictions(model, x, sigma, condition, base)
    return root_mean_square((found.unconditional - found.conditional) / per_item(sigma, x))


@dataclass(frozen=True)
class ScoreNorm:
    """Root mean square of the guided noise prediction; memorized when high.

    Attributes:
        guidance: Scale of classifier-free guidance; published with 7.5.

    Cost:
        2 evaluations.
    """

    guidance: float = 7.5

    def __call__(
        self,
        model: PromptedModel,
        x: Float[Tensor, "b *event"],
        sigma: Float[Tensor, "#b"],
        condition: Condition,
        base: Condition,
    ) -> Float[Tensor, " b"]:
        """Compute it, one value an item."""
        guided = predictions(model, x, sigma, condition, base).guided(self.guidance)
        return root_mean_square((x - guided) / per_item(sigma, x))


@dataclass(frozen=True)
class Flipd:
    """FLIPD of the guided denoiser, its trace that of the *whole* guided denoiser; memorized when low.

    The paper's released code holds the unconditional prediction constant while it differentiates, which drops that
    prediction's trace; here both are differentiated.

    Attributes:
        guidance: Scale of classifier-free guidance.
        n_probes: Sign probes an item.
        keys: What the probes are keyed by, one an item; without, every item has the same probes.
        seed: Of the probes.
        slope: ``backward`` differentiates the network and, for gradients of the objective, differentiates twice;
            ``finite-difference`` needs no more than two evaluations a probe and condition, and one backward pass for
            gradients. It wants a network in float32.

    Cost:
        ``backward``: 2 evaluations and ``n_probes`` backward passes of both. ``finite-difference``: ``4 n_probes``
        evaluations.
    """

    guidance: float = 7.5
    n_probes: int = 1
    keys: Sequence[str] | None = None
    seed: int = 0
    slope: Slope = "backward"

    def __call__(
        self,
        model: PromptedModel,
        x: Float[Tensor, "b *event"],
        sigma: Float[Tensor, "#b"],
        condition: Condition,
        base: Condition,
    ) -> Float[Tensor, " b"]:
        """Estimate it, in dimensions, one value an item."""

        def guided(point: Tensor) -> Tensor:
            return predictions(model, point, sigma, condition, base).guided(self.guidance)

        denoised, trace = _traced(guided, x, sigma, _probes(x, self.keys, self.n_probes, self.seed), self.slope)
        residual = ((denoised - x) / per_item(sigma, x)).square().flatten(1).sum(-1)
        return trace + residual


@dataclass(frozen=True)
class Freedom:
    r"""How many dimensions the prompt leaves free at this noise; memorized when low.

    The trace of the Jacobian of the *conditional* denoiser. If what the prompt describes spreads with variances
    :math:`\lambda_i`, it is :math:`\sum_i \lambda_i / (\lambda_i + \sigma^2)`: near 0 for a prompt that names one
    picture, whatever that picture is.

    Attributes:
        n_probes: Sign probes an item.
        keys: What the probes are keyed by, one an item; without, every item has the same probes.
        seed: Of the probes.
        slope: How the derivative is taken; see :class:`Flipd`.

    Cost:
        ``backward``: 1 evaluation and ``n_probes`` backward passes. ``finite-difference``: ``2 n_probes`` evaluations.
        The condition without the prompt is not evaluated.
    """

    n_probes: int = 1
    keys: Sequence[str] | None = None
    seed: int = 0
    slope: Slope = "backward"

    def __call__(
        self,
        model: PromptedModel,
        x: Float[Tensor, "b *event"],
        sigma: Float[Tensor, "#b"],
        condition: Condition,
        base: Condition,
    ) -> Float[Tensor, " b"]:
        """Estimate it, in dimensions, one value an item."""
        _check_rows(x, condition, base)

        def conditional(point: Tensor) -> Tensor:
            return model.denoise(point, sigma, condition)

        return _traced(conditional, x, sigma, _probes(x, self.keys, self.n_probes, self.seed), self.slope)[1]


def _traced(
    denoise: Callable[[Tensor], Tensor], x: Tensor, sigma: Tensor, probes: Tensor, slope: Slope
) -> tuple[Tensor, Tensor]:
    """Return the denoised point and the mean of ``v' J v`` over the probes."""
    if slope == "finite-difference":
        step = STEP * per_item(sigma, x)
        sides = [(denoise(x + step * probe), denoise(x - step * probe)) for probe in probes]
        traces = [
            ((up - down) / (2 * step) * v).flatten(1).sum(-1) for (up, down), v in zip(sides, probes, strict=True)
        ]
        denoised = torch.stack([(up + down) / 2 for up, down in sides]).mean(0)
        return denoised, torch.stack(traces).mean(0)
    wanted = torch.is_grad_enabled()
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH) if wanted else nullcontext():  # the only one twice
        point = x if x.requires_grad else x.detach().requires_grad_()
        denoised = denoise(point)
        last = len(probes) - 1
        traces = []
        for i, v in enumerate(probes):
            (row,) = torch.autograd.grad(denoised, point, v, retain_graph=wanted or i < last, create_graph=wanted)
            traces.append((row * v).flatten(1).sum(-1))
    trace = torch.stack(traces).mean(0)
    return (denoised, trace) if wanted else (denoised.detach(), trace.detach())


def _probes(x: Tensor, keys: Sequence[str] | None, n: int, seed: int) -> Tensor:
    if n < 1:
        raise ValueError(f"a trace needs at least one probe, got n_probes {n}")
    if keys is None:
        return draws.signs(x[:1].detach(), ["probe"], n, seed).expand(n, *x.shape)
    return draws.signs(x.detach(), keys, n, seed)


def _check_rows(x: Tensor, condition: Condition, base: Condition) -> None:
    if not len(x) == len(condition) == len(base):
        raise ValueError(
            f"got {len(x)} points, {len(condition)} rows of the condition and {len(base)} of the base; give one row an "
            "item, for example base.select([0] * len(x))"
        )
