r"""The denoising loss as a local intrinsic dimension.

On the locally linear model with variances :math:`l_i` the best denoiser's expected loss is the *soft count at scale*
:math:`\sigma`,

.. math:: \mathbb{E}\, \|D(x + \sigma n; \sigma) - x\|^2 / \sigma^2 = \sum_i \frac{l_i}{l_i + \sigma^2},

the number of directions along which the data varies by more than :math:`\sigma`: noise across the manifold is removed,
noise along it is not. The loss is never negative, tends to 0 at memorized points, and its Monte-Carlo error,
:math:`\sqrt{2\,\mathrm{LID}}` a draw, is smallest exactly there; so it is the default signal of an audit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import draws
from pointland.denoiser import Denoiser, per_item
from pointland.lid.estimate import LidEstimate, standard_error
from pointland.lid.flipd import check_sigma, squared_residual


def denoising_loss(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    noises: Float[Tensor, "n b *event"],
) -> LidEstimate:
    r"""Estimate the model's local intrinsic dimension at ``x`` by how well it denoises towards ``x``.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        noises: Standard normal draws, shape ``(n, b, *event)``.

    Returns:
        ``value`` in dimensions, at least 0. For an imperfect network an upper bound in expectation: its own error adds
        to it. ``stderr`` over draws. ``parts`` is empty.

    Raises:
        ValueError: If ``sigma`` is not positive, or there are no draws.

    Cost:
        ``n`` forward passes, no gradient.

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
        losses = [squared_residual(denoise(x + per_item(sigma, x) * noise, sigma), x, sigma) for noise in noises]
    return from_losses(torch.stack(losses))


def from_losses(losses: Float[Tensor, "n b"]) -> LidEstimate:
    """Average losses that are already there, one row a draw."""
    return LidEstimate(losses.mean(0), standard_error(losses), {})


@dataclass(frozen=True)
class DenoisingLoss:
    """The denoising loss with its settings.

    Attributes:
        sigma: Noise scale in model-space units, at or above the model's lowest trained level.
        n_draws: Noise draws an item.
        seed: Of the draws, which depend on the item's key alone.
    """

    sigma: float
    n_draws: int = 8
    seed: int = 0

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidEstimate:
        """Estimate the LID of every item; see :func:`denoising_loss`."""
        sigma = torch.tensor([self.sigma], dtype=x.dtype, device=x.device)
        return denoising_loss(denoise, x, sigma, noises=draws.normal(x, keys, self.n_draws, self.seed))
