"""A folder of pictures and their captions, in the customs people have.

Captions are looked for in three places: ``metadata.jsonl`` (Hugging Face ImageFolder), ``metadata.csv`` or
``captions.csv``, and ``<stem>.txt`` beside the picture. The tables may lie in any folder and name pictures relative to
it. Which caption a picture was trained with decides what an audit finds, so whatever is ambiguous is an error that
names the file and the line.
"""

import csv
import io
import json
import os
import posixpath
import unicodedata
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pointland.data.files import leads_out
from pointland.data.item import Item, Items
from pointland.data.picture import UnreadablePicture, read_bytes

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
TABLES = ("metadata.jsonl", "metadata.csv", "captions.csv")
FILE_COLUMNS = ("file_name", "file", "filename", "image", "path", "key")
CAPTION_COLUMNS = ("caption", "text", "prompt")


@dataclass(frozen=True)
class Folder:
    """The pictures in a folder and below it, a :class:`~pointland.data.source.Source`; places are keys.

    Attributes:
        path: The folder.
        captions: A table of captions; see :func:`read_folder`.
    """

    path: Path
    captions: Path | None = None

    def items(self) -> Items:
        """List the pictures by key; errors as in :func:`read_folder`."""
        return Items.of(read_folder(self.path, self.captions))

    def open(self, places: Sequence[str]) -> Iterator[bytes | UnreadablePicture]:
        """Yield the contents of files."""
        for place in places:
            if leads_out(place):  # a run of somebody else may name anything
                yield UnreadablePicture(f"{place!r:.200} is not inside the folder of the data")
                continue
            try:
                yield read_bytes(self.path / place)
            except UnreadablePicture as reason:
                yield reason

    def record(self, seen_from: Path) -> dict[str, object]:
        """Name the folder as it is seen from the run."""
        return {"kind": "folder", "folder": os.path.relpath(self.path.resolve(), seen_from.resolve())}


class Claim(NamedTuple):
    """What a file says of a picture.

    Attributes:
        key: The picture it speaks of.
        text: A caption or a label; empty says nothing.
        where: File and line, for messages.
    """

    key: str
    text: str
    where: str


def read_folder(folder: Path, captions: Path | None = None) -> list[Item]:
    """List the pictures in a folder and below it, with their captions.

    Pictures are known by their suffix (JPEG, PNG, WebP, GIF, BMP, TIFF, in either case); none is opened here. Names
    that begin with a dot are ignored, files and folders alike. Links to files count as files. Links to folders are not
    followed, with a warning, because they may lead in circles.

    Args:
        folder: Where the pictures are.
        captions: A ``.csv`` or ``.jsonl`` file that names pictures relative to ``folder``. Nothing else is then read
            for captions. A CSV has a header with one of the columns ``file_name, file, filename, image, path, key`` and
            one of ``caption, text, prompt``; JSON lines have the same names. Backslashes and a leading ``./`` are
            understood.

    Returns:
        Items sorted by key. Captions are stripped; those of a ``.txt`` have their lines joined with a space.

    Raises:
        FileNotFoundError: If there is no such folder, or no such file of captions.
        NotADirectoryError: If ``folder`` is a file.
        ValueError: If there is no picture; if a file of captions cannot be read, lacks a column, or names a picture
            that is not there; if two captions of one picture differ.
    """
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}; check the path")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; pass the folder that holds the pictures")
    files = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    pictures = {key: files[key] for key in sorted(files) if files[key].suffix.lower() in SUFFIXES}
    if not pictures:
        raise ValueError(f"no pictures in {folder}; expected files ending in {', '.join(sorted(SUFFIXES))}")
    claims = _claims(files, pictures) if captions is None else read_table(captions, CAPTION_COLUMNS, pictures)
    texts = settle(claims)
    return [Item(key, key, texts.get(key)) for key in pictures]


def read_table(
    path: Path, columns: Collection[str], keys: Collection[str], *, inside: str = "", shown: str | None = None
) -> Iterator[Claim]:
    """Read what a CSV or JSON-lines file says of pictures.

    Args:
        path: The file, UTF-8 with or without byte-order mark.
        columns: The names of which exactly one must hold the text.
        keys: The pictures there are.
        inside: The folder that its names are relative to, as a key; empty is the top.
        shown: Its name in messages; by default ``path``.

    Yields:
        One claim a row, in order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another kind, cannot be read, lacks a column, or names a picture that is not among
            ``keys``.
    """
    shown = str(path) if shown is None else shown
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {shown}; check the path")
    kind = path.suffix.lower()
    if kind not in (".csv", ".jsonl"):
        raise ValueError(f"{shown} ends in {kind or 'nothing'}; expected .csv, or .jsonl with one JSON object a line")
    text = read_text(path, shown)
    rows = _csv_rows(text, shown) if kind == ".csv" else _json_rows(text, shown)
    for where, row in rows:
        name = _text(row, _one_of(FILE_COLUMNS, row, where), where)
        yield Claim(_key(name, inside, keys, where), _text(row, _one_of(columns, row, where), where).strip(), where)


