"""The pictures that a monitor follows: read and encoded once, kept as points of the model's space."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pointland.data.picture import Picture, fit
from pointland.data.source import Images, pictures
from pointland.data.sources import open_source
from pointland.metrics.png_size import png_bytes
from pointland.model import Codec
from pointland.models.codec import check_encoded

FEWEST = 8
Given = Images | Tensor | Sequence[Image.Image]  # what a person may give


@dataclass(frozen=True, eq=False)
class Probes:
    """Pictures to follow.

    Attributes:
        keys: Their names, which decide their draws.
        captions: One a picture; ``None`` where there is none.
        pixels: As the model sees them, shape ``(n, 3, h, w)``.
        x: The same in model space, float32, shape ``(n, *event)``.
        complexity: Logarithm of the bytes each takes as a PNG.
        unread: Reasons by key for pictures that could not be read.
    """

    keys: list[str]
    captions: list[str | None]
    pixels: UInt8[Tensor, "n 3 h w"]
    x: Float[Tensor, "n *event"]
    complexity: Float[np.ndarray, " n"]
    unread: dict[str, str]


def probes(name: str, given: Given, codec: Codec, batch_size: int) -> Probes:
    """Read the pictures and encode them.

    Args:
        name: What they are, for messages.
        given: A source, a byte tensor ``(n, 3, h, w)`` of the model's size, or Pillow images.
        codec: Of the model.
        batch_size: Pictures encoded at a time.

    Raises:
        TypeError: If it is none of these.
        ValueError: If a tensor has another type or shape, fewer than 8 pictures can be read, or one cannot be encoded.
    """
    captions: list[str | None]
    unread: dict[str, str] = {}
    if isinstance(given, Tensor):
        wanted = (3, *codec.size)
        if given.dtype != torch.uint8 or tuple(given.shape[1:]) != wanted:
            raise ValueError(
                f"{name}: a tensor of pictures is uint8 of shape (n, {', '.join(map(str, wanted))}), got "
                f"{given.dtype} of shape {tuple(given.shape)}; for floats in [-1, 1] pass "
                "((x + 1) * 127.5).round().to(torch.uint8)"
            )
        pixels, keys = given.cpu(), [f"{name} {i}" for i in range(len(given))]
        captions = [None] * len(keys)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        fitted = [_fitted(name, image, codec.size) for image in given]
        keys, captions = [f"{name} {i}" for i in range(len(fitted))], [None] * len(fitted)
        pixels = torch.from_numpy(np.stack(fitted)) if fitted else torch.empty(0, 3, *codec.size, dtype=torch.uint8)
    else:
        source = open_source(given)
        opened = list(pictures(source, source.items(), codec.size))
        read = [(item, one) for item, one in opened if isinstance(one, Picture)]
        unread = {item.key: str(one) for item, one in opened if not isinstance(one, Picture)}
        keys, captions = [item.key for item, _ in read], [item.caption for item, _ in read]
        pixels = torch.from_numpy(np.stack([one.pixels for _, one in read] or [np.empty((3, *codec.size), np.uint8)]))
    if len(keys) < FEWEST:
        raise ValueError(f"{name}: {len(keys)} pictures can be read; a monitor needs {FEWEST}, better some hundreds")
    x = torch.cat([codec.encode(part) for part in torch.split(pixels, batch_size)])
    complexity = np.log([float(png_bytes(one)) for one in pixels.numpy()])
    return Probes(keys, captions, pixels, check_encoded(x), complexity, unread)


def check_apart(train: Probes, held_out: Probes) -> None:
    """Make sure that no held-out picture is a training picture.

    Raises:
        ValueError: If one is.
    """
    seen = {one.numpy().tobytes() for one in train.pixels}
    both = [key for key, one in zip(held_out.keys, held_out.pixels, strict=True) if one.numpy().tobytes() in seen]
    if both:
        raise ValueError(
            f"{len(both)} held-out pictures are training pictures too, the first is {both[0]}; hold out pictures that "
            "are never trained on"
        )


def identity_of(train: Probes, held_out: Probes) -> str:
    """Return a SHA-256 over what decides a reading beside model and settings: pictures, their names and captions."""
    digest = hashlib.sha256()
    for side in (train, held_out):
        digest.update(repr((tuple(side.pixels.shape), side.keys, side.captions)).encode("utf-8", "backslashreplace"))
        digest.update(side.pixels.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _fitted(name: str, image: object, size: tuple[int, int]) -> NDArray[np.uint8]:
    if not isinstance(image, Image.Image):
        raise TypeError(f"{name}: a list holds Pillow images, got {type(image).__name__}; pass files as a folder")
    return fit(image if image.mode == "RGBA" else image.convert("RGB"), size)
