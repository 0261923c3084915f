r"""Any ``torch.nn.Module`` as a model: :func:`from_module` says what it is given and what it puts out.

What a network is given goes by one of three conventions:

=======================  ===============================  ==================================================
convention               the point                        the time
=======================  ===============================  ==================================================
``variance_preserving``  :math:`x / \sqrt{1 + \sigma^2}`  the level's index, from 0, as DDPM counts
``flow``                 :math:`x / (1 + \sigma)`         :math:`t = \sigma / (1 + \sigma)`
``edm``                  :math:`x` itself                 :math:`\sigma`; the network does its own scaling
=======================  ===============================  ==================================================

and what it puts out by the prediction (:mod:`pointland.denoiser`). A preconditioned denoiser :math:`D(x; \sigma)` in
the manner of EDM (Karras et al. 2022) is convention ``edm`` with prediction ``sample``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pointland.denoiser import Denoiser, Prediction, denoised_from, per_item
from pointland.model import Codec
from pointland.models.codec import PixelCodec
from pointland.models.origin import Origin
from pointland.noise import Levels

Convention = Literal["variance_preserving", "flow", "edm"]


@dataclass(frozen=True, eq=False)
class Wrapped:
    """A network without captions, called as ``network(point, time)``."""

    conditional: ClassVar[bool] = False

    network: nn.Module
    codec: Codec
    levels: Levels
    prediction: Prediction
    convention: Convention
    origin: Origin

    @property
    def identity(self) -> dict[str, str]:
        """Its record; the first reading hashes every weight."""
        return dict(self.origin.record)

    @property
    def unconditional(self) -> Denoiser:
        """The denoiser itself."""
        return self.denoise

    def is_cut(self, caption: str) -> bool:
        """Never: it reads no captions."""
        return False

    def given(self, captions: Sequence[str | None]) -> Denoiser:
        """Return the denoiser, refusing captions."""
        if any(caption is not None for caption in captions):
            raise ValueError(f"{self.origin.name} takes no captions; use model.unconditional, or wrap it with captions")
        return self.denoise

    def denoise(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        """Estimate the clean points."""
        output = self.network(*_inputs(self.network, self.levels, self.convention, x, sigma))
        return denoised_from(self.prediction, output, x, sigma)


@dataclass(frozen=True, eq=False)
class WrappedClasses:
    """A network of classes, called as ``network(point, time, labels)``.

    Attributes:
        labels: Class numbers by caption.
        nothing: The number that stands for no caption.
    """

    conditional: ClassVar[bool] = True

    network: nn.Module
    codec: Codec
    levels: Levels
    prediction: Prediction
    convention: Convention
    labels: Mapping[str, int]
    nothing: int
    origin: Origin

    @property
    def identity(self) -> dict[str, str]:
        """Its record; the first reading hashes every weight."""
        return dict(self.origin.record)

    @property
    def unconditional(self) -> Denoiser:
        """The denoiser under the label that stands for no caption."""
        return lambda x, sigma: self.denoise(x, sigma, torch.full((len(x),), self.nothing, device=x.device))

    def is_cut(self, caption: str) -> bool:
        """Never: a class is read whole."""
        return False

    def given(self, captions: Sequence[str | None]) -> Denoiser:
        """Bind one class an item; ``None`` is no class.

        Raises:
            ValueError: If a caption is no class.
        """
        for caption in captions:
            if caption and caption not in self.labels:
                some = ", ".join(map(repr, sorted(self.labels)[:5]))
                raise ValueError(f"caption {caption!r} is no class of {self.origin.name}; it has {some}, ...")
        numbers = torch.tensor([self.labels[caption] if caption else self.nothing for caption in captions])

        def denoise(x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
            if len(x) != len(numbers):
                raise ValueError(
                    f"this denoiser is bound to {len(numbers)} captions and got {len(x)} items; bind one an item"
                )
            return self.denoise(x, sigma, numbers.to(x.device))

        return denoise

    def denoise(
        self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], labels: Tensor
    ) -> Float[Tensor, "b *event"]:
        """Estimate the clean points given class numbers."""
        output = self.network(*_inputs(self.network, self.levels, self.convention, x, sigma), labels)
        return denoised_from(self.prediction, output, x, sigma)


def from_module(
    network: nn.Module,
    *,
    prediction: Prediction,
    sigmas: Float[Tensor, " n"],
    size: tuple[int, int],
    channels: int = 3,
    convention: Convention | None = None,
    codec: Codec | None = None,
    captions: Mapping[str, int] | None = None,
    nothing: int | None = None,
    name: str | None = None,
) -> Wrapped | WrappedClasses:
    """Make a model of any network; nothing is copied, moved or switched.

    Args:
        network: Called as ``network(point, time)``, or ``network(point, time, labels)`` with captions; time has one
            value an item. It answers with one tensor of the shape of ``x``.
        prediction: What it puts out.
        sigmas: The noise scales it was trained at, ascending. For a network of continuous time, a grid between its
            least and its greatest; scales between two of them are then asked as they are.
        size: Height and width in pixels.
        channels: 1 or 3 of the pictures.
        convention: What it is given; ``flow`` for a velocity and ``variance_preserving`` otherwise if ``None``.
        codec: Between pictures and the points it takes, for latent networks; if ``None``, pixels in [-1, 1].
        captions: Class numbers by caption, for a network of classes.
        nothing: The class number that stands for no caption, as training dropped labels.
        name: For a run's record; the network's class if ``None``.

    Raises:
        ValueError: If a setting is unknown, or captions come without the number for none.

    Example:
        >>> d = from_module(nn.Identity(), prediction="sample", sigmas=torch.tensor([0.1, 1.0]), size=(8, 8))
        >>> d.codec.space
        'pixels 3 x 8 x 8'
    """
    chosen: Convention = convention or ("flow" if prediction == "velocity" else "variance_preserving")
    for what, value, known in (("prediction", prediction, Prediction), ("convention", chosen, Convention)):
        if value not in get_args(known):
            raise ValueError(f"{what} {value!r} is not one of {', '.join(get_args(known))}")
    if codec is None and channels not in (1, 3):
        raise ValueError(f"pictures have 1 or 3 channels, not {channels}; give a codec for a latent network")
    if codec is not None and tuple(codec.size) != tuple(size):
        raise ValueError(f"the codec takes pictures of {codec.size} pixels, size says {size}; make them agree")
    if (captions is None) != (nothing is None):
        raise ValueError("captions and nothing go together: the class numbers, and the number for no caption")
    first = next(network.parameters(), torch.empty(0))
    levels = Levels(sigmas.detach().to("cpu", torch.float64))
    space = PixelCodec(size, channels, first.device) if codec is None else codec
    labels = dict(captions or {})
    origin = Origin(
        name or type(network).__name__,
        type(network).__name__,
        space.space,
        network,
        {"network": network},
        levels,
        [prediction, chosen, tuple(size), sorted(labels.items()), nothing],
    )
    if nothing is None:
        return Wrapped(network, space, levels, prediction, chosen, origin)
    return WrappedClasses(network, space, levels, prediction, chosen, labels, nothing, origin)


def _inputs(
    network: nn.Module, levels: Levels, convention: Convention, x: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the point and the time that the network is given, in its dtype."""
    for edge in {float(sigma.min()), float(sigma.max())}:
        levels.nearest(edge)
    first = next(network.parameters(), x)
    dtype = first.dtype if first.is_floating_point() else x.dtype
    s, every = per_item(sigma, x), sigma.to(x.device).expand(len(x))
    match convention:
        case "variance_preserving":
            return (x / (1 + s**2).sqrt()).to(dtype), levels.index(every)
        case "flow":
            return (x / (1 + s)).to(dtype), (every / (1 + every)).to(dtype)
        case "edm":
            return x.to(dtype), every.to(dtype)
