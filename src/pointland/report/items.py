"""The rows of a run as arrays, one role at a time, and what the user knew beforehand."""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointland.auditing.directory import Run
from pointland.auditing.rows import SCREENED_OUT
from pointland.data.cells import unshielded
from pointland.report.schema import Spread

Floats = NDArray[np.float64]


class Items(NamedTuple):
    """The pictures of one role, in the order of the run.

    Attributes:
        table: Their rows.
        places: Where each stands among all rows of the run.
    """

    table: Any
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def floats(self, name: str) -> Floats:
        """Return a column as numbers, NaN where it is null; all NaN if the run has no such column."""
        if name not in self.table.column_names:
            return np.full(len(self), np.nan)
        return np.asarray(self.table[name].to_numpy(zero_copy_only=False), dtype=np.float64)

    def texts(self, name: str) -> list[str | None]:
        """Return a column as text; all ``None`` if the run has no such column."""
        if name not in self.table.column_names:
            return [None] * len(self)
        texts: list[str | None] = self.table[name].to_pylist()
        return texts

    def screened_out(self) -> NDArray[np.bool_]:
        """Say which pictures a screen found unsuspicious, so that nothing else was measured of them."""
        return np.array([text is not None and SCREENED_OUT in text for text in self.texts("reasons")], dtype=bool)

    def missing(self) -> dict[str, dict[str, int]]:
        """Count the reasons of missing values: column, then reason, then how many."""
        found: dict[str, dict[str, int]] = {}
        for text, n in Counter(self.texts("reasons")).items():
            for column, reason in (json.loads(text) if text else {}).items():
                reasons = found.setdefault(column, {})
                reasons[reason] = reasons.get(reason, 0) + n
        return found


def of_role(run: Run, role: str) -> Items:
    """Return the pictures of one role."""
    if "role" not in run.rows.column_names:
        return Items(run.rows.slice(0, 0), np.empty(0, dtype=np.int64))
    places = np.flatnonzero(np.array(run.rows["role"].to_pylist(), dtype=object) == role)
    return Items(run.rows.take(places), places)


def saved_labels(path: Path) -> dict[str, str]:
    """Read the labels by key that an audit kept, a CSV with the header ``key,label``; empty if there is no file.

    Raises:
        ValueError: If the header lacks one of the two names.
    """
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", errors="backslashreplace", newline="") as stream:
        lines = csv.DictReader(stream)
        if not {"key", "label"} <= set(lines.fieldnames or ()):
            raise ValueError(f"{path.name} has the header {','.join(lines.fieldnames or ())}; it needs key,label")
        said = [(unshielded(line["key"]), unshielded(line["label"] or "").strip()) for line in lines]
    return {key: label for key, label in said if label}


def labels_of(items: Items, labels: Mapping[str, str]) -> list[str | None]:
    """Return the label of every picture, ``None`` where there is none."""
    return [labels.get(key) if key is not None else None for key in items.texts("key")]


def spread(values: Floats) -> Spread:
    """Return median and quartiles of the values that are there."""
    known = values[np.isfinite(values)]
    if not len(known):
        return Spread(n=0, median=None, low=None, high=None)
    low, median, high = np.quantile(known, [0.25, 0.5, 0.75]).tolist()
    return Spread(n=len(known), median=median, low=low, high=high)


def sample(places: Sequence[int] | NDArray[np.int64], limit: int, seed: int) -> NDArray[np.int64]:
    """Return at most ``limit`` of the places, in order, the same ones every time."""
    places = np.asarray(places, dtype=np.int64)
    if len(places) <= limit:
        return places
    return np.sort(np.random.default_rng(seed).choice(places, limit, replace=False))
