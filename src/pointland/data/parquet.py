"""Parquet files that hold pictures, as Hugging Face and others write them: bytes, ``{bytes, path}``, or paths.

Rows are read forwards, one at a time, page by page: a row group may be of any size, and a value that one page repeats a
million times costs memory once. What the file says of itself is not believed: row counts are checked against its size,
and damage in one row group leaves the others readable.
"""

import os
import re
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pointland.data.columns import caption_column, image_column, is_struct, key_column, stored
from pointland.data.files import DamagedFile, inside, listing, named_files, recorded, regular, shared_folder
from pointland.data.item import Item, Items
from pointland.data.picture import DAMAGE, MAX_BYTES, UnreadablePicture, read_bytes
from pointland.data.tar import MAX_TEXT

PLACE = re.compile(r"(?P<name>.+)#(?P<row>\d{1,18})", re.DOTALL)
BROKEN = (*DAMAGE, pa.ArrowException)
LISTED = 64  # rows of text read at a time
BUFFER = 65_536  # bytes of a column chunk read at a time; without, a chunk is read whole


@dataclass(frozen=True)
class ParquetFiles:
    """The pictures in Parquet files, a :class:`~pointland.data.source.Source`.

    Keys are ``file.parquet/row`` unless a column has them; the file is named as seen from the folder that all files
    share. Places are ``file.parquet#row``. Paths in a column are relative to their file and stay below its folder.

    Attributes:
        paths: Files; a folder stands for all Parquet files below it.
        image: The column of pictures; by default the one that is called as usual.
        caption: The column of captions; by default the one called ``caption``, ``text`` or ``prompt``, if any.
        key: The column of keys.
    """

    paths: tuple[Path, ...]
    image: str | None = None
    caption: str | None = None
    key: str | None = None

    def items(self) -> Items:
        """List the rows in the order of the files.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If no file can be listed; the message names the first, and the columns there are.

        Cost:
            Reads the columns of captions and keys alone.
        """
        return listing(named_files(self.paths, ".parquet"), partial(_rows, self))

    def open(self, places: Sequence[str]) -> Iterator[bytes | UnreadablePicture]:
        """Yield the pictures in rows; going back within a row group begins it again, so ask in the listing's order."""
        folder = shared_folder(self.paths)
        for place in places:
            try:
                at = PLACE.fullmatch(place)
                if at is None:
                    raise DamagedFile(f"{place!r:.200} is no place in a Parquet file")
                yield _pictures(inside(folder, at["name"]), self.image).read(int(at["row"]))
            except UnreadablePicture as reason:
                yield reason
            except DamagedFile as error:
                yield UnreadablePicture(f"{error}")

    def record(self, seen_from: Path) -> dict[str, object]:
        """Name the folder that the files share, as it is seen from the run, the files, and the columns asked for."""
        folder = os.path.relpath(shared_folder(self.paths).resolve(), seen_from.resolve())
        asked = {"image": self.image, "caption": self.caption, "key": self.key}
        columns = {name: column for name, column in asked.items() if column is not None}
        return {"kind": "parquet", "folder": folder, **recorded(self.paths), **columns}


class Kept(threading.local):
    """The file that a thread reads.

    Pictures are asked for some dozens at a time. Each time to begin a row group again would make the cost of one that
    holds a whole data set, as pandas writes them, grow with its square.
    """

    known: tuple[object, ...] = ()
    pictures: "Pictures | None" = None


