"""The denoising loss by place: the terms of the sum, where the model's space is a grid."""

from jaxtyping import Float
from torch import Tensor

from pointland.denoiser import per_item


def residual_by_place(
    denoised: Float[Tensor, "b c h w"], x: Float[Tensor, "b c h w"], sigma: Float[Tensor, "#b"]
) -> Float[Tensor, "b h w"]:
    """Return ``|denoised - x|^2 / sigma^2`` a place, in dimensions: channels are summed, places are not."""
    return ((denoised - x) / per_item(sigma, x)).square().sum(1)


def check_grid(x: Tensor) -> None:
    """Raise ``ValueError`` unless points are grids of places, shape ``(b, channels, h, w)``."""
    if x.ndim != 4:
        raise ValueError(
            f"a map needs points on a grid, shape (b, channels, height, width), got {tuple(x.shape)}; for a model of "
            "tokens reshape them to a grid in a denoiser of your own, or read the sum alone (denoising_loss, flipd)"
        )
