"""Zuko's normalizing flows as the callables that the estimators take: an encoder and log densities.

The encoder is taken and not the decoder: the inverse of an autoregressive flow costs ``d`` passes, and the singular
values of the decoder's Jacobian are those of the encoder's, inverted (:mod:`pointland.lid.flow`). The base is taken to
``N(0, I)`` where it is another diagonal normal.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from zuko.distributions import NormalizingFlow
    from zuko.lazy import LazyDistribution

Encoder = Callable[[Float[Tensor, "b *event"]], Float[Tensor, "b *event"]]
LogDensityOf = Callable[[Float[Tensor, "b *event"], Float[Tensor, "#b"]], Float[Tensor, " b"]]


def encoder(flow: "LazyDistribution", condition: Float[Tensor, "..."] | None = None) -> Encoder:
    """Return a flow's map from data to ``N(0, I)``, for :class:`~pointland.lid.flow.Flow`.

    Args:
        flow: A flow of zuko (``zuko.flows.NSF(...)``), of vectors. Make it float64 (``flow.double()``) for singular
            values that span more than four decades.
        condition: What the flow is conditioned on, one for all items.

    Returns:
        A function of items of any shape with as many numbers as the flow has features.

    Raises:
        ImportError: If zuko is not installed.
        TypeError: If this is no flow of zuko's with a diagonal normal base.
    """
    _import_zuko()

    def encode(x: Float[Tensor, "b *event"]) -> Float[Tensor, "b *event"]:
        made = _distribution(flow, condition)
        z = made.transform(x.flatten(1))
        center, scale = _base(made)
        latents: Tensor = (z - center) / scale
        return latents.reshape(x.shape)

    _base(_distribution(flow, condition))
    return encode


def log_densities(
    flows: Mapping[float, "LazyDistribution"], condition: Float[Tensor, "..."] | None = None
) -> LogDensityOf:
    """Return the log densities of several flows, for :class:`~pointland.lid.likelihood.Lidl`.

    Args:
        flows: Each by the scale of the noise that its training data had.
        condition: What they are conditioned on.

    Returns:
        ``log_density(x, delta)`` in nats for the scales given; another raises ``ValueError``.
    """
    _import_zuko()

    def log_density(x: Float[Tensor, "b *event"], delta: Float[Tensor, "#b"]) -> Float[Tensor, " b"]:
        wanted = float(delta[0])
        at = min(flows, key=lambda scale: abs(scale - wanted))
        if abs(at - wanted) > 1e-4 * at or not bool((delta == delta[0]).all()):
            raise ValueError(f"no flow was trained at delta {delta.tolist()}; there are {sorted(flows)}")
        logs: Tensor = _distribution(flows[at], condition).log_prob(x.flatten(1))
        return logs

    return log_density


def _distribution(flow: "LazyDistribution", condition: Tensor | None) -> "NormalizingFlow":
    from zuko.distributions import NormalizingFlow

    made = flow(condition)
    if not isinstance(made, NormalizingFlow):
        raise TypeError(f"expected a normalizing flow of zuko's, whose distribution has a transform, got {type(made)}")
    return made


def _base(made: "NormalizingFlow") -> tuple[Tensor, Tensor]:
    inner = getattr(made.base, "base_dist", made.base)
    if not isinstance(inner, torch.distributions.Normal):
        raise TypeError(f"the flow's base is {made.base}, not a diagonal normal, which alone can be taken to N(0, I)")
    return inner.loc, inner.scale


def _import_zuko() -> None:
    try:
        import zuko  # noqa: F401
    except ImportError as error:
        raise ImportError("flows of zuko need the extra: pip install 'pointland[zuko]'") from error
