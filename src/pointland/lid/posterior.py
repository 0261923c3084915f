r"""The dimension of a VAE: latents that its posterior has settled.

At the optimum of the evidence bound with a learnt decoder variance :math:`\gamma`, a latent that the decoder uses has a
posterior variance :math:`v_j(x)` of order :math:`\gamma`, and one that it does not use keeps the prior's, :math:`v_j =
1`. The number of the first kind is the dimension of the model's manifold at :math:`x`, and any cut between
:math:`\gamma` and 1 counts them.

For a linear decoder with orthogonal columns of length :math:`s_j` the posterior variance is :math:`v_j = \gamma /
(\gamma + s_j^2)`, so

.. math:: \sum_j (1 - v_j) = \sum_j \frac{s_j^2}{s_j^2 + \gamma}

is the *soft count at scale* :math:`\sqrt\gamma`, the decoder's own, and :math:`s_j^2 = \gamma (1 / v_j - 1)` gives it
at any other.

An unused latent still moves a trained decoder a little, and the rank of the whole Jacobian counts it: on a pretrained
MNIST VAE of 5 latents 3 are active, while 4.3 singular values are above a thousandth of the largest.
:func:`decoder_rank` takes the Jacobian at the posterior mean along the active latents alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pointland.lid.pushforward import FLOOR, Generator, PushforwardLid, Rule, check_finite, columns, from_columns

Encoder = Callable[
    [Float[Tensor, "b *event"]],
    tuple[Float[Tensor, "b *latent"], Float[Tensor, "b *latent"]],
]


class PosteriorLid(NamedTuple):
    """The dimension of a VAE by its posterior, one an item.

    Attributes:
        value: Latents whose posterior variance is below the cut, shape ``(b,)``.
        soft_count: Sum of ``1 - v_j``: the soft count at the decoder's own noise scale, in dimensions, shape ``(b,)``.
        margin: Factors e between the cut and the nearest variance, shape ``(b,)``. Below about 0.5 the count hangs on
            the cut.
        variances: Posterior variances, shape ``(b, m)``.
        active: Which latents are counted, shape ``(b, m)``.
    """

    value: Float[Tensor, " b"]
    soft_count: Float[Tensor, " b"]
    margin: Float[Tensor, " b"]
    variances: Float[Tensor, "b m"]
    active: Bool[Tensor, "b m"]


def posterior(encode: Encoder, x: Float[Tensor, "b *event"], *, cut: float = 0.1) -> PosteriorLid:
    r"""Count the latents that a VAE's posterior has settled at ``x``.

    Args:
        encode: ``encode(x) -> (mean, log variance)``, of a posterior with independent latents and a prior ``N(0, I)``.
        x: Pictures in the encoder's space, shape ``(b, *event)``.
        cut: Posterior variance below which a latent is active, between the decoder's variance and 1; 0.05 to 0.5.

    Returns:
        ``value`` in whole dimensions, 0 to ``m``.

    Raises:
        ValueError: If the cut is not between 0 and 1, or the encoder's answer has the wrong shape or is not finite.

    Cost:
        One pass of the encoder.

    Do not trust:
        An encoder trained with a weight other than 1 on the divergence and a fixed decoder variance: the scale at which
        latents count is then the weight's, not the data's. An encoder that returns variances instead of their logs
        looks like one with every latent inactive.

    Source:
        Dai & Wipf 2019, arXiv:1903.05789; Zheng et al. 2022 for the count an item. The soft count is ours.

    Example:
        >>> encode = lambda x: (x, torch.tensor([0.01, 0.02, 1.0]).log().expand(len(x), 3))
        >>> posterior(encode, torch.zeros(1, 3)).value
        tensor([2.])
    """
    return from_posterior(*_encoded(encode, x), cut=cut)


def from_posterior(
    mean: Float[Tensor, "b *latent"], log_variance: Float[Tensor, "b *latent"], *, cut: float = 0.1
) -> PosteriorLid:
    """Count from an encoder's answer that is already there; see :func:`posterior`."""
    if not 0 < cut < 1:
        raise ValueError(f"cut must be between 0 and 1, the prior's variance, got {cut}")
    check_finite(mean, "posterior means")
    check_finite(log_variance, "posterior log variances")
    logs = log_variance.flatten(1)
    limit = torch.tensor(cut, dtype=torch.float64).log().to(logs)
    active = logs < limit
    return PosteriorLid(
        active.sum(-1).to(mean),
        (-torch.expm1(logs)).clamp_min(0).sum(-1),
        (logs - limit).abs().amin(-1),
        logs.exp(),
        active,
    )


