"""Pictures from anything Python can iterate over, written to shards once, so that an audit can be continued.

An audit reads its pictures in several processes, again after an interruption, and once more for its report; a generator
can be read once. So it is written to tar shards of the WebDataset kind: bytes as they are, arrays and Pillow images as
PNG. The same items give the same bytes, and a folder that holds other ones is refused.
"""

import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointland.data.folder import CAPTION_COLUMNS, SUFFIXES
from pointland.data.picture import DAMAGE, KINDS, UnreadablePicture, read_bytes
from pointland.data.tar import FAULT_FIELD, Tars

SHARD = 1000  # pictures in one archive
KEPT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # that PNG has


def spooled(items: Iterable[Any], into: Path | str) -> Tars:
    """Write pictures to shards in a folder, and return them as a source.

    Args:
        items: Tuples ``(key, image, caption)``, or mappings with ``image`` and perhaps ``key`` and one of ``caption``,
            ``text``, ``prompt``; also a streaming data set of Hugging Face. An image is a path, the bytes of a file, a
            Pillow image, or ``uint8`` of shape ``(h, w)``, ``(h, w, c)`` or ``(c, h, w)`` with 1, 3 or 4 channels. Keys
            are text; the number of the item by default.
        into: The folder. It appears when all is written; until then it is called ``<into>.part``, and what was written
            is kept. If either is there, the items are compared with it.

    Returns:
        The shards; their keys are ``00000.tar/<key>.png`` and so on. What is no picture is an item with a fault.

    Raises:
        ValueError: If the folder holds anything else; if there is no item.

    Cost:
        The disk space of the pictures. One process at a time.
    """
    into = Path(into)
    there = into.is_dir() and any(into.iterdir())
    folder = into if there else into.with_name(f"{into.name}.part")
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.part"):
        left.unlink()
    rows, n_shards = enumerate(items), 0
    for first in rows:  # one at a time: a thousand large arrays would not fit in memory
        block = chain([first], islice(rows, SHARD - 1))
        members = (member for number, item in block for member in _members(number, item))
        path = folder / f"{n_shards:05d}.tar"
        if not path.exists() and there:
            raise _other(into, path.name)
        write_tar(path, members)
        n_shards += 1
    names = {f"{number:05d}.tar" for number in range(n_shards)}
    for stranger in sorted(path.name for path in folder.iterdir() if path.name not in names):
        raise _other(folder, stranger)
    if n_shards == 0:
        folder.rmdir()
        raise ValueError("there is no item to write; check what is iterated over")
    if not there:
        if into.is_dir():
            into.rmdir()
        folder.rename(into)
        _synced(into.parent)
    return Tars((into,))


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write an archive of these names and contents, whole or not at all; the same ones give the same bytes.

    Raises:
        ValueError: If the file is there and differs.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w+b") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
                for name, data in members:
                    member = tarfile.TarInfo(name)  # its time is 0, its owner nobody
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
            stream.flush()
            os.fsync(stream.fileno())
            if path.exists():
                stream.seek(0)
                with path.open("rb") as known:
                    if not _same(stream, known):
                        raise _other(path.parent, path.name)
                return
        part.rename(path)
        _synced(path.parent)
    finally:
        part.unlink(missing_ok=True)


class Given(NamedTuple):
    """What an item says."""

    key: object
    image: object
    caption: object


def _members(number: int, item: object) -> Iterator[tuple[str, bytes]]:
    """Yield the picture of an item, and what else is known of it; a fault is known too."""
    name, notes = f"{number:09d}", {}
    data, suffix = b"", ".png"
    try:
        given = _given(item)
        if given.key is not None:
            if not isinstance(given.key, str | int) or given.key == "":
                raise UnreadablePicture(f"the key is {given.key!r:.60}; expected text")
            name = _safe(str(given.key))
        if given.caption is not None:
            if not isinstance(given.caption, str):
                raise UnreadablePicture(f"the caption is of type {type(given.caption).__name__}; expected text")
            notes["caption"] = given.caption
        data = encoded(given.image)
        suffix = next(
            (f".{kind.lower()}" for kind, (start, _) in KINDS.items() if re.match(start, data, re.DOTALL)), ".png"
        )
    except UnreadablePicture as reason:
        notes[FAULT_FIELD] = str(reason)
    stem, ending = os.path.splitext(name)  # noqa: PTH122  # a name of a member, not a path
    if ending.lower() in SUFFIXES:
        name, suffix = stem, ending
    yield name + suffix, data
    if notes or "." in name:  # a name with dots has notes of its own, or else those of its beginning
        yield f"{name}.json", json.dumps(notes, sort_keys=True).encode()


def encoded(image: object) -> bytes:
    """Return a picture as the bytes of a file; :class:`UnreadablePicture` says why it is none."""
    if isinstance(image, Mapping):
        data, path = image.get("bytes"), image.get("path")
        image = path if data is None else data
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | Path):
        return read_bytes(Path(image))
    try:
        picture = image if isinstance(image, Image.Image) else Image.fromarray(_pixels(image))
        stream = io.BytesIO()
        (picture if picture.mode in KEPT_MODES else picture.convert("RGB")).save(stream, "PNG")
    except DAMAGE as error:
        raise UnreadablePicture(f"cannot be written as PNG: {error!s:.200}") from error
    return stream.getvalue()


def _pixels(image: object) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    shape = pixels.shape
    if pixels.dtype != np.uint8:
        raise UnreadablePicture(f"an array of {pixels.dtype}, or no image at all; expected uint8")
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.size == 0 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise UnreadablePicture(f"an array of shape {shape}; expected (h, w), (h, w, c) or (c, h, w)")
    return np.ascontiguousarray(pixels)


def _given(item: object) -> Given:
    if isinstance(item, Mapping):
        texts = {name: item[name] for name in CAPTION_COLUMNS if item.get(name) is not None}
        if len(texts) > 1:
            raise UnreadablePicture(f"more than one caption: {', '.join(texts)}; keep one")
        if "image" not in item:
            raise UnreadablePicture(f"no 'image' among {', '.join(map(str, item))!s:.200}")
        return Given(item.get("key"), item["image"], next(iter(texts.values()), None))
    if isinstance(item, tuple) and len(item) == 3:
        return Given(*item)
    raise UnreadablePicture(f"an item of type {type(item).__name__}; expected (key, image, caption) or a mapping")


def _safe(key: str) -> str:
    """Return a key as a name that every reader of archives takes as it is; different keys give different names."""
    escaped = re.sub(r"[\x00-\x1f\x7f%\ud800-\udfff]|(?<![^/])\.|/$", lambda found: _percent(found[0]), key)
    return re.sub(r"(?<=/)/", "%2F", escaped)


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def _same(one: IO[bytes], other: IO[bytes]) -> bool:
    while True:
        block = one.read(1 << 20)
        if block != other.read(1 << 20):
            return False
        if not block:
            return True


def _other(folder: Path, name: str) -> ValueError:
    return ValueError(
        f"{folder} holds something else than these items (the first difference is in {name}); pass another folder, or "
        "remove it if it is not needed"
    )


def _synced(folder: Path) -> None:
    """Make a new name in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
