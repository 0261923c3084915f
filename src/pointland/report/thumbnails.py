"""Small pictures for the report, as data URIs of a few kilobytes each."""

import base64
import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops

from pointland.auditing.directory import Run
from pointland.data.picture import UnreadablePicture, picture_or_reason
from pointland.data.source import Source, contents, in_order
from pointland.data.sources import reopened
from pointland.report.schema import Row, Summary

GALLERY, FEWEST, BOUNDARY = 60, 24, 12
LARGE, SMALL, TINY = (128, 6_000), (96, 3_000), (48, 1_000)
QUALITIES = (80, 60, 40, 20, 5)
READERS = 2


def gallery_rows(summary: Summary) -> list[Row]:
    """Return the rows that the gallery shows: the flagged ones and some beyond, at most 60."""
    return summary["rows"][: min(GALLERY, max(FEWEST, summary["verdict"]["n_flagged"] + BOUNDARY))]


def name_of(role: str, file: str) -> str:
    """Return the name of a picture among the pictures of a report."""
    return f"{role}:{file}"


def thumbnails(run: Run, summary: Summary) -> dict[str, str]:
    """Read the pictures that a report shows; return data URIs by :func:`name_of`. One that cannot be read is left out.

    The gallery's are at most 128 pixels and 6 kB, the table's 96 pixels and 3 kB, copies 48 pixels and 1 kB.
    """
    wanted: dict[str, tuple[str, str, tuple[int, int]]] = {}
    gallery = gallery_rows(summary)
    for row in gallery:
        wanted[name_of("audited", row["file"])] = "audited", row["file"], LARGE
    for row in summary["rows"][len(gallery) :]:
        wanted[name_of("audited", row["file"])] = "audited", row["file"], SMALL
    for row in gallery:
        for copy in row["copies"][:3]:
            wanted.setdefault(name_of(copy["role"], copy["file"]), (copy["role"], copy["file"], TINY))
    data: Mapping[str, Any] = run.record["data"]
    given_back = {row["extracted"][0]["file"]: row["file"] for row in gallery if row["extracted"]}

    sources = {role: reopened(record, run.folder) for role, record in data.items() if record is not None}

    def load(name: str) -> tuple[str, str | None]:
        role, file, (side, limit) = wanted[name]
        return name, thumbnail(_bytes(sources[role], file), side, limit) if role in sources else None

    with ThreadPoolExecutor(READERS) as pool:
        in_place = sorted(wanted, key=lambda name: (wanted[name][0], in_order(wanted[name][1])))  # archives like it
        found = {name: uri for name, uri in pool.map(load, in_place) if uri is not None}
    for sample, file in given_back.items():
        found |= _sample(run.folder / sample, _bytes(sources["audited"], file), sample)
    return found


def _bytes(source: Source, file: str) -> bytes | UnreadablePicture:
    return next(contents(source, [file]))


def _sample(sample: Path, picture: bytes | UnreadablePicture, file: str) -> dict[str, str]:
    """Return a sample and its difference to the picture, the darker the more alike; nothing if either is gone."""
    try:
        with Image.open(sample) as opened:
            generated = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return {}
    fitted = picture_or_reason(picture, generated.size[::-1])
    if isinstance(fitted, UnreadablePicture):
        return {}
    original = Image.fromarray(np.ascontiguousarray(fitted.pixels.transpose(1, 2, 0)))
    both = {"extracted": generated, "difference": ImageChops.difference(generated, original)}
    side, limit = SMALL
    return {name_of(role, file): _uri(_within(image, side), limit) for role, image in both.items()}


def _within(image: Image.Image, side: int) -> Image.Image:
    longest = max(image.size)
    return image if longest <= side else image.resize((image.width * side // longest, image.height * side // longest))


def thumbnail(data: bytes | UnreadablePicture, side: int, limit: int) -> str | None:
    """Return a picture as a data URI, at most ``side`` pixels wide and high and about ``limit`` bytes.

    ``None`` if it cannot be read. A tiny picture keeps its own pixels, without loss if that fits.
    """
    if isinstance(data, UnreadablePicture):
        return None
    try:
        with Image.open(io.BytesIO(data)) as opened:
            native = min(opened.size)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    size = max(1, min(side, native))
    picture = picture_or_reason(data, (size, size))
    if isinstance(picture, UnreadablePicture):
        return None
    image = Image.fromarray(np.ascontiguousarray(picture.pixels.transpose(1, 2, 0)))
    return _uri(image, limit)


def _uri(image: Image.Image, limit: int) -> str:
    return f"data:image/webp;base64,{base64.b64encode(_encoded(image, limit)).decode('ascii')}"


def _encoded(image: Image.Image, limit: int) -> bytes:
    if max(image.size) <= 64 and len(data := _webp(image, lossless=True)) <= limit:
        return data
    while True:
        for quality in QUALITIES:
            if len(data := _webp(image, quality=quality)) <= limit:
                return data
        if image.width < 16:
            return data
        image = image.resize((image.width * 2 // 3, image.height * 2 // 3))


def _webp(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "WEBP", method=3, **options)
    return stream.getvalue()