def latent_spread(variances: Float[Tensor, "b m"], decoder_sigma: float, floor: float = 1e-12) -> Float[Tensor, "b m"]:
    r"""Return what each latent spreads in ``x``, :math:`\gamma (1 / v_j - 1)`, in squared units of ``x``, float64.

    These are the eigenvalues that a soft count at any scale takes, see
    :func:`~pointland.lid.data.local_pca.soft_count`.

    Args:
        variances: Posterior variances.
        decoder_sigma: Square root of the decoder's variance, in units of ``x``.
        floor: Smallest variance that is told from 0.

    Raises:
        ValueError: If ``decoder_sigma`` is not positive.
    """
    if not decoder_sigma > 0:
        raise ValueError(f"decoder_sigma must be positive, got {decoder_sigma}")
    return decoder_sigma**2 * (1 / variances.to(torch.float64).clamp(floor, 1) - 1)


def decoder_rank(
    encode: Encoder,
    generate: Generator,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    cut: float = 0.1,
    rule: Rule = "gap",
    floor: float = FLOOR,
    n_at_once: int = 32,
) -> PushforwardLid:
    r"""Return the rank of a VAE's decoder at the posterior mean of ``x``, along the active latents.

    Args:
        encode: As for :func:`posterior`.
        generate: The decoder's mean, from latents of the encoder's shape.
        x: Pictures, shape ``(b, *event)``.
        sigma: Scale of the soft count in units of the decoder's answer, positive; one value or one per item.
        cut: Posterior variance below which a latent is active.
        rule: How the rank is counted; see :func:`~pointland.lid.pushforward.pushforward`.
        floor: Share of the largest singular value below which one is 0.
        n_at_once: Directions in one forward pass.

    Returns:
        ``value`` is at most the number of active latents, with 0 where there are none.

    Raises:
        ValueError: As :func:`posterior` and :func:`~pointland.lid.pushforward.pushforward`.

    Cost:
        One pass of the encoder and ``m`` forward derivatives of the decoder.

    Source:
        Dai & Wipf 2019, arXiv:1903.05789, for the active latents; the rank along them is ours.
    """
    mean, log_variance = _encoded(encode, x)
    active = from_posterior(mean, log_variance, cut=cut).active
    found = columns(generate, mean, n_at_once=n_at_once)
    return from_columns(found * active.T[:, :, None], sigma, rule=rule, floor=floor)


@dataclass(frozen=True)
class Posterior:
    """The posterior rule with its setting.

    Attributes:
        cut: Posterior variance below which a latent is active.
    """

    cut: float = 0.1

    def __call__(self, encode: Encoder, x: Float[Tensor, "b *event"]) -> PosteriorLid:
        """Count at every item; see :func:`posterior`."""
        return posterior(encode, x, cut=self.cut)


@dataclass(frozen=True)
class DecoderRank:
    """The rank of a VAE's decoder on its active latents, with its settings.

    Attributes:
        sigma: Scale of the soft count, in units of the decoder's answer.
        cut: Posterior variance below which a latent is active.
        rule: How the rank is counted; see :func:`~pointland.lid.pushforward.pushforward`.
        floor: Share of the largest singular value below which one is 0.
    """

    sigma: float
    cut: float = 0.1
    rule: Rule = "gap"
    floor: float = FLOOR

    def __call__(self, encode: Encoder, generate: Generator, x: Float[Tensor, "b *event"]) -> PushforwardLid:
        """Count at every item; see :func:`decoder_rank`."""
        sigma = torch.tensor([self.sigma], dtype=x.dtype, device=x.device)
        return decoder_rank(encode, generate, x, sigma, cut=self.cut, rule=self.rule, floor=self.floor)


def _encoded(encode: Encoder, x: Float[Tensor, "b *event"]) -> tuple[Tensor, Tensor]:
    check_finite(x, "pictures")
    with torch.no_grad():
        mean, log_variance = encode(x)
    if mean.shape != log_variance.shape or mean.ndim < 2:
        raise ValueError(
            f"mean and log variance must both have shape (b, *latent), got {tuple(mean.shape)} and "
            f"{tuple(log_variance.shape)}"
        )
    if len(mean) != len(x):
        raise ValueError(f"the encoder answered {len(mean)} means for {len(x)} pictures; it must keep the batch")
    return mean, log_variance
