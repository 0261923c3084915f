"""What an audit asks of a model: denoisers bound to captions, a codec, and the trained noise levels."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor

from pointland.denoiser import Denoiser
from pointland.noise import Levels


@runtime_checkable
class Codec(Protocol):
    """The deterministic map between pictures and the space in which the model diffuses."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the pictures it takes."""
        ...

    @property
    def space(self) -> str:
        """What its points are, for people: ``"latents 4 x 64 x 64"``, ``"pixels 3 x 32 x 32"``."""
        ...

    def encode(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b *event"]:
        """Turn pictures into points of model space, float32, without randomness."""
        ...

    def decode(self, x: Float[Tensor, "b *event"]) -> UInt8[Tensor, "b 3 h w"]:
        """Turn points of model space back into pictures."""
        ...


@runtime_checkable
class Model(Protocol):
    """A diffusion model, whatever it was made with."""

    @property
    def codec(self) -> Codec:
        """Pictures to points and back."""
        ...

    @property
    def levels(self) -> Levels:
        """The noise levels it was trained at."""
        ...

    @property
    def conditional(self) -> bool:
        """Whether it takes captions."""
        ...

    @property
    def unconditional(self) -> Denoiser:
        """The denoiser without a caption, for any batch."""
        ...

    @property
    def identity(self) -> dict[str, str]:
        """What it is, for a run's record: name, class, dtype, and a SHA-256 over its weights."""
        ...

    def is_cut(self, caption: str) -> bool:
        """Whether the caption is longer than the model reads."""
        ...

    def given(self, captions: Sequence[str | None]) -> Denoiser:
        """Return the denoiser bound to one caption an item; ``None`` stands for no caption.

        Mixing both in one batch is how an audit gets the conditional and the unconditional prediction from one network
        call.

        Raises:
            ValueError: If the model takes no captions and one is given.
        """
        ...
