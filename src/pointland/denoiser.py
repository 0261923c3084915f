r"""Denoisers: the one verb that every diffusion model is reduced to.

A denoiser is the model's estimate of the clean point, :math:`D(x; \sigma) = \mathbb{E}[x_0 \mid x_0 + \sigma n = x]`.
Networks are trained to predict other things at a scaled input :math:`x_t = \alpha x` with :math:`\alpha = 1/\sqrt{1 +
\sigma^2}`; the functions here take such a prediction back to :math:`D`, in float32 whatever the network ran in:

=============  ===================================  ===========================================================
prediction     the network's target                 denoised
=============  ===================================  ===========================================================
``epsilon``    the noise :math:`n`                  :math:`x - \sigma \hat n`
``v``          :math:`\alpha n - \alpha\sigma x_0`  :math:`x/(1 + \sigma^2) - \sigma\hat v / \sqrt{1 + \sigma^2}`
``sample``     :math:`x_0`                          itself
``velocity``   :math:`n - x_0` (rectified flow)     :math:`(x - \sigma \hat u) / (1 + \sigma)`
=============  ===================================  ===========================================================

Sources: Ho et al. 2020 (epsilon), Salimans & Ho 2022 (v), Liu et al. 2022 (velocity). For rectified flow
:math:`x_t = (1 - t) x_0 + t n`, so :math:`\sigma = t / (1 - t)` and :math:`x_t = x / (1 + \sigma)`.
"""

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

Prediction = Literal["epsilon", "v", "sample", "velocity"]


@runtime_checkable
class Denoiser(Protocol):
    """Anything callable as ``denoise(x, sigma) -> denoised``."""

    def __call__(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        """Estimate the clean points behind ``x = x0 + sigma * noise``.

        Args:
            x: Noised points in model space, shape ``(b, *event)``.
            sigma: Noise scale in model-space units; one value or one per item.
        """
        ...


def per_item(sigma: Float[Tensor, "#b"], x: Float[Tensor, "b *event"]) -> Float[Tensor, "#b ..."]:
    """Give ``sigma`` trailing axes of length one, on the device and in the dtype of ``x``."""
    return sigma.to(x).reshape(-1, *(1,) * (x.ndim - 1))


def denoised_from(
    prediction: Prediction,
    output: Float[Tensor, "b *event"],
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
) -> Float[Tensor, "b *event"]:
    """Turn a network's output into the denoised point, in the dtype of ``x``.

    Args:
        prediction: What the network was trained to predict.
        output: The network's output, any floating dtype.
        x: The noised point ``x0 + sigma * noise`` (not the scaled network input), shape ``(b, *event)``.
        sigma: Noise scale; one value or one per item.
    """
    out, s = output.to(x.dtype), per_item(sigma, x)
    match prediction:
        case "epsilon":
            return x - s * out
        case "v":
            return x / (1 + s**2) - s / (1 + s**2).sqrt() * out
        case "sample":
            return out
        case "velocity":
            return (x - s * out) / (1 + s)


def output_from(
    prediction: Prediction,
    denoised: Float[Tensor, "b *event"],
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
) -> Float[Tensor, "b *event"]:
    """Turn a denoised point into what the network would have put out: the inverse of :func:`denoised_from`.

    Args:
        prediction: What the network was trained to predict.
        denoised: The denoised points, shape ``(b, *event)``.
        x: The noised point ``x0 + sigma * noise``, same shape.
        sigma: Noise scale, above 0; one value or one per item.
    """
    s = per_item(sigma, x)
    match prediction:
        case "epsilon":
            return (x - denoised) / s
        case "v":
            return (x / (1 + s**2) - denoised) * (1 + s**2).sqrt() / s
        case "sample":
            return denoised
        case "velocity":
            return (x - (1 + s) * denoised) / s


def from_network(
    network: Callable[[Float[Tensor, "b *event"], Float[Tensor, "#b"]], Float[Tensor, "b *event"]],
    prediction: Prediction,
) -> Denoiser:
    """Make a denoiser of a continuous-time network that takes its scaled input and ``sigma``.

    The input is ``x / sqrt(1 + sigma^2)`` for variance-preserving predictions and ``x / (1 + sigma)`` for ``velocity``.
    """

    def denoise(x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        s = per_item(sigma, x)
        scaled = x / (1 + s) if prediction == "velocity" else x / (1 + s**2).sqrt()
        return denoised_from(prediction, network(scaled, sigma), x, sigma)

    return denoise


def guided(conditional: Denoiser, base: Denoiser, scale: float) -> Denoiser:
    """Combine two denoisers by classifier-free guidance: ``base + scale * (conditional - base)``; 1 is no guidance."""

    def denoise(x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        without = base(x, sigma)
        return without + scale * (conditional(x, sigma) - without)

    return denoise


def score(denoise: Denoiser, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
    r"""Return the gradient of the log density of noised data, :math:`(D(x; \sigma) - x) / \sigma^2` (Tweedie).

    Args:
        denoise: The model, already conditioned.
        x: Noised points, shape ``(b, *event)``.
        sigma: Their noise scale; one value or one per item.

    Cost:
        One forward pass.
    """
    return (denoise(x, sigma) - x) / per_item(sigma, x) ** 2
