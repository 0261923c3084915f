"""The vectors that closed forms are computed on: float64 inside, whatever the caller brought."""

import torch
from jaxtyping import Float
from torch import Tensor


def as_vectors(x: Float[Tensor, "b *event"], d: int) -> Float[Tensor, "b {d}"]:
    """Return the items of ``x`` as float64 vectors, keeping the graph.

    Raises:
        ValueError: If an item does not have ``d`` values.
    """
    if x.ndim < 2 or x.shape[1:].numel() != d:
        raise ValueError(f"this exact model lives in {d} dimensions, got x of shape {tuple(x.shape)}; pass (b, {d})")
    return x.to(torch.float64).flatten(1)


def as_column(sigma: Float[Tensor, "#b"], vectors: Float[Tensor, "b d"]) -> Float[Tensor, "#b 1"]:
    """Return ``sigma`` as a float64 column on the device of ``vectors``."""
    return sigma.to(vectors)[:, None]


def normal_vectors(n: int, d: int, seed: int) -> Float[Tensor, "{n} {d}"]:
    """Return ``n`` standard normal vectors, float64 on the CPU, the same for the same seed."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_axes(d: int, k: int, seed: int) -> Float[Tensor, "{d} {k}"]:
    """Return ``k`` random orthonormal columns in ``d`` dimensions, float64 on the CPU, the same for the same seed."""
    if not 0 <= k <= d:
        raise ValueError(f"a plane in {d} dimensions has 0 to {d} dimensions, got {k}")
    axes: Tensor = torch.linalg.qr(normal_vectors(d, k, seed)).Q
    return axes
