"""The estimators that suites compare, by the names of their tables, and how far they are from the truth.

An absolute dimension needs a scale. ``at`` is one sigma for all; the plateau and the published knee choose their own.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pointland.denoiser import Denoiser
from pointland.lid.data import CalibratedMle, CensoredHill, Ess, LocalPca, Mle, Moment, TwoNn
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.estimate import LidEstimate
from pointland.lid.flipd import Flipd
from pointland.lid.jacobian_spectrum import JacobianRank
from pointland.lid.normal_bundle import NormalBundle, NormalBundleSketch
from pointland.lid.plateau import LidCurve, OnPlateau, knee, plateau
from pointland.lid.spectrum import FilteredSpectrum
from pointland.lid.trace import FlipdLowRank
from pointland.noise import sigma_of_time

Estimator = Callable[[Denoiser, Tensor, list[str]], LidEstimate]
GRID = tuple(torch.logspace(-2, -0.3, 13, dtype=torch.float64).tolist())  # up to half the size of the data
TIMES = tuple(i / 50 for i in range(1, 51))  # the authors' grid of times, for the published knee


def small(sigma: float, seed: int = 0) -> dict[str, Estimator]:
    """Return the estimators that can be paid for in up to about 100 dimensions, at one sigma."""
    return {
        "flipd exact": Flipd(sigma, "exact"),
        "flipd 4": Flipd(sigma, 4, seed),
        "loss 32": DenoisingLoss(sigma, 32, seed),
        "spectrum": FilteredSpectrum(sigma, 32, 3, seed=seed),
        "rank": JacobianRank(sigma, seed=seed),
        "bundle": NormalBundle(sigma, seed=seed),
        "bundle sketch": NormalBundleSketch(sigma, seed=seed),
    }


def large(sigma: float, seed: int = 0) -> dict[str, Estimator]:
    """Return the estimators whose cost does not grow with the space's dimension, at one sigma."""
    return {
        "flipd 32": Flipd(sigma, 32, seed),
        "loss 32": DenoisingLoss(sigma, 32, seed),
        "spectrum": FilteredSpectrum(sigma, 32, 3, seed=seed),
        "rank": JacobianRank(sigma, seed=seed),
    }


def low_rank(sigma: float, n_probes: int, seed: int = 0) -> dict[str, Estimator]:
    """Return FLIPD by a sketch: exact up to ``n_probes - 2`` dimensions."""
    return {"low rank": FlipdLowRank(sigma, n_probes, seed)}


def from_data(k: int = 100) -> dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """Return the estimators that need no model, each a function of a data set to one value a point."""

    def own(data: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.arange(len(data))

    return {
        "ess": lambda data: Ess(k)(data, data, own(data)).value,
        "local pca": lambda data: LocalPca(k)(data, data, own(data)).value,
        "calibrated mle": lambda data: CalibratedMle()(data, data, own(data)).value,
        "mle k=20": lambda data: Mle(20)(data, data, own(data)).value,
        f"mle k={k}": lambda data: Mle(k)(data, data, own(data)).value,
        "censored hill": lambda data: CensoredHill()(data, data, own(data)).value,
        "moment": lambda data: Moment()(data, data, own(data)).value,
        "twonn": lambda data: np.full(len(data), TwoNn()(data, data, own(data)).value),
    }


class Found(NamedTuple):
    """What one estimator found at every point.

    Attributes:
        value: In dimensions.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    value: Float[Tensor, " n"]
    low: Float[Tensor, " n"]
    high: Float[Tensor, " n"]


def evaluate(
    estimators: Mapping[str, Estimator], denoise: Denoiser, x: Float[Tensor, "n *event"], size: int = 64
) -> dict[str, Found]:
    """Run every estimator at every point, ``size`` at a time; the key of a point is its number."""
    return {name: in_batches(estimator, denoise, x, size) for name, estimator in estimators.items()}


def in_batches(estimator: Estimator, denoise: Denoiser, x: Float[Tensor, "n *event"], size: int = 64) -> Found:
    """Run one estimator at every point, ``size`` at a time."""
    found = [estimator(denoise, x[i : i + size], keys(x)[i : i + size]) for i in range(0, len(x), size)]
    return Found(*(torch.cat(parts) for parts in zip(*((f.value, f.low, f.high) for f in found), strict=True)))


def errors(found: Mapping[str, Found], truth: Float[Tensor, " n"]) -> dict[str, float]:
    """Return the mean absolute error of every estimator, in dimensions."""
    return {name: error(estimate.value, truth) for name, estimate in found.items()}


def error(found: Float[Tensor, " n"], truth: Float[Tensor, " n"]) -> float:
    """Return the mean absolute error, in dimensions."""
    return float((found.double() - truth.double()).abs().mean())


class Scales(NamedTuple):
    """FLIPD with its exact trace where two rules put the scale, and its curve.

    Attributes:
        plateau: Ours, each item its own.
        knee: The published choice, over the authors' grid of times.
        curve: Over ``GRID``.
    """

    plateau: Float[Tensor, " n"]
    knee: Float[Tensor, " n"]
    curve: LidCurve


def at_chosen_scales(denoise: Denoiser, x: Float[Tensor, "n *event"]) -> Scales:
    """Choose the scale of exact FLIPD by the plateau and by the published knee; costs its curve twice."""

    def whole(sigma: float) -> Flipd:
        return Flipd(sigma, "exact")

    curve = OnPlateau(whole, GRID).curve(denoise, x, keys(x))
    in_time = OnPlateau(whole, tuple(map(sigma_of_time, TIMES))).curve(denoise, x, keys(x))
    at = knee(torch.tensor(TIMES, dtype=torch.float64), in_time.values.double())
    return Scales(plateau(curve.sigmas, curve.values).value, in_time.values.gather(0, at[None])[0], curve)


def concordance(found: Float[Tensor, " n"], truth: Float[Tensor, " n"]) -> float:
    """Return how often the order of two estimates is that of their truths, over all pairs of different truth.

    A tie counts half, so 0.5 is chance and 1 is perfect order.

    Raises:
        ValueError: If all truths are equal.
    """
    above = truth[:, None] > truth[None, :]
    if not bool(above.any()):
        raise ValueError("a concordance index compares points of different dimension; all are equal")
    difference = found[:, None] - found[None, :]
    right = (difference > 0).double() + 0.5 * (difference == 0).double()
    return float(right[above].mean())


def keys(x: Float[Tensor, "n *event"]) -> list[str]:
    """Return one key a point: its number."""
    return [str(i) for i in range(len(x))]
