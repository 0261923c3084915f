"""Reading a folder of pictures into what samples are compared by: content, thumbnails, descriptors."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from pointland.data.picture import Picture
from pointland.data.source import Images, pictures
from pointland.data.sources import open_source
from pointland.duplicates import content_hash, thumbnails
from pointland.samples.descriptors import Descriptor

BATCH = 64


class Described(NamedTuple):
    """The pictures of a folder that could be read.

    Attributes:
        keys: Their names, sorted.
        content: A name of each one's decoded content and size.
        thumbs: Luminance at 32 x 32.
        vectors: Descriptors.
        failed: Reasons by key for the others.
    """

    keys: list[str]
    content: list[str]
    thumbs: UInt8[np.ndarray, "n 32 32"]
    vectors: Float[np.ndarray, "n d"]
    failed: dict[str, str]

    def only(self, places: NDArray[np.int64]) -> "Described":
        """Return some of the pictures."""
        keys, content = ([of[i] for i in places] for of in (self.keys, self.content))
        return Described(keys, content, self.thumbs[places], self.vectors[places], self.failed)


def describe(images: Images, descriptor: Descriptor, progress: Callable[[int, int], None] | None = None) -> Described:
    """Read every picture of a folder once, in batches.

    Raises:
        ValueError: If the folder cannot be read or none of its pictures can.
    """
    source = open_source(images)
    items = source.items()
    keys: list[str] = []
    content: list[str] = []
    thumbs: list[NDArray[np.uint8]] = []
    vectors: list[NDArray[np.float32]] = []
    failed: dict[str, str] = {}
    waiting: list[NDArray[np.uint8]] = []

    def finish() -> None:
        images = np.stack(waiting)
        thumbs.append(thumbnails(images))
        vectors.append(descriptor(images))
        waiting.clear()

    for done, (item, picture) in enumerate(pictures(source, items, descriptor.size), 1):
        if isinstance(picture, Picture):
            keys.append(item.key)
            content.append(f"{picture.width} x {picture.height} {content_hash(picture.pixels)}")
            waiting.append(picture.pixels)
        else:
            failed[item.key] = str(picture)
        if len(waiting) == BATCH:
            finish()
        if progress is not None:
            progress(done, len(items))
    if waiting:
        finish()
    if not keys:
        raise ValueError(f"none of the {len(items)} pictures can be read; the last reason was {[*failed.values()][-1]}")
    return Described(keys, content, np.concatenate(thumbs), np.concatenate(vectors), failed)
