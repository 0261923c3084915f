"""The planted truth that mitigations are measured on: prompts with their own pictures, and the training set."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from pointland.demo.plant import CLASSES, UNSEEN

MEMORIZED = ("x20", "x50")


@dataclass(frozen=True, eq=False)
class Prompts:
    """Captions, each with its own picture and class.

    Attributes:
        captions: The captions.
        pictures: Their pictures, grey, shape ``(n, 32, 32)``.
        classes: Index of the class in each caption.
    """

    captions: list[str]
    pictures: UInt8[np.ndarray, "n h w"]
    classes: list[int]

    def __len__(self) -> int:
        return len(self.captions)


@dataclass(frozen=True, eq=False)
class Truth:
    """Who is memorized and who is not.

    Attributes:
        memorized: Captions of pictures with 20 and 50 copies.
        normal: Captions of pictures seen once and never, half of each.
        usual: Other captions of pictures seen once, to learn from what is normal.
        trained: Every bundled picture trained on, grey.
        unseen: Pictures never seen.
        fitting: Pictures trained on once, with their classes, for the classifier; no memorized one among them.
    """

    memorized: Prompts
    normal: Prompts
    usual: Prompts
    trained: UInt8[np.ndarray, "n h w"]
    unseen: UInt8[np.ndarray, "m h w"]
    fitting: Prompts


def read_truth(archive: Path, *, n_memorized: int = 40, n_normal: int = 60, n_usual: int = 99) -> Truth:
    """Read the bundled archive, its pictures in an order that tells nothing."""
    with np.load(archive) as stored:
        pictures, table = stored["images"], str(stored["truth"])
    rows = list(csv.DictReader(io.StringIO(table)))
    groups = np.array([row["group"] for row in rows])

    def prompts(index: list[int]) -> Prompts:
        captions = [rows[i]["caption"] for i in index]
        return Prompts(captions, pictures[index], [class_of(caption) for caption in captions])

    once, held_out = (np.flatnonzero(groups == group).tolist() for group in ("once", "held_out"))
    copied = [np.flatnonzero(groups == group)[: n_memorized // 2].tolist() for group in MEMORIZED]
    half = n_normal // 2
    return Truth(
        memorized=prompts([i for group in copied for i in group]),
        normal=prompts(once[:half] + held_out[: n_normal - half]),
        usual=prompts(once[half : half + n_usual]),
        trained=pictures[~np.isin(groups, UNSEEN)],
        unseen=pictures[np.isin(groups, UNSEEN)],
        fitting=prompts(once[half + n_usual :]),
    )


def class_of(caption: str) -> int:
    """Return the index of the class that a planted caption names."""
    named = [i for i, name in enumerate(CLASSES) if f" {name} by " in caption]
    if len(named) != 1:
        raise ValueError(f"{caption!r} names no class of the planted captions; give the model's own archive")
    return named[0]


def flat(images: UInt8[np.ndarray, "n h w"]) -> Float[np.ndarray, "n d"]:
    """Return pictures as vectors in [0, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
