r"""The trace with fewer probes: the part that few directions carry is taken exactly, the rest at random.

Plain sign probes have the variance :math:`2 \sum_{i \ne j} J_{ij}^2` whatever the rank. XTrace spends half of its
products on a basis :math:`Q` of :math:`J \Omega` and half on :math:`J Q`; then every probe :math:`\omega_i` estimates
the trace from the basis :math:`Q_{(i)}` of all *other* probes, which it does not depend on, and from itself only what
that basis leaves out,

.. math::
    t_i = \operatorname{tr} Q_{(i)}^\top J Q_{(i)}
        + \omega_i^\top (I - Q_{(i)} Q_{(i)}^\top) J (I - Q_{(i)} Q_{(i)}^\top) \omega_i .

Each is unbiased and so is their mean. Once there are more probes than the rank of :math:`J`, nothing is left out and
the trace is exact: on a ``k``-plane ``k + 2`` probes give ``k`` without error. With fewer the eigenvalues, all near 1,
offer nothing to take first, and plain probes at the same cost are better; see ``benchmarks/lid_cost.py``.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import derivatives, draws
from pointland.denoiser import Denoiser
from pointland.derivatives import Derivative
from pointland.lid.estimate import LidEstimate
from pointland.lid.flipd import check_sigma, squared_residual
from pointland.lid.interval import normal_interval
from pointland.lid.jacobian_spectrum import flat_products, tie_breakers


def flipd_low_rank(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    probes: Float[Tensor, "n b *event"],
    derivative: Derivative = "vjp",
) -> LidEstimate:
    r"""Estimate FLIPD with a trace that is exact once there are more probes than dimensions to find.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        probes: Sign probes, shape ``(n, b, *event)``, 2 to ``d`` of them. In fewer than about 8 dimensions signs repeat
            and understate the error; take normal draws there, or :func:`~pointland.lid.flipd.flipd_exact`.
        derivative: How Jacobian products are taken; see :mod:`pointland.derivatives`.

    Returns:
        As :func:`~pointland.lid.flipd.flipd`, the interval Student's with ``n - 1`` degrees. ``stderr`` is a jackknife
        over probes, which errs on the large side and is 0 from ``k + 2`` probes on. The authors' own, the spread of
        ``n`` estimates that share a basis, is up to three times too small.

    Raises:
        ValueError: If ``sigma`` is not positive, or there are fewer than 2 probes or more than ``d``.

    Cost:
        ``2 n`` Jacobian products, about ``2 + 2 n`` forward passes; ``4 n`` vectors of ``d`` float64 an item.

    Source:
        Epperly, Tropp & Webber 2024, XTrace, arXiv:2301.07825, without their normalization, which wants spherical
        probes.

    Example:
        >>> from pointland import draws, exact
        >>> plane = exact.subspace(d=64, k=5)
        >>> x = plane.sample(1, seed=0)
        >>> probes = draws.signs(x, keys=["a"], n=8, seed=0)
        >>> flipd_low_rank(plane, x, torch.tensor([0.01]), probes=probes).value.round(decimals=2)
        tensor([5.])
    """
    check_sigma(sigma)
    n, d = len(probes), x[0].numel()
    if not 2 <= n <= d:
        raise ValueError(f"a low-rank trace in {d} dimensions takes 2 to {d} probes, got {n}; flipd_exact takes all")
    first = derivatives.products(denoise, x, sigma, probes=probes, method=derivative)
    vectors, images = probes.flatten(2).double(), first.products.flatten(2).double()
    basis, triangle = torch.linalg.qr((images + tie_breakers(0, n, x)).permute(1, 2, 0))
    basis_images = flat_products(denoise, x, sigma, derivative)(basis.permute(2, 0, 1))
    sketch = _Sketch(
        triangle,
        torch.einsum("bdi,jbd->bij", basis, basis_images),
        torch.einsum("bdi,jbd->bij", basis, vectors),
        torch.einsum("bdi,jbd->bij", basis, images) + torch.einsum("ibd,jbd->bij", basis_images, vectors),
        (vectors * images).sum(-1).T,
    )
    trace = _mean_of_estimates(sketch)
    jackknife = torch.stack([_mean_of_estimates(_without(sketch, i)) for i in range(n)])
    stderr = (jackknife.var(0, correction=0) * (n - 1)).sqrt()
    residual = squared_residual(first.denoised, x, sigma)
    parts = {"trace": trace.to(x.dtype), "residual": residual}
    value, error = parts["trace"] + residual, stderr.to(x.dtype)
    ends = normal_interval(value, error, freedom=n - 1)
    return LidEstimate(value, error, ends.low, ends.high, parts)


class _Sketch(NamedTuple):
    """Everything an estimate needs: inner products of probes, the basis and their images, for probe columns j."""

    triangle: Float[Tensor, "b m n"]  # of the QR decomposition of the images
    small: Float[Tensor, "b m m"]  # Q' J Q
    inside: Float[Tensor, "b m n"]  # Q' w_j
    mixed: Float[Tensor, "b m n"]  # Q' J w_j + Q' J' w_j
    whole: Float[Tensor, "b n"]  # w_j' J w_j


def _mean_of_estimates(sketch: _Sketch) -> Float[Tensor, " b"]:
    """Average every probe's estimate of the trace: the exchangeable estimator, section 2.1 of the source."""
    eye = torch.eye(sketch.triangle.shape[-1], dtype=torch.float64, device=sketch.triangle.device)
    # column j is the direction of the basis that only probe j contributes
    own = torch.linalg.solve_triangular(sketch.triangle, eye.expand_as(sketch.triangle), upper=True).mT
    own = own / own.norm(dim=1, keepdim=True)
    kept = sketch.inside - own * (own * sketch.inside).sum(1, keepdim=True)
    basis_trace = sketch.small.diagonal(dim1=1, dim2=2).sum(-1)[:, None] - (own * (sketch.small @ own)).sum(1)
    left_out = sketch.whole - (kept * sketch.mixed).sum(1) + (kept * (sketch.small @ kept)).sum(1)
    estimates: Tensor = basis_trace + left_out
    return estimates.mean(1)


def _without(sketch: _Sketch, i: int) -> _Sketch:
    """Return the sketch that would have been made without probe ``i``; no product is needed."""
    others = [j for j in range(sketch.triangle.shape[-1]) if j != i]
    turn, triangle = torch.linalg.qr(sketch.triangle[:, :, others])
    return _Sketch(
        triangle,
        turn.mT @ sketch.small @ turn,
        turn.mT @ sketch.inside[:, :, others],
        turn.mT @ sketch.mixed[:, :, others],
        sketch.whole[:, others],
    )


@dataclass(frozen=True)
class FlipdLowRank:
    """FLIPD by the low-rank trace, with its settings.

    Attributes:
        sigma: Noise scale in model-space units, at or above the model's lowest trained level.
        n_probes: Sign probes an item; two more than the dimension make the trace exact.
        seed: Of the probes, which depend on the item's key alone.
        derivative: How Jacobian products are taken.
    """

    sigma: float
    n_probes: int = 16
    seed: int = 0
    derivative: Derivative = "vjp"

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> LidEstimate:
        """Estimate the LID of every item; see :func:`flipd_low_rank`."""
        sigma = torch.tensor([self.sigma], dtype=x.dtype, device=x.device)
        probes = draws.signs(x, keys, self.n_probes, self.seed)
        return flipd_low_rank(denoise, x, sigma, probes=probes, derivative=self.derivative)
