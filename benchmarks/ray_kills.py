"""Ray workers and nodes killed at random moments of an audit, and what Ray costs beside the local engine.

    OMP_NUM_THREADS=1 python benchmarks/ray_kills.py [--kills 10] [--pictures 480] [--out benchmarks/ray_kills.json]

A cluster of three nodes on this machine, eight CPUs by Ray's count, half a one for each of four workers. In each run
two are killed with SIGKILL at random moments: worker processes, or whole nodes but the head, which are there again for
the next run. Then the run is compared with an undisturbed local one, byte for byte. Rates are those after as many
shards as there are workers, so that the start of Ray and of its workers, seconds a job, is told apart; the local engine
is measured before and after.
"""

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pointland.auditing import Progress, Run, tasks
from pointland.auditing.engine import audit
from pointland.auditing.local import Engine
from pointland.auditing.parts import DamagedPart, Shape, parts_in, read_part
from pointland.auditing.ray_engine import Ray
from pointland.demo import MINIATURE, Demo
from pointland.models import load

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the cluster is that of the tests

from cluster import cluster, kill_node, scorers
from miniatures import cut

NODES = (2, 3, 3)
KILLS_A_RUN = 2


class Watch:
    """Rates of a run, and kills during it."""

    def __init__(self, moments: list[float], kill: Any) -> None:
        self.times: list[tuple[int, float]] = []
        self.kills: list[str] = []
        self._moments, self._kill = moments, kill
        self._thread = threading.Thread(target=self._strike, daemon=True)
        self._over = threading.Event()

    def __call__(self, state: Progress) -> None:
        """Take note of progress."""
        if state.fresh and not self.times:
            self._thread.start()
        if state.fresh:
            self.times.append((state.fresh, time.monotonic()))

    def end(self) -> None:
        """Kill no more."""
        self._over.set()
        self._thread.join()

    def rate(self, workers: int) -> float:
        """Pictures a second after the first shard of each worker."""
        (first, began), (last, ended) = self.times[self._after(workers)], self.times[-1]
        return (last - first) / (ended - began)

    def _after(self, workers: int) -> int:
        return next(i for i, (fresh, _) in enumerate(self.times) if fresh >= workers * tasks.SHARD)

    def _strike(self) -> None:
        began = time.monotonic()
        for moment in sorted(self._moments):
            if self._over.wait(max(0.0, began + moment - time.monotonic())):
                return
            self.kills += self._kill(self._over)


def run(demo: Demo, out: Path, engine: Engine | None, watch: Watch) -> tuple[Run, float]:
    there = partial(load, MINIATURE, device="cpu")
    settings: dict[str, Any] = {"sigma": 0.3, "n_draws": 4, "n_probes": 2, "batch_size": 8}
    began = time.monotonic()
    found = audit(there(), demo.images, out=out, reference=demo.reference, engine=engine, progress=watch, **settings)
    seconds = time.monotonic() - began
    watch.end()
    return found, seconds


def damage(found: Run, wanted: Run) -> dict[str, int]:
    """Count rows lost, twice, changed, and files that cannot be read."""
    shape, corrupt = Shape.of(found.record), 0
    for name in parts_in(found.folder).values():
        try:
            read_part(found.folder, name, shape.columns)
        except DamagedPart:
            corrupt += 1
    keys = Counter(zip(found.rows["role"].to_pylist(), found.rows["key"].to_pylist(), strict=True))
    due = {*zip(wanted.rows["role"].to_pylist(), wanted.rows["key"].to_pylist(), strict=True)}
    different = [
        path.name
        for path in wanted.folder.glob("*/part-*")
        if path.read_bytes() != (found.folder / path.relative_to(wanted.folder)).read_bytes()
    ]
    return {
        "lost": len(due - keys.keys()),
        "twice": sum(n > 1 for n in keys.values()),
        "corrupt_files": corrupt,
        "files_that_differ": len(different),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--pictures", type=int, default=480)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/ray_kills.json"))
    settings = parser.parse_args()
    torch.set_num_threads(1)
    tasks.SHARD = 16
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        demo = cut(place, settings.pictures // 2, settings.pictures // 2)
        there = partial(load, MINIATURE, device="cpu")
        engines: dict[str, Ray | None] = {"local": None}
        engines |= {f"ray-{workers}": Ray(workers, threads=1, load=there) for workers in (1, 2, 4)}
        engines["local again"] = None
        rates: dict[str, dict[str, float]] = {}
        totals: Counter[str] = Counter()
        kinds: Counter[str] = Counter()
        runs = 0
        with cluster(NODES) as nodes:
            for name, engine in engines.items():
                watch = Watch([], None)
                found, seconds = run(demo, place / name, engine, watch)
                rates[name] = {"pictures_a_second": watch.rate(engine.workers if engine else 1), "seconds": seconds}
                if name == "local":
                    wanted = found
                totals.update(damage(found, wanted))
                print(name, rates[name], flush=True)
            length = settings.pictures / rates["ray-4"]["pictures_a_second"]

            def kill(over: threading.Event) -> list[str]:
                if chance.random() < 0.5 and nodes.worker_nodes:
                    kill_node(nodes, chance.randrange(len(nodes.worker_nodes)))
                    return ["node"]
                while not (alive := scorers()):
                    if over.wait(0.1):
                        return []
                os.kill(chance.choice(alive), signal.SIGKILL)
                return ["worker"]

            while sum(kinds.values()) < settings.kills:
                moments = [chance.uniform(0, 0.8 * length) for _ in range(KILLS_A_RUN)]
                watch = Watch(moments, kill)
                found, _ = run(demo, place / f"killed-{runs}", Ray(4, threads=1, load=there), watch)
                totals.update(damage(found, wanted))
                kinds.update(watch.kills)
                runs += 1
                print(f"{dict(kinds)} killed in {runs} runs: {dict(totals)}", flush=True)
                while len(nodes.worker_nodes) < len(NODES) - 1:
                    nodes.add_node(num_cpus=NODES[-1])  # from this thread, since Ray sets signal handlers
    base = (rates["local"]["pictures_a_second"] + rates["local again"]["pictures_a_second"]) / 2
    result = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/ray_kills.py",
        "kills": dict(kinds),
        "runs_with_kills": runs,
        "rows": settings.pictures,
        **{name: totals[name] for name in ("lost", "twice", "corrupt_files", "files_that_differ")},
        "engines": {
            name: {
                "pictures_a_second": round(rate["pictures_a_second"], 2),
                "ratio_to_local": round(rate["pictures_a_second"] / base, 3),
                "seconds_with_start": round(rate["seconds"], 1),
            }
            for name, rate in rates.items()
        },
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[2],
            "torch": torch.__version__,
        },
    }
    settings.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
