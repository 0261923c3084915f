"""When the monitor alarms, against when the first copy comes out; and what it costs.

    python benchmarks/monitor_training.py --data /usr/share/datasets/fashion-mnist --out build/monitor
    python benchmarks/monitor.py --trainings build/monitor

For every training of ``monitor_training.py``, at every snapshot:

- the monitor reads 256 pictures of the training stream (drawn as batches are, so that a picture repeated 50 times is 50
  times as likely; each once) against 256 pictures never trained on; from the readings at every 100 steps those at 200,
  500 and 1,000 are derived, each with its own alarm;
- samples are asked for by the captions of the most repeated pictures (4 each) and without a caption (64). A copy is a
  sample whose distance to its picture, over the mean distance to 20 other training pictures (Carlini et al. 2023), is
  below a half, or below a third.

The cost is one reading over so many training steps, in one process.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monitor_training import NUMBERS, SEEDS, asked_for, model_of, only_once, parts, redealt, vectors
from pointland.demo.plant import Planted, plant
from pointland.demo.train import network, train_network
from pointland.extraction.comparing import NEIGHBORS
from pointland.extraction.sampling import sample
from pointland.lid.scale import PAPER_SIGMA
from pointland.metrics.png_size import png_bytes
from pointland.model import Model
from pointland.monitoring import Monitor, Reading
from pointland.monitoring.drawing import as_svg
from pointland.monitoring.reading import reading_of

PROBES, PER_CAPTION, FREE = 256, 4, 64
PERIODS = (100, 200, 500, 1000)
SIGMAS = (round(PAPER_SIGMA, 3), 1.0)
ASKED_FROM = 500  # before, a network gives no pictures yet


def pictures(planted: Planted, places: np.ndarray) -> torch.Tensor:
    """Return pictures as byte tensors in three channels."""
    return torch.from_numpy(planted.images[places])[:, None].expand(-1, 3, -1, -1).contiguous()


def sides(planted: Planted, seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the training pictures that are followed, drawn as batches are, and of the held-out ones."""
    rng = np.random.default_rng((seed, 11))
    stream = np.repeat(np.arange(len(planted.copies)), planted.copies)
    unseen = np.flatnonzero(np.isin(np.array(planted.groups), ("held_out", "disjoint")))
    return np.unique(rng.choice(stream, min(n, len(stream)), replace=False)), rng.choice(unseen, n, replace=False)


def distances(model: Model, planted: Planted, places: np.ndarray, draws: int) -> np.ndarray:
    """Ask by the captions of these pictures; return each sample's calibrated distance to it, ``(n, draws)``."""
    captions, keys = [planted.captions[i] for i in places], [str(i) for i in places]
    shape = torch.zeros(len(places), 8, 8, 8)
    found = []
    for draw in range(draws):
        made = vectors(
            model.codec.decode(sample(model, shape, captions, keys, "caption", draw, sigma=1.0))[:, 0].numpy()
        )
        found.append(np.diag(to_pictures(planted, made, places)))
    return np.stack(found, 1)


