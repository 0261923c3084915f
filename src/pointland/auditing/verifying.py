"""Proving a run: that its parts are whole, that they hold every picture once, and that they fit the record.

Parquet keeps a checksum of each page, so a flipped bit that changes a value is found. A damaged part is to be deleted:
the command of the audit then makes it again, and nothing else.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pointland.auditing.directory import check_pictures, read_run
from pointland.auditing.listing import Dealt, against_listing
from pointland.auditing.locks import half_written, in_use
from pointland.auditing.parts import DamagedPart, Part, Shape, parts_in, read_part

HEX = re.compile("[0-9a-f]{64}")
ROLES = ("audited", "reference")

RECORD = "the record can be read"
WHOLE = "parts are whole, with the record's columns"
COUNTS = "every picture of a part is a row or a failure"
UNIQUE = "no picture is there twice"
VALUES = "values are finite, or null with a reason"
COMPLETE = "every part is there"
CLEAN = "nothing is half written"


class Finding(NamedTuple):
    """Something that is wrong.

    Attributes:
        what: What, and where.
        todo: What to do.
    """

    what: str
    todo: str


class Check(NamedTuple):
    """One question, and what was found.

    Attributes:
        name: What should hold.
        looked_at: How much was looked at, or why nothing could be.
        findings: What is wrong; empty if nothing is.
        skipped: Whether it could not be checked.
    """

    name: str
    looked_at: str
    findings: tuple[Finding, ...] = ()
    skipped: bool = False

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong, as far as could be told."""
        return not self.findings


def verify(
    run: Path | str, *, deep: bool = False, progress: Callable[[int, int], None] = lambda done, of: None
) -> list[Check]:
    """Check a run from end to end; nothing is changed.

    Args:
        run: The run directory.
        deep: Read every picture again and compare its SHA-256.
        progress: Called with how many parts are done, and of how many.

    Raises:
        FileNotFoundError: If the folder is not a run.
        ValueError: If it is a run of prompts, or of a newer version.
    """
    folder = Path(run)
    try:
        found = read_run(folder)
        check_pictures(found)
        shape, there = Shape.of(found.record), parts_in(folder)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError, NotADirectoryError) as error:
        todo = "take the file from a copy, or audit into another --out: without its record a run cannot be continued"
        what = f"run.json is damaged: {type(error).__name__}: {error}"
        return [Check(RECORD, "run.json", (Finding(what, todo),))]
    wrong: dict[str, list[Finding]] = {name: [] for name in (WHOLE, COUNTS, UNIQUE, VALUES)}
    dealt: list[Dealt] = []
    seen: dict[tuple[str, str], str] = {}
    n_rows = 0
    for done, (number, name) in enumerate(there.items()):
        progress(done, len(there))
        try:
            part = read_part(folder, name, shape.columns)
        except DamagedPart as damage:
            wrong[WHOLE].append(Finding(str(damage), _again(folder, name)))
            continue
        n_rows += part.rows.num_rows
        for check, what in (
            *((COUNTS, what) for what in _miscounted(part, shape.size(number))),
            *((UNIQUE, what) for what in _twice(part, f"rows/{name}", seen)),
            *((VALUES, what) for what in _unfit(part.rows, shape)),
        ):
            wrong[check].append(Finding(f"rows/{name} {what}", _again(folder, name)))
        dealt.append(Dealt(number, part.rows.select(["role", "key", "caption", "sha256"]), part.failed))
    progress(len(there), len(there))
    parts, pictures = f"{len(there):,} parts", f"{len(seen):,} pictures, {n_rows:,} rows"
    looked_at = {WHOLE: parts, COUNTS: pictures, UNIQUE: pictures, VALUES: f"{n_rows:,} rows"}
    return [
        Check(RECORD, f"schema {found.record['schema_version']}, {len(shape.columns)} columns"),
        *(Check(name, looked_at[name], tuple(findings)) for name, findings in wrong.items()),
        Check(COMPLETE, f"{len(there):,} of {shape.n_shards:,} parts", (*_missing({*there}, shape, found.finished),)),
        _clean(folder),
        *(
            Check(name, looked, tuple(Finding(*one) for one in findings), skipped)
            for name, looked, findings, skipped in against_listing(folder, found.record, dealt, shape, deep=deep)
        ),
    ]


