"""Copies among the pictures of a run: exact ones by their hash, near ones by how they look."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointland.auditing.directory import Run
from pointland.metrics.near_copies import copy_groups
from pointland.report.schema import Copy, CopyCounts
from pointland.report.words import clean

Places = NDArray[np.int64]


class CopyGroups(NamedTuple):
    """For every row of a run the number of its group, -1 where it is alone."""

    exact: Places
    near: Places


def groups_of(run: Run) -> CopyGroups:
    """Group the rows of a run by what they are copies of."""
    if not run.rows.num_rows:
        return CopyGroups(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    found = copy_groups(run.rows["sha256"].to_pylist(), run.rows["perceptual_hash"].to_pylist())
    return CopyGroups(np.asarray(found.exact, dtype=np.int64), np.asarray(found.near, dtype=np.int64))


def count(groups: CopyGroups, n_overlapping: int) -> CopyCounts:
    """Count groups and their pictures, beside the reference pictures that were left out as copies of audited ones."""
    exact, near = groups
    return CopyCounts(
        exact_groups=len(np.unique(exact[exact >= 0])),
        exact_pictures=int((exact >= 0).sum()),
        near_groups=len(np.unique(near[near >= 0])),
        near_pictures=int((near >= 0).sum()),
        across=n_overlapping,
    )


def members(groups: CopyGroups, places: Places) -> dict[str, dict[int, list[int]]]:
    """Members of the groups that the given places belong to."""
    found: dict[str, dict[int, list[int]]] = {}
    for kind, number in (("exact", groups.exact), ("near", groups.near)):
        wanted = np.unique(number[places])
        inside = np.flatnonzero(np.isin(number, wanted[wanted >= 0]))
        found[kind] = {}
        for place in inside.tolist():
            found[kind].setdefault(int(number[place]), []).append(place)
    return found


def copy_of(run: Run, place: int, exact: bool) -> Copy:
    """Describe the picture at one place as a copy of another."""
    row = run.rows.slice(place, 1).to_pylist()[0]
    return Copy(key=clean(row["key"]), role=row["role"], file=row["file"], exact=exact)