def settle(claims: Iterable[Claim]) -> dict[str, str]:
    """Reduce claims to one text a picture; empty texts say nothing.

    Raises:
        ValueError: If two texts for one picture differ; the message names both places.
    """
    kept: dict[str, Claim] = {}
    for claim in filter(lambda claim: claim.text, claims):
        first = kept.setdefault(claim.key, claim)
        if first.text != claim.text:
            raise ValueError(
                f"{claim.key!r} has two texts that differ: {_short(first.text)} in {first.where} and "
                f"{_short(claim.text)} in {claim.where}; keep one"
            )
    return {key: claim.text for key, claim in kept.items()}


def read_text(path: Path, shown: str) -> str:
    """Read a whole UTF-8 file, with or without byte-order mark; ``ValueError`` names the line that is not UTF-8."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{shown}, line {line}: not UTF-8 ({error.reason}); save the file as UTF-8") from error


def _files(folder: Path) -> Iterator[Path]:
    """Yield every file whose name, and whose folders' names, do not begin with a dot."""

    def fail(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for link in filter(os.path.islink, (os.path.join(root, name) for name in folders)):  # noqa: PTH118
            warnings.warn(
                f"{link!r} is a link to a folder and was not followed; audit that folder itself, or copy it here",
                stacklevel=4,
            )
        yield from (Path(root, name) for name in names if not name.startswith("."))


def _claims(files: Mapping[str, Path], pictures: Mapping[str, Path]) -> Iterator[Claim]:
    """Yield what the customary files say."""
    for key, path in files.items():
        inside, name = posixpath.split(key)
        if name in TABLES:
            yield from read_table(path, CAPTION_COLUMNS, pictures, inside=inside, shown=key)
    beside = {posixpath.splitext(key)[0]: key for key, path in files.items() if path.suffix.lower() == ".txt"}
    for key in pictures:
        note = beside.get(posixpath.splitext(key)[0])
        if note is not None:
            lines = read_text(files[note], note).splitlines()
            yield Claim(key, " ".join(filter(None, map(str.strip, lines))), note)


def _csv_rows(text: str, shown: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield place and fields of every row; blank lines are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    try:
        for row in filter(None, reader):
            where = f"{shown}, line {reader.line_num}"
            if header is None:
                header = [name.strip().lower() for name in row]
                _one_of(FILE_COLUMNS, header, where)
            elif len(row) != len(header):
                raise ValueError(
                    f"{where}: {len(row)} fields under {len(header)} columns; put texts with commas in double quotes"
                )
            else:
                yield where, dict(zip(header, row, strict=True))
    except csv.Error as error:
        where = f"{shown}, line {reader.line_num}"
        raise ValueError(
            f"{where}: not CSV ({error}); quote texts properly, or use .jsonl for very long ones"
        ) from error
    if header is None:
        raise ValueError(f"{shown} is empty; expected a header, such as file_name,caption")


def _json_rows(text: str, shown: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield place and fields of every line; blank lines are passed over."""
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{shown}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{where}: not JSON ({error}); expected one object a line, the whole on one line"
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f'{where}: expected an object such as {{"file_name": "a.png", "text": "..."}}')
        yield where, row


def _one_of(allowed: Collection[str], names: Collection[str], where: str) -> str:
    """Return the one column that is there."""
    found = [name for name in allowed if name in names]
    if len(found) != 1:
        given = ", ".join(map(repr, names))
        fault = f"more than one of the columns {', '.join(found)}; keep one" if found else f"the columns are {given}"
        raise ValueError(f"{where}: {fault}; expected one of {', '.join(allowed)}")
    return found[0]


def _text(row: Mapping[str, object], column: str, where: str) -> str:
    """Return one field as text; JSON's null is empty."""
    value = row[column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{where}: {column} is {_short(repr(value))}; expected text")
    if column in FILE_COLUMNS:
        return value  # names may be no Unicode
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise ValueError(
            f"{where}: {column} has {half}, one half of a pair and no character; correct the text"
        ) from error
    return value


def _key(name: str, inside: str, keys: Collection[str], where: str) -> str:
    """Return the key that a table means by ``name``."""
    exact = posixpath.join(inside, name)
    if exact in keys:
        return exact
    key = posixpath.normpath(posixpath.join(inside, name.replace("\\", "/")))
    if key in keys:
        return key
    composed = unicodedata.normalize("NFC", key)
    twin = next((other for other in keys if unicodedata.normalize("NFC", other) == composed), None)
    hint = (
        "remove the line, add the picture, or give its path relative to the folder"
        if twin is None
        else f"{twin!r} is there and differs only in how Unicode composes its letters; rename one"
    )
    raise ValueError(f"{where}: there is no picture {_short(key)}; {hint}")


def _short(text: str) -> str:
    """Quote a text for a message, cut to 60 characters."""
    return repr(text if len(text) <= 60 else text[:59] + "…")
