"""Finding the source that a person means, and finding it again for a run that is there."""

import glob
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from pointland.data.files import MAX_FILES, DamagedFile, files_below, given_again
from pointland.data.folder import SUFFIXES, Folder
from pointland.data.hub import DatasetRows, Gone, from_folder, from_hub, from_record, is_dataset, one_split
from pointland.data.parquet import ParquetFiles
from pointland.data.source import Images, Source
from pointland.data.tar import Tars

PACKED = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz|tzst|zip|7z|rar)$", re.IGNORECASE)
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters and more: one would be a drive
RANGE = re.compile(r"(\d+)\.\.(\d+)")
OPTIONS = {  # what may be said of each kind
    "a folder": ("captions",),
    "tar archives": ("captions",),
    "Parquet files": ("image", "caption", "key"),
    "a data set of Hugging Face": ("split", "image", "caption", "key"),
    "a source": (),
}


def open_source(
    images: Images,
    *,
    captions: Path | str | None = None,
    split: str | None = None,
    image: str | None = None,
    caption: str | None = None,
    key: str | None = None,
) -> Source:
    """Return the source that ``images`` means.

    Args:
        images: A folder of pictures, of ``.tar`` or of ``.parquet`` files, or one that ``save_to_disk`` wrote; one such
            file; several as ``"shards/{00000..00999}.tar"``, ``"{a,b}.tar"`` or with ``*``, ``?`` and ``[...]``;
            ``hf:owner/name`` or ``hf:owner/name@revision``; a ``datasets.Dataset``; or a source, returned as it is.
        captions: CSV or JSON lines with captions by key, see :func:`~pointland.data.folder.read_folder`; for folders
            and archives.
        split: Which split, of a data set of Hugging Face.
        image: The column of pictures, in Parquet files and data sets.
        caption: The column of captions there; ``caption``, ``text`` or ``prompt`` by default.
        key: The column of keys there; file and row by default.

    Raises:
        FileNotFoundError: If there is nothing at a path, or nothing that fits a pattern.
        ValueError: If it is none of these, or an option has no meaning for it.
        TypeError: If it is another object; what can be iterated over is written to shards first, with
            :func:`~pointland.data.spool.spooled`.
        ImportError: If ``datasets`` is needed and not installed.
    """
    given = {"captions": captions, "split": split, "image": image, "caption": caption, "key": key}
    columns = {"image": image, "caption": caption, "key": key}
    table = None if captions is None else Path(captions)
    if isinstance(images, str | Path) and str(images).startswith("hf:"):
        _check("a data set of Hugging Face", given)
        return from_hub(str(images), split, **columns)
    if isinstance(images, str | Path):
        kind, paths = _found(images)
        _check(kind, given)
        if kind == "tar archives":
            return Tars(paths, table)
        if kind == "Parquet files":
            return ParquetFiles(paths, **columns)
        return Folder(paths[0], table) if kind == "a folder" else from_folder(paths[0], split, **columns)
    if is_dataset(images):
        _check("a data set of Hugging Face", given)
        return DatasetRows(one_split(images, split, "the data set"), image, caption, key)
    if not isinstance(images, Source):
        raise TypeError(
            f"{type(images).__name__} is no source of pictures; write what it yields to shards and pass those: "
            "pointland.data.spooled(images, folder)"
        )
    _check("a source", given)
    return images


def reopened(record: Mapping[str, Any], run: Path) -> Source:
    """Return the source of pictures that a run was made from, from its entry in the record.

    One that cannot be found again, such as one of a class of your own, gives a reason for every picture.

    Args:
        record: What :meth:`Source.record` gave.
        run: The run directory.
    """
    kind, run = record.get("kind", "folder"), run.resolve()
    if kind == "folder":
        return Folder(run / record["folder"])
    if kind in ("dataset", "hub", "memory"):
        return from_record(record, run)
    if kind not in ("tar", "parquet"):
        return Gone(f"a source of kind {kind!r:.60} is not found again from the record of a run")
    try:
        paths = given_again(record, (run / record["folder"]).resolve())
    except DamagedFile as error:
        return Gone(f"{error}")
    columns = {name: record.get(name) for name in ("image", "caption", "key")}
    return Tars(paths) if kind == "tar" else ParquetFiles(paths, **columns)


