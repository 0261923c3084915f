"""Neighbours of every point through an index, beside the exact search: recall, cost, memory, and what it does to LID.

    OMP_NUM_THREADS=1 python benchmarks/neighbors.py [--million] [--out FILE]

Sets: clusters of a known dimension in 64 values, 100 of them (2 % of the points are pairs of copies, and 1 % one crowd
of copies); the bundled pictures, varied (mirrored, shifted up to 2 pixels, lighter or darker) to the number wanted, in
64 values (means of 4 x 4 pixels) and as 3 x 32 x 32, with the same copies; a Gaussian of 64 dimensions, for which there
is no good index. Both searches are for 20 neighbours, in one process, taking turns. The index looks all points up; the
exact search looks up 2,000 of them, on which all is compared, and is scaled to all. Seconds are of one thread's
processor time, since that is what a busy machine leaves alone. Memory is the peak of the process above what it held
before (Linux). LID is the censored Hill estimate, error its ratio to that from exact neighbours, at points that are no
copies. Beside it: LID from exact neighbours in a random 20,000 of the points, which is what one did without an index.

Expected before measuring: recall at least 0.985 everywhere (0.99 is asked for, on another sample); LID at most 2 % off
in the median and never by more than half, upwards, since a missed neighbour makes distances long and a long distance
far away matters less than a near one; every copy found at distance 0. The index is no gain at 20,000 points, 4 times
faster at 100,000 and 15 times at 1,000,000 for clusters of dimension 8, half of that for dimension 24 and for pictures,
and 10 % slower than the exact search for the Gaussian, which it ends up with after trying. Memory: the lists, as much
as the data (float32) at 64 values and a thirtieth at 3,072, and the result. A sample of 20,000 of 100,000 finds one
copy in five, and its LID differs by 5 to 10 %.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pointland.demo.unpack import ARCHIVE
from pointland.lid.data import Neighbors, censored_hill, nearest, nearest_among, recall_of

T = TypeVar("T")
Points = NDArray[np.float32]
K, QUERIES, SAMPLE = 20, 2000, 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", action="store_true", help="also 1,000,000 points")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/neighbors.json"))
    settings = parser.parse_args()
    sets: list[tuple[str, int, Callable[[int], Points]]] = [
        ("clusters of dimension 8", 20_000, lambda n: clusters(n, 8)),
        ("clusters of dimension 8", 100_000, lambda n: clusters(n, 8)),
        ("clusters of dimension 24", 100_000, lambda n: clusters(n, 24)),
        ("pictures, 64 values", 100_000, lambda n: pictures(n, 4)),
        ("pictures, 3 x 32 x 32", 25_000, lambda n: pictures(n, 1)),
        ("Gaussian", 50_000, lambda n: clusters(n, 64, 1)),
    ]
    if settings.million:
        sets.append(("clusters of dimension 8", 1_000_000, lambda n: clusters(n, 8)))
    result = {"command": " ".join(["python", *sys.argv]), "k": K, "queries": QUERIES, "machine": machine()}
    rows = []
    for name, n, make in sets:
        rows.append({"set": name, **compared(make(n))})
        print(json.dumps(rows[-1]), flush=True)
        settings.out.write_text(json.dumps({**result, "rows": rows}, indent=2) + "\n")


def compared(points: Points) -> dict[str, object]:
    """Plant copies, search both ways, and compare."""
    n = len(points)
    rng = np.random.default_rng(1)
    deck = rng.permutation(n)
    pairs, crowd = deck[: n // 50].reshape(2, -1), deck[n // 50 : n // 50 + n // 100]
    points[pairs[0]], points[crowd] = points[pairs[1]], points[crowd[0]]
    before = forget_peak()
    seconds, found = timed(lambda: nearest_among(lambda rows: points[rows], n, K))
    grown = held("VmHWM") - before
    some = np.sort(rng.choice(n, QUERIES, replace=False))
    exact_seconds, exact = timed(lambda: nearest(points[some], points, K, exclude=some))
    exact_seconds *= n / QUERIES
    approximate = Neighbors(found.neighbors.distances[some], found.neighbors.indices[some])
    measured = recall_of(approximate, exact)
    sample = np.sort(rng.choice(n, min(n, SAMPLE), replace=False))
    place = np.full(n, -1)
    place[sample] = np.arange(len(sample))
    sampled = nearest(points[some], points[sample], K, exclude=place[some])
    sampled_pairs = nearest(points[pairs[0]], points[sample], 1, exclude=place[pairs[0]])
    return {
        "n": n,
        "values": points.shape[1],
        "recall": round(measured.value, 4),
        "recall_stderr": round(measured.stderr, 4),
        "recall_reported": round(found.recall.value, 4),
        "exact_shards": f"{found.n_exact} of {found.n_shards}",
        "seconds": round(seconds, 1),
        "seconds_exact": round(exact_seconds, 1),
        "ratio": round(exact_seconds / seconds, 2),
        "gib_above_data": round(grown, 2),
        "gib_data": round(points.nbytes / 2**30, 2),
        "lid_exact_median": round(float(np.median(censored_hill(exact, 0.0).value)), 2),
        "lid_error": errors(approximate, exact),
        "lid_error_of_a_sample": errors(sampled, exact),
        "pairs_found": float((found.neighbors.distances[pairs, 0] == 0).mean()),
        "crowd_found": float((found.neighbors.distances[crowd] == 0).mean()),
        "pairs_found_in_a_sample": round(float((sampled_pairs.distances == 0).mean()), 3),
    }


def errors(found: Neighbors, exact: Neighbors) -> dict[str, float]:
    """Compare the LID of two searches at points without copies."""
    alone = exact.distances[:, 0] > 0
    one, other = (censored_hill(Neighbors(*(a[alone] for a in near)), 0.0).value for near in (found, exact))
    off = one / other - 1
    shares = {"median_of_ratio": 1 + float(np.median(off)), "median_off": float(np.median(np.abs(off)))}
    return {name: round(value, 4) for name, value in {**shares, "worst_off": float(np.abs(off).max())}.items()}


def clusters(n: int, dim: int, count: int = 100, d: int = 64) -> Points:
    """Gaussians of a few dimensions, each in directions of its own, with a little noise in all."""
    rng = np.random.default_rng(0)
    centers, axes = 3 * rng.standard_normal((count, d)), rng.standard_normal((count, dim, d))
    of = np.sort(rng.integers(count, size=n))
    points = np.empty((n, d), dtype=np.float32)
    for j in range(count):
        here = slice(*np.searchsorted(of, [j, j + 1]))
        m = here.stop - here.start
        points[here] = centers[j] + rng.standard_normal((m, dim)) @ axes[j] + 0.01 * rng.standard_normal((m, d))
    return np.asarray(points[rng.permutation(n)])


def pictures(n: int, block: int) -> Points:
    """Variations of the bundled pictures, 8-bit, in [0, 1]; one value a block of pixels, or RGB of every pixel."""
    rng = np.random.default_rng(0)
    with np.load(ARCHIVE, allow_pickle=False) as archive:
        gray = archive["images"].astype(np.float32)
    points = np.empty((n, 3072 if block == 1 else (32 // block) ** 2), dtype=np.float32)
    for i in range(n):
        one = gray[i % len(gray), :, :: rng.choice([-1, 1])]
        one = np.roll(one, tuple(rng.integers(-2, 3, 2)), (0, 1)) * rng.uniform(0.8, 1.2)
        one = np.round(np.clip(one, 0, 255)) / 255
        means = one.reshape(32 // block, block, 32 // block, block).mean((1, 3)).ravel()
        points[i] = np.tile(means, 3) if block == 1 else means
    return points


def timed(job: Callable[[], T]) -> tuple[float, T]:
    """Return the processor time of one thread, and what the job returns."""
    started = time.process_time()
    found = job()
    return time.process_time() - started, found


def forget_peak() -> float:
    """Reset the peak memory of the process to what it holds now, and return that in GiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return held("VmRSS")


def held(what: str) -> float:
    """Return memory of the process in GiB: now (VmRSS) or at its peak (VmHWM)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 2**20


def machine() -> dict[str, object]:
    from importlib.metadata import version

    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": model[0].split(": ")[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "faiss": version("faiss-cpu"),
    }


if __name__ == "__main__":
    main()
