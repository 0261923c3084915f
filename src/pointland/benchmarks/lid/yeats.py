r"""Suite ``yeats``: the five manifolds of Yeats et al. 2025, 2,000 points each, against the truth.

Untrained, the estimators from data alone. Trained, a denoiser is learned on each manifold for some CPU minutes; one
point in ten is held out and chooses the weights, and every estimator then reads the same points, training and held out
in proportion. Zeros fill the space, as in scikit-dimension, so that coordinates are special; ``rotated`` turns it.

The estimator to be judged is named before any result of a seed: ``rank at 0.05`` for seed 0, which erred by 3.40, and
``rank at plateau`` since seed 1.
"""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.benchmarks.lid.estimators import Estimator, error, from_data, in_batches, keys
from pointland.benchmarks.lid.network import Network
from pointland.benchmarks.lid.result import ERROR, Json, Result, Row, Table, Target
from pointland.benchmarks.lid.suites import Say, Settings
from pointland.benchmarks.lid.training import Recipe, train
from pointland.denoiser import Denoiser
from pointland.experiments.manifolds import MANIFOLDS, Manifold
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.flipd import Flipd
from pointland.lid.jacobian_spectrum import JacobianRank
from pointland.lid.plateau import OnPlateau, common_plateau
from pointland.lid.scale import sweep
from pointland.lid.spectrum import FilteredSpectrum

N_POINTS, N_MEASURED, MINUTES = 2000, 500, 5.0
SIGMA = 0.05  # of the paper
GRID = tuple(torch.logspace(-1.5, -0.3, 13, dtype=torch.float64).tolist())
NAMED, TARGET = "rank at plateau", 3.2
WITHOUT_A_MODEL = ("ess", "local pca", "calibrated mle", "mle k=100")
PUBLISHED = {  # averages of five, measured by others at sigma 0.05 and k = 100
    "denoising loss, Yeats 2025": {"average": 3.22},
    "FLIPD, Yeats 2025": {"average": 4.32},
    "ess, Yeats 2025": {"average": 7.12},
    "mle k=100, Yeats 2025": {"average": 22.01},
}


def run(settings: Settings, say: Say) -> Result:
    """Run the suite: a minute on one core untrained; trained, ``minutes`` a network and about as much to measure."""
    minutes = MINUTES if settings.minutes is None else settings.minutes
    described: dict[str, Json] = {"seed": settings.seed, "points": N_POINTS, "rotated": settings.rotated}
    if not settings.trained:
        table = from_data_alone(settings.seed, rotated=settings.rotated, say=say)
        return Result("yeats", described, (table,), data_targets(table), notes())
    described |= {"minutes": minutes, "measured at": N_MEASURED}
    table, details = trained(settings, minutes, say=say)
    return Result("yeats", described, (table,), trained_targets(table), notes(), {"manifolds": details})


def notes() -> tuple[str, ...]:
    """Return what a reader has to know."""
    return (
        "The paper names the manifolds and their dimensions only; at our reading MLE, ESS and local PCA agree with "
        "those known for the originals.",
        f"Named before any result of a seed since seed 1: {NAMED}.",
        "Trained networks are measured at training and held-out points in proportion, 9 to 1; the error at held-out "
        "points alone is in the details.",
    )


def data_targets(table: Table) -> tuple[Target, ...]:
    """Return the targets without a model: the figures of others, who drew other points."""
    published = {"ess": 7.12, "mle k=100": 22.01}
    return tuple(
        Target(
            f"{name}: share by which it is off the published {value}",
            abs(table.average[name] / value - 1),
            "at most",
            0.05,
        )
        for name, value in published.items()
    )


def trained_targets(table: Table) -> tuple[Target, ...]:
    """Return the target with trained networks, for the estimator named before."""
    return (Target(f"{NAMED}: average error", table.average[NAMED], "at most", TARGET),)


def from_data_alone(
    seed: int, *, say: Say, manifolds: Sequence[str] = tuple(MANIFOLDS), n: int = N_POINTS, rotated: bool = False
) -> Table:
    """Measure the estimators that need no model at all points of every manifold."""
    rows = []
    for name in manifolds:
        manifold = MANIFOLDS[name]
        say(f"{name}: LID {manifold.lid} in {manifold.d}, from {n:,} points")
        values = without_a_model(manifold.sample(n, seed, rotated=rotated))
        rows.append(row(manifold, values))
    return Table("five manifolds, from data", ERROR, tuple(rows), PUBLISHED, averaged=True)


