"""Unpack the bundled pictures into the folders that a real audit would start from."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointland.demo.plant import UNSEEN

HERE = Path(__file__).parent
MINIATURE = HERE / "miniature"
"""Folder of the bundled pipeline, in diffusers format."""
ARCHIVE = HERE / "images.npz"
EXTENDED = ("near", "simple", "simple_new")


class Demo(NamedTuple):
    """Where everything is.

    Attributes:
        images: 1,300 pictures that the miniature was trained on, with ``captions.csv``: 800 once, 20 each 2, 5, 10, 20
            and 50 times, 10 templates of 40 variants. Extended by 200 near copies and 200 simple ones.
        reference: 400 pictures that it never saw, dealt from the same deck.
        disjoint: 400 others that it never saw.
        labels: ``key,label`` of ``images``: ``once``, ``x2`` .. ``x50``, ``template``; ``near`` and ``simple``.
    """

    images: Path
    reference: Path
    disjoint: Path
    labels: Path

    @property
    def simple_new(self) -> Path:
        """200 pictures as simple as the simple ones that it never saw; only if extended."""
        return self.images.parent / "simple_new"

    @property
    def places(self) -> tuple[Path, ...]:
        """Every folder of pictures."""
        return tuple(place for place in (self.images, self.reference, self.disjoint, self.simple_new) if place.exists())


def unpack(folder: Path, *, extended: bool = False, copies: bool = False) -> Demo:
    """Write the bundled pictures as PNG files with captions and labels; a folder already unpacked is left alone.

    Args:
        folder: Where to.
        extended: Write the near copies and the simple pictures of the planted benchmark too.
        copies: Write a picture as many times as the model saw it in an epoch, as a real training folder would hold it.
    """
    demo = Demo(folder / "images", folder / "held_out", folder / "disjoint", folder / "labels.csv")
    if demo.labels.exists():
        return demo
    captions: dict[Path, list[tuple[str, str]]] = {}
    labels = []
    for number, (picture, row) in enumerate(bundled()):
        if row["group"] in EXTENDED and not extended:
            continue
        place = folder / (row["group"] if row["group"] in UNSEEN else "images")
        place.mkdir(parents=True, exist_ok=True)
        times = int(row["copies"]) if copies and place == demo.images else 1
        for copy in range(times):
            name = f"{number:05d}.png" if times == 1 else f"{number:05d}-{copy:02d}.png"
            Image.fromarray(picture).convert("RGB").save(place / name)
            captions.setdefault(place, []).append((name, row["caption"]))
            if place == demo.images:
                labels.append((name, row["group"]))
    for place, rows in captions.items():
        _write(place / "captions.csv", ("file_name", "caption"), rows)
    _write(demo.labels, ("key", "label"), labels)
    return demo


def bundled(source: Path = ARCHIVE) -> Iterator[tuple[NDArray[np.uint8], dict[str, str]]]:
    """Yield every picture of an archive, grey ``(32, 32)``, with its row of the planted truth, in its order."""
    with np.load(source) as archive:
        pictures, truth = archive["images"], str(archive["truth"])
    yield from zip(pictures, csv.DictReader(io.StringIO(truth)), strict=True)


def _write(path: Path, header: tuple[str, str], rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
