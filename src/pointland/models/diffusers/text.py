"""Reading captions: tokens as a diffusers pipeline cuts and pads them, and a text encoder's states.

Nothing here switches gradients off, so that they reach the token embeddings where a caller enabled them.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase


class Clip(NamedTuple):
    """What a CLIP text encoder says of captions to the larger models.

    Attributes:
        states: Its last but one layer, shape ``(b, tokens, width)``.
        pooled: Its first output: the projected state of the last token, where it has a projection.
    """

    states: Float[Tensor, "b tokens width"]
    pooled: Tensor


@dataclass(frozen=True, eq=False)
class Reader:
    """A text encoder and its tokenizer.

    Attributes:
        encoder: CLIP's or T5's.
        tokenizer: Of the same model.
        length: Tokens to which a caption is cut or padded.
    """

    encoder: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    length: int

    def words(self, captions: Sequence[str | None]) -> "BatchEncoding":
        """Return token numbers and attention mask on the encoder's device; ``None`` reads like the empty caption."""
        return self.tokenizer(
            ["" if caption is None else caption for caption in captions],
            padding="max_length",
            max_length=self.length,
            truncation=True,
            return_tensors="pt",
        ).to(self.encoder.device)

    def numbers(self, captions: Sequence[str | None]) -> Int[Tensor, "b tokens"]:
        """Return token numbers on the encoder's device."""
        numbers: Tensor = self.words(captions).input_ids
        return numbers

    def names(self, caption: str | None) -> list[str]:
        """Return the text of every token, special ones and padding included."""
        return [self.tokenizer.decode([number]) for number in self.numbers([caption])[0].tolist()]

    def is_cut(self, caption: str) -> bool:
        """Whether the caption has more tokens than are read."""
        return len(self.tokenizer(caption, truncation=False, verbose=False).input_ids) > self.length

    def clip(self, captions: Sequence[str | None]) -> Clip:
        """Return a CLIP encoder's last states but one and its pooled output."""
        found = self.encoder(self.numbers(captions), output_hidden_states=True)
        return Clip(found.hidden_states[-2], found[0])


def clip_reader(
    name: str, encoder: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", length: int | None = None
) -> Reader:
    """Pair a CLIP text encoder with its tokenizer.

    Raises:
        ValueError: If one is missing, or they are of different models.
    """
    _check_pair(name, encoder, tokenizer)
    longest = encoder.config.max_position_embeddings
    if tokenizer.model_max_length > longest or len(tokenizer) < 256:
        raise ValueError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens and a length of {tokenizer.model_max_length:.4g}, the "
            f"text encoder takes {longest}; the tokenizer's files are missing or of another model"
        )
    return Reader(encoder, tokenizer, tokenizer.model_max_length if length is None else length)


def t5_reader(name: str, encoder: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", length: int) -> Reader:
    """Pair a T5 encoder with its tokenizer.

    Raises:
        ValueError: If one is missing, or they are of different models.
    """
    _check_pair(name, encoder, tokenizer)
    if len(tokenizer) > encoder.config.vocab_size:
        raise ValueError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens, the text encoder {encoder.config.vocab_size}; "
            "they are of different models"
        )
    return Reader(encoder, tokenizer, length)


def default_length(pipe: "DiffusionPipeline") -> int:
    """Return to how many tokens a pipeline cuts what T5 reads, unless it is told otherwise."""
    return int(inspect.signature(pipe.encode_prompt).parameters["max_sequence_length"].default)


def _check_pair(name: str, encoder: object, tokenizer: object) -> None:
    if encoder is None or tokenizer is None:
        missing = "text encoder" if encoder is None else "tokenizer"
        raise ValueError(f"{name}: a {missing} is missing, without which captions cannot be read; load the whole model")
