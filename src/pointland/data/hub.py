"""Data sets of Hugging Face's ``datasets`` package: from its hub, from a folder it saved, or an object in memory.

Only plain data are read: pictures undecoded, no formats or transforms of the data set, and never code from the hub. The
network is asked only where a person names a data set of the hub, and not if ``HF_HUB_OFFLINE`` is set.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointland.data.columns import caption_column, image_column, is_struct, key_column
from pointland.data.files import DamagedFile, leads_out
from pointland.data.item import Item, Items
from pointland.data.picture import MAX_BYTES, UnreadablePicture, read_bytes

NAME = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
LISTED = 1024  # rows of text read at a time
ELSEWHERE = (
    "a file outside of the data set, and it could name any; if these are your pictures, audit their folder, or what "
    "save_to_disk writes, which has their bytes in it"
)


@dataclass(frozen=True)
class DatasetRows:
    """The rows of a ``datasets.Dataset``, a :class:`~pointland.data.source.Source`.

    Keys are row numbers unless a column has them; places are ``#row``.

    Attributes:
        data: The data set. It travels to other processes by the names of its files, or whole if it is in memory.
        image: The column of pictures; by default the one that is called as usual.
        caption: The column of captions; by default the one called ``caption``, ``text`` or ``prompt``, if any.
        key: The column of keys.
        folder: Where ``save_to_disk`` wrote it.
        name: Its name on the hub, as ``owner/name@revision``.
    """

    data: Any  # the package is optional
    image: str | None = None
    caption: str | None = None
    key: str | None = None
    folder: Path | None = None
    name: str | None = None

    def items(self) -> Items:
        """List the rows; the message of a ``ValueError`` lists the columns there are."""
        try:
            _undecoded(self.data, self.image)
            schema = self.data.features.arrow_schema
            caption, key = caption_column(schema, self.caption), key_column(schema, self.key)
        except DamagedFile as error:
            raise ValueError(f"{self.name or self.folder or 'the data set'}: {error}") from error
        if len(self.data) == 0:
            raise ValueError(f"{self.name or self.folder or 'the data set'} has no rows")
        try:
            return Items.of(_rows(self.data.with_format(None), caption, key))
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.name or self.folder or 'the data set'}: text that is not UTF-8") from error

    def open(self, places: Sequence[str]) -> Iterator[bytes | UnreadablePicture]:
        """Yield the pictures in rows."""
        column, rows = _undecoded(self.data, self.image)
        folders = _own_folders(self.folder)
        for place in places:
            row = place.removeprefix("#")
            if not row.isdecimal() or int(row) >= len(rows):
                yield UnreadablePicture("the data set has no such row any more")
                continue
            try:
                yield _contents(rows[int(row)][column], folders)
            except UnreadablePicture as reason:
                yield reason

    def record(self, seen_from: Path) -> dict[str, object]:
        """Say where it is, if it can be found again."""
        asked = {"image": self.image, "caption": self.caption, "key": self.key}
        columns: dict[str, object] = {name: column for name, column in asked.items() if column is not None}
        if self.folder is not None:
            folder = os.path.relpath(self.folder.resolve(), seen_from.resolve())
            return {"kind": "dataset", "folder": folder, **columns}
        files = _cached(self.data)
        if self.name is None or files is None:
            return {"kind": "memory", "folder": "", "fingerprint": self.data._fingerprint, **columns}
        return {"kind": "hub", "folder": "", "name": self.name, "files": files, "rows": len(self.data), **columns}


@dataclass(frozen=True)
class Gone:
    """A source that cannot be found again: every picture is unreadable for the same reason.

    Attributes:
        why: The reason.
    """

    why: str

    def items(self) -> Items:
        """Refuse."""
        raise ValueError(self.why)

    def open(self, places: Sequence[str]) -> Iterator[bytes | UnreadablePicture]:
        """Yield the reason for each."""
        return (UnreadablePicture(self.why) for _ in places)

    def record(self, seen_from: Path) -> dict[str, object]:
        """Say that it is gone."""
        return {"kind": "memory", "folder": ""}


def from_hub(
    name: str, split: str | None, *, image: str | None = None, caption: str | None = None, key: str | None = None
) -> DatasetRows:
    """Load a data set of the hub, downloading what is not in the cache.

    Args:
        name: ``hf:owner/name`` or ``hf:owner/name@revision``.
        split: Which split; may be left out if there is one.
        image: Column of pictures.
        caption: Column of captions.
        key: Column of keys.

    Raises:
        ImportError: If ``datasets`` is not installed.
        ValueError: If the name is none, or it has several splits and none is named.
    """
    parts = NAME.fullmatch(name)
    if parts is None:
        raise ValueError(f"{name!r} is not hf:owner/name or hf:owner/name@revision")
    if Path(parts["name"]).exists():
        raise ValueError(
            f"there is a folder {parts['name']} here, which datasets would take; pass its path without hf:"
        )
    load = _datasets().load_dataset
    try:
        found = load(parts["name"], revision=parts["revision"], split=split)
    except Exception as error:  # of many packages: the hub, the network, the files
        said = " ".join(str(error).split())
        raise ValueError(f"{name} cannot be loaded: {type(error).__name__}: {said:.400}") from error
    return DatasetRows(one_split(found, None, name), image, caption, key, name=name.removeprefix("hf:"))


def from_folder(
    folder: Path,
    split: str | None,
    *,
    image: str | None = None,
    caption: str | None = None,
    key: str | None = None,
) -> DatasetRows:
    """Open what ``save_to_disk`` wrote; arguments and errors as in :func:`from_hub`."""
    found = _datasets().load_from_disk(str(folder))
    within = folder / split if isinstance(found, Mapping) and split is not None else folder
    return DatasetRows(one_split(found, split, str(folder)), image, caption, key, folder=within)


def one_split(found: Any, split: str | None, name: str) -> Any:
    """Return one split of a ``DatasetDict``, or a data set as it is.

    Raises:
        ValueError: If there are several splits and none is named, or not that one.
        TypeError: If it is neither; a streaming one must be spooled first.
    """
    datasets = _datasets()
    if isinstance(found, datasets.IterableDataset | datasets.IterableDatasetDict):
        raise TypeError(
            f"{name} is read as a stream; write it to shards first: pointland.data.spooled(dataset, folder)"
        )
    if isinstance(found, datasets.DatasetDict):
        if split is None and len(found) == 1:
            return next(iter(found.values()))
        if split not in found:
            raise ValueError(f"{name} has the splits {', '.join(found)}; name one with --split (split= in Python)")
        return found[split]
    if split is not None:
        raise ValueError(f"{name} is one split by itself; leave out split {split!r}")
    return found


def from_record(record: Mapping[str, Any], run: Path) -> DatasetRows | Gone:
    """Find a data set again from what :meth:`DatasetRows.record` said; the network is not asked."""
    columns = {name: record.get(name) for name in ("image", "caption", "key")}
    if record["kind"] == "memory":
        return Gone("the data set was an object in memory; save it with save_to_disk to have pictures in reports")
    try:
        if record["kind"] == "dataset":
            return from_folder(run / record["folder"], None, **columns)
        datasets = _datasets()
        cache = Path(datasets.config.HF_DATASETS_CACHE)
        if any(map(leads_out, record["files"])):
            return Gone("the record names files that are not in the cache of datasets")
        parts = [datasets.Dataset.from_file(str(cache / name)) for name in record["files"]]
        found = datasets.concatenate_datasets(parts)
    except (ImportError, OSError, ValueError) as error:
        return Gone(f"the data set cannot be opened again: {type(error).__name__}; load it once more")
    if len(found) != record["rows"]:
        return Gone("the run was made of a part of a split, which is not found again")
    return DatasetRows(found, **columns, name=record["name"])


def is_dataset(images: object) -> bool:
    """Tell whether an object is of ``datasets``, without importing it."""
    return any(kind.__module__.partition(".")[0] == "datasets" for kind in type(images).__mro__)


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ImportError("this needs the package datasets: pip install 'pointland[datasets]'") from error
    return datasets


def _undecoded(data: Any, image: str | None) -> tuple[str, Any]:
    """Return the column of pictures, and a data set of that column alone which gives bytes."""
    column = image_column(data.features.arrow_schema, image)
    alone = data.select_columns([column]).with_format(None)
    if is_struct(data.features.arrow_schema.field(column).type):
        alone = alone.cast_column(column, _datasets().Image(decode=False))
    return column, alone


def _rows(data: Any, caption: str | None, key: str | None) -> Iterator[Item]:
    read = [name for name in {caption: 0, key: 0} if name is not None]
    if not read:
        yield from (Item(f"{row}", f"#{row}") for row in range(len(data)))
        return
    row = 0
    for cells in data.select_columns(read).iter(LISTED):
        for at in range(len(cells[read[0]])):
            text, name = (None if column is None else cells[column][at] for column in (caption, key))
            item = Item(f"{row}" if name in (None, "") else f"{name}", f"#{row}", (text or "").strip() or None)
            yield item if key is None or name not in (None, "") else item._replace(fault="no key in the column of keys")
            row += 1


def _contents(value: object, folders: Sequence[Path]) -> bytes:
    """Return the bytes of an undecoded picture, or of the file it names in one of the folders.

    A data set of somebody else could name any file of this machine, and a report would show it.
    """
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if isinstance(data, bytes):
        return data[: MAX_BYTES + 1]
    path = data if isinstance(data, str) else path
    if not isinstance(path, str):
        raise UnreadablePicture("null in the column of pictures")
    if "://" in path:
        raise UnreadablePicture("an address, or a file within an archive; download or unpack it first")
    found = next((folder / path for folder in folders if (folder / path).is_relative_to(folder)), None)
    if found is None or ".." in Path(path).parts:
        raise UnreadablePicture(ELSEWHERE)
    return read_bytes(found)


def _own_folders(folder: Path | None) -> list[Path]:
    """Return where the files of a data set may lie: where it was saved, or else where ``datasets`` downloads to."""
    folders = [folder] if folder is not None else []
    if folder is None:
        from huggingface_hub.constants import HF_HUB_CACHE

        config = _datasets().config
        folders = [Path(config.HF_DATASETS_CACHE), Path(config.DOWNLOADED_DATASETS_PATH), Path(HF_HUB_CACHE)]
    return [path for each in folders for path in (each.absolute(), each.resolve())]


def _cached(data: Any) -> list[str] | None:
    """Name the files of a data set in the cache, if it consists of them and nothing else."""
    cache = Path(_datasets().config.HF_DATASETS_CACHE)
    files = [Path(file["filename"]) for file in data.cache_files]
    if not files or data._indices is not None or not all(file.is_relative_to(cache) for file in files):
        return None
    return [file.relative_to(cache).as_posix() for file in files]
