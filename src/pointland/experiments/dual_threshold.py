r"""The dual threshold: out of distribution is a low likelihood or a low LID, tested with a known false alarm rate.

Both numbers come from one curve, the expected denoising loss
:math:`\ell(\sigma) = \mathbb{E} \|D(x + \sigma n; \sigma) - x\|^2 / \sigma^2`, which is LID at a scale:

.. math::
    -\mathbb{E} \log p_{\sigma_0}(x + \sigma_0 n)
    = \frac d2 \log (2 \pi e \sigma_0^2) + \int_{\sigma_0}^\infty \ell(\sigma) \, d \log \sigma

for the exact denoiser; for any other it is the bound that diffusion models are trained on. LID is the height of the
curve at a small scale, the likelihood the area under it: few dimensions at every scale *are* a high likelihood, which
is why a high likelihood alone proves nothing (:mod:`pointland.experiments.out_of_distribution`).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from pointland.denoiser import Denoiser
from pointland.lid.denoising_loss import denoising_loss
from pointland.verdict import Interval
from pointland.verdict.conformal import Floats


class DualThreshold(NamedTuple):
    """One entry a picture.

    Attributes:
        p: Conformal p-value in (0, 1], low when out of distribution.
        by_lid: Whether LID is the more unusual of the two numbers; otherwise it is the likelihood.
    """

    p: Floats
    by_lid: NDArray[np.bool_]


class DualAuroc(NamedTuple):
    """The published measure of a dual threshold, and what it is worth.

    Attributes:
        value: Area under the best ROC curve of all pairs of thresholds, with its 95 % bootstrap interval.
        chance: The same area, on average, if the labels are dealt at random: above 0.5, because the pairs are chosen
            by the labels.
    """

    value: Interval
    chance: float


class MeanLogDensity(NamedTuple):
    """A log density an item.

    Attributes:
        value: In nats, shape ``(b,)``.
        stderr: Standard error over draws in nats, shape ``(b,)``; NaN from a single draw a level.
    """

    value: Float[Tensor, " b"]
    stderr: Float[Tensor, " b"]


def dual_threshold(
    likelihood: Floats, lid: Floats, reference_likelihood: Floats, reference_lid: Floats
) -> DualThreshold:
    r"""Test every picture for a low likelihood or a low LID, against pictures known to be in distribution.

    The picture is put among the :math:`n` reference pictures, and each of the :math:`n + 1` is scored by the lower of
    its two ranks there (the higher one breaks ties); p is the share that scores no higher than the picture. The score
    treats all :math:`n + 1` alike, so that, if the picture is exchangeable with the reference,

    .. math:: P(p \le \alpha) \le \alpha \quad \text{for every } \alpha ,

    in finite samples, whatever the distribution and however the two numbers depend on each other. Flagging ``p <= a``
    is a dual threshold whose two thresholds take the same share of the reference each.

    Args:
        likelihood: Log density of every picture, any unit or offset that the reference shares.
        lid: LID of every picture.
        reference_likelihood: The same of pictures of the model's own kind that it never trained on.
        reference_lid: Their LID.

    Returns:
        P-values; none is below ``1 / (n + 1)``, and of a picture that only one number makes unusual none is below
        ``2 / (n + 1)``. The rate is that over draws of the reference too: by one small reference the false alarms
        among many pictures can be more, by a standard deviation of about ``sqrt(alpha (1 - alpha) / n)``.

    Raises:
        ValueError: If the two numbers are not of the same pictures, one is not finite, or there is no reference.

    Source:
        The dual threshold: Kamkari et al. 2024, arXiv:2403.18910. Its p-value, by full conformal prediction (Vovk et
        al. 2005), is ours.
    """
    _check(likelihood, lid)
    _check(reference_likelihood, reference_lid)
    n = len(reference_lid)
    if n == 0:
        raise ValueError("no reference pictures were given; pass pictures of the model's own kind that it never saw")
    own, known = [], []
    for values, reference in ((likelihood, reference_likelihood), (lid, reference_lid)):
        own.append(1 + np.searchsorted(np.sort(reference), values, side="right"))
        known.append(rankdata(reference, "max") + (values[:, None] <= reference))  # the picture is among them too
    score = np.minimum(*own) + np.maximum(*own) / (n + 2)
    others = np.minimum(*known) + np.maximum(*known) / (n + 2)
    p = (1 + (others <= score[:, None]).sum(1)) / (n + 1)
    return DualThreshold(np.asarray(p, dtype=np.float64), own[1] < own[0])


def dual_auroc(
    likelihood: Floats,
    lid: Floats,
    reference_likelihood: Floats,
    reference_lid: Floats,
    *,
    n_resamples: int = 200,
    seed: int = 0,
) -> DualAuroc:
    """Return the area under the ROC curve of the best pairs of thresholds, the published measure.

    Every pair of thresholds is one point of false and true positive rate; the curve goes through those that no other
    beats. It is at least the AUROC of either number alone. Which pairs are on it is learnt from the labels, so it
    says what a pair *could* do; compare it with ``chance``, and take the AUROC of :func:`dual_threshold`'s ``p`` for
    what can be done without labels.

    Args:
        likelihood: Log density of pictures out of distribution.
        lid: Their LID.
        reference_likelihood: Log density of pictures in distribution.
        reference_lid: Their LID.
        n_resamples: Resamples behind the interval, and deals of the labels behind ``chance``. Resampling repeats the
            choice of pairs, so that the interval leans upwards.
        seed: Of both.

    Raises:
        ValueError: If the two numbers are not of the same pictures, or one is not finite.

    Source:
        Kamkari et al. 2024, arXiv:2403.18910, and the authors' public code. Interval and ``chance`` are ours.
    """
    _check(likelihood, lid)
    _check(reference_likelihood, reference_lid)
    places = np.stack(
        [
            np.unique(np.concatenate(pair), return_inverse=True)[1]
            for pair in ((likelihood, reference_likelihood), (lid, reference_lid))
        ]
    )
    n, m = len(lid), len(reference_lid)
    outside = np.arange(n + m) < n
    rng = np.random.default_rng(seed)
    areas, chances = [], []
    for _ in range(n_resamples):
        drawn = np.concatenate([rng.multinomial(n, np.full(n, 1 / n)), rng.multinomial(m, np.full(m, 1 / m))])
        areas.append(_area(places, drawn * outside, drawn * ~outside))
        dealt = rng.permutation(outside)
        chances.append(_area(places, 1 * dealt, 1 * ~dealt))
    value = _area(places, 1 * outside, 1 * ~outside)
    return DualAuroc(Interval(value, *np.quantile(areas, [0.025, 0.975]).tolist()), float(np.mean(chances)))


def mean_log_density(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigmas: Sequence[float],
    *,
    noises: Float[Tensor, "s n b *event"],
) -> MeanLogDensity:
    r"""Return a diffusion model's log density of data with noise of the lowest scale, averaged over that noise.

    It is the area under the denoising loss by trapezoids in :math:`\log \sigma`. Above the highest scale the loss falls
    as :math:`\sigma^{-2}`, which adds half of its value there.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigmas: Trained scales, ascending, from where the density is meant to far above the size of the data; 16 evenly
            in ratio are enough.
        noises: Standard normal draws, shape ``(s, n, b, *event)``: ``n`` at each of the scales.

    Returns:
        In nats in the space of ``x``. Exact for an exact denoiser but for trapezoids and draws; for a network a lower
        bound of the density of its ancestral sampler, not the density of its probability flow.

    Raises:
        ValueError: If the scales do not ascend, or are not as many as the draws.

    Cost:
        ``s n`` forward passes, no gradient.

    Source:
        Kingma et al. 2021, arXiv:2107.00630; exact at every point: Kong et al. 2023, arXiv:2302.03792. In sigma here.
    """
    if len(sigmas) < 2 or len(sigmas) != len(noises) or not bool((torch.tensor(list(sigmas)).diff() > 0).all()):
        raise ValueError(f"got {len(noises)} sets of draws for scales {list(sigmas)}; pass one a scale, ascending")
    scales = torch.tensor(list(sigmas), dtype=x.dtype, device=x.device)
    losses = [denoising_loss(denoise, x, scale[None], noises=own) for scale, own in zip(scales, noises, strict=True)]
    steps = scales.log().diff()
    weights = torch.cat([steps, steps.new_ones(1)]) / 2
    weights[1:-1] += steps[:-1] / 2
    weights[-1] += steps[-1] / 2
    area = torch.stack([loss.value for loss in losses], 1) @ weights
    variance = torch.stack([loss.stderr for loss in losses], 1).square() @ weights.square()
    entropy = x[0].numel() / 2 * math.log(2 * math.pi * math.e * sigmas[0] ** 2)
    return MeanLogDensity(-area - entropy, variance.sqrt())


def _area(places: NDArray[np.intp], outside: NDArray[np.int64], inside: NDArray[np.int64]) -> float:
    """Return the area under the frontier of all pairs of thresholds, for points counted so many times each."""
    shape = tuple(places.max(1) + 2)  # the last threshold keeps nothing
    kept = []
    for counts in (outside, inside):
        grid = np.zeros(shape, dtype=np.int64)
        np.add.at(grid, tuple(places), counts)
        kept.append(grid[::-1, ::-1].cumsum(0).cumsum(1).ravel())
    wrong, right = (int(counts.sum()) for counts in (outside, inside))
    met = np.zeros((wrong + 1, right + 1), dtype=bool)
    met[kept[0], kept[1]] = True
    false, true = np.nonzero(met)  # in order of false, then of true
    best = true == np.maximum.accumulate(true)
    false, true = false[best], true[best]
    return float((np.diff(false) * (true[1:] + true[:-1])).sum() / (2 * wrong * right))


def _check(likelihood: Floats, lid: Floats) -> None:
    if likelihood.shape != lid.shape or likelihood.ndim != 1:
        raise ValueError(f"got {likelihood.shape} likelihoods for {lid.shape} LIDs; pass one of each a picture")
    if not (np.isfinite(likelihood).all() and np.isfinite(lid).all()):
        raise ValueError("a likelihood or LID is not finite; leave out pictures without a value")
