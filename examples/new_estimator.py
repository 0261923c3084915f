"""An estimator of one's own: the participation ratio of the Jacobian. docs/extending.md walks through it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import derivatives, draws, exact
from pointland.denoiser import Denoiser
from pointland.lid import LidEstimate


def participation(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    probes: Float[Tensor, "n b *event"],
) -> LidEstimate:
    r"""Count directions by the participation ratio of the Jacobian's eigenvalues.

    .. math:: \mathrm{LID}(x) \approx (\operatorname{tr} J_D)^2 / \operatorname{tr} J_D^2

    ``k`` equal eigenvalues give ``k``, whatever their size. Unequal ones count less, so this is no soft count.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        probes: Signs, shape ``(n, b, *event)``, at least two.

    Returns:
        ``value`` in dimensions. ``stderr`` by the jackknife over probes; the interval is two of them.

    Raises:
        ValueError: If there are fewer than two probes.

    Cost:
        About ``1 + n`` forward passes.

    Source:
        The participation ratio of Bell & Dean 1970; as an estimator of LID an example, not a recommendation.
    """
    if len(probes) < 2:
        raise ValueError(f"participation needs at least two probes for its error, got {len(probes)}")
    products = derivatives.products(denoise, x, sigma, probes=probes).products
    traces, squares = derivatives.quadratic(probes, products), derivatives.quadratic(products, products)
    n = len(probes)
    without = ((traces.sum(0) - traces) ** 2) / (n - 1) / (squares.sum(0) - squares)
    value = traces.mean(0) ** 2 / squares.mean(0)
    error = ((n - 1) / n * (without - without.mean(0)).square().sum(0)).sqrt()
    return LidEstimate(value, error, value - 2 * error, value + 2 * error, {})


@dataclass(frozen=True)
class Participation:
    """The participation ratio with its settings.

    Attributes:
        sigma: Noise scale in model-space units.
        n_probes: Sign probes an item.
        seed: Of the probes, which depend on the item's key alone.
    """

    sigma: float
    n_probes: int = 8
    seed: int = 0

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidEstimate:
        """Estimate the LID of every item; see :func:`participation`."""
        probes = draws.signs(x, keys, self.n_probes, self.seed)
        return participation(denoise, x, torch.tensor([self.sigma]).to(x), probes=probes)


if __name__ == "__main__":
    for k in (2, 5, 10):
        plane = exact.subspace(d=50, k=k)
        found = Participation(0.01, n_probes=64)(plane, plane.sample(2), ["a", "b"])
        print(k, found.value, found.stderr)
