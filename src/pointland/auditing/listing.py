"""A run against the pictures it was made of: that they are the ones that were listed, and still what they were."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pointland.auditing.parts import Shape
from pointland.auditing.rows import portable
from pointland.data.files import are_all
from pointland.data.hub import Gone
from pointland.data.item import Item, Items
from pointland.data.parquet import ParquetFiles
from pointland.data.source import Source, contents
from pointland.data.sources import reopened
from pointland.data.tar import Tars

LISTED = "{} pictures are those of the listing"
SAME = "{} pictures have the bytes that were scored"
READ = 256  # pictures read together


class Dealt(NamedTuple):
    """What a part says of its pictures.

    Attributes:
        number: Of the part.
        rows: ``role``, ``key``, ``caption`` and ``sha256`` of what was scored.
        failed: ``role`` and ``key`` of what could not be.
    """

    number: int
    rows: pa.Table
    failed: pa.Table


class Answer(NamedTuple):
    """What was found: the claim, how much was looked at, what is wrong with what to do, whether it was skipped."""

    name: str
    looked_at: str
    findings: list[tuple[str, str]]
    skipped: bool = False


class _Known(NamedTuple):
    """A picture as a row tells it; a failure has no hash."""

    caption: str | None
    sha256: str | None


def against_listing(
    run: Path, record: Mapping[str, Any], dealt: Sequence[Dealt], shape: Shape, *, deep: bool
) -> Iterator[Answer]:
    """Yield what the pictures, listed again, say of each role.

    Args:
        run: The run directory.
        record: Its record.
        dealt: Its parts, those that could be read.
        shape: What it must consist of.
        deep: Read every picture again, too.
    """
    complete = {part.number for part in dealt} >= {*range(shape.n_shards)}
    for role, entry in record["data"].items():
        if entry is None:
            continue
        name = LISTED.format(role)
        known = _known(dealt, role)
        try:
            source = reopened(entry, run)
            unknown = _unknown(source, entry)
            items = [] if unknown is not None else source.items()
        except (OSError, ValueError, ImportError) as error:
            yield Answer(name, f"they cannot be listed: {error!s:.200}", [], skipped=True)
            continue
        if unknown is not None:
            yield Answer(name, unknown, [], skipped=True)
            continue
        findings = [*_differing(items, known, entry, complete)]
        yield Answer(name, f"{len(items):,} listed", findings)
        if deep:
            todo = "audit the pictures as they are now into another --out, or bring back those that were scored"
            changed = [(f"{key!r} {what}", todo) for key, what in _changed(source, items, known)]
            yield Answer(SAME.format(role), f"{sum(1 for one in known.values() if one.sha256):,} read again", changed)


def _unknown(source: Source, entry: Mapping[str, Any]) -> str | None:
    """Say why it is not known what a source consisted of."""
    if isinstance(source, Gone):
        return source.why
    if "n_files" in entry and isinstance(source, Tars | ParquetFiles):
        suffix = ".tar" if isinstance(source, Tars) else ".parquet"
        if not are_all(entry, source.paths, suffix):
            return (
                f"they are in {entry['n_files']:,} files, which are not all of the folder, and the record has no names"
            )
    return None


def _known(dealt: Iterable[Dealt], role: str) -> dict[str, _Known]:
    found: dict[str, _Known] = {}
    for part in dealt:
        for row in part.rows.to_pylist():
            if row["role"] == role:
                found[row["key"]] = _Known(row["caption"], row["sha256"])
        for row in part.failed.to_pylist():
            if row["role"] == role:
                found[row["key"]] = _Known(None, None)
    return found


def _differing(
    items: Sequence[Item], known: Mapping[str, _Known], entry: Mapping[str, Any], complete: bool
) -> Iterator[tuple[str, str]]:
    """Compare names, then the digest of names and captions in their order."""
    todo = "the pictures changed since the run began: audit them into another --out, or bring back what was there"
    if len(items) != entry["n"]:
        yield f"{len(items):,} pictures are listed, {entry['n']:,} were", todo
    listed = {portable(item.key) for item in items}
    for key in islice(sorted(known.keys() - listed), 10):
        yield f"{key!r} has a row or a failure, and is not listed", todo
    lacking = sorted(listed - known.keys()) if complete else []
    for key in islice(lacking, 10):
        yield f"{key!r} is listed, and has neither row nor failure", todo
    if len(items) != entry["n"] or known.keys() - listed or lacking or not complete:
        return
    captions = {item.key: None if item.caption is None else portable(item.caption) for item in items}
    told = {item.key: known[portable(item.key)] for item in items}
    from_table = {key for key, row in told.items() if row.sha256 is not None and row.caption != captions[key]}
    if from_table and any(row.sha256 is None for row in told.values()):
        return  # captions came from a table elsewhere, and those of failures are in no row
    listing = Items.of(
        item._replace(caption=told[item.key].caption) if item.key in from_table else item for item in items
    )
    if listing.digest() != entry["listing_sha256"]:
        yield "the names or captions, or their order, are not those that were recorded", todo


def _changed(source: Any, items: Sequence[Item], known: Mapping[str, _Known]) -> Iterator[tuple[str, str]]:
    """Yield the pictures that were scored and are not what they were."""
    rows = ((item, known.get(portable(item.key))) for item in items if item.fault is None)
    scored = ((item, row.sha256) for item, row in rows if row is not None and row.sha256 is not None)
    while some := list(islice(scored, READ)):
        opened = contents(source, [item.place for item, _ in some])
        for (item, sha256), data in zip(some, opened, strict=True):
            if not isinstance(data, bytes):
                yield portable(item.key), f"can no longer be read: {data}"
            elif hashlib.sha256(data).hexdigest() != sha256:
                yield portable(item.key), "has other content than when it was scored"
