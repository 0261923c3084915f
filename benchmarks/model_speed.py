"""What the options of ``load`` and the kept conditions do to the speed of an audit, against a plain float32 model.

    python benchmarks/model_speed.py [--pictures 32] [--rounds 4] [--out benchmarks/model_speed.json]

Every variant and the plain model score the same captioned pictures of the bundled miniature with an audit's default
metrics, and with one conditional evaluation of the network, which is the least that reads captions. They take turns in
one process; a ratio is the median over rounds of plain seconds by the variant's, so above 1 is faster. Seconds are the
processor's, of one thread, so that other work on the machine does not count. The first call, in which a compiled model
is compiled, is measured apart. ``rank`` is Spearman's correlation of the columns with those of the plain model.

Expected, before it was measured, on a processor without half-precision matrix units:

* kept conditions, captions that repeat: nothing is encoded any more: 1.01 of an audit, 1.1 of one evaluation;
* kept conditions, captions met once: each is encoded alone instead of in a batch: 0.98 and 0.9;
* compiled: 1.2 of the calls without gradients, which are half of an audit: 1.1; half a minute to compile;
* channels-last: between 0.9 and 1.1;
* bfloat16: 1.0, float16: 0.5, autocast: 0.8, since the processor computes in float32 and converts; they are for GPUs.
"""

import argparse
import csv
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from pointland.auditing.plan import default_metrics
from pointland.auditing.scoring import score_batch
from pointland.data.picture import Picture, read_picture
from pointland.demo import MINIATURE, unpack
from pointland.model import Model
from pointland.models import load
from pointland.models.diffusers.binding import remembering

SIGMA = 0.3
COLUMNS = ("denoising_loss_unconditional", "denoising_loss_conditional", "flipd_unconditional", "flipd_conditional")
Job = Callable[[Model, Sequence[str]], dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/model_speed.json"))
    settings = parser.parse_args()
    torch.set_num_threads(1)
    plain = load(MINIATURE, device="cpu")
    pictures, captions = read(settings.pictures, plain.codec.size)
    level = plain.levels.nearest(SIGMA).sigma
    metrics = default_metrics(plain, level)
    jobs: dict[str, Job] = {
        "audit": lambda model, texts: audited(model, metrics, pictures, texts),
        "evaluation": lambda model, texts: evaluated(model, pictures, texts, level),
    }
    unique = [f"{caption}, number {i}" for i, caption in enumerate(captions)]
    results: dict[str, Any] = {}
    kept = remembering(plain)
    results["kept conditions, repeated captions"] = compared(jobs, plain, kept, captions, settings.rounds)
    results["kept conditions, captions met once"] = compared(
        jobs, plain, plain, unique, settings.rounds, renew=lambda: remembering(plain)
    )
    variants: dict[str, dict[str, Any]] = {
        "channels-last": {"channels_last": True},
        "bfloat16": {"dtype": "bfloat16"},
        "float16": {"dtype": "float16"},
        "autocast bfloat16": {"autocast": "bfloat16"},
        "autocast float16": {"autocast": "float16"},
        "compiled": {"compiled": True},
    }
    wanted = jobs["audit"](plain, captions)
    for name, options in variants.items():
        model = load(MINIATURE, device="cpu", **options)
        started = time.perf_counter()
        found = jobs["audit"](model, captions)
        first = time.perf_counter() - started
        results[name] = compared(jobs, plain, model, captions, settings.rounds if first < 20 or "comp" in name else 1)
        results[name]["seconds_first_call"] = round(first, 1)
        results[name]["rank"] = {
            column: round(float(spearmanr(found[column], wanted[column]).statistic), 4) for column in COLUMNS
        }
        print(name, json.dumps(results[name]))
    result = {
        "command": "python benchmarks/model_speed.py",
        "speed": results,
        "pictures": settings.pictures,
        "rounds": settings.rounds,
        "seconds_cpu": round(time.process_time()),
        "machine": {"processor": platform.machine(), "threads": 1, "torch": torch.__version__},
    }
    settings.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def read(n: int, size: tuple[int, int]) -> tuple[list[Picture], list[str]]:
    """Return pictures of the demo and their captions."""
    with tempfile.TemporaryDirectory() as folder:
        demo = unpack(Path(folder))
        with (demo.images / "captions.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))[:n]
        pictures = [read_picture(demo.images / row["file_name"], size) for row in rows]
    return pictures, [row["caption"] for row in rows]


def audited(
    model: Model, metrics: Sequence[Any], pictures: Sequence[Picture], captions: Sequence[str]
) -> dict[str, Any]:
    parts = [
        score_batch(model, metrics, pictures[start : start + 16], captions[start : start + 16], 0)
        for start in range(0, len(pictures), 16)
    ]
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def evaluated(model: Model, pictures: Sequence[Picture], captions: Sequence[str], level: float) -> dict[str, Any]:
    images = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
    for start in range(0, len(pictures), 16):
        some = slice(start, start + 16)
        with torch.no_grad():
            model.given(captions[some])(model.codec.encode(images[some]), torch.tensor([level]))
    return {}


def compared(
    jobs: dict[str, Job],
    plain: Model,
    model: Model,
    captions: Sequence[str],
    rounds: int,
    renew: Callable[[], Model] | None = None,
) -> dict[str, Any]:
    """Time both in turns, whoever is first changing; ``renew`` makes the model anew before every round."""
    found: dict[str, Any] = {}
    for job, run in jobs.items():
        ratios = []
        n = rounds if job == "audit" else 4 * rounds
        run(model, captions)
        for turn in range(n):
            this = model if renew is None else renew()
            seconds = {}
            for who, which in ((plain, "plain"), (this, "this"))[:: 1 if turn % 2 else -1]:
                started = time.process_time()
                run(who, captions)
                seconds[which] = time.process_time() - started
            ratios.append(seconds["plain"] / seconds["this"])
        found[job] = {
            "ratio": round(statistics.median(ratios), 3),
            "low": round(min(ratios), 3),
            "high": round(max(ratios), 3),
        }
    return found


if __name__ == "__main__":
    main()
