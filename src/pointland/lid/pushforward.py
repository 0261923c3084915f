r"""The dimension of a generator's image: singular values of its Jacobian.

A generator :math:`x = G(z)` (GAN, VAE decoder, flow) maps a small ball of latents to an ellipsoid around :math:`x`
whose axes are the singular values :math:`s_i` of :math:`J = \partial G / \partial z`. The model's local intrinsic
dimension is the rank of :math:`J`. No numerical Jacobian has exact zeros, so the rank is counted by a stated rule, and
beside it stands the *soft count at scale* :math:`\sigma`,

.. math:: \sum_i \frac{s_i^2}{s_i^2 + \sigma^2},

which compares with every other estimator here. The rank knows no scale: a generator that has collapsed to a ball of
radius ``1e-9`` keeps its rank, while its soft count is 0. For memorization read the soft count, or count by ``sigma``.

The Jacobian comes by forward mode, whose cost is in latents and not in pixels, and its Gram matrix is float64: a
float32 one lifts small singular values to ``3e-4`` of the largest.

A given picture has no latent until one is found: see :mod:`pointland.lid.inversion`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pointland.denoiser import per_item
from pointland.lid.data.local_pca import soft_count
from pointland.lid.flipd import check_sigma
from pointland.lid.jacobian_spectrum import Split, count_directions

Generator = Callable[[Float[Tensor, "b *latent"]], Float[Tensor, "b *event"]]
Rule = Literal["gap", "sigma"] | float

FLOOR = 1e-6  # of the largest singular value: what float32 Jacobians are exact to


class PushforwardLid(NamedTuple):
    """The dimension of a generator's image, one an item.

    Attributes:
        value: Rank by the rule asked for, in whole dimensions, shape ``(b,)``.
        singular_values: Descending, in units of ``x`` per unit of latent, shape ``(b, min(m, d))``, float64.
        gap: Log of the ratio of variances (squared singular values) at the split, shape ``(b,)``. Above about 3 the
            rank is clear; below 1 the rule decided, not the generator.
        soft_count: Directions wider than ``sigma``, in dimensions, shape ``(b,)``.
    """

    value: Float[Tensor, " b"]
    singular_values: Float[Tensor, "b r"]
    gap: Float[Tensor, " b"]
    soft_count: Float[Tensor, " b"]


def pushforward(
    generate: Generator,
    z: Float[Tensor, "b *latent"],
    sigma: Float[Tensor, "#b"],
    *,
    rule: Rule = "gap",
    floor: float = FLOOR,
    n_at_once: int = 32,
) -> PushforwardLid:
    r"""Return the rank of a generator's Jacobian at latents.

    Args:
        generate: The generator: every item from its own latent alone, the same each time. Put networks in evaluation
            mode and fix the noise inputs of a StyleGAN.
        z: Latents, shape ``(b, *latent)``, of ``m`` numbers an item.
        sigma: Scale of the soft count in units of ``x``, positive; one value or one per item.
        rule: How the rank is counted. ``"gap"``: above the largest gap in log singular values, down to the floor. A
            number: above this share of the largest. ``"sigma"``: by the shares ``s^2 / (s^2 + sigma^2)`` as those of a
            denoiser, see :mod:`~pointland.lid.jacobian_spectrum`; the only one that knows a scale.
        floor: Share of the largest singular value below which one is 0; at least ``1e-6`` for float32.
        n_at_once: Directions in one forward pass; 1 avoids ``vmap``, for generators that it cannot follow.

    Returns:
        ``value`` is at most the smaller of ``m`` and ``d``. One less than ``m`` is right for a generator that
        normalizes its latent.

    Raises:
        ValueError: If the latents or the generator's answer are not finite or of the wrong shape, the generator is
            random, or its precision does not reach the floor.

    Cost:
        ``m`` forward derivatives, together about ``m`` forward passes in batches of ``n_at_once * b``; ``m d`` numbers
        an item, twice in float64.

    Do not trust:
        A ``gap`` below 1; float32 generators whose singular values span more than six decades; the rank at a kink
        (ReLU), which is that of one side.

    Source:
        Rank of the generator's Jacobian: Ross et al. 2025, arXiv:2411.00113. Their threshold is not
        published; the rules are ours.

    Example:
        >>> matrix = torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.0]))
        >>> found = pushforward(lambda z: z @ matrix, torch.zeros(1, 4), torch.tensor([0.1]))
        >>> found.value, found.soft_count.round(decimals=1)
        (tensor([3.]), tensor([3.]))
    """
    return from_columns(columns(generate, z, n_at_once=n_at_once), sigma, rule=rule, floor=floor)


def from_columns(
    jacobian: Float[Tensor, "m b d"], sigma: Float[Tensor, "#b"], *, rule: Rule = "gap", floor: float = FLOOR
) -> PushforwardLid:
    """Count from a Jacobian that is already there, one column a latent; see :func:`pushforward`."""
    check_sigma(sigma)
    _check_rule(rule, floor, jacobian.dtype)
    singular = singular_values(jacobian)
    scale = per_item(sigma.to(torch.float64), singular)
    shares = (singular / scale).square()
    soft = torch.from_numpy(soft_count(shares.cpu().numpy(), 1.0)).to(jacobian)
    split = count_directions(shares / (1 + shares)) if rule == "sigma" else _relative(singular, rule, floor)
    return PushforwardLid(split.size.to(jacobian), singular, split.gap.to(jacobian), soft)


def columns(generate: Generator, z: Float[Tensor, "b *latent"], *, n_at_once: int = 32) -> Float[Tensor, "m b d"]:
    """Return the Jacobian of every item by forward mode, one column a latent; arguments of :func:`pushforward`."""
    check_finite(z, "latents")
    if n_at_once < 1:
        raise ValueError(f"n_at_once must be at least 1, got {n_at_once}")
    axes = torch.eye(z[0].numel(), dtype=z.dtype, device=z.device).reshape(-1, 1, *z.shape[1:]).expand(-1, *z.shape)

    def column(axis: Tensor) -> Tensor:
        both = torch.func.jvp(generate, (z,), (axis,))
        found: Tensor = both[1]
        return found

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # no other attention kernel has a forward derivative
        _check_answer(generate(z), generate(z), len(z))
        if n_at_once == 1:
            found = torch.stack([column(axis) for axis in axes])
        else:
            found = torch.func.vmap(column, chunk_size=n_at_once)(axes)
    if not bool(found.isfinite().all()):
        raise ValueError("the generator's Jacobian is not finite; it has no derivative at some of these points")
    return found.flatten(2)


def singular_values(jacobian: Float[Tensor, "m b d"]) -> Float[Tensor, "b r"]:
    """Return the ``min(m, d)`` singular values, descending, exact to ``1e-7`` of the largest: the Gram is float64."""
    rows = jacobian.to(torch.float64).transpose(0, 1)
    gram = rows @ rows.mT if rows.shape[1] <= rows.shape[2] else rows.mT @ rows
    found: Tensor = torch.linalg.eigvalsh(gram).flip(-1).clamp_min(0).sqrt()
    return found


@dataclass(frozen=True)
class Pushforward:
    """The rank of a generator's Jacobian, with its settings.

    Attributes:
        sigma: Scale of the soft count, in units of ``x``.
        rule: How the rank is counted; see :func:`pushforward`.
        floor: Share of the largest singular value below which one is 0.
        n_at_once: Directions in one forward pass.
    """

    sigma: float
    rule: Rule = "gap"
    floor: float = FLOOR
    n_at_once: int = 32

    def __call__(self, generate: Generator, z: Float[Tensor, "b *latent"]) -> PushforwardLid:
        """Estimate the LID at every latent; see :func:`pushforward`."""
        sigma = torch.tensor([self.sigma], dtype=z.dtype, device=z.device)
        return pushforward(generate, z, sigma, rule=self.rule, floor=self.floor, n_at_once=self.n_at_once)


def check_finite(x: Float[Tensor, "b *event"], what: str) -> None:
    """Raise ``ValueError`` unless ``x`` is a batch of finite numbers."""
    if x.ndim < 2 or len(x) == 0:
        raise ValueError(f"{what} must have shape (b, ...) with at least one item, got {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        raise ValueError(f"{what} must be finite, got NaN or infinity")


def _check_answer(first: Tensor, second: Tensor, b: int) -> None:
    if first.ndim < 2 or len(first) != b:
        raise ValueError(f"the generator answered shape {tuple(first.shape)} for {b} latents; it must be ({b}, ...)")
    if not bool(first.isfinite().all()):
        raise ValueError("the generator's answer is not finite at some of these latents")
    if first.is_complex() or not first.is_floating_point():
        raise ValueError(f"the generator answered {first.dtype}; it must be floating point, before any rounding")
    if float((first - second).abs().max()) > 1e-3 * float(first.abs().max()):
        raise ValueError(
            "the generator gives another answer for the same latents; fix its noise inputs and put it in "
            "evaluation mode"
        )


def _check_rule(rule: Rule, floor: float, dtype: torch.dtype) -> None:
    reached = max(1e-7, 8 * torch.finfo(dtype).eps)
    if not reached <= floor < 1:
        raise ValueError(
            f"floor must be at least {reached:.1e}, which {dtype} is exact to, and below 1, got {floor}; "
            "run the generator in a wider type for a lower one"
        )
    if not isinstance(rule, str) and not floor <= rule < 1:
        raise ValueError(f"a relative rule must be at least the floor {floor} and below 1, got {rule}")


def _relative(singular: Tensor, rule: str | float, floor: float) -> Split:
    """Split by singular values relative to the largest; an item whose largest is 0 has rank 0."""
    bottom = 2 * math.log(floor)
    heights = (2 * (singular / singular[:, :1]).log()).nan_to_num(nan=bottom).clamp_min(bottom)
    ends = heights.new_tensor([0.0, bottom]).expand(len(heights), 2)
    gaps = torch.cat([ends[:, :1], heights], 1) - torch.cat([heights, ends[:, 1:]], 1)  # entry k: of splitting after k
    size = gaps.argmax(1) if isinstance(rule, str) else (heights > 2 * math.log(rule)).sum(1)
    whole = size.to(heights)
    return Split(whole, gaps.gather(1, size[:, None])[:, 0], whole, whole)