def to_pictures(planted: Planted, made: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return calibrated distances of samples to pictures ``(samples, pictures)``: over that to 20 other pictures."""
    others = vectors(planted.images[np.flatnonzero(planted.copies > 0)])
    square = np.maximum((made**2).sum(1)[:, None] + (others**2).sum(1) - 2 * made @ others.T, 0)
    nearest = np.sqrt(np.partition(square, NEIGHBORS, axis=1)[:, 1 : NEIGHBORS + 1]).mean(1)  # the first may be itself
    asked = vectors(planted.images[places])
    near: np.ndarray = np.linalg.norm(made[:, None] - asked[None], axis=2)
    return np.asarray(near / nearest[:, None])


def watched(folder: Path, planted: Planted, seed: int) -> dict[str, Any]:
    """Read one training."""
    vae, tokens, scheduler = parts()
    nets = network(len(tokens), tokens.eos_token_id)
    train, held_out = sides(planted, seed, PROBES)
    most = asked_for(planted)
    monitors = {
        sigma: Monitor(
            pictures(planted, train),
            pictures(planted, held_out),
            every=100,
            sigma=sigma,
            record=folder / f"readings-{sigma:g}.jsonl",
        )
        for sigma in SIGMAS
    }
    complexity = np.log([float(png_bytes(one)) for one in pictures(planted, np.r_[train, held_out]).numpy()])
    looks: list[dict[str, Any]] = []
    for file in sorted((folder / "snapshots").glob("*.pt")):
        nets.load_state_dict({name: value.float() for name, value in torch.load(file, weights_only=True).items()})
        model, step = model_of(nets, vae, tokens, scheduler), int(file.stem)
        for monitor in monitors.values():
            monitor(step, model)
        if step < ASKED_FROM:
            continue
        looks.append({"step": step, **asked(folder / f"asked-{step:05d}.npz", model, planted, most)})
        nearest = {name: round(float(looks[-1][name].min()), 2) for name in ("captioned", "free")}
        print(folder.name, step, nearest, f"gap {monitors[SIGMAS[0]].readings[-1].gap:.2f}", flush=True)
    bounds = {"half": 0.5, "third": 1 / 3}
    return {
        "pictures_an_epoch": int(planted.copies.sum()),
        "asked_for": len(most),
        "first_copy": {
            name: {
                way: next((look["step"] for look in looks if (look[way] < bound).any()), None)
                for way in ("captioned", "free")
            }
            for name, bound in bounds.items()
        },
        "alarm": {
            f"{sigma:g}": {str(every): alarm(one.readings, complexity, every, one.rate) for every in PERIODS}
            for sigma, one in monitors.items()
        },
        "samples": [
            {
                "step": look["step"],
                "nearest": {way: round(float(look[way].min()), 3) for way in ("captioned", "free")},
                "copies": {name: float((look["captioned"] < bound).mean()) for name, bound in bounds.items()},
            }
            for look in looks
        ],
        "readings": {f"{sigma:g}": [shown(one) for one in monitor.readings] for sigma, monitor in monitors.items()},
    }


def asked(file: Path, model: Model, planted: Planted, most: np.ndarray) -> dict[str, np.ndarray]:
    """Return calibrated distances of samples, by caption and without one (to the nearest picture); kept in a file."""
    if not file.exists():
        with torch.no_grad():
            keys = [f"free {i}" for i in range(FREE)]
            free = sample(model, torch.zeros(FREE, 8, 8, 8), [], keys, "free", 0, sigma=1.0)
        near = to_pictures(planted, vectors(model.codec.decode(free)[:, 0].numpy()), most).min(1)
        np.savez(file, captioned=distances(model, planted, most, PER_CAPTION), free=near)
    with np.load(file) as kept:
        return dict(kept)


def alarm(readings: list[Reading], complexity: np.ndarray, every: int, rate: float) -> int | None:
    """Return the step at which a monitor that reads so seldom alarms."""
    kept: list[Reading] = []
    for one in readings:
        if one.step % every == 0:
            kept.append(reading_of(one.step, one.lids, complexity, kept, rate))
    return next((one.step for one in kept if one.alarm), None)


def shown(reading: Reading) -> dict[str, float]:
    """Return what of a reading is kept."""
    names = ("step", "train", "held_out", "gap", "low", "high", "p")
    return {name: float(f"{getattr(reading, name):.4g}") for name in names}


def overhead(planted: Planted, out: Path) -> dict[str, float]:
    """Time readings and training steps by turns; the share is of a reading every 1,000 steps."""
    vae, tokens, scheduler = parts()
    train, held_out = (pictures(planted, places) for places in sides(planted, 1, PROBES))
    monitor = Monitor(train, held_out)
    steps: list[float] = []
    readings: list[float] = []
    last = [time.perf_counter()]

    def watch(step: int, nets: torch.nn.ModuleList) -> bool:
        steps.append(time.perf_counter() - last[0])
        if step % 10 == 0:
            readings.append(monitor.read(step, model_of(nets, vae, tokens, scheduler)).seconds)
        last[0] = time.perf_counter()
        return step >= 80

    out.mkdir(parents=True, exist_ok=True)
    train_network(planted, vae, tokens, 26.0, out, 0, watch)
    step, reading = float(np.median(steps[10:])), float(np.median(readings[1:]))
    return {"step_seconds": step, "reading_seconds": reading, "share_at_1000": reading / (1000 * step)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--trainings", type=Path, default=Path("build/monitor"))
    parser.add_argument("--only", nargs="*", help="names of trainings")
    parser.add_argument(
        "--chart", type=Path, help="draw the readings of planted-1 into this SVG file, and nothing else"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    settings = parser.parse_args()
    if settings.chart:
        record = settings.trainings / "planted-1" / f"readings-{SIGMAS[0]:g}.jsonl"
        settings.chart.write_text(as_svg(Monitor([], [], sigma=SIGMAS[0], record=record).readings), encoding="utf-8")
        return
    torch.set_num_threads(1)
    dealt = plant(settings.data)
    runs = {f"planted-{seed}": (redealt(dealt, seed), seed) for seed in SEEDS}
    runs |= {f"once-{n}": (only_once(dealt, n), n) for n in NUMBERS}
    found = json.loads(settings.out.read_text()) if settings.out.exists() else {"trainings": {}}
    for name in settings.only or runs:
        found["trainings"][name] = watched(settings.trainings / name, *runs[name])
        settings.out.write_text(json.dumps(found, indent=1) + "\n")
    found["command"] = "python benchmarks/monitor_training.py; python benchmarks/monitor.py"
    found["overhead"] = overhead(runs["planted-1"][0], settings.trainings / "overhead")
    found["machine"] = {"processor": platform.machine(), "torch": torch.__version__, "threads": 1}
    settings.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
