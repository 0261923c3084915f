r"""Figure 3: a diffusion model trained on a von Mises circle, with one isolated training point.

The data is 100 points of the unit circle, the von Mises distribution of concentration 2; by chance, the paper says, one
point lies alone in a region of low density, upper left. Here that chance is made certain: one point at the angle
:math:`3\pi/4`, and 99 draws with none of them within ``gap`` radians of it (for 100 free draws and 0.5 radians
this happens about once in five). The paper reports that the trained model reproduces this point almost exactly with
LID 0, and gives LID 1 to nearly all its other samples: memorization driven by overfitting, for the truth has LID 1
everywhere.

The earlier version (ICLR workshop) adds a point mass at the origin, here ``copies`` copies of it: there LID 0 is that
of the data, and a good model has it too.

Each of the claims is measured by itself, over seeds and lengths of training. Two references frame the answer: the
perfect memorizer of the same training set, for which all of it is true, and the true circle, on which a share of
samples falls close to the isolated point as well. So samples close to it prove nothing alone, LID 0 there must come
with them. Off the model's manifold FLIPD is large, not small: a point that the model never makes shows by its residual.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pointland import exact
from pointland.denoiser import Denoiser
from pointland.experiments.axes import GRAY, PALE, Panel, dot, lid_color, line, page, text
from pointland.experiments.mlp_diffusion import sample, train
from pointland.lid.flipd import flipd_exact

ISOLATED = 0.75 * math.pi
CONCENTRATION = 2.0
CLOSE = 0.15
WITHIN = 0.5  # dimensions, around 0 and around 1


class Row(NamedTuple):
    """One model.

    Attributes:
        version: ``arXiv``, or ``ICLR`` with the point mass at the origin.
        model: ``trained``, ``memorizer`` (the empirical point set) or ``circle`` (the truth).
        seed: Of the data, the network and its samples.
        steps: Full-batch steps; 0 where nothing is trained.
        loss: Last training loss, 0 where nothing is trained.
        close: Share of samples within 0.15 of the isolated point.
        nearest: Distance of the nearest sample from it.
        lid_isolated: FLIPD at the isolated point, in dimensions.
        residual_isolated: Its part that grows off the model's manifold.
        lid_close: Mean FLIPD at the samples close to it; ``None`` without any.
        share_one: Share of the other samples (close to neither point) with FLIPD within 0.5 of 1.
        share_train_one: The same of the other training points.
        at_mass: Share of samples within 0.15 of the origin.
        lid_mass: FLIPD at the origin; ``None`` where no point mass is there.
    """

    version: str
    model: str
    seed: int
    steps: int
    loss: float
    close: float
    nearest: float
    lid_isolated: float
    residual_isolated: float
    lid_close: float | None
    share_one: float
    share_train_one: float
    at_mass: float
    lid_mass: float | None

    @property
    def reproduced(self) -> bool:
        """Whether the isolated point is among the samples and has LID 0 in the model."""
        return self.close > 0 and abs(self.lid_isolated) <= WITHIN

    @property
    def claim(self) -> bool:
        """Whether all that the paper says of the figure holds, a copy at LID 0 and nearly all others at 1."""
        return self.reproduced and self.share_one >= 0.9


class Shown(NamedTuple):
    """What the figure shows: the first seed after the longest training.

    Attributes:
        version: ``arXiv`` or ``ICLR``.
        data: Training points.
        samples: Generated points, each with its FLIPD.
    """

    version: str
    data: tuple[tuple[float, float], ...]
    samples: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Result:
    """Figure 3 in numbers.

    Attributes:
        sigma: Noise scale of FLIPD, in units of the circle's radius.
        width: Of the network's two hidden layers.
        gap: Radians around the isolated point without another.
        copies: Of the origin in the ICLR version.
        n_samples: Generated points a model.
        rows: One a version, seed and length of training, and the two references of every version and seed.
        shown: What the figure shows.
    """

    sigma: float
    width: int
    gap: float
    copies: int
    n_samples: int
    rows: tuple[Row, ...]
    shown: tuple[Shown, ...]

    @property
    def claims(self) -> dict[str, bool]:
        """What the paper says at each length of training, whether it held for most seeds, and for how many."""
        out = {}
        trained = [row for row in self.rows if row.model == "trained"]
        for version, steps in sorted({(row.version, row.steps) for row in trained}):
            own = [row for row in trained if (row.version, row.steps) == (version, steps)]
            found = {
                "isolated point among the samples": [row.close > 0 for row in own],
                "isolated point has LID 0": [abs(row.lid_isolated) <= WITHIN for row in own],
                "nine in ten other samples have LID 1": [row.share_one >= 0.9 for row in own],
                "all three": [row.claim for row in own],
            }
            if version == "ICLR":
                found["point mass among the samples, LID 0"] = [
                    row.at_mass > 0 and row.lid_mass is not None and abs(row.lid_mass) <= WITHIN for row in own
                ]
            for claim, held in found.items():
                out[f"{version}, {steps:,} steps: {claim} ({sum(held)} of {len(held)})"] = 2 * sum(held) > len(held)
        return out


def run(
    *,
    seeds: Sequence[int] = (0,),
    steps: Sequence[int] = (5_000, 20_000),
    width: int = 512,
    copies: int = 25,
    sigma: float = 0.1,
    gap: float = 0.5,
    n_samples: int = 1000,
) -> Result:
    """Train both versions and measure them.

    Args:
        seeds: Each draws its own data, network and samples.
        steps: Lengths of training, ascending, each measured along one run. The authors took 20,000.
        width: Of both hidden layers; the authors took 512.
        copies: Of the origin in the ICLR version; 0 leaves that version out.
        sigma: Noise scale of FLIPD. At 0.1 the perfect memorizer has LID 0 at the isolated point and still 1 among the
            others, so the figure is possible; at 0.01 it has LID 0 everywhere.
        gap: Radians around the isolated point without another.
        n_samples: Generated points. With 200 a perfect memorizer misses one point of 100 in one run of seven.

    Cost:
        About 3 ms a step on one core at width 512: a minute a seed and version for 20,000 steps.
    """
    rows: list[Row] = []
    shown: list[Shown] = []
    for version, mass in (("arXiv", 0), ("ICLR", copies))[: 2 if copies else 1]:
        for seed in seeds:
            x0 = training_set(seed, gap, mass)
            circle = exact.Circle(CONCENTRATION, torch.eye(2, dtype=torch.float64))
            memorizer = exact.points(x0)

            def row(model: str, denoise: Denoiser, samples: Tensor, steps: int, loss: float) -> Row:
                named = _Named(version, model, seed, steps, loss)  # noqa: B023  # called in this turn of the loop
                return _measure(named, denoise, samples, x0, mass, sigma)  # noqa: B023

            rows.append(row("circle", circle, circle.sample(n_samples, seed), 0, 0.0))
            rows.append(row("memorizer", memorizer, memorizer.sample(n_samples, seed), 0, 0.0))
            for model in train(x0, steps, width=width, seed=seed):
                made = sample(model.denoise, n_samples, 2, seed=seed)
                rows.append(row("trained", model.denoise, made, model.steps, model.loss))
                if seed == seeds[0] and model.steps == steps[-1]:
                    shown.append(_shown(version, x0, made[:100], model.denoise, sigma))
    return Result(sigma, width, gap, copies, n_samples, tuple(rows), tuple(shown))


def training_set(seed: int, gap: float = 0.5, copies: int = 0) -> Float[Tensor, "n 2"]:
    """Return 99 von Mises points, the isolated point as the hundredth, then copies of the origin."""
    angles = np.random.default_rng(seed).vonmises(0.0, CONCENTRATION, 10_000)
    away = np.abs((angles - ISOLATED + math.pi) % (2 * math.pi) - math.pi)
    kept = torch.from_numpy(np.append(angles[away > gap][:99], ISOLATED))
    circle = torch.stack([kept.cos(), kept.sin()], dim=1)
    return torch.cat([circle, circle.new_zeros(copies, 2)]).float()


def draw(result: Result) -> str:
    """Draw the training set and the samples of every version, colored by FLIPD."""
    parts = []
    for i, shown in enumerate(result.shown):
        top = 56 + 340 * i
        panels = [Panel(30 + 320 * j, top, 280, 280, (-1.45, 1.45), (-1.45, 1.45)) for j in (0, 1)]
        ring = [(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * math.pi, 181)]
        density = [math.exp(CONCENTRATION * (math.cos(a) - 1)) for a in np.linspace(0, 2 * math.pi, 181)]
        outside = [((1.06 + 0.3 * p) * x, (1.06 + 0.3 * p) * y) for p, (x, y) in zip(density, ring, strict=True)]
        isolated = (math.cos(ISOLATED), math.sin(ISOLATED))
        last = [row for row in result.rows if row.version == shown.version and row.model == "trained"]
        steps = max(row.steps for row in last)
        titles = (f"{shown.version}: training points", f"{len(shown.samples)} samples after {steps:,} steps")
        for panel, title in zip(panels, titles, strict=True):
            parts += [text(panel.left + 140, top - 12, title, weight="600"), panel.line(ring, "#dfe5ec", 1)]
        parts.append(panels[0].line(outside, PALE, 2))
        parts.append(panels[0].dots(shown.data, GRAY, 2.6))
        inside = [point for point in shown.samples if max(abs(point[0]), abs(point[1])) <= 1.45]
        parts += [dot(panels[1].at(x, y), lid_color(lid), 3) for x, y, lid in inside]
        for panel in panels:
            x, y = panel.at(*isolated)
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="none" stroke="#1a202c" stroke-dasharray="2 2"/>'
            )
            parts.append(text(x - 12, y - 12, "x0", anchor="end"))
        row = next(row for row in last if row.steps == steps)
        words = [
            f"FLIPD at x0: {row.lid_isolated:.2f}",
            f"samples at x0: {row.close:.1%}",
            f"other samples with LID 1: {row.share_one:.0%}",
        ]
        if row.lid_mass is not None:
            words += [f"FLIPD at the origin: {row.lid_mass:.2f}", f"samples at the origin: {row.at_mass:.1%}"]
        if len(inside) < len(shown.samples):
            words.append(f"outside the picture: {len(shown.samples) - len(inside)} samples")
        parts += [text(650, top + 60 + 18 * j, w, anchor="start") for j, w in enumerate(words)]
    parts += [line([(650 + 1.5 * j, 66), (650 + 1.5 * j + 2, 66)], lid_color(j / 50), 12) for j in range(100)]
    parts += [text(650 + 75 * j, 88, str(j)) for j in range(3)]
    parts.append(text(650, 50, "FLIPD of a sample", anchor="start"))
    bottom = 56 + 340 * len(result.shown)
    words_below = f"Pale blue: the true density. Circled: the isolated point. FLIPD at sigma {result.sigma:g}."
    parts.append(text(30, bottom - 18, words_below, anchor="start", color=GRAY))
    return page(860, bottom, "A diffusion model trained on a von Mises circle with one isolated point", *parts)


class _Named(NamedTuple):
    version: str
    model: str
    seed: int
    steps: int
    loss: float


def _measure(
    named: _Named,
    denoise: Denoiser,
    samples: Float[Tensor, "n 2"],
    x0: Float[Tensor, "m 2"],
    copies: int,
    sigma: float,
) -> Row:
    """Measure one model at its samples and at the training points."""
    at_samples, at_data = _flipd(denoise, samples, sigma), _flipd(denoise, x0, sigma)
    residual = flipd_exact(denoise, x0[99:100], torch.tensor([sigma])).parts["residual"]
    distance = (samples - x0[99]).norm(dim=1)
    close, center = distance < CLOSE, samples.norm(dim=1) < CLOSE
    others = ~close & ~center
    is_one = (at_samples - 1).abs() <= WITHIN
    return Row(
        *named,
        close=float(close.float().mean()),
        nearest=float(distance.min()),
        lid_isolated=float(at_data[99]),
        residual_isolated=float(residual),
        lid_close=float(at_samples[close].mean()) if bool(close.any()) else None,
        share_one=float(is_one[others].float().mean()) if bool(others.any()) else 0.0,
        share_train_one=float(((at_data[:99] - 1).abs() <= WITHIN).float().mean()),
        at_mass=float(center.float().mean()),
        lid_mass=float(at_data[-1]) if copies else None,
    )


def _shown(version: str, x0: Tensor, samples: Tensor, denoise: Denoiser, sigma: float) -> Shown:
    data = tuple((round(x, 4), round(y, 4)) for x, y in x0.tolist())
    values = _flipd(denoise, samples, sigma).tolist()
    made = tuple(
        (round(x, 4), round(y, 4), round(lid, 4)) for (x, y), lid in zip(samples.tolist(), values, strict=True)
    )
    return Shown(version, data, made)


def _flipd(denoise: Denoiser, x: Float[Tensor, "n 2"], sigma: float) -> Float[Tensor, " n"]:
    return flipd_exact(denoise, x, torch.tensor([sigma])).value
