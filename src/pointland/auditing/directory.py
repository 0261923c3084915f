"""The run directory: what an audit leaves behind, written so that a crash at any moment leaves it valid.

    run/
      run.json              the record: model, data, metrics and their settings, columns, seed, versions, times
      labels.csv            what the user knew beforehand, if anything
      rows/part-*.parquet   one row an item; a part is one shard, written whole or not at all
      failed/part-*.parquet what could not be read or scored, with the reason

A part of ``rows`` is written after its part of ``failed`` and commits both: a shard is done when its rows exist. Every
write goes to a temporary name in the same folder, is flushed to disk, and is renamed into place.
"""

import csv
import errno
import io
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION = 1
FAILED = pa.schema([("key", pa.string()), ("role", pa.string()), ("reason", pa.string())])
OURS = (".lock", "rows", "failed")  # what a crash before run.json can leave
VOLATILE = ("batch_size", "continued", "created", "finished", "environment", "command", "model_source")


class Run:
    """A run as its directory tells it. Rows are read when first asked for: an audit of a million needs none of them.

    Attributes:
        folder: The directory.
        record: The contents of ``run.json``.
    """

    def __init__(
        self, folder: Path, record: dict[str, Any], rows: pa.Table | None = None, failed: pa.Table | None = None
    ) -> None:
        self.folder, self.record = folder, record
        self._rows, self._failed = rows, failed

    @cached_property
    def rows(self) -> pa.Table:
        """All rows so far, in the order of the items. ``role`` is ``audited`` or ``reference``."""
        return _read_parts(self.folder / "rows") if self._rows is None else self._rows

    @cached_property
    def failed(self) -> pa.Table:
        """What could not be read or scored, as ``key``, ``role`` and ``reason``."""
        return _read_parts(self.folder / "failed", FAILED) if self._failed is None else self._failed

    @property
    def finished(self) -> bool:
        """Whether every item has been dealt with."""
        return self.record.get("finished") is not None

    def with_rows(self, rows: pa.Table, record: dict[str, Any] | None = None) -> "Run":
        """Return the run with other rows, and perhaps another record."""
        return Run(self.folder, self.record if record is None else record, rows, self.failed)


def read_run(folder: Path | str) -> Run:
    """Read a run, finished or not.

    Raises:
        FileNotFoundError: If the folder holds no ``run.json``.
        ValueError: If it was written by a newer schema.
    """
    return Run(Path(folder), read_record(Path(folder)))


def check_pictures(run: Run) -> None:
    """Raise ``ValueError`` if a run is not one of pictures."""
    if run.record.get("kind") == "prompts":
        raise ValueError(
            f"{run.folder} is a run of `pointland prompts`, whose result is prompts.parquet; give the folder of "
            "`pointland audit -o`"
        )


def read_record(folder: Path) -> dict[str, Any]:
    """Read ``run.json``; errors as in :func:`read_run`."""
    path = folder / "run.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} is not a run: it has no run.json; give the folder that `pointland audit -o` wrote"
        )
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if record["schema_version"] > SCHEMA_VERSION:
        raise ValueError(
            f"{path} has schema {record['schema_version']}, this version reads up to {SCHEMA_VERSION}; update pointland"
        )
    return record


def open_run(folder: Path, record: Mapping[str, object]) -> None:
    """Create a run in a directory, or make sure that the one there is the same run.

    Call it under :func:`~pointland.auditing.locks.locked`.

    Raises:
        ValueError: If the directory holds a run with another record, naming the fields that differ, or other files.
    """
    check_usable(folder)
    path = folder / "run.json"
    if not path.exists():
        for name in ("rows", "failed"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        write_json(path, record)
        return
    old = json.loads(path.read_text(encoding="utf-8"))
    differing = [
        name
        for name in sorted({*old, *record} - {*VOLATILE})
        if compared(name, record.get(name)) != compared(name, old.get(name))
    ]
    if differing:
        shown = "; ".join(f"{name}: was {short(old.get(name))}, is {short(record.get(name))}" for name in differing)
        raise ValueError(
            f"{folder} holds a run that differs in {shown}; use another --out, or the same settings to continue"
        )
    known = [old.get("environment"), *old.get("continued", [])]
    if record.get("environment") not in known:
        write_json(path, {**old, "continued": [*old.get("continued", []), record.get("environment")]})


def check_usable(folder: Path) -> None:
    """Raise ``ValueError`` if a folder holds other things than a run."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose a folder for --out")
    fresh = folder.exists() and not (folder / "run.json").exists()
    if fresh and any(item.name not in OURS and not item.name.startswith(".") for item in folder.iterdir()):
        raise ValueError(f"{folder} exists and is not a run; choose an empty or new folder for --out")


def finished_shards(folder: Path) -> set[int]:
    """Return the shards whose rows are there."""
    return {int(part.stem.removeprefix("part-")) for part in (folder / "rows").glob("part-*.parquet")}


def commit(folder: Path, shard: int, rows: pa.Table, failed: pa.Table) -> None:
    """Commit one shard: its failures first, then its rows."""
    name = f"part-{shard:06d}.parquet"
    if failed.num_rows:
        write_table(folder / "failed" / name, failed)
    else:
        (folder / "failed" / name).unlink(missing_ok=True)  # of a crash before this commit, and mended since
    write_table(folder / "rows" / name, rows)


def finish(folder: Path, **fields: object) -> None:
    """Add the closing fields to the record."""
    path = folder / "run.json"
    write_json(path, {**read_record(folder), **fields})


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes whole or not at all."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_whole(path, write)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write CSV whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text)  # whose own ends of line make it quote returns too
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))


def write_table(path: Path, table: pa.Table) -> None:
    """Write Parquet whole or not at all."""
    write_whole(path, lambda to: pq.write_table(table, to, compression="zstd", write_page_checksum=True))


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it, and rename it into place."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")  # others may write the same at the same time
    try:
        write(temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)  # a full disk needs the room
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(path.parent).free // 1024
            raise OSError(
                error.errno, f"no space left ({free:,} KiB are free, a part takes more)", str(path)
            ) from error
        raise
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_parts(folder: Path, schema: pa.Schema | None = None) -> pa.Table:
    parts = [pq.read_table(part) for part in sorted(folder.glob("part-*.parquet"))]
    if parts:
        return pa.concat_tables(parts)
    return pa.table({}) if schema is None else schema.empty_table()


def short(value: object) -> str:
    """Return a field of a record for a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 120 else text[:117] + "..."


def compared(name: str, value: object, *, places: Sequence[str] = ("files", "n_files", "files_sha256")) -> object:
    """Return what of a field of two records must agree.

    Of data what, not how it was spelled; of a sigma that was chosen the value, since its curve may differ by rounding.
    """
    plain = json.loads(json.dumps(value))
    if name == "data" and isinstance(plain, dict):
        return {role: _without(entry, *places) for role, entry in plain.items()}
    return _without(plain, "curve") if name == "sigma" else plain


def _without(value: Any, *names: str) -> Any:
    return {name: part for name, part in value.items() if name not in names} if isinstance(value, dict) else value
