"""The parts of a run as its record says they must be: how many, of what size, with which columns."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pointland.auditing.directory import FAILED
from pointland.auditing.rows import row_schema
from pointland.metrics.metric import Column

NAME = re.compile(r"part-(\d{6,})\.parquet")


class DamagedPart(Exception):  # noqa: N818  # a finding about a file, not a fault of the program
    """A part that cannot be read, or is no part of this run; the message says why."""


class Shape(NamedTuple):
    """What a run consists of when it is complete.

    Attributes:
        n_items: Pictures, the reference included.
        shard_size: Of them in a part; the last has the rest.
        columns: Of the rows.
    """

    n_items: int
    shard_size: int
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Shape":
        """Read it from a run's record."""
        n_items = sum(entry["n"] for entry in record["data"].values() if entry is not None)
        return cls(n_items, record["shard_size"], tuple(Column(**column) for column in record["columns"]))

    @property
    def n_shards(self) -> int:
        """How many parts there must be."""
        return -(-self.n_items // self.shard_size)

    def size(self, shard: int) -> int:
        """Return how many pictures a part has; none, if it is beyond the last."""
        return max(0, min(self.shard_size, self.n_items - shard * self.shard_size))


class Part(NamedTuple):
    """One part, read.

    Attributes:
        rows: Of what was scored.
        failed: Of what could not be.
    """

    rows: pa.Table
    failed: pa.Table


def parts_in(run: Path) -> dict[int, str]:
    """Return the file names of the parts that are there, by their numbers, in order."""
    found = {int(name[1]): path.name for path in (run / "rows").iterdir() if (name := NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))


def read_part(run: Path, name: str, columns: tuple[Column, ...]) -> Part:
    """Read one part, with the checksum of every page.

    Raises:
        DamagedPart: If one of its two files cannot be read, or has other columns than it should.
    """
    failed = run / "failed" / name
    return Part(
        _read(run / "rows" / name, row_schema(columns)),
        _read(failed, FAILED) if failed.exists() else FAILED.empty_table(),
    )


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    where = f"{path.parent.name}/{path.name}"
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table: pa.Table = file.read()
    except (OSError, ValueError, pa.ArrowException, MemoryError) as error:
        raise DamagedPart(
            f"{where} cannot be read: {' '.join(str(error).replace(str(path), where).split()):.200}"
        ) from error
    if not table.schema.equals(schema):
        fields, due = ({field.name: field for field in one} for one in (table.schema, schema))
        differing = [
            name
            for name in {**due, **fields}
            if not (name in due and name in fields and fields[name].equals(due[name]))
        ]
        raise DamagedPart(
            f"{where} has other columns than the record says: {', '.join(differing) or 'their order':.200}"
        )
    return table
