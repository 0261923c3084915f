"""Words: which positions of the model's states stand for which word of a prompt, and what of it the model never reads.

Tokenizers cut words into pieces, change their case and spell some letters in bytes; special tokens and padding stand
around them. The pieces are laid along the prompt without its spaces, so that every position has its word, or none.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from pointland.model import PromptedModel

REACH = 12  # letters that may be passed over to find a piece again, where the tokenizer spells them differently


class Word(NamedTuple):
    """One word of a prompt.

    Attributes:
        text: As it was written.
        positions: Of the states that stand for it; none where the prompt was cut before it.
    """

    text: str
    positions: tuple[int, ...]


def words_of(model: PromptedModel, prompt: str) -> list[Word]:
    """Return the words of a prompt, between spaces, each with its positions.

    Args:
        model: Whose tokenizers read it.
        prompt: The text.
    """
    return aligned(prompt, model.tokens(prompt))


def aligned(prompt: str, tokens: Sequence[str]) -> list[Word]:
    """Lay token texts along a prompt; see the module's text.

    Where a model reads the prompt more than once, one encoder after another, a word has positions in every reading.
    """
    words = prompt.split()
    letters = "".join(words).lower()
    owner = [i for i, word in enumerate(words) for _ in word.lower()]
    positions: list[list[int]] = [[] for _ in words]
    at = 0
    for position, token in enumerate(tokens):
        piece = re.sub(r"\s+", "", token.replace("▁", "")).lower()
        if not piece or special(piece):
            at = 0 if at else at  # a reading has ended; another may follow
            continue
        found = letters.find(piece, at, at + REACH + len(piece))
        if found < 0:
            if at < len(letters) and "\ufffd" in piece:
                positions[owner[at]].append(position)  # part of a letter spelled in bytes
            continue
        positions[owner[found]].append(position)
        at = found + len(piece)
    return [Word(text, tuple(places)) for text, places in zip(words, positions, strict=True)]


def unread(words: Sequence[Word]) -> str:
    """Return the end of the prompt that no state stands for, empty when all of it was read."""
    read = [number for number, word in enumerate(words) if word.positions]
    return " ".join(word.text for word in words[read[-1] + 1 :]) if read else ""


def without(prompt: str, numbers: Sequence[int]) -> str:
    """Return the prompt without the words of these numbers."""
    return " ".join(word for number, word in enumerate(prompt.split()) if number not in set(numbers))


def special(piece: str) -> bool:
    """Whether a token's text is markup: ``<|endoftext|>``, ``</s>``, ``<pad>``, ``[SEP]``."""
    return bool(re.fullmatch(r"<\|?/?[a-z_]+\|?>|\[[a-z]+\]", piece))
