r"""Recall: does the model pull the picture back?

From :math:`x_0 + \sigma n` a few steps of the probability-flow ODE,

.. math:: \frac{dx}{d\sigma} = \frac{x - D(x; \sigma)}{\sigma} ,

lead down to the lowest trained level. A model that has memorized :math:`x_0` returns to it from far away; any other
ends in another picture. The largest :math:`\sigma` from which it returns is the *basin* of the picture.

The steps are Euler's in :math:`\sigma`, which is DDIM: :math:`x' = D + \frac{\sigma'}{\sigma} (x - D)` lies between
:math:`x` and :math:`D`, so that few and large steps never overshoot. For the perfect memorizer of two points with gap
:math:`g` the border between their basins is the hyperplane half way, for the flow and, because each step keeps the side
that a point is on, for any number of steps: with noise :math:`n` the basin is exactly :math:`g / 2` over the component
of :math:`-n` along the gap, and without end where that is negative.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.lid.estimate import standard_error
from pointland.metrics.captioned import captioned, uncaptioned
from pointland.metrics.crossing import check_ladder, largest_within
from pointland.metrics.evaluations import Condition, Evaluations
from pointland.metrics.metric import NEEDS, WORDS, Column
from pointland.metrics.model_lid import CONDITIONS
from pointland.metrics.rms import root_mean_square
from pointland.noise import Levels


@dataclass(frozen=True)
class Recall:
    """How far a picture can be noised and still comes back.

    Attributes:
        sigmas: Levels to start from, ascending; take :func:`~pointland.metrics.crossing.ladder`.
        sigma: The level of ``sigmas`` at which the distance is a column of its own.
        n_steps: Steps, the network calls from one start; 1 is the one-step denoiser.
        n_draws: Starts a level.
        tolerance: What counts as back: root mean square distance to the picture, in units of ``scale``. Chosen on
            copies of the bundled miniature: at 0.05 and 0.1 the basin separates them from unseen pictures, at
            0.3 poorly, because a walk to any picture of the same kind ends about that near.
        scale: Standard deviation of the data in model space: 1 for scaled latents, about 0.5 for pixels in [-1, 1].
            Then 0 is a perfect return and 1.4 the distance between unrelated pictures.

    Cost:
        ``len(sigmas) * n_steps * n_draws`` forward passes a condition, no gradient; the first of each is shared with
        the denoising loss at that level.
    """

    sigmas: tuple[float, ...]
    sigma: float
    n_steps: int = 4
    n_draws: int = 2
    tolerance: float = 0.1
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_ladder(self.sigmas, self.tolerance, self.scale)
        if self.sigma not in self.sigmas:
            raise ValueError(f"sigma {self.sigma} is not one of sigmas {self.sigmas}; choose one of them")
        if self.n_steps < 1 or self.n_draws < 1:
            raise ValueError(f"recall needs steps and draws, got {self.n_steps} and {self.n_draws}")

    @property
    def columns(self) -> tuple[Column, ...]:
        """Basin and distance at one level, one of each a condition."""
        return tuple(
            column
            for condition in CONDITIONS
            for column in (
                Column(
                    f"basin_{condition}",
                    f"Basin {WORDS[condition]}",
                    "x",
                    "high",
                    NEEDS[condition],
                    f"basin_{condition}_stderr",
                    f"Largest noise, up to sigma {self.sigmas[-1]:.4g}, from which {self.n_steps} steps lead back to "
                    f"the picture {WORDS[condition]}.",
                    "Pointland",
                ),
                Column(
                    f"recall_distance_{condition}",
                    f"Recall distance {WORDS[condition]}",
                    "1",
                    "low",
                    NEEDS[condition],
                    f"recall_distance_{condition}_stderr",
                    f"Distance to the picture after {self.n_steps} steps back from sigma {self.sigma:.4g}, "
                    f"{WORDS[condition]}; 0 is a perfect return.",
                    "Pointland",
                ),
            )
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image."""
        return float(len(self.sigmas) * self.n_steps * self.n_draws * n_conditions)

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Walk back from every level and read the columns off."""
        walks = [
            [pulled_back(batch, sigma, draw, self.n_steps) for draw in range(self.n_draws)] for sigma in self.sigmas
        ]
        out = {}
        for condition in CONDITIONS:
            names = (f"basin_{condition}", f"recall_distance_{condition}")
            if condition not in batch.conditions:
                out.update(uncaptioned(batch, [f"{name}{end}" for name in names for end in ("", "_stderr")]))
                continue
            distances = torch.stack(
                [torch.stack([root_mean_square(ends[condition] - batch.x) for ends in walk]) for walk in walks]
            ).div(self.scale)
            basins = largest_within(self.sigmas, distances, self.tolerance)
            found = dict(zip(names, (basins, distances[self.sigmas.index(self.sigma)]), strict=True))
            values = {name: draws.mean(0) for name, draws in found.items()}
            values |= {f"{name}_stderr": standard_error(draws) for name, draws in found.items()}
            out.update(captioned(batch, values) if condition == "conditional" else values)
        return out


def pulled_back(
    batch: Evaluations, sigma: float, draw: int, n_steps: int
) -> dict[Condition, Float[Tensor, "b *event"]]:
    """Return where ``n_steps`` steps lead from ``x + sigma * noise(draw)`` to the lowest trained level, denoised there.

    Both conditions start from the same point, go their own ways, and share network calls. Steps lie at trained levels,
    about evenly spaced in ratio; where there are fewer levels, fewer steps are made.
    """
    steps = _steps(batch.model.levels, sigma, n_steps)
    denoised = torch.cat([batch.denoised(condition, sigma, draw) for condition in batch.conditions])
    n = len(batch.conditions)
    x = (batch.x + sigma * batch.noise(draw)).repeat(n, *(1,) * (batch.x.ndim - 1))
    for now, then in pairwise(steps):
        x = denoised + then / now * (x - denoised)
        with torch.no_grad():
            denoised = batch.denoise(x, x.new_tensor([then]))
    return dict(zip(batch.conditions, denoised.chunk(n), strict=True))


def residual_map(
    batch: Evaluations, condition: Condition, sigma: float, *, n_steps: int = 1, n_draws: int = 8
) -> Float[Tensor, "b h w"]:
    """Return where in a picture the model pulls it back: low where it is frozen.

    A copied template is frozen in most of its area and free where its variants differ; the whole picture's number mixes
    the two, the map shows them.

    Args:
        batch: The batch; its points are laid out as ``(b, c, h, w)``.
        condition: With or without caption; items without one have the map without.
        sigma: Noise to start from.
        n_steps: As in :class:`Recall`; with 1 the map shares its network calls with the denoising loss.
        n_draws: Starts.

    Returns:
        Root mean square over channels and draws of the distance to the picture, in model space and at its resolution
        (latents are coarser than pixels), in units of ``x``.

    Raises:
        ValueError: If the points are no pictures, or no item of the batch has the caption asked for.

    Cost:
        ``n_steps * n_draws`` forward passes a condition of the batch.
    """
    if batch.x.ndim != 4:
        raise ValueError(f"a map needs points laid out as (b, c, h, w), got shape {tuple(batch.x.shape)}")
    if condition not in batch.conditions:
        raise ValueError("no item of the batch has a caption for this model; ask for the map without")
    squares = [
        (pulled_back(batch, sigma, draw, n_steps)[condition] - batch.x).square().mean(1) for draw in range(n_draws)
    ]
    return torch.stack(squares).mean(0).sqrt()


def _steps(levels: Levels, sigma: float, n_steps: int) -> list[float]:
    """Return the levels of a walk: ``sigma``, then trained ones down to the lowest."""
    levels.nearest(sigma)  # raises outside the trained range
    low = float(levels.sigmas[0])
    ratios = torch.linspace(0, 1, n_steps, dtype=torch.float64)[1:].tolist()
    way = [levels.nearest(sigma * (min(low / sigma, 1.0)) ** ratio).sigma for ratio in ratios]
    return list(dict.fromkeys([sigma, *(step for step in way if step < sigma)]))
