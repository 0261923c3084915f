"""Random draws keyed by the item: an item's numbers never depend on its batch, its position or the device.

Draw ``i`` of item ``key`` comes from its own counter-based generator (Philox), keyed by a SHA-256 of purpose, seed, key
and ``i``. So more draws extend fewer, and one image alone gives what it gives among a million.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor


def normal(
    x: Float[Tensor, "b *event"], keys: Sequence[str], n: int, seed: int, *, start: int = 0
) -> Float[Tensor, "n b *event"]:
    """Return ``n`` standard normal draws for every item.

    Args:
        x: Points whose shape, dtype and device the draws take, shape ``(b, *event)``.
        keys: One stable identifier an item.
        n: Number of draws.
        seed: Any integer.
        start: Number of the first draw; ``start=2, n=1`` is the third of ``n=3``.
    """
    return _draw("normal", x, keys, range(start, start + n), seed)


def signs(
    x: Float[Tensor, "b *event"], keys: Sequence[str], n: int, seed: int, *, start: int = 0
) -> Float[Tensor, "n b *event"]:
    """Return ``n`` draws of independent signs (Rademacher) for every item.

    Args:
        x: Points whose shape, dtype and device the draws take.
        keys: One an item; equal keys get equal draws.
        n: Draws an item.
        seed: Of all draws.
        start: Number of the first draw.
    """
    return _draw("signs", x, keys, range(start, start + n), seed)


def _draw(purpose: str, x: Tensor, keys: Sequence[str], numbers: range, seed: int) -> Tensor:
    if len(keys) != len(x):
        raise ValueError(f"got {len(keys)} keys for {len(x)} items; pass one key an item")
    size = x[0].numel() if len(x) else 0
    out = np.empty((len(numbers), len(x), size), dtype=np.float32)
    for i, number in enumerate(numbers):
        for j, key in enumerate(keys):
            out[i, j] = _one(purpose, seed, key, number, size)
    return torch.from_numpy(out).reshape(len(numbers), *x.shape).to(x)


def _one(purpose: str, seed: int, key: str, i: int, size: int) -> NDArray[np.float32]:
    digest = hashlib.sha256(f"{purpose}\0{seed}\0{i}\0{key}".encode("utf-8", "surrogatepass")).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    if purpose == "normal":
        return generator.standard_normal(size, dtype=np.float32)
    return (generator.integers(0, 2, size, dtype=np.int8) * 2 - 1).astype(np.float32)
