r"""The dimension of a normalizing flow: singular values of its Jacobian, at any scale.

A flow :math:`x = f(z)` with base :math:`N(0, I)` is, around a point, the Gaussian with mean :math:`x - J z` and
covariance :math:`J J^\top`. With :math:`l_i` the eigenvalues of :math:`J^\top J`, eigenvectors :math:`Q` and :math:`u =
Q^\top z`, adding noise of scale :math:`\sigma` changes its log density at the rate :math:`\mathrm{LID}(\sigma) - D`,

.. math::
    \mathrm{LID}(\sigma) = D + \sigma^2 \sum_i \left[ l_i \Big(\frac{u_i}{l_i + \sigma^2}\Big)^2
        - \frac{1}{l_i + \sigma^2} \right]
    = \sum_i \frac{l_i}{l_i + \sigma^2} + \sigma^2 \sum_i \frac{l_i u_i^2}{(l_i + \sigma^2)^2} ,

the soft count and a residual: FLIPD of the linear piece. A flow is invertible, so every :math:`l_i` is positive and a
dimension exists only at a scale. It is counted as on a denoiser's spectrum: the largest gap in :math:`\log l_i`, among
the splits that keep nothing with a share :math:`l / (l + \sigma^2)` below 0.1 and drop nothing above 0.9; without a
clear one, those wider than :math:`\sigma`.

The Jacobian is taken of the *encoder* :math:`x \to z` and its singular values inverted: one pass gives what the inverse
of an autoregressive flow takes ``d`` passes for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.denoiser import per_item
from pointland.lid.flipd import check_sigma
from pointland.lid.jacobian_spectrum import count_directions
from pointland.lid.pushforward import columns

Map = Callable[[Float[Tensor, "b *event"]], Float[Tensor, "b *event"]]


class FlowLid(NamedTuple):
    """The dimension of a flow at scale ``sigma``, one an item.

    Attributes:
        value: Directions above the gap, in whole dimensions, 0 to ``d``, shape ``(b,)``.
        soft: LID at ``sigma`` of the linear piece, soft count plus residual, in dimensions, shape ``(b,)``. Large where
            ``z`` is far from 0: the flow thinks the point improbable.
        soft_count: Directions wider than ``sigma``, in dimensions, 0 to ``d``, shape ``(b,)``.
        gap: Log of the ratio of variances at the split, shape ``(b,)``. Above about 3 the count is clear.
        singular_values: Of the decoder's Jacobian, descending, in units of ``x``, shape ``(b, d)``, float64.
        latents: Coordinates ``u`` of ``z`` along the same directions, shape ``(b, d)``, float64.
    """

    value: Float[Tensor, " b"]
    soft: Float[Tensor, " b"]
    soft_count: Float[Tensor, " b"]
    gap: Float[Tensor, " b"]
    singular_values: Float[Tensor, "b d"]
    latents: Float[Tensor, "b d"]


def flow(encode: Map, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], *, n_at_once: int = 32) -> FlowLid:
    r"""Return the dimension of a flow at ``x`` from its encoder.

    Args:
        encode: From data to the base, ``N(0, I)``: as many numbers out as in, every item from itself alone.
        x: Points in the flow's space, shape ``(b, *event)``.
        sigma: Scale in units of ``x``, positive; one value or one per item.
        n_at_once: Directions in one forward pass; 1 avoids ``vmap``, which some spline layers do not stand.

    Returns:
        See :class:`FlowLid`; other scales cost nothing, see :func:`at_scale`.

    Raises:
        ValueError: If ``sigma`` is not positive, ``x`` or the flow's answer is not finite or of the wrong shape, or the
            Jacobian is not square or has no inverse.

    Cost:
        ``d`` forward derivatives of the encoder and one singular value decomposition of ``d`` by ``d``.

    Do not trust:
        A float32 flow where singular values span more than four decades: the small directions of the decoder are the
        large ones of the encoder, and their rounding is as large as the rest. Run it in float64.

    Source:
        Horvat & Pfister 2022 (NeurIPS); Kamkari et al. 2024, arXiv:2403.18910. Their rule for the gap is not
        ours.

    Example:
        >>> scales = torch.tensor([1.0, 0.5, 1e-3])
        >>> found = flow(lambda x: x / scales, torch.zeros(1, 3), torch.tensor([0.03]))
        >>> found.value, found.soft_count.round(decimals=2)
        (tensor([2.]), tensor([2.]))
    """
    check_sigma(sigma)
    matrix, z = _square(encode, x, n_at_once)
    left, inverse, _ = torch.linalg.svd(matrix)
    if not bool((inverse[:, -1] > 0).all()):
        raise ValueError("the encoder's Jacobian has no inverse at some of these points; this is not a flow there")
    along = torch.einsum("bij,bi->bj", left, z)
    return at_scale((1 / inverse).flip(-1), along.flip(-1), sigma.to(x))


def flow_from_decoder(
    decode: Map, z: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], *, n_at_once: int = 32
) -> FlowLid:
    """As :func:`flow`, at the point with latent ``z``, from the decoder.

    Args:
        decode: The flow's map from latents to data.
        z: Latents, shape ``(b, *event)``.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        n_at_once: Directions in one forward pass.
    """
    check_sigma(sigma)
    matrix, _ = _square(decode, z, n_at_once)
    _, singular, right = torch.linalg.svd(matrix)
    along = torch.einsum("bij,bj->bi", right, z.flatten(1).to(torch.float64))
    return at_scale(singular, along, sigma.to(z))


def at_scale(
    singular_values: Float[Tensor, "b d"], latents: Float[Tensor, "b d"], sigma: Float[Tensor, "#b"]
) -> FlowLid:
    """Read the dimension at another scale off what :func:`flow` has found, at no cost."""
    check_sigma(sigma)
    shares = (singular_values / per_item(sigma, singular_values)).square()  # l / sigma^2
    counted = shares / (1 + shares)
    residual = counted * latents.square() / (1 + shares)
    split = count_directions(counted)
    sizes = (split.size, (counted + residual).sum(-1), counted.sum(-1), split.gap)
    value, soft, soft_count, gap = (size.to(sigma) for size in sizes)
    return FlowLid(value, soft, soft_count, gap, singular_values, latents)


@dataclass(frozen=True)
class Flow:
    """The dimension of a flow with its settings.

    Attributes:
        sigma: Scale in units of ``x``.
        n_at_once: Directions in one forward pass.
    """

    sigma: float
    n_at_once: int = 32

    def __call__(self, encode: Map, x: Float[Tensor, "b *event"]) -> FlowLid:
        """Estimate the LID of every item; see :func:`flow`."""
        return flow(encode, x, torch.tensor([self.sigma], dtype=x.dtype, device=x.device), n_at_once=self.n_at_once)


def _square(move: Map, x: Tensor, n_at_once: int) -> tuple[Float[Tensor, "b d d"], Float[Tensor, "b d"]]:
    """Return the Jacobian, rows first, and the image of ``x``, both float64."""
    found = columns(move, x, n_at_once=n_at_once)
    if found.shape[0] != found.shape[2]:
        raise ValueError(
            f"a flow keeps the number of dimensions, but this one takes {found.shape[0]} to {found.shape[2]}; "
            "its Jacobian must be square (flatten and concatenate the parts of a multi-scale flow)"
        )
    with torch.no_grad():
        image = move(x)
    return found.permute(1, 2, 0).to(torch.float64), image.flatten(1).to(torch.float64)
