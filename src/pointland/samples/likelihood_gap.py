r"""A gap of likelihoods, in the manner of FLD: does a density built on the samples prefer training to held-out images?

Samples :math:`g` are the centers of a mixture of isotropic Gaussians, one width each, with a wide one behind them:

.. math:: p(x) = \frac{1 - w}{G} \sum_g N(x; g, \sigma_g^2 I) + w N(x; \mu, s^2 I).

The widths are fitted to the training images by expectation and maximization; a sample that sits on a training image
gets a width near 0. The gap is :math:`100 \, (\mathrm{nll}_{train} - \mathrm{nll}_{held out}) / d`; below 0 the
density prefers training images. A sample's own number is the largest :math:`\log N(x | g, \sigma_g^2) / d` over
training images.

Differs from Jiralerspong et al. 2023 (FLD, arXiv:2302.04440): widths by EM over the 16 nearest samples of each image,
not by Adam over all; all samples and training images, not 10,000 of each (that hides 58 of 100 copies); the held-out
side uses the same widths.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from pointland.lid.data import nearest

K = 16
STEPS = 50
BEHIND = 1e-3  # weight of the wide component


class LikelihoodGap(NamedTuple):
    """The fitted mixture's numbers.

    Attributes:
        value: The gap, in hundredths of a nat a dimension; below 0 is copying. NaN without held-out images.
        samples: For every sample the largest log density of a training image under its Gaussian, over ``d``; high is
            copying.
    """

    value: float
    samples: Float[np.ndarray, " g"]


def likelihood_gap(
    generated: Float[np.ndarray, "g d"], train: Float[np.ndarray, "n d"], held_out: Float[np.ndarray, "h d"] | None
) -> LikelihoodGap:
    """Fit the mixture to ``train`` and compare.

    Args:
        generated: Descriptors of the samples.
        train: Descriptors of training images, each group of copies once.
        held_out: Descriptors of images never trained on.

    Raises:
        ValueError: If there are fewer than 2 samples or training images.

    Cost:
        One search among the samples for every image; then a few sparse steps.
    """
    if len(generated) < 2 or len(train) < 2:
        raise ValueError(f"{len(generated)} samples and {len(train)} training images; a mixture needs 2 of each")
    d = train.shape[1]
    k = min(K, len(generated) - 1)
    near = nearest(train, generated, k)
    square, at = near.distances**2, near.indices
    mean, wide = train.mean(0, dtype=np.float64), float(train.var(axis=0, dtype=np.float64).mean())
    floor = max(wide, 1e-300) * 1e-6
    start = nearest(generated, train, 1)
    variance = np.maximum(start.distances[:, 0] ** 2 / d, floor)
    behind = _normal(((train - mean) ** 2).sum(1, dtype=np.float64), np.full(len(train), max(wide, floor)), d)
    logs = np.empty(0)
    for _ in range(STEPS):
        logs = _mixture(square, variance[at], behind, len(generated), d)
        parts = _normal(square, variance[at], d) + np.log((1 - BEHIND) / len(generated)) - logs[:, None]
        weight = np.exp(parts)
        mass = np.bincount(at.ravel(), weight.ravel(), len(generated))
        spread = np.bincount(at.ravel(), (weight * square).ravel(), len(generated))
        fitted = np.where(mass > 1e-3, spread / np.maximum(d * mass, 1e-300), variance)
        fitted = np.maximum(fitted, floor)
        if np.abs(np.log(fitted / variance)).max() < 1e-3:
            break
        variance = fitted
    samples = _normal(start.distances[:, 0] ** 2, variance, d) / d
    if held_out is None or not len(held_out):
        return LikelihoodGap(float("nan"), samples)
    other = nearest(held_out, generated, k)
    back = _normal(((held_out - mean) ** 2).sum(1, dtype=np.float64), np.full(len(held_out), max(wide, floor)), d)
    held = _mixture(other.distances**2, variance[other.indices], back, len(generated), d)
    return LikelihoodGap(float(100 * (held.mean() - logs.mean()) / d), samples)


def _normal(square: Float[np.ndarray, "*s"], variance: Float[np.ndarray, "*s"], d: int) -> Float[np.ndarray, "*s"]:
    return np.asarray(-0.5 * (square / variance + d * np.log(2 * np.pi * variance)))


def _mixture(
    square: Float[np.ndarray, "n k"],
    variance: Float[np.ndarray, "n k"],
    behind: Float[np.ndarray, " n"],
    g: int,
    d: int,
) -> Float[np.ndarray, " n"]:
    """Return the log density of every image under the mixture."""
    near = _normal(square, variance, d) + np.log((1 - BEHIND) / g)
    return np.asarray(logsumexp(np.column_stack([near, behind + np.log(BEHIND)]), axis=1))
