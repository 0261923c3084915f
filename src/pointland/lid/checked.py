"""An estimate together with its on-manifold check, at the cost of what both need only once."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import derivatives, draws
from pointland.denoiser import Denoiser
from pointland.lid.estimate import LidEstimate
from pointland.lid.flipd import Flipd, from_products
from pointland.lid.on_manifold import OnManifold, on_manifold
from pointland.lid.on_manifold import from_quadrature as check_from_quadrature
from pointland.lid.spectrum import FilteredSpectrum, quadrature
from pointland.lid.spectrum import from_quadrature as filtered


class Checked(NamedTuple):
    """An estimate and whether it is a dimension.

    Attributes:
        lid: The estimate.
        check: Of the same points at the same scale.
    """

    lid: LidEstimate
    check: OnManifold


def checked(
    estimator: Callable[[Denoiser, Tensor, list[str]], LidEstimate],
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    keys: list[str],
    *,
    sigma: float,
    n_probes: int = 4,
    n_steps: int = 5,
    seed: int = 0,
) -> Checked:
    """Estimate and check at one scale; what both need is evaluated once.

    Args:
        estimator: Any estimator of a model's LID, with its settings.
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        keys: One stable identifier an item.
        sigma: The estimator's scale.
        n_probes: Sign probes of the check.
        n_steps: Its Lanczos steps a probe.
        seed: Of its probes.

    Cost:
        That of the estimator and, for the check, ``1 + n_steps (1 + n_probes)`` forward passes: 26. Beside
        :class:`~pointland.lid.flipd.Flipd` with as many probes and the same seed a fifth less; beside
        :class:`~pointland.lid.spectrum.FilteredSpectrum` with at least as many probes and steps 1.
    """
    scale = torch.tensor([sigma], dtype=x.dtype, device=x.device)
    match estimator:
        case FilteredSpectrum() if estimator.n_probes >= n_probes and estimator.n_steps >= n_steps:
            probes = draws.signs(x, keys, estimator.n_probes, estimator.seed)
            seen = quadrature(denoise, x, scale, probes=probes, n_steps=estimator.n_steps, sides=estimator.sides)
            lid = filtered(x, seen, cutoff=estimator.cutoff, power=estimator.power)
            with torch.no_grad():
                return Checked(lid, check_from_quadrature(x, scale, denoise(x, scale), seen))
        case Flipd(n_probes=int(n), derivative="vjp") if n == n_probes and estimator.seed == seed:
            probes = draws.signs(x, keys, n, seed)
            found = derivatives.products(denoise, x, scale, probes=probes)
            seen = quadrature(denoise, x, scale, probes=probes, n_steps=n_steps, first=found.products)
            lid = from_products(x, scale, probes, found)
            return Checked(lid, check_from_quadrature(x, scale, found.denoised, seen))
    probes = draws.signs(x, keys, n_probes, seed)
    return Checked(estimator(denoise, x, keys), on_manifold(denoise, x, scale, probes=probes, n_steps=n_steps))
