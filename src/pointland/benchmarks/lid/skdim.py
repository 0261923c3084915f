r"""Suite ``skdim``: the 24 manifolds of scikit-dimension, estimated from data alone.

``BenchmarkManifolds`` collects the sets of Hein & Audibert 2005 and Campadelli et al. 2015; scikit-dimension and
pandas are needed, the first is in the extra ``test``. There is no network here: with one dimension a set and 2,500
points they measure what a neighbourhood shows.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pointland.benchmarks.lid.estimators import from_data
from pointland.benchmarks.lid.result import ERROR, Result, Row, Table, Target
from pointland.benchmarks.lid.suites import NotInstalled, Say, Settings

N_POINTS = 2500


def run(settings: Settings, say: Say) -> Result:
    """Run the suite: two to three minutes on one core.

    Raises:
        NotInstalled: If scikit-dimension or pandas is missing; the message says what to install.
    """
    table = errors_on(manifolds(N_POINTS, settings.seed), say)
    averages = table.average
    targets = (
        Target("ess: average error, against that of mle k=20", averages["ess"], "at most", averages["mle k=20"]),
    )
    notes = (
        f"{N_POINTS:,} points a set, every estimator at its defaults, measured at all points.",
        "No target is published for these sets; the table says where each estimator is wrong. M6, M8 and Mn* repeat "
        "columns; M10d has 70 dimensions, which 2,500 points cannot show.",
    )
    return Result("skdim", {"seed": settings.seed, "points": N_POINTS}, (table,), targets, notes)


def manifolds(n: int, seed: int) -> dict[str, tuple[int, NDArray[np.float64]]]:
    """Return dimension and points of every set."""
    try:
        import pandas  # type: ignore[import-untyped]  # noqa: F401  # no stubs; scikit-dimension imports it only when asked for these sets
        from skdim.datasets import BenchmarkManifolds  # type: ignore[import-untyped]  # it has none
    except ImportError as error:
        raise NotInstalled(
            f"suite skdim takes its manifolds from scikit-dimension, and {error.name} is missing; "
            "install it with: pip install 'pointland[test]' pandas"
        ) from error
    source = BenchmarkManifolds(random_state=seed)
    sizes = [(str(name), int(lid), int(d)) for name, (lid, d, *_) in source.truth.T.items()]
    return {
        name: (lid, np.asarray(source.generate(name, n=n, dim=d, d=lid), dtype=np.float64)) for name, lid, d in sizes
    }


def errors_on(sets: Mapping[str, tuple[int, NDArray[np.float64]]], say: Say) -> Table:
    """Measure every estimator from data on every set."""
    rows = []
    for name, (lid, data) in sets.items():
        say(f"{name}: {len(data):,} points of dimension {lid} in {data.shape[1]}")
        values = {}
        for key, estimate in from_data().items():
            found = estimate(data)
            finite = np.isfinite(found)
            if finite.all():
                values[key] = float(np.abs(found - lid).mean())
        rows.append(Row(name, str(lid), data.shape[1], values))
    return Table("manifolds of scikit-dimension, from data", ERROR, tuple(rows), averaged=True)
