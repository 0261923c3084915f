"""Training of the suites' small networks: by steps or by CPU time, with checkpoints that it goes on from.

Weights are averaged over a tenth of the steps so far, at most 2,000; the average kept is the one with the least
denoising loss at points held out, which needs no truth. The range of sigma grows downwards over the first half.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.benchmarks.lid.network import Network
from pointland.benchmarks.lid.result import Json
from pointland.benchmarks.lid.suites import Say

HELD_OUT_SIGMAS = (0.05, 0.1, 0.2)
LOW, HIGH = 0.03, 1.0  # sigmas trained on
WARM = 0.2  # lowest sigma at the start, which falls to LOW over the first half


@dataclass(frozen=True)
class Recipe:
    """How a network is made.

    Attributes:
        minutes: CPU minutes of training; without end if ``None``.
        steps: Steps of training; without end if ``None``. One of the two must be given.
        width: Of the hidden layer.
        n_blocks: Residual blocks after it.
        decay: Of the weights.
        batch: Points a step.
        rate: Learning rate at the start; it falls to 0.
        seed: Of weights and noises.
    """

    minutes: float | None = None
    steps: int | None = None
    width: int = 256
    n_blocks: int = 0
    decay: float = 0.05
    batch: int = 128
    rate: float = 4e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            raise ValueError("training without end: give minutes or steps")

    def done(self, step: int, spent: float) -> float:
        """Return the share of the training that is over, 1 and more at the end."""
        by_time = 0.0 if self.minutes is None else spent / (60 * self.minutes)
        return max(by_time, 0.0 if self.steps is None else step / self.steps)


class Trained(NamedTuple):
    """A network with the weights of the least held-out loss.

    Attributes:
        denoiser: Frozen.
        history: How it got there.
    """

    denoiser: Network
    history: dict[str, Json]


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


def train(
    points: Float[Tensor, "n d"], held_out: Float[Tensor, "m d"], recipe: Recipe, path: Path, say: Say
) -> Trained:
    """Train a denoiser of ``points``, or go on training it.

    Args:
        points: Training points of about unit variance, float32.
        held_out: Points of the same law that choose the weights.
        recipe: How.
        path: Checkpoint, written every 1,000 steps, whole or not at all. A run that was cut goes on from there with
            other noises, so its weights are not those of a run in one go.
        say: Told the loss every 1,000 steps.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return _train(points, held_out, recipe, path, say)


def _train(points: Tensor, held_out: Tensor, recipe: Recipe, path: Path, say: Say) -> Trained:
    network = Network(points, recipe.width, recipe.n_blocks)
    average = Network(points, recipe.width, recipe.n_blocks)
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=recipe.decay)
    state = _start(network, average, optimizer)
    if path.exists():
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        torch.manual_seed(recipe.seed + state["step"])
    before, started = state["spent"], time.process_time()
    while (share := recipe.done(state["step"], state["spent"])) < 1:
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * min(1.0, state["step"] / 200) * (1 - share)
        x0 = points[torch.randint(len(points), (recipe.batch,))]
        low = LOW * (WARM / LOW) ** max(0.0, 1 - 2 * share)
        sigma = low * (HIGH / low) ** torch.rand(recipe.batch)
        with torch.enable_grad():
            loss = network.loss(x0, sigma)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's annotation
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        state["step"] += 1
        with torch.no_grad():
            rate = max(1 / 2000, 10 / (state["step"] + 10))
            for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
                slow.lerp_(fast, rate)
        state["spent"] = before + time.process_time() - started
        over = recipe.done(state["step"], state["spent"]) >= 1
        if state["step"] % 250 == 0 or over:
            _keep_the_best(state, average, held_out, loss.item())
        if state["step"] % 1000 == 0 or over:
            state["network"], state["average"] = network.state_dict(), average.state_dict()
            state["optimizer"] = optimizer.state_dict()
            save(state, path)
            say(f"  step {state['step']:,}, {state['spent']:.0f} CPU s, held-out loss {state['curve'][-1][-1]:.3f}")
    average.load_state_dict(state["kept"])
    average.requires_grad_(False)
    return Trained(average, _history(state, average, points[: len(held_out)]))


def held_out_loss(network: Network, x0: Float[Tensor, "m d"]) -> list[float]:
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


def save(state: State, path: Path) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _start(network: Network, average: Network, optimizer: torch.optim.Optimizer) -> State:
    return {
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


def _keep_the_best(state: State, average: Network, held_out: Tensor, loss: float) -> None:
    by_sigma = held_out_loss(average, held_out)
    mean = sum(by_sigma) / len(by_sigma)
    state["curve"].append([state["step"], round(state["spent"], 1), round(loss, 4), round(mean, 4)])
    if mean < state["best"]:
        state["kept"] = {key: value.clone() for key, value in average.state_dict().items()}
        state["best"], state["best_step"], state["by_sigma"] = mean, state["step"], by_sigma


def _history(state: State, average: Network, seen: Tensor) -> dict[str, Json]:
    sigmas = [f"{sigma:g}" for sigma in HELD_OUT_SIGMAS]
    rows: list[Json] = [list(row) for row in state["curve"][::4]]
    return {
        "CPU seconds": round(state["spent"], 1),
        "steps": state["step"],
        "parameters": sum(p.numel() for p in average.parameters()),
        "step kept": state["best_step"],
        "held-out loss in dimensions by sigma": dict(zip(sigmas, state["by_sigma"], strict=True)),
        "training loss by sigma": dict(zip(sigmas, held_out_loss(average, seen), strict=True)),
        "curve": {"columns": ["step", "CPU seconds", "loss", "held-out loss, dimensions"], "rows": rows},
    }
