"""What extraction found, as the report shows it: the nearest sample of every picture asked for, and counts."""

from pathlib import PurePosixPath
from typing import Any

import pyarrow.parquet as pq

from pointland.auditing.directory import Run
from pointland.report.schema import Extracted, Extraction
from pointland.report.words import clean

TABLE = "extraction.parquet"
ASKED = {
    "caption": "from the caption",
    "free": "without a caption",
    "partial": "from partial noise",
    "cyclic": "by cycles of noise",
}


def extracted(run: Run) -> dict[str, list[Extracted]]:
    """Return what was tried for every picture, most successful first; nothing before ``pointland extract``."""
    path = run.folder / TABLE
    if not path.is_file():
        return {}
    found: dict[str, list[Extracted]] = {}
    for row in pq.read_table(path).to_pylist():
        if row["n"] is not None:
            found.setdefault(clean(row["key"]), []).append(_one(row))
    for tries in found.values():
        tries.sort(key=lambda one: (-(one["k"] or 0), one["p"] is None, one["p"], one["nearest"]))
    return found


def counts(found: dict[str, list[Extracted]]) -> Extraction | None:
    """Return how many pictures were asked for and given back; ``None`` before extraction."""
    if not found:
        return None
    return Extraction(asked=len(found), given_back=sum(any(one["k"] for one in tries) for tries in found.values()))


def _one(row: dict[str, Any]) -> Extracted:
    return Extracted(
        way=row["way"],
        part=row["part"],
        n=row["n"],
        k=row["k"],
        low=row["low"],
        high=row["high"],
        nearest=row["nearest"],
        threshold=row["threshold"],
        p=row["p"],
        file=f"extraction/{PurePosixPath(row['file']).name}",  # of the run, whatever it says
    )
