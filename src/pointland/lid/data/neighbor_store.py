"""Arrays on disk with the record of what they were made from: one file, written whole or not at all.

The format is NumPy's npz, whose checksums tell a damaged file and which is read without unpickling anything. An index
is kept as its cells, not in FAISS's own format: that would hold all points again, and its reader trusts its input.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 1
Arrays = dict[str, NDArray[Any]]  # of several types


def save_arrays(path: Path | None, record: Mapping[str, object], arrays: Arrays) -> None:
    """Write arrays to a file, whole or not at all; do nothing without a path.

    Args:
        path: Of the file; its folder exists.
        record: What the arrays were made from, values of JSON.
        arrays: By name.
    """
    if path is None:
        return
    # a name of its own: another process may write the same file; one that is killed leaves it, and nobody reads it
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **{RECORD: np.array(complete(record))}, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_arrays(path: Path | None, record: Mapping[str, object]) -> Arrays | None:
    """Read arrays, if there is such a file.

    Raises:
        ValueError: If they were made from something else, naming what differs, or the file is damaged.
    """
    if path is None or not path.exists():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays: Arrays = {name: stored[name] for name in stored.files}
        was = json.loads(str(arrays.pop(RECORD)))
    except (BadZipFile, KeyError, EOFError, ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}); delete it, then repeat the search") from error
    new = json.loads(complete(record))
    differing = sorted(name for name in {*was, *new} if was.get(name) != new.get(name))
    if differing:
        shown = "; ".join(f"{name}: was {was.get(name)}, is {new.get(name)}" for name in differing)
        raise ValueError(f"{path} is of another search, which differs in {shown}; use another folder")
    return arrays


RECORD = "record"


def complete(record: Mapping[str, object]) -> str:
    """Return the record with the version of this format, as JSON."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **record}, sort_keys=True)