def trained(
    settings: Settings,
    minutes: float,
    *,
    say: Say,
    manifolds: Sequence[str] = tuple(MANIFOLDS),
    n: int = N_POINTS,
    measured: int = N_MEASURED,
) -> tuple[Table, dict[str, Json]]:
    """Train a network on every manifold and measure all estimators at its first ``measured`` points."""
    if settings.work is None:
        raise ValueError("training needs a folder for its checkpoints; pass work")
    recipe = Recipe(minutes=minutes, seed=settings.seed)
    rows: list[Row] = []
    details: dict[str, Json] = {}
    for name in manifolds:
        manifold = MANIFOLDS[name]
        say(f"{name}: training, {minutes:g} CPU minutes")
        data = manifold.sample(n, settings.seed, rotated=settings.rotated)
        turned = "-rotated" * settings.rotated
        path = settings.work / f"{name}-covariance-{recipe.width}-{recipe.n_blocks}-{settings.seed}{turned}.pt"
        held_out = torch.arange(n) % 10 == 0
        found = train(data[~held_out], data[held_out], recipe, path, say)
        started = time.process_time()
        at = estimates(found.denoiser, data[:measured], say)
        values = at.values | {key: value[:measured] for key, value in without_a_model(data).items()}
        rows.append(row(manifold, values))
        details[name] = {
            "sigmas chosen": at.sigmas,
            "mean": {key: float(value.mean()) for key, value in values.items()},
            "error at held-out points": {key: off(value[::10], manifold) for key, value in values.items()},
            "best spectrum in hindsight": in_hindsight(at.curve, manifold),
            "training": found.history,
            "seconds of estimation": round(time.process_time() - started, 1),
        }
    return Table("five manifolds, trained networks", ERROR, tuple(rows), PUBLISHED, averaged=True), details


class Found(NamedTuple):
    """Values by estimator, the sigmas chosen, and the filtered spectrum on the grid."""

    values: dict[str, Float[Tensor, " n"]]
    sigmas: dict[str, float]
    curve: Float[Tensor, "s n"]


def estimates(denoise: Denoiser | Network, x: Float[Tensor, "n d"], say: Say) -> Found:
    """Measure every estimator at the paper's sigma and at the ones chosen."""
    say(f"  choosing sigma at {len(x)} points")
    curve = OnPlateau(FilteredSpectrum, GRID).curve(denoise, x, keys(x))
    sigmas = {
        "plateau": common_plateau(curve.sigmas, curve.values, d=x.shape[1]),
        "resolution": sweep(denoise, x, keys(x), torch.tensor(GRID)).best,
    }
    estimators: dict[str, Estimator] = {
        "loss 8 at 0.05": DenoisingLoss(SIGMA),
        "loss 8 at plateau": DenoisingLoss(sigmas["plateau"]),
        "flipd 8 at 0.05": Flipd(SIGMA, 8),
        "flipd exact at 0.05": Flipd(SIGMA, "exact"),
        "flipd exact at plateau": Flipd(sigmas["plateau"], "exact"),
        "spectrum at 0.05": FilteredSpectrum(SIGMA),
        "spectrum at plateau": FilteredSpectrum(sigmas["plateau"]),
        "spectrum at resolution": FilteredSpectrum(sigmas["resolution"]),
        "rank at 0.05": JacobianRank(SIGMA),
        "rank at plateau": JacobianRank(sigmas["plateau"]),
    }
    values = {}
    for name, estimator in estimators.items():
        say(f"  {name}")
        values[name] = in_batches(estimator, denoise, x, 50).value
    return Found(values, sigmas, curve.values)


def without_a_model(data: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, " n"]]:
    """Measure the estimators from data at every point."""
    points = data.double().numpy()
    return {key: torch.from_numpy(from_data()[key](points)) for key in WITHOUT_A_MODEL}


def row(manifold: Manifold, values: Mapping[str, Float[Tensor, " n"]]) -> Row:
    """Return the errors on one manifold."""
    found = {key: off(value, manifold) for key, value in values.items()}
    return Row(manifold.name, str(manifold.lid), manifold.d, found)


def off(found: Float[Tensor, " n"], manifold: Manifold) -> float:
    """Return the mean absolute error, in dimensions."""
    return error(found, found.new_full((len(found),), manifold.lid))


def in_hindsight(curve: Float[Tensor, "s n"], manifold: Manifold) -> dict[str, Json]:
    """Return the sigma at which the spectrum erred least."""
    found = (curve - manifold.lid).abs().mean(1)
    return {"sigma": GRID[int(found.argmin())], "error": float(found.min())}