class Pictures:
    """One column of one open file, read forwards."""

    def __init__(self, folder: Path, file: pq.ParquetFile, image: str | None) -> None:
        column = image_column(file.schema_arrow, image)
        kind = file.schema_arrow.field(column).type
        parts = [field.name for field in kind if field.name in ("bytes", "path")] if is_struct(kind) else []
        self._leaves = [f"{column}.{part}" for part in parts] or [column]
        self._folder, self._file = folder, file
        groups = range(file.metadata.num_row_groups)
        self._starts = [0, *accumulate(file.metadata.row_group(group).num_rows for group in groups)]
        self._broken: dict[int, tuple[int, str]] = {}  # by row group: from which row on, and why
        self._group, self._row = -1, 0
        self._batches: Iterator[pa.RecordBatch] = iter(())

    def read(self, row: int) -> bytes:
        """Return the picture in a row, or raise :class:`UnreadablePicture`."""
        if row >= self._starts[-1]:
            raise UnreadablePicture("the file has no such row any more")
        group = bisect_right(self._starts, row) - 1
        first, why = self._broken.get(group, (row + 1, ""))
        if row >= first:
            raise UnreadablePicture(why)
        try:
            if group != self._group or row < self._row:
                self._group, self._row = group, self._starts[group]
                self._batches = self._file.iter_batches(1, [group], self._leaves, use_threads=False)
            while self._row <= row:
                batch = next(self._batches)
                self._row += 1
        except (*BROKEN, StopIteration) as error:
            why = f"the file is damaged here: {error or 'too few rows'!s:.200}"
            self._broken[group] = (self._row, why)
            self._group = -1
            raise UnreadablePicture(why) from error
        try:
            return self._contents(stored(batch.column(0))[0].as_py())
        except BROKEN as error:
            raise UnreadablePicture(f"the row is damaged: {error!s:.200}") from error

    def _contents(self, value: object) -> bytes:
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if isinstance(data, bytes):
            return data[: MAX_BYTES + 1]
        path = data if isinstance(data, str) else path
        if not isinstance(path, str):
            raise UnreadablePicture("null in the column of pictures")
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", path):
            raise UnreadablePicture("an address, not a picture; download it first")
        if path.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", path):
            raise UnreadablePicture(
                "a path out of the folder of the table; write paths relative to the table, below it"
            )
        return read_bytes(self._folder / path)


_KEPT = Kept()


def _pictures(path: Path, image: str | None) -> Pictures:
    """Return the pictures of a file, those that this thread has open if they are the same."""
    status = path.stat()
    wanted = (path, image, status.st_ino, status.st_size, status.st_mtime_ns)
    if _KEPT.pictures is None or _KEPT.known != wanted:
        _KEPT.known, _KEPT.pictures = (), None
        _KEPT.pictures = Pictures(path.parent, _opened(path), image)
        _KEPT.known = wanted
    return _KEPT.pictures


def _opened(path: Path) -> pq.ParquetFile:
    """Open a file whose footer can be read and is not absurd."""
    try:
        stream = pa.OSFile(os.fsencode(regular(path)))  # names may be no Unicode; and messages have no path
        size = stream.size()
        file = pq.ParquetFile(stream, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True)
        counts = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        n_rows = file.metadata.num_rows
    except BROKEN as error:
        raise DamagedFile(f"no Parquet file, or damaged: {str(error).replace(str(path), path.name):.200}") from error
    if not (min(counts, default=0) >= 0 and sum(counts) == n_rows <= size):
        raise DamagedFile(f"damaged: it says that it has {n_rows:,} rows in {size:,} bytes")
    return file


def _rows(source: ParquetFiles, name: str, path: Path) -> Iterator[Item]:
    """Yield the items of one file."""
    file = _opened(path)
    image_column(file.schema_arrow, source.image)
    caption = caption_column(file.schema_arrow, source.caption)
    key = key_column(file.schema_arrow, source.key)
    n_rows, row = file.metadata.num_rows, 0
    if caption is None and key is None:
        yield from (Item(f"{name}/{row}", f"{name}#{row}") for row in range(n_rows))
        return
    asked = [column for column in {caption: 0, key: 0} if column is not None]
    try:
        for batch in file.iter_batches(LISTED, columns=asked, use_threads=False):
            captions, keys = (None if column is None else stored(batch.column(column)) for column in (caption, key))
            for at in range(batch.num_rows):
                said = None if captions is None else captions[at]
                yield _item(name, row, said, None if keys is None else keys[at])
                row += 1
    except BROKEN as error:
        raise DamagedFile(f"damaged after row {row:,} of {n_rows:,}: {error!s:.200}") from error
    if row != n_rows:
        raise DamagedFile(f"damaged: it says that it has {n_rows:,} rows and has {row:,}")


def _item(name: str, row: int, caption: pa.Scalar | None, key: pa.Scalar | None) -> Item:
    """Make an item of a row; captions and keys that are none are faults."""
    item = Item(f"{name}/{row}", f"{name}#{row}")
    try:
        text = None if caption is None else caption.as_py()
        named = None if key is None else key.as_py()
    except ValueError:
        return item._replace(fault="a caption or a key that is not UTF-8")
    if text is not None and len(text) > MAX_TEXT:
        return item._replace(fault=f"a caption of more than {MAX_TEXT // 2**20} MiB")
    if key is not None and named in (None, ""):
        return item._replace(fault="no key in the column of keys")
    return item._replace(key=item.key if key is None else str(named), caption=(text or "").strip() or None)
