"""Unpack the bundled pictures into the folders that a real audit would start from."""

import csv
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
MINIATURE = HERE / "miniature"
ARCHIVE = HERE / "images.npz"


class Demo(NamedTuple):
    """Where everything is.

    Attributes:
        images: 1,300 pictures that the miniature was trained on, with ``captions.csv``: 800 once, 20 each 2, 5, 10, 20
            and 50 times, 10 templates of 40 variants.
        reference: 400 pictures that it never saw, dealt from the same deck.
        disjoint: 400 others that it never saw.
        labels: ``key,label`` of ``images``: ``once``, ``x2`` .. ``x50``, ``template``.
    """

    images: Path
    reference: Path
    disjoint: Path
    labels: Path


def unpack(folder: Path) -> Demo:
    """Write the bundled pictures as PNG files with captions and labels; a folder already unpacked is left alone."""
    demo = Demo(folder / "images", folder / "held_out", folder / "disjoint", folder / "labels.csv")
    if demo.labels.exists():
        return demo
    with np.load(ARCHIVE) as archive:
        pictures, truth = archive["images"], str(archive["truth"])
    captions: dict[Path, list[tuple[str, str]]] = {demo.images: [], demo.reference: [], demo.disjoint: []}
    labels = []
    for place in captions:
        place.mkdir(parents=True, exist_ok=True)
    for number, (picture, row) in enumerate(zip(pictures, csv.DictReader(io.StringIO(truth)), strict=True)):
        place = {"held_out": demo.reference, "disjoint": demo.disjoint}.get(row["group"], demo.images)
        name = f"{number:05d}.png"
        Image.fromarray(picture).convert("RGB").save(place / name)
        captions[place].append((name, row["caption"]))
        if place == demo.images:
            labels.append((name, row["group"]))
    for place, rows in captions.items():
        _write(place / "captions.csv", ("file_name", "caption"), rows)
    _write(demo.labels, ("key", "label"), labels)
    return demo


def _write(path: Path, header: tuple[str, str], rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
