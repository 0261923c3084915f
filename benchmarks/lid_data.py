"""What the estimators of data LID cost beside scikit-dimension's: same points, same process, taking turns.

    OMP_NUM_THREADS=1 python benchmarks/lid_data.py [--n 20000] [--slow-points 30] [--rounds 3] [--out FILE]

Both get the same neighbours for ESS and local PCA, where the oracle takes seconds for a hundred points: it is timed on
a few (local PCA on ten times as many), ours on more, and both are scaled to a point. MLE is timed whole, search
included. scikit-dimension has no queries: to know 1,000 points it must do all, so its time for 1,000 queries is its
time for the whole set. For MLE, local PCA and ESS together it searches three times, ours once. Memory is the peak of
the process above what it held before (Linux).
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from pointland.lid.data import Mle, Neighbors, ess, local_pca, mle, nearest

T = TypeVar("T")
Rows = NDArray[np.float64]
TARGETS = {
    "ess, D = 784": 50,
    "ess, D = 32": 400,
    "local PCA, D = 784": 5,
    "local PCA, D = 32": 10,
    "MLE, D = 784": 1,
    "MLE, D = 32": 1,
    "1,000 queries, D = 784": 20,
    "MLE + local PCA + ESS, D = 784": 30,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--slow-points", type=int, default=30, help="points that the slow oracle is timed on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--million", action="store_true", help="also search 1,000,000 x 64 for 2,048 queries")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/lid_data.json"))
    settings = parser.parse_args()
    data = {d: points(settings.n, 8, d) for d in (784, 32)}
    memory = {f"D = {d}": round(memory_of(x), 3) for d, x in data.items()}
    seconds: dict[str, dict[str, list[float]]] = {}
    for _ in range(settings.rounds):
        for d, x in data.items():
            for name, (ours, theirs) in round_of(x, d, settings.slow_points).items():
                found = seconds.setdefault(name, {"ours": [], "scikit-dimension": []})
                found["ours"].append(ours)
                found["scikit-dimension"].append(theirs)
    rows = []
    for name, found in seconds.items():
        ratios = [b / a for a, b in zip(found["ours"], found["scikit-dimension"], strict=True)]
        row = {
            "what": name,
            "ratio": round(statistics.median(ratios), 2),
            "low": round(min(ratios), 2),
            "high": round(max(ratios), 2),
            "target": TARGETS[name],
            "seconds_ours": float(f"{statistics.median(found['ours']):.4g}"),
            "seconds_scikit_dimension": float(f"{statistics.median(found['scikit-dimension']):.4g}"),
        }
        rows.append(row)
        met = "met" if statistics.median(ratios) >= TARGETS[name] else "MISSED"
        print(f"{name:34} {row['ratio']:8} times (target {TARGETS[name]}, {met})")
    for name, gigabytes in memory.items():
        print(f"{'memory above the data, ' + name:34} {gigabytes:8.2f} GiB  (target 1)")
    result: dict[str, object] = {
        "command": " ".join(["python", *sys.argv]),
        "n": settings.n,
        "rounds": settings.rounds,
        "slow_points": settings.slow_points,
        "ratios": rows,
        "memory_gib_above_data": memory,
        "machine": machine(),
    }
    if settings.million:
        result["million"] = million()
        print(json.dumps(result["million"]))
    settings.out.write_text(json.dumps(result, indent=2) + "\n")


def points(n: int, dim: int, d: int) -> Rows:
    """A Gaussian of a few dimensions with noise in all."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, dim)) @ rng.standard_normal((dim, d)) + 0.01 * rng.standard_normal((n, d))


def round_of(x: Rows, d: int, slow_points: int) -> dict[str, tuple[float, float]]:
    """Time every comparison once: seconds of ours, seconds of scikit-dimension's, each for what the name says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skdim = import_module("skdim")
    n, everyone = len(x), np.arange(len(x))
    mle_ours, _ = timed(lambda: Mle(20)(x, x, everyone))
    mle_theirs, _ = timed(lambda: skdim.id.MLE().fit(x, n_neighbors=20))
    search_ours, near = timed(lambda: nearest(x, x, 100, exclude=everyone))
    some, few, more = (
        first(near, min(n, 100 * slow_points)),
        near.indices[:slow_points],
        near.indices[: 10 * slow_points],
    )
    ess_ours = timed(lambda: ess(some, x))[0] / len(some.indices)
    pca_ours = timed(lambda: local_pca(some, x))[0] / len(some.indices)
    oracle = skdim.id.ESS(random_state=0)
    ess_theirs = timed(lambda: [oracle.fit_once(x[row]).dimension_ for row in few])[0] / len(few)
    pca_theirs = timed(lambda: [skdim.id.lPCA().fit(x[row]).dimension_ for row in more])[0] / len(more)
    found = {
        f"ess, D = {d}": (ess_ours, ess_theirs),
        f"local PCA, D = {d}": (pca_ours, pca_theirs),
        f"MLE, D = {d}": (mle_ours, mle_theirs),
    }
    if d == 784:
        search_theirs, _ = timed(lambda: NearestNeighbors(n_neighbors=100).fit(x).kneighbors())
        queries_ours = statistics.median(timed(lambda: Mle(20)(x[:1000], x, everyone[:1000]))[0] for _ in range(5))
        found[f"1,000 queries, D = {d}"] = (queries_ours, mle_theirs)
        found[f"MLE + local PCA + ESS, D = {d}"] = (
            search_ours + timed(lambda: mle(near, 20))[0] + n * (ess_ours + pca_ours),
            mle_theirs + 2 * search_theirs + n * (ess_theirs + pca_theirs),
        )
    return found


def timed(job: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    found = job()
    return time.perf_counter() - started, found


def first(near: Neighbors, q: int) -> Neighbors:
    return Neighbors(near.distances[:q], near.indices[:q])


def memory_of(x: Rows) -> float:
    """Return by how many GiB the process grows to run everything of ours on ``x``."""
    before = forget_peak()
    near = nearest(x, x, 100, exclude=np.arange(len(x)))
    mle(near, 20)
    some = first(near, 1000)
    ess(some, x)
    local_pca(some, x)
    return held("VmHWM") - before


def forget_peak() -> float:
    """Reset the peak memory of the process to what it holds now, and return that in GiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return held("VmRSS")


def held(what: str) -> float:
    """Return memory of the process in GiB: now (VmRSS) or at its peak (VmHWM)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 2**20


def million() -> dict[str, float]:
    """Time 2,048 queries against 1,000,000 x 64 float32 points, and scale to all."""
    x = points(1_000_000, 8, 64).astype(np.float32)
    before = forget_peak()
    seconds, _ = timed(lambda: nearest(x[:2048], x, 20, exclude=np.arange(2048)))
    grown = held("VmHWM") - before
    return {
        "seconds_2048_queries": round(seconds, 2),
        "hours_all_queries_extrapolated": round(seconds / 2048 * 1e6 / 3600, 2),
        "memory_gib_above_data": round(grown, 3),
    }


def machine() -> dict[str, object]:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": model[0].split(": ")[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


if __name__ == "__main__":
    main()
