r"""Tangent directions: along which the model lets a picture vary.

The denoiser's Jacobian :math:`J_D(x; \sigma)` has eigenvalues near 1 along the model's manifold and near 0 across. Its
leading eigenvectors are a basis of the tangent space, found by block Lanczos with full reorthogonalization: a block of
random vectors :math:`V_1`, then :math:`V_{i+1}` an orthonormal basis of what :math:`J_D V_i` adds to the blocks before
it. On all blocks together, :math:`Q`, the eigenvectors of the symmetric part of :math:`Q^\top J_D Q` are the directions
(Rayleigh-Ritz).

Blocks are there because single vectors fail on the simplest manifold. On a ``k``-plane all ``k`` eigenvalues are equal,
and Krylov vectors of one start see one direction of an eigenspace; a block of ``p`` sees ``p``. Where a block adds
nothing, random vectors take its place, so that a plane of more dimensions than the block is found as well, by more
steps.

As in :mod:`pointland.lid.spectrum`, what is antisymmetric in a network's Jacobian is error. Products are
:math:`J^\top v` alone, through every attention kernel, or, with ``sides="both"``, :math:`(J + J^\top) v / 2`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import draws
from pointland.denoiser import Denoiser
from pointland.lid.flipd import check_sigma
from pointland.lid.jacobian_spectrum import orthonormal, tie_breakers
from pointland.lid.spectrum import Sides, symmetric_products


class Tangent(NamedTuple):
    """Leading eigenpairs of the Jacobian's symmetric part.

    Attributes:
        values: Eigenvalues, descending, shape ``(b, n)``, float64; 1 is free, 0 is fixed, and a network has some
            outside. Approached from below with more steps.
        directions: Their unit vectors, orthogonal, shape ``(n, b, *event)``, in the dtype of ``x``.
        residuals: ``|J v - l v|`` of every pair, shape ``(b, n)``: an eigenvalue of the symmetric part lies no farther
            from ``l`` than that. Of one-sided products it holds the asymmetry too, which no further step removes.
        singular_values: Of the Jacobian on the vectors looked at, the ``n`` largest, descending, shape ``(b, n)``.
        products: Jacobian products an item.
    """

    values: Float[Tensor, "b n"]
    directions: Float[Tensor, "n b *event"]
    residuals: Float[Tensor, "b n"]
    singular_values: Float[Tensor, "b n"]
    products: int


def tangent_directions(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    n: int,
    probes: Float[Tensor, "p b *event"],
    n_steps: int = 4,
    sides: Sides = "one",
) -> Tangent:
    r"""Return the ``n`` leading directions at every point; see the module's head.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        n: Directions wanted, at most ``d``.
        probes: Random vectors that the first block is made of, shape ``(p, b, *event)``; a few more than ``n``.
        n_steps: Blocks. Two are exact where the rank of the Jacobian is at most ``p``; a spectrum without a gap takes
            more.
        sides: Which products; see the module's head.

    Raises:
        ValueError: If ``sigma`` or ``n_steps`` is not positive, ``n`` is not from 1 to ``d``, the blocks together
            hold fewer than ``n`` vectors, or a product is not finite.

    Cost:
        ``p n_steps`` vjps, about ``n_steps (1 + p)`` forward passes; with ``sides="both"`` as many jvps beside them
        (three to four forward passes each). Two vectors of ``d`` float64 a product and item.

    Source:
        Golub & Underwood 1977, *The block Lanczos method*; Halko, Martinsson & Tropp 2011, arXiv:0909.4061, section 5.

    Example:
        >>> from pointland import draws, exact
        >>> plane = exact.subspace(d=20, k=3)
        >>> x = plane.sample(1, seed=0)
        >>> probes = draws.signs(x, keys=["a"], n=6, seed=0)
        >>> found = tangent_directions(plane, x, torch.tensor([0.01]), n=4, probes=probes, n_steps=2)
        >>> found.values.abs().round()
        tensor([[1., 1., 1., 0.]], dtype=torch.float64)
    """
    check_sigma(sigma)
    d, wide = x[0].numel(), len(probes)
    if not 1 <= n <= d:
        raise ValueError(f"points of {d} dimensions have 1 to {d} directions, got n {n}")
    if n_steps < 1 or min(wide * n_steps, d) < n:
        raise ValueError(f"{n_steps} blocks of {wide} vectors cannot hold {n} directions; pass more probes or n_steps")
    apply = symmetric_products(denoise, x, sigma, sides)
    basis = images = torch.empty(0, len(x), d, dtype=torch.float64, device=x.device)
    block = probes.flatten(2).double()
    for _ in range(n_steps):
        room = min(wide, d - len(basis))
        if room == 0:
            break
        # in units in which a coordinate is about 1, far above the tie-breakers
        block = orthonormal(block[:room] * d**0.5 + tie_breakers(len(basis), room, x), basis)
        basis, block = torch.cat([basis, block]), apply(block)
        images = torch.cat([images, block])
    if not bool(images.isfinite().all()):
        raise ValueError("the network's Jacobian is not finite here; load the model in float32")
    small = torch.einsum("ibd,jbd->bij", basis, images)
    values, turn = torch.linalg.eigh((small + small.mT) / 2)
    values, turn = values.flip(-1)[:, :n], turn.flip(-1)[..., :n]
    directions = torch.einsum("ibd,bij->jbd", basis, turn)
    residuals = (torch.einsum("ibd,bij->jbd", images, turn) - values.T[..., None] * directions).norm(dim=-1).T
    singular = torch.linalg.svdvals(images.transpose(0, 1))[:, :n]
    return Tangent(values, directions.to(x.dtype).reshape(n, *x.shape), residuals, singular, len(basis))


@dataclass(frozen=True)
class TangentDirections:
    """Tangent directions with their settings.

    Attributes:
        sigma: Noise scale in model-space units, at or above the model's lowest trained level.
        n: Directions wanted.
        n_more: Vectors in a block beyond ``n``.
        n_steps: Blocks.
        seed: Of the first block, which depends on the item's key alone.
        sides: Which products.
    """

    sigma: float
    n: int = 8
    n_more: int = 4
    n_steps: int = 4
    seed: int = 0
    sides: Sides = "one"

    def __call__(self, denoise: Denoiser, x: Float[Tensor, "b *event"], keys: list[str]) -> Tangent:
        """Find the directions at every item; see :func:`tangent_directions`."""
        sigma = torch.tensor([self.sigma], dtype=x.dtype, device=x.device)
        probes = draws.normal(x, keys, min(self.n + self.n_more, x[0].numel()), self.seed)
        return tangent_directions(denoise, x, sigma, n=self.n, probes=probes, n_steps=self.n_steps, sides=self.sides)
