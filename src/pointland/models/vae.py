"""Variational autoencoders as the callables that the estimators take: ``encode -> mean, log variance`` and ``decode``.

A diffusers ``AutoencoderKL`` by :func:`autoencoder_kl`; of any other VAE, make a :class:`Vae` of two functions. Latents
are the VAE's own, with the prior ``N(0, I)`` that its divergence term was trained against: not multiplied by a
pipeline's ``scaling_factor``, which would move the variances that :class:`~pointland.lid.posterior.Posterior` reads.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


class Encoded(NamedTuple):
    """A posterior with independent latents, one an item.

    Attributes:
        mean: Shape ``(b, *latent)``.
        log_variance: Shape ``(b, *latent)``.
    """

    mean: Float[Tensor, "b *latent"]
    log_variance: Float[Tensor, "b *latent"]


class Vae(NamedTuple):
    """A variational autoencoder by its two functions.

    Attributes:
        encode: From pictures to the posterior.
        decode: From latents to the mean picture.
    """

    encode: Callable[[Float[Tensor, "b *event"]], Encoded]
    decode: Callable[[Float[Tensor, "b *latent"]], Float[Tensor, "b *event"]]


def autoencoder_kl(vae: "AutoencoderKL") -> Vae:
    """Return the functions of a diffusers ``AutoencoderKL``.

    Args:
        vae: In evaluation mode, on its device; pictures are in its own range, [-1, 1] as a rule.

    Raises:
        TypeError: If it is another autoencoder. A ``VQModel`` has no posterior variances to count.
        ValueError: If it is in training mode.

    Do not trust:
        The count of :class:`~pointland.lid.posterior.Posterior` for the VAEs of latent diffusion: their divergence has
        a weight near 0, so nearly every latent's variance is far below 1 and counts.
    """
    from diffusers import AutoencoderKL

    if not isinstance(vae, AutoencoderKL):
        raise TypeError(f"expected an AutoencoderKL, got {type(vae).__name__}; make a Vae of its encode and decode")
    if vae.training:
        raise ValueError("the autoencoder is in training mode, where dropout is random; call .eval() first")

    def encode(x: Float[Tensor, "b *event"]) -> Encoded:
        found = vae.encode(x.to(vae.dtype)).latent_dist
        return Encoded(found.mean.to(x), found.logvar.to(x))

    def decode(z: Float[Tensor, "b *latent"]) -> Float[Tensor, "b *event"]:
        with _ContiguousGroups():
            picture: Tensor = vae.decode(z.to(vae.dtype)).sample
        return picture.to(z)

    return Vae(encode, decode)


class _ContiguousGroups(TorchFunctionMode):
    """Group norms copy their input where it is strided: in forward mode torch cannot view what attention answers."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        if func in (torch.nn.functional.group_norm, torch.group_norm) and isinstance(args[0], Tensor):
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **(kwargs or {}))
