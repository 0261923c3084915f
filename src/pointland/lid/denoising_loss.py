r"""The denoising loss as a local intrinsic dimension.

On the locally linear model with variances :math:`l_i` the best denoiser's expected loss is the *soft count at scale*
:math:`\sigma`,

.. math:: \mathbb{E}\, \|D(x + \sigma n; \sigma) - x\|^2 / \sigma^2 = \sum_i \frac{l_i}{l_i + \sigma^2},

the number of directions along which the data varies by more than :math:`\sigma`: noise across the manifold is removed,
noise along it is not. The loss is never negative, tends to 0 at memorized points, and its Monte-Carlo error,
:math:`\sqrt{2\,\mathrm{LID}}` a draw, is smallest exactly there; so it is the default signal of an audit.

*Antithetic* noises, every draw with both signs, do not help. With :math:`g_i = l_i / (l_i + \sigma^2)` and :math:`u_i`
the coordinates of ``x``, a draw is :math:`\sum_i (g_i n_i - (1 - g_i) u_i / \sigma)^2`: only the mixed term is odd in
the noise. A pair cancels its variance, :math:`4 \sum g_i^2 (1 - g_i)^2 u_i^2 / \sigma^2`, which is small wherever the
dimension is clear, and repeats the other, :math:`2 \sum g_i^4`, instead of averaging it: on a plane at a small
:math:`\sigma` the second half of the passes buys nothing. They pay only where the mixed term is the larger, which
takes variances near :math:`\sigma^2`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import draws
from pointland.denoiser import Denoiser, per_item
from pointland.lid.estimate import LidEstimate, standard_error
from pointland.lid.flipd import check_sigma, squared_residual
from pointland.lid.interval import count_interval, sampled_dispersion


def denoising_loss(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    noises: Float[Tensor, "n b *event"],
    antithetic: bool = False,
) -> LidEstimate:
    r"""Estimate the model's local intrinsic dimension at ``x`` by how well it denoises towards ``x``.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        noises: Standard normal draws, shape ``(n, b, *event)``.
        antithetic: Take every draw with both signs; a pair is one draw to the error and the interval.

    Returns:
        ``value`` in dimensions, at least 0. For an imperfect network an upper bound in expectation: its own error adds
        to it. ``stderr`` over draws. The interval is that of a chi-square, wider where draws vary more than it;
        from a single draw on. ``parts`` is empty.

    Raises:
        ValueError: If ``sigma`` is not positive, or there are no draws.

    Cost:
        ``n`` forward passes, ``2 n`` with antithetic noises; no gradient.

    Source:
        Yeats et al. 2025, arXiv:2510.12975; the soft count follows from the Gaussian posterior.

    Example:
        >>> from pointland import draws, exact
        >>> plane = exact.subspace(d=20, k=5)
        >>> x = plane.sample(2, seed=0)
        >>> noises = draws.normal(x, keys=["a", "b"], n=4000, seed=0)
        >>> denoising_loss(plane, x, torch.tensor([0.01]), noises=noises).value.round()
        tensor([5., 5.])
    """
    check_sigma(sigma)
    if len(noises) == 0:
        raise ValueError("denoising_loss needs at least one draw, got none; pass noises=draws.normal(x, keys, n, seed)")
    with torch.no_grad():
        losses = torch.stack([_loss(denoise, x, sigma, noise) for noise in noises])
        if antithetic:
            losses = (losses + torch.stack([_loss(denoise, x, sigma, -noise) for noise in noises])) / 2
    return from_losses(losses)


def from_losses(losses: Float[Tensor, "n b"]) -> LidEstimate:
    """Average losses that are already there, one row a draw."""
    value = losses.mean(0)
    ends = count_interval(value, len(losses), dispersion=sampled_dispersion(losses))
    return LidEstimate(value, standard_error(losses), ends.low, ends.high, {})


@dataclass(frozen=True)
class DenoisingLoss:
    """The denoising loss with its settings.

    Attributes:
        sigma: Noise scale in model-space units, at or above the model's lowest trained level.
        n_draws: Forward passes an item, one a noise.
        seed: Of the draws, which depend on the item's key alone.
        antithetic: Take half as many noises, each with both signs; for study, see the module's head.
    """

    sigma: float
    n_draws: int = 8
    seed: int = 0
    antithetic: bool = False

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidEstimate:
        """Estimate the LID of every item; see :func:`denoising_loss`."""
        sigma = torch.tensor([self.sigma], dtype=x.dtype, device=x.device)
        if self.antithetic and self.n_draws % 2:
            raise ValueError(f"antithetic noises come in pairs, got n_draws {self.n_draws}; pass an even number")
        n = self.n_draws // 2 if self.antithetic else self.n_draws
        noises = draws.normal(x, keys, n, self.seed)
        return denoising_loss(denoise, x, sigma, noises=noises, antithetic=self.antithetic)


def _loss(denoise: Denoiser, x: Tensor, sigma: Tensor, noise: Tensor) -> Float[Tensor, " b"]:
    return squared_residual(denoise(x + per_item(sigma, x) * noise, sigma), x, sigma)
