"""LID from small networks trained on 2,000 points: the five manifolds of Yeats et al. 2025, against the truth.

    OMP_NUM_THREADS=1 nice python benchmarks/lid_yeats.py [--minutes 5] [--manifolds ...] [--rotated] [--out FILE]

A denoiser is trained on each for ``--minutes`` of CPU time; one point in ten is held out, and the weights kept are
those with the least denoising loss there, which needs no truth. It is a perceptron with the preconditioning of Karras
et al. 2022 (EDM, section 5), whose scalar variance of the data is replaced by the covariance of the training points;
``--preconditioning scalar`` leaves it as it is. Checkpoints are kept in ``--work`` and training goes on from them.
Every estimator then reads the same points, training and held out in proportion.

Zeros fill the space, as in scikit-dimension, so that coordinates are special; ``--rotated`` turns it. The squares among
the network's inputs, the displacement that is divided by sigma and the falling range of sigma were chosen by the
held-out loss on the Clifford torus, where perceptrons and gated ones without squares learned nothing in 3,000 steps.

Expected before any result of the estimators: ``rank at 0.05``, :class:`~pointland.lid.JacobianRank` at its defaults and
the sigma of the paper, errs least among ours, by about 1.5 dimensions on average, because it alone has neither
Monte-Carlo error nor a sum over the network's errors across the manifold; loss 8 and spectrum near 3, their Monte-Carlo
error at 128 dimensions.
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor

from pointland.denoiser import Denoiser
from pointland.experiments.manifolds import MANIFOLDS, Manifold
from pointland.lid.data import CalibratedMle, Ess, LocalPca, Mle
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.estimate import LidEstimate
from pointland.lid.flipd import Flipd
from pointland.lid.jacobian_spectrum import JacobianRank
from pointland.lid.plateau import OnPlateau, common_plateau
from pointland.lid.scale import sweep
from pointland.lid.spectrum import FilteredSpectrum

Estimator = Callable[[Denoiser, Tensor, list[str]], LidEstimate]
PUBLISHED = {"denoising loss": 3.22, "FLIPD": 4.32, "ESS": 7.12, "MLE": 22.0}  # others' measurements, sigma 0.05
NAMED = "rank at 0.05"  # before any result
TARGET, SIGMA, N_POINTS = 3.2, 0.05, 2000
GRID = tuple(torch.logspace(-1.5, -0.3, 13, dtype=torch.float64).tolist())
LOW, HIGH = 0.03, 1.0  # sigmas trained on
FLOOR = 0.02  # sigma below which a displacement is no longer amplified
WARM = 0.2  # lowest sigma at the start, which falls to LOW over the first half
HELD_OUT_SIGMAS = (0.05, 0.1, 0.2)
BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifolds", nargs="+", choices=list(MANIFOLDS), default=list(MANIFOLDS))
    parser.add_argument("--minutes", type=float, default=5.0, help="CPU minutes of training for each manifold")
    parser.add_argument("--preconditioning", choices=["covariance", "scalar"], default="covariance")
    parser.add_argument("--rotated", action="store_true", help="turn the space at random, no coordinate special")
    parser.add_argument("--points", type=int, default=500, help="points to estimate at")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=0, help="residual blocks after the first hidden layer")
    parser.add_argument("--decay", type=float, default=0.05, help="weight decay")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("/tmp/lid_yeats"), help="where checkpoints go")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/lid_yeats.json"))
    settings = parser.parse_args()
    settings.work.mkdir(parents=True, exist_ok=True)
    result: dict[str, object] = {
        "command": f"OMP_NUM_THREADS=1 nice python benchmarks/lid_yeats.py --minutes {settings.minutes:g}"
        f" --preconditioning {settings.preconditioning} --width {settings.width} --blocks {settings.blocks}"
        f" --decay {settings.decay:g} --seed {settings.seed} --points {settings.points}"
        f"{' --rotated' * settings.rotated}",
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "published by others": PUBLISHED,
        "target": TARGET,
        "named before looking": NAMED,
    }
    errors: dict[str, dict[str, float]] = {}
    details = {}
    for name in settings.manifolds:
        manifold = MANIFOLDS[name]
        data = manifold.sample(N_POINTS, settings.seed, rotated=settings.rotated)
        shape = f"{settings.preconditioning}-{settings.width}-{settings.blocks}"
        label = f"{name}-{shape}-{settings.seed}{'-rotated' * settings.rotated}"
        trained = train(data, settings, settings.work / f"{label}.pt")
        started = time.process_time()
        found = estimates(trained.denoiser, data, settings.points)
        found.values.update(without_a_model(data, settings.points))
        errors[name] = {column: error(value, manifold) for column, value in found.values.items()}
        held_out = slice(0, None, 10)
        details[name] = {
            "lid": manifold.lid,
            "d": manifold.d,
            "sigmas chosen": found.sigmas,
            "mean": {column: float(value.mean()) for column, value in found.values.items()},
            "error at held-out points": {column: error(v[held_out], manifold) for column, v in found.values.items()},
            "best spectrum in hindsight": {
                "sigma": GRID[int((found.curve - manifold.lid).abs().mean(1).argmin())],
                "error": float((found.curve - manifold.lid).abs().mean(1).min()),
            },
            "training": trained.history,
            "seconds of estimation": round(time.process_time() - started, 1),
        }
        show(errors)
        columns = list(errors[name])
        averages = {column: sum(row[column] for row in errors.values()) / len(errors) for column in columns}
        complete = len(errors) == len(MANIFOLDS)
        result |= {"mean absolute error": errors, "average": averages, "complete": complete, "manifolds": details}
        result["named estimator reaches the target"] = complete and averages[NAMED] <= TARGET
        settings.out.write_text(json.dumps(result, indent=1) + "\n")


def show(errors: dict[str, dict[str, float]]) -> None:
    names = list(errors)
    columns = list(errors[names[0]])
    print("\n" + " " * 28 + "".join(f"{name:>12}" for name in [*names, "average"]))
    for column in columns:
        row = [errors[name][column] for name in names]
        print(f"{column:<28}" + "".join(f"{v:>12.2f}" for v in [*row, sum(row) / len(row)]), flush=True)
    print("published by others, average of five: " + ", ".join(f"{k} {v}" for k, v in PUBLISHED.items()), flush=True)


def error(found: Tensor, manifold: Manifold) -> float:
    return float((found.double() - manifold.lid).abs().mean())


class Found(NamedTuple):
    """Values by estimator, the sigmas chosen, and the filtered spectrum on the grid."""

    values: dict[str, Tensor]
    sigmas: dict[str, float]
    curve: Tensor


def estimates(denoise: Denoiser, data: Tensor, n: int) -> Found:
    x, keys = data[:n], [str(i) for i in range(n)]
    curve = OnPlateau(FilteredSpectrum, GRID).curve(denoise, x, keys)
    sigmas = {
        "plateau": common_plateau(curve.sigmas, curve.values, d=x.shape[1]),
        "resolution": sweep(denoise, x, keys, torch.tensor(GRID)).best,
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
    values = {name: in_batches(estimator, denoise, x, keys) for name, estimator in estimators.items()}
    return Found(values, sigmas, curve.values)


def in_batches(estimator: Estimator, denoise: Denoiser, x: Tensor, keys: list[str], size: int = 50) -> Tensor:
    parts = [estimator(denoise, x[i : i + size], keys[i : i + size]).value for i in range(0, len(x), size)]
    return torch.cat(parts)


def without_a_model(data: Tensor, n: int) -> dict[str, Tensor]:
    own = np.arange(n)
    return {
        "mle k=100": torch.from_numpy(Mle(100)(data[:n], data, own).value),
        "ess k=100": torch.from_numpy(Ess(100)(data[:n], data, own).value),
        "local pca": torch.from_numpy(LocalPca()(data[:n], data, own).value),
        "calibrated mle": torch.from_numpy(CalibratedMle()(data[:n], data, own).value),
    }


class Trained(NamedTuple):
    """A network with the weights of the least held-out loss, and how it got them."""

    denoiser: "Network"
    history: dict[str, object]


class State(TypedDict):
    """A checkpoint."""

    step: int
    spent: float
    curve: list[list[float]]
    best: float
    best_step: int
    by_sigma: list[float]
    kept: dict[str, Tensor]
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, object]


def train(data: Tensor, settings: argparse.Namespace, path: Path) -> Trained:
    """Train, or go on training, until the CPU time is spent; the learning rate falls to 0 with it."""
    torch.manual_seed(settings.seed)
    held_out = torch.arange(len(data)) % 10 == 0
    points, others = data[~held_out], data[held_out]
    network = Network(points, settings.width, scalar=settings.preconditioning == "scalar", n_blocks=settings.blocks)
    average = Network(points, settings.width, scalar=settings.preconditioning == "scalar", n_blocks=settings.blocks)
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=settings.decay)
    state: State = {
        "step": 0,
        "spent": 0.0,
        "curve": [],
        "best": math.inf,
        "best_step": 0,
        "by_sigma": [],
        "kept": average.state_dict(),
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    if path.exists():
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        torch.manual_seed(settings.seed + state["step"])
    budget, before, started = 60 * settings.minutes, state["spent"], time.process_time()
    while state["spent"] < budget:
        share = state["spent"] / budget
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, state["step"] / 200) * (1 - share)
        x0 = points[torch.randint(len(points), (BATCH,))]
        low = LOW * (WARM / LOW) ** max(0.0, 1 - 2 * share)
        sigma = low * (HIGH / low) ** torch.rand(BATCH)
        loss = network.loss(x0, sigma)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's annotation
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        state["step"] += 1
        with torch.no_grad():  # an average over a tenth of the steps so far, at most 2,000
            rate = max(1 / 2000, 10 / (state["step"] + 10))
            for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
                slow.lerp_(fast, rate)
        state["spent"] = before + time.process_time() - started
        if state["step"] % 250 == 0 or state["spent"] >= budget:
            by_sigma = held_out_loss(average, others)
            mean = sum(by_sigma) / len(by_sigma)
            state["curve"].append([state["step"], round(state["spent"], 1), round(loss.item(), 4), round(mean, 4)])
            if mean < state["best"]:
                kept = {key: value.clone() for key, value in average.state_dict().items()}
                state["best"], state["best_step"], state["by_sigma"], state["kept"] = (
                    mean,
                    state["step"],
                    by_sigma,
                    kept,
                )
            if state["step"] % 1000 == 0 or state["spent"] >= budget:
                state["network"], state["average"] = network.state_dict(), average.state_dict()
                state["optimizer"] = optimizer.state_dict()
                torch.save(state, path)
    average.load_state_dict(state["kept"])
    average.requires_grad_(False)
    history = {
        "CPU seconds": round(state["spent"], 1),
        "steps": state["step"],
        "parameters": sum(p.numel() for p in network.parameters()),
        "step kept": state["best_step"],
        "held-out loss in dimensions by sigma": dict(zip(map(str, HELD_OUT_SIGMAS), state["by_sigma"], strict=True)),
        "training loss by sigma": dict(
            zip(map(str, HELD_OUT_SIGMAS), held_out_loss(average, points[: len(others)]), strict=True)
        ),
        "curve": {"columns": ["step", "CPU seconds", "loss", "held-out loss, dimensions"], "rows": state["curve"][::4]},
    }
    return Trained(average, history)


class Gated(torch.nn.Module):
    """A gated linear unit, SwiGLU of Shazeer 2020, after layer normalization."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.normalize = torch.nn.LayerNorm(width)
        self.spread = torch.nn.Linear(width, 2 * width)
        self.gather = torch.nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what is added to ``hidden``."""
        gate, value = self.spread(self.normalize(hidden)).chunk(2, 1)
        output: Tensor = self.gather(torch.nn.functional.silu(gate) * value)
        return output


def held_out_loss(network: "Network", x0: Tensor) -> list[float]:
    """Return the denoising loss over sigma squared, in dimensions, at every held-out sigma; always the same noises."""
    generator = torch.Generator().manual_seed(123)
    losses = []
    with torch.no_grad():
        for sigma in HELD_OUT_SIGMAS:
            noise = torch.randn(4, *x0.shape, generator=generator).flatten(0, 1)
            clean = x0.repeat(4, 1)
            residual = network(clean + sigma * noise, torch.tensor([sigma])) - clean
            losses.append(float(residual.square().sum(1).mean() / sigma**2))
    return losses


class Network(torch.nn.Module):
    r"""A perceptron around the best linear denoiser.

    With the training points' mean :math:`\mu` and covariance :math:`C`, and all functions of matrices symmetric:
    :math:`D(x; \sigma) = \mu + C (C + \sigma^2)^{-1} (x - \mu) + \sigma (C (C + \sigma^2)^{-1})^{1/2} F((C +
    \sigma^2)^{-1/2} (x - \mu), \log \sigma)`, EDM's :math:`c_{skip}, c_{out}, c_{in}` with its :math:`\sigma_{data}^2`
    a matrix. The target of :math:`F` has unit variance in every direction of the data, and there is none in others.
    """

    vectors: Tensor
    variances: Tensor
    mean: Tensor

    def __init__(self, points: Tensor, width: int, *, scalar: bool, n_blocks: int) -> None:
        super().__init__()
        d = points.shape[1]
        found = torch.linalg.eigh(points.double().T.cov())
        variances = found.eigenvalues.clamp_min(0)
        variances = torch.where(variances > 1e-10 * variances[-1], variances, 0)
        if scalar:
            variances = variances.mean().expand(d)
        self.register_buffer("vectors", found.eigenvectors.float())
        self.register_buffer("variances", variances.float().clone())
        self.register_buffer("mean", points.mean(0))
        self.first = torch.nn.Linear(2 * d + 16, width)
        self.blocks = torch.nn.ModuleList(Gated(width) for _ in range(n_blocks))
        self.last = torch.nn.Linear(width, 4 * d)
        torch.nn.init.zeros_(self.last.weight)
        torch.nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the denoised points."""
        s = sigma.reshape(-1, 1)
        whole = self.variances + s**2
        pass_rate = self.variances / whole
        along = (x - self.mean) @ self.vectors
        output = self.inner((along / whole.sqrt()) @ self.vectors.T, s.expand(len(x), 1))
        moved = pass_rate * along + s * pass_rate.sqrt() * (output @ self.vectors)
        denoised: Tensor = self.mean + moved @ self.vectors.T
        return denoised

    def inner(self, scaled: Tensor, s: Tensor) -> Tensor:
        """Return ``F``: a part of the size of the noise and a displacement that hardly depends on sigma."""
        phases = s.log() / 4 * torch.linspace(0, 4, 8).exp()
        hidden = self.first(torch.cat([scaled, scaled.square() - 1, phases.sin(), phases.cos()], 1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        near, near_gate, far, far_gate = self.last(torch.nn.functional.silu(hidden)).chunk(4, 1)
        output: Tensor = near + scaled * near_gate + 0.3 * (far + scaled * far_gate) / (s**2 + FLOOR**2).sqrt()
        return output

    def loss(self, x0: Tensor, sigma: Tensor) -> Tensor:
        """Return the squared error in units of sigma, a direction of the data on average: the LID per direction."""
        s = sigma.reshape(-1, 1)
        residual: Tensor = (self(x0 + s * torch.randn_like(x0), sigma) - x0) / s
        loss: Tensor = residual.square().sum(1).mean() / (self.variances > 0).sum()
        return loss


if __name__ == "__main__":
    main()
