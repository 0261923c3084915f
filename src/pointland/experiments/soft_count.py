r"""The soft count at scale sigma: one curve for every family of model (design, section 2).

On a locally linear model with variances :math:`l_i` four things that are computed from nothing in common are one curve,

.. math:: N(\sigma) = \sum_i \frac{l_i}{l_i + \sigma^2} ,

with :math:`l_i` the eigenvalues of local PCA of the *data*, the squared singular values of a *generator's* Jacobian,
the spread :math:`\gamma (1 / v_i - 1)` that a *VAE's* posterior variances mean; and the expected loss of a *diffusion
model* as it is. Here they are laid over each other for a Gaussian, where all must agree, and, for the bundled
miniature, the data's curve and the model's, which need not: the model's lies below where it has memorized, and above
where it has not learned to remove noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pointland import exact
from pointland.denoiser import Denoiser
from pointland.experiments.axes import BLUE, GRAY, GREEN, ORANGE, RED, Panel, legend, page
from pointland.lid.data.local_pca import local_pca, soft_count
from pointland.lid.data.neighbors import nearest
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.posterior import latent_spread
from pointland.lid.pushforward import columns, singular_values

DATA, GENERATOR, VAE, LOSS = "local PCA of data", "generator's Jacobian", "VAE's posterior", "denoising loss"
COLORS = {DATA: GREEN, GENERATOR: ORANGE, VAE: BLUE, LOSS: RED}


class Row(NamedTuple):
    """One source at one scale.

    Attributes:
        model: ``gaussian`` or ``miniature``.
        source: What it was computed from.
        sigma: The scale.
        value: Soft count, in dimensions, averaged over points.
        stderr: Standard error of that average; 0 where nothing is drawn.
    """

    model: str
    source: str
    sigma: float
    value: float
    stderr: float


@dataclass(frozen=True)
class Result:
    """The overlay in numbers.

    Attributes:
        d: Dimensions of the Gaussian's space.
        k: Dimensions of the Gaussian.
        rows: One a source and scale.
    """

    d: int
    k: int
    rows: tuple[Row, ...]

    @property
    def claims(self) -> dict[str, bool]:
        """What the design says, and whether it held."""
        truth = {sigma: _truth(self.k, sigma) for sigma in {row.sigma for row in self.rows if row.model == "gaussian"}}
        own = [row for row in self.rows if row.model == "gaussian"]
        return {
            "on a Gaussian all four are one curve, to 2 % of its dimension and 5 standard errors": all(
                abs(row.value - truth[row.sigma]) <= 0.02 * self.k + 5 * row.stderr for row in own
            ),
            "and each falls as sigma grows": all(
                row.value > other.value - 5 * other.stderr
                for row in own
                for other in own
                if row.source == other.source and row.sigma < other.sigma
            ),
        }


def overlay(
    sigmas: Sequence[float],
    *,
    variances: Mapping[str, Float[Tensor, "..."]],
    denoise: Denoiser | None = None,
    x: Float[Tensor, "b *event"] | None = None,
    model: str = "model",
    n_draws: int = 8,
    seed: int = 0,
) -> tuple[Row, ...]:
    """Return soft counts against sigma from any variances there are, and from the denoising loss.

    Args:
        sigmas: Scales.
        variances: By source, one row a point: eigenvalues of local PCA, squared singular values, or
            :func:`~pointland.lid.posterior.latent_spread` of a posterior; all in squared units of one space.
        denoise: A diffusion model of that space, if there is one.
        x: Points to denoise.
        model: A name for the rows.
        n_draws: Noise draws of the loss a point.
        seed: Of the draws.
    """
    rows = []
    for sigma in sigmas:
        for source, values in variances.items():
            rows.append(Row(model, source, sigma, float(soft_count(values, sigma).mean()), 0.0))
        if denoise is not None and x is not None:
            found = DenoisingLoss(sigma, n_draws, seed)(denoise, x, [str(i) for i in range(len(x))]).value.double()
            rows.append(Row(model, LOSS, sigma, float(found.mean()), float(found.std() / len(x) ** 0.5)))
    return tuple(rows)


def run(
    *,
    d: int = 24,
    k: int = 8,
    n: int = 8000,
    n_points: int = 200,
    sigmas: Sequence[float] = tuple(np.logspace(-2, 1, 13).tolist()),
    miniature: bool = True,
    n_pictures: int = 48,
    seed: int = 0,
) -> Result:
    """Lay the four over each other on a Gaussian, and two of them on the bundled miniature.

    Args:
        d: Dimensions of the Gaussian's space.
        k: Dimensions of the Gaussian; variances from 0.01 to 1.
        n: Samples that local PCA is taken of.
        n_points: Points that the loss is averaged over.
        sigmas: Scales.
        miniature: Whether to add the bundled model.
        n_pictures: Pictures that it is measured at.
        seed: Of everything random.
    """
    plane = exact.subspace(d, k, seed, variances=_variances(k).tolist())
    x = plane.sample(n_points, seed + 1, torch.float64)
    sample = plane.sample(n, seed + 2, torch.float64).numpy()
    one = sample[:1]
    sources = {
        # the neighbourhood is the whole sample: a Gaussian is one linear piece
        DATA: torch.from_numpy(local_pca(nearest(one, sample, n - 1), sample)),
        GENERATOR: _generated(plane),
        VAE: _posterior(plane),
    }
    rows = overlay(sigmas, variances=sources, denoise=plane, x=x, model="gaussian", seed=seed)
    return Result(d, k, rows + (_of_miniature(n_pictures, seed) if miniature else ()))


def draw(result: Result) -> str:
    """Draw every source against sigma, one panel a model; the formula as a gray line."""
    models = list(dict.fromkeys(row.model for row in result.rows))
    parts, left = [], 70
    for model in models:
        own = [row for row in result.rows if row.model == model]
        scales = sorted({row.sigma for row in own})
        top = max(row.value for row in own) * 1.1
        panel = Panel(left, 56, 360, 260, (scales[0], scales[-1]), (0, top), log_x=True)
        ticks = [10.0**i for i in range(-3, 3) if scales[0] <= 10.0**i <= scales[-1]]
        title = f"Gaussian, {result.k} of {result.d}" if model == "gaussian" else "Miniature, its latent space"
        parts.append(
            panel.frame(title, "sigma", "soft count, dimensions", ticks, [round(top * i / 4) for i in range(5)])
        )
        if model == "gaussian":
            fine = np.geomspace(scales[0], scales[-1], 60).tolist()
            parts.append(panel.line([(s, _truth(result.k, s)) for s in fine], GRAY, 3))
        for source, color in COLORS.items():
            points = [(row.sigma, row.value) for row in own if row.source == source]
            if points:
                parts.append(panel.line(points, color, 1.2))
                parts.append(panel.dots(points, color, 3))
        left += 440
    parts.append(legend(left - 50, 90, [(color, source) for source, color in COLORS.items()]))
    return page(left + 130, 380, "Soft count against sigma from data, generator, VAE and denoising loss", *parts)


def _variances(k: int) -> Float[Tensor, " k"]:
    return torch.logspace(-2, 0, k, dtype=torch.float64)


def _truth(k: int, sigma: float) -> float:
    variances = _variances(k)
    return float((variances / (variances + sigma**2)).sum())


def _generated(plane: exact.Gaussian) -> Float[Tensor, "1 k"]:
    """Return the squared singular values of the generator ``mean + A z`` by its Jacobian."""
    spread = plane.axes * plane.variances.sqrt()

    def generate(z: Float[Tensor, "b k"]) -> Float[Tensor, "b d"]:
        return plane.mean + z @ spread.T

    return singular_values(columns(generate, torch.zeros(1, len(plane.variances), dtype=torch.float64))).square()


def _posterior(plane: exact.Gaussian, gamma: float = 1e-4) -> Float[Tensor, "1 k"]:
    """Return what the exact posterior variances of a linear VAE with decoder variance ``gamma`` say."""
    return latent_spread((gamma / (gamma + plane.variances))[None], gamma**0.5)


def _of_miniature(n_pictures: int, seed: int) -> tuple[Row, ...]:
    """Return the curves of the bundled pictures and of the bundled model, in its latent space."""
    from pointland.demo import MINIATURE
    from pointland.demo.unpack import ARCHIVE
    from pointland.models.loading import load

    model = load(MINIATURE, device="cpu")
    with np.load(ARCHIVE) as archive:
        pictures = archive["images"]
    chosen = np.random.default_rng(seed).permutation(len(pictures))[: max(n_pictures, 400)]
    images = torch.from_numpy(pictures[chosen])
    images = images[:, None].expand(-1, 3, -1, -1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    if tuple(images.shape[-2:]) != model.codec.size:
        images = torch.nn.functional.interpolate(images.float(), model.codec.size, mode="area").round().to(torch.uint8)
    latents = torch.cat([model.codec.encode(part.contiguous()) for part in torch.split(images, 64)])
    flat = latents.flatten(1).double().numpy()
    near = nearest(flat[:n_pictures], flat, min(100, len(flat) - 1), exclude=np.arange(n_pictures))
    values = torch.from_numpy(local_pca(near, flat))
    low, high = float(model.levels.sigmas[0]), float(model.levels.sigmas[-1])
    sigmas = np.geomspace(max(0.1, low), min(4.0, high), 9).tolist()
    scales = [model.levels.nearest(sigma).sigma for sigma in sigmas]
    return overlay(
        scales,
        variances={DATA: values},
        denoise=model.unconditional,
        x=latents[:n_pictures],
        model="miniature",
        n_draws=2,
        seed=seed,
    )
