"""WebDataset-style shards: pictures as members of tar archives, read in place and never extracted.

A member's name is text: it is part of a key and never becomes a path. Pictures are known by the suffix of the member,
as in a folder; captions lie in members of the same name ending in ``.txt``, ``.caption`` or ``.json``, where "the same
name" is up to the last dot or else, as WebDataset has it, up to the first. Other members are passed over.

An archive can be damaged or hostile. What was listed before the damage stays, and the damage is an item of its own with
its reason; so is data behind the end mark, where other readers disagree on what an archive holds.
"""

import hashlib
import json
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from pointland.data.files import DamagedFile, inside, listing, named_files, recorded, regular, shared_folder
from pointland.data.folder import CAPTION_COLUMNS, SUFFIXES, read_table, settle
from pointland.data.item import Item, Items
from pointland.data.picture import DAMAGE, MAX_BYTES, UnreadablePicture

SIDECARS = (".caption", ".txt", ".json")
FAULT_FIELD = "pointland_fault"  # in a .json: why an item that was spooled is no picture
PLACE = re.compile(
    r"(?P<name>.+)#(?P<start>[0-9]{1,18})\+(?P<headers>[0-9]{1,18})\+(?P<size>[0-9]{1,18})\+(?P<hash>[0-9a-f]{8})",
    re.DOTALL,
)
MAX_TEXT = 4 * 2**20  # bytes of a caption's file
MAX_HEADER = 2**20  # bytes that the headers of one member may take
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")  # gz, bz2, xz, zst, lz4


@dataclass(frozen=True)
class Tars:
    """The pictures in tar archives, a :class:`~pointland.data.source.Source`.

    Keys are ``00000.tar/folder/a.jpg``: the archive, seen from the folder that all archives share, and the name of the
    member as it is. Places are ``00000.tar#start+headers+size+hash``: where the member's headers begin, how many bytes
    they are, how many the picture is, and the beginning of the SHA-256 of the headers.

    Attributes:
        paths: Archives, not compressed; a folder stands for all archives below it.
        captions: A table of captions by key, as for :func:`~pointland.data.folder.read_folder`; those in the archives
            are then not read.
    """

    paths: tuple[Path, ...]
    captions: Path | None = None

    def items(self) -> Items:
        """List the pictures in the order of the archives and of their members.

        Raises:
            FileNotFoundError: If an archive is missing.
            ValueError: If no archive has a picture, or the table of captions is wrong.

        Cost:
            Reads the headers alone, and captions: about 50 microseconds a member. Memory is that of one archive's
            names and of what is returned.
        """
        files = named_files(self.paths, ".tar")
        if self.captions is None:
            return listing(files, partial(_listed, sidecars=SIDECARS))
        found = listing(files, partial(_listed, sidecars=()))
        texts = settle(read_table(self.captions, CAPTION_COLUMNS, set(found.keys())))
        return Items.of(item._replace(caption=texts.get(item.key)) for item in found)

    def open(self, places: Sequence[str]) -> Iterator[bytes | UnreadablePicture]:
        """Yield the contents of members; one archive is open at a time, so places in order are read in order."""
        folder, name = shared_folder(self.paths), ""
        with ExitStack() as held:
            for place in places:
                try:
                    at = PLACE.fullmatch(place)
                    if at is None or int(at["headers"]) > MAX_HEADER or int(at["size"]) > MAX_BYTES:
                        raise DamagedFile(f"{place!r:.200} is no place in an archive")
                    if at["name"] != name:
                        held.close()
                        name = ""
                        stream = held.enter_context(inside(folder, at["name"]).open("rb"))
                        name = at["name"]
                    yield _contents(stream, int(at["start"]), int(at["headers"]), int(at["size"]), at["hash"])
                except DamagedFile as error:
                    yield UnreadablePicture(f"{error}")
                except OSError as error:
                    yield UnreadablePicture(f"cannot be read: {error.strerror or error}")

    def record(self, seen_from: Path) -> dict[str, object]:
        """Name the folder that the archives share, as it is seen from the run, and the archives."""
        folder = os.path.relpath(shared_folder(self.paths).resolve(), seen_from.resolve())
        return {"kind": "tar", "folder": folder, **recorded(self.paths)}