def expanded(pattern: str) -> list[str]:
    """Write out ``{000..123}`` and ``{a,b}``, in order; a range keeps its leading zeros.

    Raises:
        ValueError: If a brace is not closed, a range runs backwards, or there are more than a million.
    """
    parts: list[list[str]] = []
    n_names = 1
    for text in re.split(r"(\{[^{}]*\})", pattern):
        choices = [text]
        if text.startswith("{") and text.endswith("}"):
            ends = RANGE.fullmatch(text[1:-1])
            if ends is None and "," not in text:
                raise ValueError(f"{text} in {pattern!r} is neither a range such as {{000..123}} nor a list {{a,b}}")
            if ends is not None and not 0 <= int(ends[2]) - int(ends[1]) < MAX_FILES:
                raise ValueError(f"the range {text} in {pattern!r} runs backwards, or over more than a million")
            choices = text[1:-1].split(",") if ends is None else _range(ends[1], ends[2])
        elif "{" in text or "}" in text:
            raise ValueError(f"a brace in {pattern!r} has no partner")
        n_names *= len(choices)
        if n_names > MAX_FILES:
            raise ValueError(f"{pattern!r} means more than a million files")
        parts.append(choices)
    return ["".join(choice) for choice in product(*parts)]


def _range(first: str, last: str) -> list[str]:
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _found(images: Path | str) -> tuple[str, tuple[Path, ...]]:
    """Return the kind of source, and its files or its folder."""
    text = str(images)
    paths: tuple[Path, ...] = (Path(text),)
    if not Path(text).exists():
        _refuse_addresses(text)
        paths = tuple(Path(path) for name in expanded(text) for path in _globbed(name))
    if len(paths) == 1 and paths[0].is_dir():
        return _kind_of_folder(paths[0]), paths
    return _kind_of_files(paths), paths


def _globbed(name: str) -> list[str]:
    """Return what fits a pattern with wildcards, sorted; a name without them as it is."""
    if not glob.has_magic(name) or Path(name).exists():
        return [name]
    found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207  # patterns may be absolute
    if not found:
        raise FileNotFoundError(f"nothing fits {name!r}; check the pattern, and that the shell leaves it in quotes")
    return found


def _refuse_addresses(text: str) -> None:
    scheme = ADDRESS.match(text)
    if scheme is None:
        return
    if scheme[1].lower() == "pipe":
        raise ValueError(f"{text!r:.100} is a command, and commands are never run; write its output to a file first")
    raise ValueError(
        f"{text!r:.100} is an address; pictures are read from this machine only. Download them first, mount the store, "
        "or name a data set of Hugging Face as hf:owner/name"
    )


def _kind_of_files(paths: tuple[Path, ...]) -> str:
    """Tell tar archives from Parquet files by their suffix; they may be missing."""
    kinds = {".tar": "tar archives", ".parquet": "Parquet files"}
    for path in paths:
        if PACKED.search(path.name):
            raise ValueError(f"{path} is packed; unpack it to a plain .tar (gunzip, zstd -d) or to a folder")
        if path.suffix.lower() not in kinds:
            if len(paths) == 1:
                return "a folder"  # which says what is wrong
            raise ValueError(f"{path} is neither a .tar nor a .parquet file; only those can be several")
    found = {kinds[path.suffix.lower()] for path in paths}
    if len(found) > 1:
        raise ValueError("tar archives and Parquet files together; audit them one after the other")
    return found.pop()


def _kind_of_folder(folder: Path) -> str:
    """Tell what a folder holds: pictures, archives, tables, or what ``save_to_disk`` writes."""
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return "a data set of Hugging Face"
    first: dict[str, Path] = {}
    stems: dict[str, set[str]] = {".tar": set(), ".parquet": set()}
    for path in files_below(folder):
        suffix = path.suffix.lower()
        first.setdefault("pictures" if suffix in SUFFIXES else suffix, path)
        if suffix in stems:
            stems[suffix].add(path.stem)
    kinds = {"pictures": "a folder", ".tar": "tar archives", ".parquet": "Parquet files"}
    found = [kind for kind in kinds if kind in first]
    if found == [".tar", ".parquet"] and stems[".parquet"] <= stems[".tar"]:
        found = [".tar"]  # img2dataset writes a table of metadata beside each shard
    if len(found) > 1:
        names = " and ".join(str(first[kind].relative_to(folder)) for kind in found)
        raise ValueError(
            f"{folder} holds both {names}; keep them apart, or name archives and tables by a pattern, such as "
            f"'{folder}/*.tar'"
        )
    return kinds[found[0]] if found else "a folder"


def _check(kind: str, given: Mapping[str, object]) -> None:
    """Refuse options that mean nothing for a kind of source."""
    for name, value in given.items():
        if value is not None and name not in OPTIONS[kind]:
            fit = " or ".join(other for other, names in OPTIONS.items() if name in names)
            raise ValueError(f"{name} is for {fit}; this is {kind}")
