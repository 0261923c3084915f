"""What an audit costs as pictures become many: time a picture, and peak memory, from 1,000 to 100,000.

    python benchmarks/growth.py [--pictures 1000 10000 100000] [--out benchmarks/growth.json]

Synthetic pictures of 8 x 8 in tar shards, half as many again as reference, a network of one layer, one draw and one
probe: what is measured is everything but the network. Every size runs in a process of its own; its memory is the
largest resident set of that process and, apart, of its largest reader. Expected: time in proportion to n, and memory
that hardly grows, since nothing of a picture outlives its shard but its name (some 60 bytes). The report is measured
apart: it reads all rows, so its memory must grow with them.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SIDE = 8


class Shrink(nn.Module):
    """A network of one layer: it takes pictures for Gaussian."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise."""
        return (x + sigma.reshape(-1, 1, 1, 1) ** 2 * self.mean) / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)


def pictures(n: int, seed: int) -> Iterator[tuple[str, NDArray[np.uint8], str]]:
    rng = np.random.default_rng(seed)
    for i in range(n):
        yield f"{i:08d}", rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), f"a picture of number {i}"


def audited(images: Path, reference: Path, out: Path) -> dict[str, float]:
    """Audit in this process, and say what it took."""
    from pointland.auditing.engine import Progress, audit
    from pointland.models import from_module

    model = from_module(
        Shrink(),
        size=(SIDE, SIDE),
        sigmas=torch.logspace(-2, 1, 100, dtype=torch.float64),
        prediction="sample",
        convention="edm",
    )
    first: list[float] = []
    readers = [0.0]

    def note(state: Progress) -> None:
        if not first:
            first.append(time.monotonic())
        if state.fresh % 640 == 0:
            readers[0] = max(readers[0], *map(peak_mib, children()), 0.0)

    started = time.monotonic()
    run = audit(
        model, images, reference=reference, out=out, sigma=0.5, n_draws=1, n_probes=1, batch_size=64, progress=note
    )
    assert run.finished
    return {
        "seconds": time.monotonic() - started,
        "before_scoring_seconds": first[0] - started,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "reader_peak_mib": readers[0],
    }


def children(tasks: Path = Path("/proc/self/task")) -> list[int]:
    """Return a process's children, as Linux tells them."""
    return [int(number) for task in tasks.glob("*/children") for number in task.read_text().split()]


def peak_mib(process: int) -> float:
    """Return the largest resident set that a process had."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # it ended
        return 0.0
    return next((float(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def reported(out: Path) -> dict[str, float]:
    """Write the report in this process, and say what it took."""
    from pointland.report import write_report

    started = time.monotonic()
    write_report(out)
    return {
        "report_seconds": time.monotonic() - started,
        "report_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/growth.json"))
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.only:
        what, *places = settings.only
        print(json.dumps((audited if what == "audit" else reported)(*map(Path, places))))
        return
    from pointland.data.spool import spooled

    found = []
    for n in settings.pictures:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            spooled(pictures(n, 0), place / "images")
            spooled(pictures(n // 2, 1), place / "reference")
            one: dict[str, float] = {"pictures": n + n // 2}
            for what in (("audit", "images", "reference", "run"), ("report", "run")):
                command = [sys.executable, __file__, "--only", what[0], *(str(place / name) for name in what[1:])]
                said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                one |= json.loads(said.splitlines()[-1])
            one["ms_each"] = 1000 * one["seconds"] / one["pictures"]
            found.append({name: round(value, 3) for name, value in one.items()})
            print(found[-1])
    first, last = found[0], found[-1]
    result = {
        "command": "python benchmarks/growth.py",
        "sizes": found,
        "time_each_last_over_first": round(last["ms_each"] / first["ms_each"], 3),
        "memory_last_over_first": round(last["peak_mib"] / first["peak_mib"], 3),
        "memory_target": 1.1,
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    settings.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