class Note(NamedTuple):
    """What a sidecar says of the pictures of its name.

    Attributes:
        member: Its own name, for messages.
        text: The caption; ``None`` if it says nothing.
        fault: Why the caption cannot be told; then the picture must not be audited without it.
    """

    member: str
    text: str | None = None
    fault: str | None = None


class Bounded:
    """A stream that hands out a limited number of bytes until :attr:`left` is set again.

    ``tarfile`` reads extended headers whole, as long as they say they are.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.left = MAX_HEADER
        self.tell, self.seek = stream.tell, stream.seek
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Read, or raise :class:`DamagedFile` when the limit is passed."""
        self.left -= size
        if size < 0 or self.left < 0:
            raise DamagedFile(f"headers larger than {MAX_HEADER // 2**20} MiB")
        return self._stream.read(size)


def _listed(name: str, path: Path, sidecars: Sequence[str]) -> Iterator[Item]:
    """Yield the pictures of one archive, with the captions that are in sidecars of these kinds."""
    found: list[Item] = []
    notes: dict[str, list[Note]] = {}
    damage, other = None, None
    with regular(path).open("rb") as stream:
        end = os.fstat(stream.fileno()).st_size
        try:
            for member in _members(stream):
                stem, suffix = posixpath.splitext(member.name)
                if member.isdir() or _hidden(member.name):
                    continue
                if suffix.lower() in SUFFIXES:
                    fault = _fault(member, end, MAX_BYTES)
                    place = f"{name}#{member.offset}" if fault is not None else _place(name, stream, member)
                    found.append(Item(f"{name}/{member.name}", place, fault=fault))
                elif suffix.lower() in sidecars:
                    notes.setdefault(stem, []).append(_note(stream, member, end))
                else:
                    other = member.name
        except DamagedFile as error:
            damage = error
    for item in found:
        yield _captioned(item, item.key[len(name) + 1 :], notes)
    if damage is not None:
        raise damage
    if not found and (other is not None or notes):
        raise DamagedFile(f"no pictures in it; members are called like {other or next(iter(notes))!r:.200}")


