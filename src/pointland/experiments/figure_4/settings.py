"""The metrics of Figure 4 at their two settings, for a model's own noise levels."""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from pointland.experiments.figure_4.result import CONFIGURATION, PUBLISHED, Setting
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.flipd import Flipd
from pointland.lid.scale import PAPER_EULER_SIGMA, PAPER_SIGMA
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.guidance_norm import EulerGuidanceNorm, GuidanceNorm
from pointland.metrics.metric import Column, Metric
from pointland.metrics.model_lid import DenoisingLossColumns, FlipdColumns
from pointland.metrics.png_size import PngSize
from pointland.model import Model
from pointland.noise import Levels


@dataclass(frozen=True)
class Named:
    """A metric under other names, so that two settings of it stand in one audit.

    Attributes:
        setting: Added to the names of its columns.
        metric: The metric.
    """

    setting: str
    metric: FlipdColumns | EulerGuidanceNorm

    @property
    def columns(self) -> tuple[Column, ...]:
        """The metric's columns, renamed."""
        return tuple(
            replace(
                column,
                name=f"{column.name}_{self.setting}",
                stderr=None if column.stderr is None else f"{column.stderr}_{self.setting}",
            )
            for column in self.metric.columns
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image."""
        return self.metric.forwards(n_conditions)

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the metric's columns."""
        return {f"{name}_{self.setting}": value for name, value in self.metric(batch).items()}


def settings_of(model: Model) -> tuple[Setting, ...]:
    """Return the published and the configured settings of FLIPD and the guidance norm for a model's levels."""
    levels = model.levels

    def level(sigma: float, floor: float = 1.0) -> float:
        low, high = float(levels.sigmas[0]), float(levels.sigmas[-1])
        return levels.nearest(min(max(sigma, floor * low), high)).sigma

    flipd = [
        Setting("FLIPD", PUBLISHED, level(PAPER_SIGMA), 1),
        Setting("FLIPD", CONFIGURATION, at_step(levels, 0.01), 1),
    ]
    if not model.conditional:
        return tuple(flipd)
    name = "Guidance norm after Euler steps"
    return (
        *flipd,
        Setting(name, PUBLISHED, level(PAPER_EULER_SIGMA, 1.2), 3),
        Setting(name, CONFIGURATION, level(at_step(levels, 0.5), 1.2), 10),
    )


def at_step(levels: Levels, t: float) -> float:
    """Return the sigma of a share ``t`` of the network's own steps."""
    n = len(levels.sigmas)
    return float(levels.sigmas[min(round(t * n), n - 1)])


def metrics_of(model: Model, *, n_draws: int, seed: int) -> list[Metric]:
    """Return every metric of the figure."""
    settings = settings_of(model)
    low, sigma = float(model.levels.sigmas[0]), settings[0].sigma
    metrics: list[Metric] = []
    for one in settings:
        if one.metric == "FLIPD":
            metrics.append(Named(one.setting, FlipdColumns(Flipd(one.sigma, one.evaluations, seed))))
        else:
            metrics.append(Named(one.setting, EulerGuidanceNorm(one.sigma, low, one.evaluations)))
    metrics.append(DenoisingLossColumns(DenoisingLoss(sigma, n_draws, seed)))
    if model.conditional:
        metrics.append(GuidanceNorm(sigma, n_draws))
    return [*metrics, PngSize()]
