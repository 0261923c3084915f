"""How often the 95 % interval of an estimator contains the true dimension, over 1,000 draws on exact models.

    OMP_NUM_THREADS=1 python benchmarks/lid_coverage.py [--draws 1000] [--sections model data antithetic] [--out FILE]

model       k-planes of 64 to 1,024 dimensions and the circle, a draw being another item with its own noises or probes
data        the estimators from neighbours on Gaussian samples; above LID 8 the plain ones are biased
antithetic  variance of the denoising loss with paired noises over that with independent ones, at equal cost

The target is 0.90 to 0.99. Where an estimator is exact (LID 0, or LID d for sign probes) no draw can miss: coverage 1.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pointland import exact
from pointland.denoiser import Denoiser
from pointland.lid import (
    DenoisingLoss,
    DiffusionLidl,
    FilteredSpectrum,
    Flipd,
    FlipdLowRank,
    JacobianRank,
    LidEstimate,
    NormalBundleSketch,
)
from pointland.lid.data import CalibratedMle, CensoredHill, Mle, TwoNn

Estimator = Callable[[Denoiser, Tensor, list[str]], LidEstimate]
Table = dict[str, dict[str, float]]
SIGMA = 0.01
BATCH = 250

ESTIMATORS: dict[str, Estimator] = {
    "loss 2": DenoisingLoss(SIGMA, 2),
    "loss 8": DenoisingLoss(SIGMA, 8),
    "loss 8 antithetic": DenoisingLoss(SIGMA, 8, antithetic=True),
    "flipd 1": Flipd(SIGMA, 1),
    "flipd 4": Flipd(SIGMA, 4),
    "flipd 16": Flipd(SIGMA, 16),
    "spectrum 4x2": FilteredSpectrum(SIGMA, 4, n_steps=2),
    "low rank 4": FlipdLowRank(SIGMA, 4),
    "low rank 16": FlipdLowRank(SIGMA, 16),
    "rank": JacobianRank(SIGMA),
    "bundle sketch": NormalBundleSketch(SIGMA),
}
LIDL = DiffusionLidl((0.01, 0.014, 0.02, 0.028), n_probes=4, n_steps=16)
SLOW = {"rank", "bundle sketch", "likelihood 4"}  # the same at every item; few items show it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = {"model": model, "data": data, "antithetic": antithetic}
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--sections", nargs="+", choices=list(sections), default=list(sections))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/lid_coverage.json"))
    settings = parser.parse_args()
    result = json.loads(settings.out.read_text()) if settings.out.exists() else {}
    for name in settings.sections:
        started = time.perf_counter()
        table = sections[name](settings.draws)
        result[name] = {"table": table, "seconds": round(time.perf_counter() - started, 1)}
        show(name, table)
    rows = [value for row in result.get("model", {"table": {}})["table"].values() for value in row.values()]
    result["model intervals outside 0.90 to 0.99 that are not exact"] = sum(
        not 0.9 <= v <= 0.99 and v < 1 for v in rows
    )
    result["draws"], result["target"] = settings.draws, [0.9, 0.99]
    result["command"] = "OMP_NUM_THREADS=1 python benchmarks/lid_coverage.py"
    result["machine"] = {"processor": platform.machine(), "threads": 1, "torch": torch.__version__}
    settings.out.write_text(json.dumps(result, indent=2) + "\n")


def model(draws: int) -> Table:
    """Coverage of the model estimators, one row a model."""
    table: Table = {}
    for d, dims in ((64, (0, 1, 2, 8, 30, 64)), (256, (1, 30, 200)), (1024, (0, 1, 2, 8, 30, 200))):
        for k in dims:
            plane = exact.subspace(d=d, k=k, seed=1)
            table[f"plane LID {k} d={d}"] = coverage(plane, plane.sample(draws, seed=2), k, draws)
    ring = exact.circle(d=20, seed=3)
    table["circle LID 1 d=20"] = coverage(ring, ring.sample(draws, seed=2), 1, draws)
    return table


def coverage(denoise: Denoiser, x: Tensor, k: int, draws: int) -> dict[str, float]:
    row = {}
    estimators = ESTIMATORS | ({"likelihood 4": LIDL} if x.shape[1] <= 64 else {})
    for name, estimator in estimators.items():
        if name in SLOW and k > 64:
            continue
        some = min(draws, 200 if name == "likelihood 4" else 16) if name in SLOW else draws
        inside = 0
        for start in range(0, some, BATCH):
            part = x[start : min(start + BATCH, some)]
            found = estimator(denoise, part, [f"{name}/{start + i}" for i in range(len(part))])
            inside += int(((found.low <= k) & (k <= found.high)).sum())
        row[name] = round(inside / some, 4)
    return row


def data(draws: int) -> Table:
    """Coverage of the data estimators: every query of a sample is a draw, for the whole set every sample is."""
    table: Table = {}
    for k in (0, 1, 2, 8, 30):
        rng = np.random.default_rng(k)
        reference = np.zeros((8000, max(k, 3)))
        reference[:, :k] = rng.normal(size=(8000, k))
        own = rng.choice(len(reference), draws, replace=False)
        row = {}
        for name, estimator in (
            ("mle", Mle(20)),
            ("censored hill", CensoredHill(1e-9, 20)),
            ("calibrated", CalibratedMle(20)),
        ):
            found = estimator(reference[own], reference, own)
            row[name] = round(float(((found.low <= k) & (k <= found.high)).mean()), 4)
        if k:
            inside, sets = 0, min(draws, 300)
            for _ in range(sets):
                sample = np.zeros((400, max(k, 2)))
                sample[:, :k] = rng.normal(size=(400, k))
                whole = TwoNn()(sample, sample, np.arange(400))
                inside += whole.low <= k <= whole.high
            row["twonn, 400 points"] = round(inside / sets, 4)
        table[f"gaussian LID {k}"] = row
    return table


def antithetic(draws: int) -> Table:
    """Variance at 8 passes with paired noises over that with independent ones; above 1 pairs are worse."""
    table: Table = {}
    cases: dict[str, exact.Gaussian | exact.Mixture] = {
        "plane LID 8 d=64": exact.subspace(d=64, k=8, seed=1),
        "variances 0.01 to 1": exact.subspace(d=64, k=30, variances=torch.logspace(-2, 0, 30).tolist()),
        "mixture 2/4/8 d=24": exact.mixture(24),
    }
    for name, denoise in cases.items():
        x = denoise.sample(1, seed=3).expand(draws, -1)
        keys = [str(i) for i in range(draws)]
        row = {}
        for sigma in (0.01, 0.1, 0.3, 1.0, 3.0):
            one, pairs = (DenoisingLoss(sigma, 8, antithetic=a)(denoise, x, keys).value.var() for a in (False, True))
            row[f"sigma {sigma}"] = round(float(pairs / one), 3)
        table[name] = row
    return table


def show(name: str, table: Table) -> None:
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    print(f"\n{name}\n{'':24}" + "".join(f"{column:>18}" for column in columns))
    for label, row in table.items():
        print(f"{label:24}" + "".join(f"{row.get(column, float('nan')):>18.3f}" for column in columns), flush=True)


if __name__ == "__main__":
    main()