def _members(stream: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive; raise :class:`DamagedFile` unless it ends as an archive must."""
    bounded, at = Bounded(stream), 0
    try:
        archive = tarfile.TarFile(fileobj=bounded, encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]  # reads only
        while (member := archive.next()) is not None:
            if archive.offset <= at:
                raise DamagedFile("a size below zero")
            at, bounded.left = archive.offset, MAX_HEADER
            archive.members = []  # type: ignore[attr-defined]  # they would all be kept
            yield member
        _check_end(stream, archive.offset)
    except (*DAMAGE, tarfile.TarError, RecursionError, DamagedFile) as error:
        reason = f"{error or type(error).__name__!s:.200}"
        stream.seek(0)
        if at:
            at = min(at, os.fstat(stream.fileno()).st_size)
            reason = f"damaged after {at:,} bytes: {reason}; members behind that are not read"
        elif stream.read(8).startswith(COMPRESSED):
            reason = (
                "compressed, so that no picture in it can be found without reading all before it; unpack it to a plain "
                ".tar, as with gunzip or zstd -d"
            )
        else:
            reason = f"no tar archive: {reason}"
        raise DamagedFile(reason) from error


def _check_end(stream: IO[bytes], at: int) -> None:
    """Refuse an archive that stops without its end mark, or goes on behind it."""
    stream.seek(at)
    rest = stream.read(MAX_HEADER)
    if rest[:512] != bytes(512):
        raise DamagedFile("a header that is none" if len(rest) >= 512 else "cut off, the end mark is missing")
    if rest.strip(b"\0"):
        raise DamagedFile("data behind the end mark, as when archives are joined; keep them apart")


def _hidden(member: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in member.split("/"))


def _fault(member: tarfile.TarInfo, end: int, largest: int) -> str | None:
    """Say why a member cannot be read in place."""
    if member.issym() or member.islnk():
        return "a link in the archive; put the file itself there"
    if not member.isfile():
        return "a device, a pipe or something else in the archive that is no file"
    if member.issparse():
        return "a sparse file in the archive; put it there whole"
    if "size" in member.pax_headers:
        return "its size is in an extended header, as for files above 8 GiB"
    if not 0 <= member.size <= largest:
        return f"larger than {largest // 2**20} MiB"
    if member.offset_data + member.size > end:
        return "cut off, the archive ends inside it"
    return None


def _note(stream: IO[bytes], member: tarfile.TarInfo, end: int) -> Note:
    """Read a sidecar."""
    fault = _fault(member, end, MAX_TEXT)
    if fault is not None:
        return Note(member.name, fault=fault)
    stream.seek(member.offset_data)
    try:
        text = stream.read(member.size).decode("utf-8-sig")
        if not member.name.lower().endswith(".json"):
            return Note(member.name, " ".join(filter(None, map(str.strip, text.splitlines()))) or None)
        return _from_json(member.name, json.loads(text))
    except UnicodeDecodeError:
        return Note(member.name, fault="not UTF-8")
    except (ValueError, RecursionError) as error:
        return Note(member.name, fault=f"not JSON ({error})"[:200])


def _from_json(member: str, row: object) -> Note:
    if not isinstance(row, dict):
        return Note(member, fault="JSON, but not an object")
    if isinstance(row.get(FAULT_FIELD), str):
        return Note(member, fault=row[FAULT_FIELD])
    texts = {column: row[column] for column in CAPTION_COLUMNS if row.get(column) is not None}
    if not all(isinstance(text, str) for text in texts.values()):
        return Note(member, fault=f"{', '.join(texts)} is not text")
    different = {_plain(text): text.strip() for text in texts.values() if text.strip()}
    if len(different) > 1:
        return Note(member, fault=f"{' and '.join(texts)} differ; keep one")
    text = next(iter(different.values()), None)
    if text is not None and not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return Note(member, fault="half of a pair (\\ud800 to \\udfff) in the caption, which is no character")
    return Note(member, text)


def _captioned(item: Item, member: str, notes: Mapping[str, Sequence[Note]]) -> Item:
    """Add what the sidecars of a picture say; a caption that is not sure is a fault."""
    folder, slash, file = member.rpartition("/")
    stems = posixpath.splitext(member)[0], folder + slash + file.partition(".")[0]
    found = next((notes[stem] for stem in stems if stem in notes), ())
    fault = next((f"{note.member!r:.200}: {note.fault}" for note in found if note.fault is not None), None)
    told = [note for note in found if note.text is not None]
    if fault is None and len({_plain(note.text or "") for note in told}) > 1:
        fault = f"captions that differ in {' and '.join(f'{note.member!r:.200}' for note in told)}; keep one"
    return item._replace(caption=told[0].text if told and fault is None else None, fault=item.fault or fault)


def _plain(text: str) -> str:
    """Return a text with single spaces, for comparing."""
    return " ".join(text.split())


def _place(name: str, stream: IO[bytes], member: tarfile.TarInfo) -> str:
    """Say where a member is, with a hash of all its headers: a long name is not in the last of them."""
    n_headers = member.offset_data - member.offset
    stream.seek(member.offset)
    return f"{name}#{member.offset}+{n_headers}+{member.size}+{_short_hash(stream.read(n_headers))}"


def _contents(stream: IO[bytes], start: int, n_headers: int, size: int, known: str) -> bytes:
    """Read a member whose headers, its name among them, must stand before it as they did when it was listed."""
    stream.seek(start)
    headers, data = stream.read(n_headers), stream.read(size)
    if _short_hash(headers) != known or len(data) != size:
        raise DamagedFile("the archive is no longer what was listed")
    return data


def _short_hash(headers: bytes) -> str:
    return hashlib.sha256(headers).hexdigest()[:8]
