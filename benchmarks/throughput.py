"""What an audit costs beside its network: at least 90 % of the network's own pictures a second is the target.

    python benchmarks/throughput.py [--pictures 20000] [--rounds 5] [--out benchmarks/throughput.json]

The audit is the default one of the bundled miniature, with captions, from tar shards of 20,000 pictures to committed
rows: listing, reading and decoding in processes, autoencoder, text encoder, draws, rows, files. The network alone makes
the very same calls, both conditions together: 8 denoised draws, and one value with the products of 4 probes, on points,
conditions and noise that lie in memory. Both run on the same number of threads. Machines are noisy, so the network is
measured before, several times amid and after the audit, and the median counts; where others use the processor too, the
ratio of processor seconds (readers included) is the one to trust. Expected: 92 to 96 %; reading takes a core's 1 to 2
ms a picture, the network some 30.
"""

import argparse
import json
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pointland import derivatives, draws
from pointland.auditing.engine import Progress, audit
from pointland.auditing.local import Local
from pointland.auditing.plan import default_metrics
from pointland.data.picture import Picture
from pointland.data.source import pictures
from pointland.data.sources import open_source
from pointland.data.spool import spooled
from pointland.demo import MINIATURE, unpack
from pointland.metrics.evaluations import Evaluations
from pointland.models import load
from pointland.models.diffusers import Family

BATCH = 16
SIGMA = 0.3


def many(folder: Path, n: int) -> Iterator[tuple[str, NDArray[np.uint8], str]]:
    """Yield pictures like the miniature's, no two the same: its own with a little noise, and their captions."""
    demo = unpack(folder)
    source = open_source(demo.images)
    known = [
        (picture.pixels, item.caption or "")
        for item, picture in pictures(source, source.items(), (32, 32))
        if isinstance(picture, Picture)
    ]
    rng = np.random.default_rng(0)
    for i in range(n):
        pixels, caption = known[i % len(known)]
        noisy = pixels.astype(np.int16) + rng.integers(-4, 5, pixels.shape)
        yield f"{i:06d}", noisy.clip(0, 255).astype(np.uint8).transpose(1, 2, 0), caption


class Rate(NamedTuple):
    """Pictures a second of wall and of processor time."""

    wall: float
    processor: float


def processor_seconds() -> float:
    """Return what this process and its ended children used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def network_alone(model: Family, batches: int) -> Callable[[], Rate]:
    """Return a function that gives the rate of the network's calls alone."""
    level = model.levels.nearest(SIGMA).sigma
    captions: list[str | None] = [f"a caption {i}" for i in range(BATCH)]
    keys = [str(i) for i in range(BATCH)]
    images = torch.randint(0, 256, (BATCH, 3, *model.codec.size), dtype=torch.uint8)
    batch = Evaluations(model, images, model.codec.encode(images), keys, captions, 0)
    twice = batch.x.repeat(2, *(1,) * (batch.x.ndim - 1))
    noised = [twice + level * noise.repeat(2, 1, 1, 1) for noise in draws.normal(batch.x, keys, 8, 0)]
    probes = batch.probes(4).repeat(1, 2, 1, 1, 1)
    nothing: list[str | None] = [None] * BATCH
    denoise, sigma = model.given([*nothing, *captions]), torch.tensor([level])

    def measured() -> Rate:
        started, used = time.perf_counter(), processor_seconds()
        for _ in range(batches):
            with torch.no_grad():
                for x in noised:
                    denoise(x, sigma)
            derivatives.products(denoise, twice, sigma, probes=probes, method="vjp")
        n = batches * BATCH
        return Rate(n / (time.perf_counter() - started), n / (processor_seconds() - used))

    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5, help="how often the network alone is measured")
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/throughput.json"))
    settings = parser.parse_args()
    model = load(MINIATURE, device="cpu")
    metrics = default_metrics(model, model.levels.nearest(SIGMA).sigma)
    alone = network_alone(model, 16)
    alone()
    rates, paused, paused_used = [alone()], 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        spooled(many(Path(folder) / "demo", settings.pictures), Path(folder) / "shards")
        began: list[float] = []

        def between(state: Progress) -> None:
            nonlocal paused, paused_used
            if not began:
                began.append(time.perf_counter())
            if state.done >= len(rates) * state.total / settings.rounds and state.done < state.total:
                started, used = time.perf_counter(), processor_seconds()
                rates.append(alone())
                paused += time.perf_counter() - started
                paused_used += processor_seconds() - used

        started, used = time.perf_counter(), processor_seconds()
        audit(
            model,
            Path(folder) / "shards",
            out=Path(folder) / "run",
            metrics=metrics,
            sigma=SIGMA,
            batch_size=BATCH,
            engine=Local(settings.readers),
            progress=between,
        )
        seconds = time.perf_counter() - started - paused
        used = processor_seconds() - used - paused_used
    rates.append(alone())
    rate = statistics.median(one.wall for one in rates)
    rate_used = statistics.median(one.processor for one in rates)
    result = {
        "command": "python benchmarks/throughput.py",
        "pictures": settings.pictures,
        "audit_pictures_a_second": round(settings.pictures / seconds, 3),
        "network_pictures_a_second": [round(one.wall, 3) for one in rates],
        "ratio": round(settings.pictures / seconds / rate, 3),
        "audit_pictures_a_processor_second": round(settings.pictures / used, 3),
        "network_pictures_a_processor_second": [round(one.processor, 3) for one in rates],
        "ratio_of_processor_seconds": round(settings.pictures / used / rate_used, 3),
        "before_scoring_seconds": round(began[0] - started, 3) if began else None,
        "target": 0.9,
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    settings.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