def _again(folder: Path, name: str) -> str:
    """Say how a part is made again; the rows commit both files, so both must go."""
    files = [f"{kind}/{name}" for kind in ("rows", "failed") if (folder / kind / name).exists()]
    return f"delete {' and '.join(files)} and repeat the command of the audit, which makes that part again"


def _miscounted(part: Part, due: int) -> Iterator[str]:
    got = part.rows.num_rows + part.failed.num_rows
    if got != due:
        yield f"has {part.rows.num_rows} rows and {part.failed.num_rows} failures, of {due} pictures"


def _twice(part: Part, where: str, seen: dict[tuple[str, str], str]) -> Iterator[str]:
    for table in part:
        for name in zip(table["role"].to_pylist(), table["key"].to_pylist(), strict=True):
            if name in seen:
                yield f"has {name[0]} {name[1]!r} again, which is in {seen[name]}"
            seen[name] = where


def _unfit(rows: pa.Table, shape: Shape) -> Iterator[str]:
    """Yield what cannot be in a row."""
    keys, reasons = rows["key"].to_pylist(), [_reasons(text) for text in rows["reasons"].to_pylist()]
    for key, role, sha256, told in zip(
        keys, rows["role"].to_pylist(), rows["sha256"].to_pylist(), reasons, strict=True
    ):
        if role not in ROLES or not HEX.fullmatch(sha256 or "") or told is None:
            yield f"has a row of {key!r} whose role, sha256 or reasons are none"
    for column in shape.columns:
        valid = rows[column.name].is_valid().to_pylist()
        for key, has_value, told in zip(keys, valid, reasons, strict=True):
            if has_value == (column.name in (told or {})):
                what = "a reason and a value" if has_value else "neither value nor reason"
                yield f"has {what} for {column.name} of {key!r}"
        for name in filter(None, (column.name, column.stderr)):
            if not _is_finite(rows[name]):
                bad = (
                    key for key, one in zip(keys, rows[name], strict=True) if not _is_finite(pa.chunked_array([[one]]))
                )
                yield from (f"has a {name} of {key!r} that is not finite" for key in bad)


def _is_finite(values: pa.ChunkedArray) -> bool:
    """Say whether all numbers are, in lists too; nulls do not count."""
    numbers = values if pa.types.is_floating(values.type) else pc.list_flatten(values)
    return pc.all(pc.is_finite(numbers)).as_py() is not False


def _reasons(text: str | None) -> dict[str, str] | None:
    """Return the reasons of a row by column; ``None`` if they are none."""
    try:
        told = {} if text is None else json.loads(text)
    except ValueError:
        return None
    return told if isinstance(told, dict) and all(map(str, told.values())) else None


def _missing(there: set[int], shape: Shape, finished: bool) -> Iterator[Finding]:
    missing = sorted({*range(shape.n_shards)} - there)
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        yield Finding(f"{len(missing):,} are missing: {shown}", "repeat the command of the audit, which makes them")
    elif not finished:
        yield Finding("the run is not closed", "repeat the command of the audit, which has nothing left to score")
    for number in sorted(there - {*range(shape.n_shards)}):
        name = f"rows/part-{number:06d}.parquet"
        yield Finding(f"{name} is beyond the last part", f"delete {name}: it is not of this run")


def _clean(folder: Path) -> Check:
    """Look for temporary files, which are right only while somebody writes."""
    if in_use(folder):
        return Check(CLEAN, "a process is working in the run", skipped=True)
    leftovers = [path.relative_to(folder).as_posix() for path in half_written(folder)]
    todo = "delete it, or repeat the command of the audit, which does"
    return Check(CLEAN, "temporary files", tuple(Finding(f"{name} was left by a crash", todo) for name in leftovers))
