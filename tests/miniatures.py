"""Small folders cut from the bundled miniature's pictures, for tests of the real path."""

import csv
import shutil
from pathlib import Path

from pointland.demo import Demo, unpack


def cut(folder: Path, n: int, n_reference: int) -> Demo:
    """Unpack the demo and keep the first ``n`` pictures and ``n_reference`` of the reference."""
    whole = unpack(folder / "everything")
    small = Demo(folder / "images", folder / "held_out", folder / "disjoint", folder / "labels.csv")
    for source, target, count in ((whole.images, small.images, n), (whole.reference, small.reference, n_reference)):
        target.mkdir()
        with (source / "captions.csv").open(newline="") as stream:
            rows = list(csv.reader(stream))[: count + 1]
        with (target / "captions.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
        for name, _ in rows[1:]:
            shutil.copy(source / name, target / name)
    with whole.labels.open(newline="") as stream:
        rows = [row for row in csv.reader(stream) if row[0] == "key" or (small.images / row[0]).exists()]
    with small.labels.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return small
