"""What an audit asks of a model: denoisers bound to captions, a codec, and the trained noise levels.

What acts on prompts asks more, :class:`PromptedModel`: the condition that a caption becomes, as tensors that can be
changed and differentiated, and the network itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

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
        """What its points are, for people, such as ``"latents 4 x 64 x 64"`` or ``"pixels 3 x 32 x 32"``."""
        ...

    def encode(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b *event"]:
        """Turn pictures into points of model space, float32, without randomness.

        A picture that it cannot encode in half precision is NaN, and no other.
        """
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
        """What it is, for a run's record, with name, class, dtype, and a SHA-256 over its weights."""
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


@dataclass(frozen=True, eq=False)
class Condition:
    """What the network is told beside the noised point, one row an item.

    Attributes:
        states: The text encoders' states, shape ``(b, tokens, width)``: what attribution differentiates and
            optimisation changes.
        others: What else the network takes, by name, one row an item: pooled states, attention masks, sizes.
    """

    states: Float[Tensor, "b tokens width"]
    others: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.states)

    def with_states(self, states: Float[Tensor, "b tokens width"]) -> "Condition":
        """Return the condition with other states and the same rest."""
        return replace(self, states=states)

    def select(self, rows: Sequence[int]) -> "Condition":
        """Return these rows, in this order; a row may be named more than once."""
        index = torch.tensor(list(rows), dtype=torch.long, device=self.states.device)
        return Condition(self.states[index], {name: value[index] for name, value in self.others.items()})

    def joined(self, other: "Condition") -> "Condition":
        """Return the rows of both, these first."""
        others = {name: torch.cat([value, other.others[name]]) for name, value in self.others.items()}
        return Condition(torch.cat([self.states, other.states]), others)


@runtime_checkable
class PromptedModel(Model, Protocol):
    """A model of captions whose conditions can be had, changed and differentiated, and whose network can be watched."""

    @property
    def network(self) -> nn.Module:
        """The network that a sampler calls at every step."""
        ...

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """Return what the captions become; ``None`` is no caption. Long captions are cut as the pipeline cuts them.

        Gradients flow from the states to the text encoders' token embeddings only where the caller enabled them.
        """
        ...

    def tokens(self, caption: str | None) -> list[str]:
        """Return the text of every position of ``condition([caption]).states``, special tokens and padding included."""
        ...

    def denoise(
        self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], condition: Condition
    ) -> Float[Tensor, "b *event"]:
        """Estimate the clean points given a condition, one row an item; differentiable in ``x`` and in the states."""
        ...

    def noised(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Float[Tensor, "b *event"], Tensor]:
        """Read a call of ``network`` back: the points ``x0 + sigma * noise``, float32, and sigma of every row."""
        ...

    def denoised(
        self, output: Tensor, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]
    ) -> Float[Tensor, "b *event"]:
        """Turn what ``network`` gave for ``x`` into the denoised points."""
        ...

    def output(
        self, denoised: Float[Tensor, "b *event"], x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]
    ) -> Tensor:
        """Turn denoised points into what ``network`` would have given: the inverse of :meth:`denoised`, float32."""
        ...
