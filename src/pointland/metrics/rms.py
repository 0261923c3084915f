"""The size of an item per coordinate: it does not grow with the model's space, and is never taken over a batch."""

from jaxtyping import Float
from torch import Tensor


def root_mean_square(x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
    """Return the root mean square of every item's coordinates."""
    return x.square().flatten(1).mean(-1).sqrt()
