r"""Suite ``flipd``: the unions of Kamkari et al. 2024, where LID differs from point to point.

Untrained, all with exact scores: mixtures of planes in 10 to 800 dimensions in closed form, and lollipop, doughnut and
Swiss roll as fine grids (:mod:`.unions`). Beside the error stands the concordance index, how often two points are in
the order of their dimensions.

Trained, small networks learn three of them, and every estimator is read on a grid of sigmas. The automatic scale, one
for a model, is the common plateau of the filtered spectrum, chosen without the truth; against it stands the best fixed
sigma of the same estimator in hindsight.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import exact
from pointland.benchmarks.lid.estimators import (
    Estimator,
    concordance,
    error,
    errors,
    evaluate,
    in_batches,
    large,
    small,
)
from pointland.benchmarks.lid.network import Network
from pointland.benchmarks.lid.result import CONCORDANCE, ERROR, Json, Result, Row, Table, Target
from pointland.benchmarks.lid.suites import Say, Settings
from pointland.benchmarks.lid.training import Recipe, train
from pointland.benchmarks.lid.unions import UNIONS
from pointland.denoiser import Denoiser
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.flipd import Flipd
from pointland.lid.jacobian_spectrum import JacobianRank
from pointland.lid.plateau import common_plateau
from pointland.lid.spectrum import FilteredSpectrum
from pointland.noise import sigma_of_time

SIGMA = sigma_of_time(0.01)  # 0.045, for planes; the unions have their own, smaller where they are curved
GRID = tuple(torch.logspace(-1.5, -0.3, 13, dtype=torch.float64).tolist())  # what the networks are trained on
PLANES = (
    ((5,), 10),
    ((2, 4, 8), 10),
    ((10,), 100),
    ((30,), 100),
    ((80,), 100),
    ((90,), 100),
    ((10, 25, 50), 100),
    ((10, 30, 90), 100),
    ((200,), 800),
    ((10, 80, 200), 800),
)
CONCORDANCE_TARGET, ERROR_TARGET = 1.0, 0.5
N_TRAINING, N_HELD_OUT, N_MEASURED = 50_000, 500, 300
JUDGED = ("flipd exact", "spectrum", "rank")


class Measured(NamedTuple):
    """The untrained suite.

    Attributes:
        error: Mean absolute errors of every case.
        order: Concordance of the cases of more than one dimension.
    """

    error: Table
    order: Table


@dataclass(frozen=True)
class Learned:
    """A model to learn.

    Attributes:
        name: As in the table.
        draw: Takes a number and a seed to points and their dimensions.
        steps: Of training.
        n_seeds: How many networks, with data of their own.
    """

    name: str
    draw: Callable[[int, int], tuple[Tensor, Tensor]]
    steps: int
    n_seeds: int = 1


def run(settings: Settings, say: Say) -> Result:
    """Run the suite: two minutes on one core untrained; trained, about 15 CPU minutes for its five networks."""
    described: dict[str, Json] = {"seed": settings.seed}
    if settings.trained:
        return learn(settings, described, say=say)
    planes, unions = mixtures(seed=settings.seed, say=say), grids(seed=settings.seed, say=say)
    first = Table("unions with exact scores", ERROR, planes.error.rows + unions.error.rows, averaged=True)
    second = Table("unions with exact scores", CONCORDANCE, planes.order.rows + unions.order.rows)
    targets = [
        Target(f"{name}: least concordance", min(row.values[name] for row in second.rows), "at least", 1.0)
        for name in ("flipd", "loss 32", "rank")
    ]
    targets.append(Target("flipd: average error", first.average["flipd"], "at most", ERROR_TARGET))
    notes = (
        f"Planes at sigma {SIGMA:.3g} (unit variances, centers 10 apart), lollipop and doughnut at 0.01, roll at 0.03.",
        "flipd takes the exact trace in up to 100 dimensions and 32 probes in 800.",
        "On the edge of the lollipop's disc half of the directions are missing at any scale.",
        "Left out: squiggly and spline mixtures, which have no closed form.",
    )
    return Result("flipd", described | {"sigma": SIGMA}, (first, second), tuple(targets), notes)


def mixtures(
    cases: Sequence[tuple[tuple[int, ...], int]] = PLANES, *, say: Say, each: int = 8, seed: int = 0
) -> Measured:
    """Measure mixtures of planes, ``each`` points a plane."""
    rows: list[Row] = []
    order: list[Row] = []
    for dims, d in cases:
        name = f"affine {'+'.join(map(str, dims))}, d={d}"
        say(name)
        model = exact.mixture(d, dims, seed)
        x = torch.cat([piece.sample(each, seed=seed + 1) for piece in model.pieces])
        truth = torch.tensor(dims).repeat_interleave(each).to(x)
        chosen = small(SIGMA, seed) if d <= 100 else large(SIGMA, seed)
        estimators = {
            "flipd": chosen["flipd exact" if d <= 100 else "flipd 32"],
            "loss 32": chosen["loss 32"],
            "spectrum": chosen["spectrum"],
            "rank": chosen["rank"],
        }
        measure(Row(name, "+".join(map(str, dims)), d, {}), estimators, model, x, truth, rows, order)
    return Measured(Table("planes", ERROR, tuple(rows)), Table("planes", CONCORDANCE, tuple(order)))


def grids(names: Sequence[str] = tuple(UNIONS), *, say: Say, n: int = 48, seed: int = 0) -> Measured:
    """Measure lollipop, doughnut and roll at ``n`` random points."""
    rows: list[Row] = []
    order: list[Row] = []
    for name in names:
        union = UNIONS[name]
        say(name)
        x, truth = union.sample(n, seed + 1)
        estimators: dict[str, Estimator] = {
            "flipd": Flipd(union.sigma, "exact"),
            "loss 32": DenoisingLoss(union.sigma, 32, seed),
            "rank": JacobianRank(union.sigma, seed=seed),
        }
        lids = "+".join(str(piece.lid) for piece in sorted(union.pieces, key=lambda piece: piece.lid))
        measure(Row(name, lids, union.d, {}), estimators, union.model(), x, truth, rows, order)
    return Measured(Table("grids", ERROR, tuple(rows)), Table("grids", CONCORDANCE, tuple(order)))


def measure(
    named: Row,
    estimators: Mapping[str, Estimator],
    model: Denoiser,
    x: Float[Tensor, "n d"],
    truth: Float[Tensor, " n"],
    rows: list[Row],
    order: list[Row],
) -> None:
    """Add a case to both tables, to that of the order only if its points differ."""
    found = evaluate(estimators, model, x, 16)
    rows.append(named._replace(values=errors(found, truth)))
    if len(set(truth.tolist())) > 1:
        order.append(named._replace(values={name: concordance(part.value, truth) for name, part in found.items()}))


def of_planes(d: int, dims: tuple[int, ...]) -> Callable[[int, int], tuple[Tensor, Tensor]]:
    """Return the sampler of a mixture of planes; the model is one, the seed is that of the draw."""

    def draw(n: int, seed: int) -> tuple[Tensor, Tensor]:
        model = exact.mixture(d, dims)
        x = model.sample(n, seed)
        return x, model.lid(x)

    return draw


LEARNED = (
    Learned("affine 2+4+8, d=10", of_planes(10, (2, 4, 8)), 6000, 3),
    Learned("lollipop", UNIONS["lollipop"].sample, 12_000),
    Learned("affine 10+25+50, d=100", of_planes(100, (10, 25, 50)), 12_000),
)


def learn(
    settings: Settings,
    described: dict[str, Json],
    *,
    say: Say,
    cases: Sequence[Learned] = LEARNED,
    n_training: int = N_TRAINING,
    measured: int = N_MEASURED,
) -> Result:
    """Train a network on every case and seed, and compare scales."""
    if settings.work is None:
        raise ValueError("training needs a folder for its checkpoints; pass work")
    rows: list[Row] = []
    order: list[Row] = []
    details: dict[str, Json] = {}
    for case in cases:
        for seed in range(settings.seed, settings.seed + case.n_seeds):
            name = f"{case.name}, seed {seed}"
            say(f"{name}: training, {case.steps:,} steps")
            x, truth = case.draw(n_training + N_HELD_OUT + measured, seed)
            x = ((x - x[:n_training].mean(0)) / x[:n_training].std(0)).float()
            held_out = x[n_training : n_training + N_HELD_OUT]
            recipe = Recipe(minutes=settings.minutes, steps=case.steps, seed=seed)
            path = settings.work / f"{case.name.replace(', ', '-').replace(' ', '-')}-{case.steps}-{seed}.pt"
            found = train(x[:n_training], held_out, recipe, path, say)
            read = at_all_scales(found.denoiser, x[-measured:], truth[-measured:], seed, say)
            lids = "+".join(f"{lid:g}" for lid in sorted(set(truth.tolist())))
            rows.append(Row(name, lids, x.shape[1], read.errors))
            order.append(Row(name, lids, x.shape[1], read.order))
            details[name] = {"sigma chosen": read.sigma, "curves": read.curves, "training": found.history}
    first = Table("trained networks", ERROR, tuple(rows), averaged=True)
    second = Table("trained networks", CONCORDANCE, tuple(order))
    return Result(
        "flipd",
        described | {"trained": True, "training points": n_training, "measured at": measured},
        (first, second),
        learned_targets(first, second),
        (
            "At plateau: one sigma a network, the common plateau of the filtered spectrum's curve, chosen without the "
            "truth. In hindsight: the sigma of the grid at which this estimator errs least.",
            "For one estimator an automatic choice cannot be better than the best of the grid, only equal.",
            "Networks are trained at sigma 0.03 to 1, where they are read, and cannot generate.",
        ),
        details,
    )


class Read(NamedTuple):
    """What a network gives at all scales.

    Attributes:
        sigma: The automatic choice.
        errors: By estimator and choice of scale.
        order: Concordance by estimator at the automatic choice, and the best of the grid.
        curves: Mean absolute error by sigma.
    """

    sigma: float
    errors: dict[str, float]
    order: dict[str, float]
    curves: dict[str, Json]


def at_all_scales(denoise: Network, x: Float[Tensor, "n d"], truth: Float[Tensor, " n"], seed: int, say: Say) -> Read:
    """Measure FLIPD, spectrum, loss and rank on the grid of sigmas, and choose."""
    makers: dict[str, Callable[[float], Estimator]] = {
        "spectrum": lambda sigma: FilteredSpectrum(sigma, 16, 6, seed=seed),
        "flipd exact": lambda sigma: Flipd(sigma, "exact"),
        "loss 16": lambda sigma: DenoisingLoss(sigma, 16, seed),
    }
    values: dict[str, float] = {}
    order: dict[str, float] = {}
    curves: dict[str, Json] = {}
    chosen = float("nan")
    for name, maker in makers.items():
        say(f"  {name} at {len(GRID)} sigmas")
        found = [in_batches(maker(sigma), denoise, x, 100) for sigma in GRID]
        curve = torch.stack([part.value for part in found])
        if name == "spectrum":
            chosen = common_plateau(torch.tensor(GRID), curve, d=x.shape[1])
        at = min(range(len(GRID)), key=lambda i: abs(GRID[i] - chosen))
        by_sigma = [error(row, truth) for row in curve]
        ranks = [concordance(row, truth) for row in curve]
        values |= {f"{name} at plateau": by_sigma[at], f"{name} in hindsight": min(by_sigma)}
        order |= {f"{name} at plateau": ranks[at], f"{name} in hindsight": max(ranks)}
        curves[name] = {f"{sigma:.4g}": round(value, 4) for sigma, value in zip(GRID, by_sigma, strict=True)}
    rank = in_batches(JacobianRank(chosen, seed=seed), denoise, x, 100).value
    values["rank at plateau"], order["rank at plateau"] = error(rank, truth), concordance(rank, truth)
    return Read(chosen, values, order, curves)


def learned_targets(first: Table, second: Table) -> tuple[Target, ...]:
    """Return the targets: order by the automatic scale, and what that scale loses against hindsight."""
    small_mixture = [row.values for row in first.rows if row.case.startswith("affine 2+4+8")]
    targets = [
        Target(
            f"{name} at plateau: least concordance",
            min(row.values[f"{name} at plateau"] for row in second.rows),
            "at least",
            CONCORDANCE_TARGET,
        )
        for name in JUDGED
    ]
    for name in ("flipd exact", "spectrum") if small_mixture else ():
        lost = [row[f"{name} at plateau"] - row[f"{name} in hindsight"] for row in small_mixture]
        targets.append(
            Target(
                f"2+4+8 in d=10: {name} at plateau less at its best fixed sigma, mean of {len(lost)} seeds",
                sum(lost) / len(lost),
                "at most",
                0.0,
            )
        )
    if small_mixture:
        gained = [row["rank at plateau"] - row["flipd exact in hindsight"] for row in small_mixture]
        what = "2+4+8 in d=10: rank at plateau less flipd exact at its best fixed sigma"
        targets.append(Target(f"{what}, mean of {len(gained)} seeds", sum(gained) / len(gained), "at most", 0.0))
    return tuple(targets)
