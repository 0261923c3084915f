"""A sketch of every picture: a short vector that keeps distances, so that data LID needs no second look at pictures.

A random projection to ``n`` numbers keeps the distance of two points up to a relative error of about ``1 / sqrt(2 n)``
(Johnson and Lindenstrauss): copies stay copies, and neighbours stay neighbours.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column


@dataclass(frozen=True)
class Sketch:
    """The picture in model space, projected to a few numbers; no network call.

    Attributes:
        n: Numbers an item; distances have a relative error of 6 % with 128.
    """

    n: int = 128

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column of ``n`` numbers."""
        return (
            Column(
                "sketch",
                "Sketch",
                "x",
                "neither",
                "nothing",
                None,
                f"Random projection of the picture in model space to {self.n} numbers; distances are kept.",
                "Johnson and Lindenstrauss 1984",
                self.n,
            ),
        )

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"] | Float[Tensor, "b parts"]]:
        """Project every picture."""
        x = batch.x.flatten(1)
        return {"sketch": x @ projection(x.shape[1], self.n).to(x)}


@lru_cache(maxsize=2)
def projection(d: int, n: int) -> Float[Tensor, "d n"]:
    """Return the projection, the same in every run: normal, variance ``1 / n``."""
    return torch.randn(d, n, generator=torch.Generator().manual_seed(0)) / math.sqrt(n)
