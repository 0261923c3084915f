"""What every estimator of local intrinsic dimension returns."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class LidEstimate(NamedTuple):
    """A local intrinsic dimension an item.

    Attributes:
        value: In dimensions, shape ``(b,)``.
        stderr: Monte-Carlo standard error of ``value`` in dimensions, shape ``(b,)``; NaN from a single draw, 0 when
            exact.
        low: Lower end of the 95 % interval in dimensions, shape ``(b,)``, by the law of the estimator's draws and not
            by two standard errors; see :mod:`pointland.lid.interval`. For the chance in the draws alone: it holds
            neither the network's error nor the choice of sigma. Of an integer count: what other cuts would give.
        high: Upper end.
        parts: Named terms, each of shape ``(b,)``, that the value is made of.
    """

    value: Float[Tensor, " b"]
    stderr: Float[Tensor, " b"]
    low: Float[Tensor, " b"]
    high: Float[Tensor, " b"]
    parts: Mapping[str, Float[Tensor, " b"]]


def standard_error(draws: Float[Tensor, "n b"]) -> Float[Tensor, " b"]:
    """Return the standard error of the mean over the first axis; NaN from a single draw."""
    if len(draws) == 1:
        return torch.full_like(draws[0], torch.nan)
    return draws.std(0) / math.sqrt(len(draws))
