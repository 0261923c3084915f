"""One network evaluation a picture: which one leaves the planted copies in the suspicious tenth, and what it costs.

    OMP_NUM_THREADS=1 python benchmarks/screening.py [PIPELINE ...] [--work FOLDER] [--out FILE]

Two sets of the miniature's pictures are screened. ``demo`` is the demo's own audited folder: 1,300 pictures, of which
40 are verbatim copies (20 or 50 an epoch), 60 were seen 2 to 10 times, and 400 are templates, too many for a tenth.
``rare`` is 1,540 pictures in which what is memorized is rare: 800 seen once, 400 never seen, 200 simple ones, the same
copies, 20 templates and 20 near copies.

*candidates*: the share of each planted group among the lowest tenth by rank, for every single evaluation that could
screen: the denoising loss with one draw (mean and minimum over draws) and the residual at the picture, at the audit's
sigma and around it, with and without captions. *thresholds*: the same under a threshold from a sample, over 200
samples. *forwards*: rows that went through the network, counted there, over the pictures; the sample's included.

Target: at most 1.15 forwards a picture, and 0.99 of the verbatim copies in the kept tenth.
"""

import argparse
import csv
import json
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pointland import draws
from pointland.auditing.plan import cost, default_metrics
from pointland.auditing.settle import settle
from pointland.auditing.tasks import tasks_of
from pointland.demo import MINIATURE, Demo, unpack
from pointland.lid.flipd import squared_residual
from pointland.metrics import Evaluations, Screen
from pointland.metrics.screen import SHARE, sample_size, suspicious, threshold
from pointland.models import load
from pointland.models.diffusers.stable_diffusion import StableDiffusion

BATCH = 100
DRAWS, SAMPLES = 5, 200
VERBATIM = ("x20", "x50")
GROUPS = ("verbatim", "x10", "x5", "template", "near")
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


class Pictures:
    """Encoded pictures with what is known of them."""

    def __init__(self, model: StableDiffusion, demo: Demo) -> None:
        with demo.labels.open(newline="") as stream:
            label_of = {row["key"]: row["label"] for row in csv.DictReader(stream)}
        files, captions = [], []
        for place in (demo.images, demo.disjoint):
            with (place / "captions.csv").open(newline="") as stream:
                for row in csv.DictReader(stream):
                    files.append(place / row["file_name"])
                    captions.append(row["caption"])
        pixels = [np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1) for file in files]
        self.model = model
        self.images = torch.from_numpy(np.stack(pixels))
        self.x = torch.cat([model.codec.encode(part) for part in torch.split(self.images, BATCH)])
        self.keys = [f"{file.parent.name}/{file.name}" for file in files]
        self.captions = captions
        self.labels = np.array([label_of.get(file.name, "disjoint") for file in files])

    def batches(self, members: NDArray[np.int64]) -> Iterator[Evaluations]:
        """Yield the members in batches."""
        for start in range(0, len(members), BATCH):
            some = members[start : start + BATCH]
            keys, captions = [self.keys[i] for i in some], [self.captions[i] for i in some]
            yield Evaluations(self.model, self.images[some], self.x[some], keys, captions, 0)

    def residual(self, sigma: float, *, draw: int | None, captioned: bool) -> NDArray[np.float64]:
        """Return ``|D - x|^2 / sigma^2`` of all: at the noised picture, or with no draw at the picture itself."""
        level = torch.tensor([sigma])
        found = []
        for batch in self.batches(np.arange(len(self.x))):
            denoise = self.model.given(batch.captions) if captioned else self.model.unconditional
            noise = 0.0 if draw is None else sigma * draws.normal(batch.x, batch.keys, 1, 0, start=draw)[0]
            with torch.no_grad():
                found.append(squared_residual(denoise(batch.x + noise, level), batch.x, level))
        return torch.cat(found).double().numpy()

    def screen(self, metric: Screen, members: NDArray[np.int64]) -> Tensor:
        """Return the column of the members."""
        return torch.cat([metric(batch)["screen"] for batch in self.batches(members)])

    def sets(self) -> dict[str, NDArray[np.int64]]:
        """Return the two sets of pictures, as indices."""
        copies = ("once", "x2", "x5", "x10", "x20", "x50")
        rng = np.random.default_rng(0)
        few = [rng.choice(np.flatnonzero(self.labels == name), 20, replace=False) for name in ("near", "template")]
        rest = np.flatnonzero(np.isin(self.labels, (*copies, "disjoint", "simple")))
        return {
            "demo": np.flatnonzero(np.isin(self.labels, (*copies, "template"))),
            "rare": np.sort(np.concatenate([rest, *few])),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, default=[MINIATURE])
    parser.add_argument("--work", type=Path, default=Path("/tmp/screening"), help="where pictures go")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/screening.json"))
    settings = parser.parse_args()
    demo = unpack(settings.work, extended=True)
    result: dict[str, object] = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/screening.py",
        "targets": {"forwards": 1.15, "verbatim": 0.99},
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    for path in settings.models:
        model = load(path, device="cpu")
        assert isinstance(model, StableDiffusion)
        name = path.parent.name if path.name == "pipeline" else path.name
        result[name] = measured(model, demo)
        print(name, json.dumps(result[name], indent=1), flush=True)
    settings.out.write_text(json.dumps(result, indent=1) + "\n")


def measured(model: StableDiffusion, demo: Demo) -> dict[str, object]:
    """Measure one model."""
    tasks = tasks_of(demo.images, None, demo.reference, None)
    sigma = settle(model, tasks, "auto", None, n_draws=8, n_probes=4, batch_size=BATCH, seed=0).sigma["value"]
    pictures = Pictures(model, demo)
    scores = candidates(pictures, sigma)
    full = cost(model, default_metrics(model, sigma), 1).forwards
    found: dict[str, object] = {"sigma": round(sigma, 4), "forwards of a full audit": full}
    for name, members in pictures.sets().items():
        labels = pictures.labels[members]
        found[name] = {
            "pictures": len(members),
            "groups": {group: int(inside(labels, group).sum()) for group in present(labels)},
            "candidates": {
                candidate: {key: round(value, 3) for key, value in summary([s[members] for s in seeds], labels).items()}
                for candidate, seeds in scores.items()
            },
            "thresholds": screened(pictures, Screen(sigma), members, full),
        }
    return found


def candidates(pictures: Pictures, sigma: float) -> dict[str, list[NDArray[np.float64]]]:
    """Evaluate every candidate at all pictures; several values where it has a draw."""
    nearest = pictures.model.levels.nearest
    found: dict[str, list[NDArray[np.float64]]] = {}
    for factor in FACTORS:
        level, at = nearest(max(factor * sigma, float(pictures.model.levels.sigmas[0]))).sigma, f"{factor:g} sigma"
        for captioned, words in ((False, "no caption"), (True, "caption")):
            n = DRAWS if factor == 1 else 2
            found[f"loss, one draw, {at}, {words}"] = [
                pictures.residual(level, draw=draw, captioned=captioned) for draw in range(n)
            ]
            found[f"residual, {at}, {words}"] = [pictures.residual(level, draw=None, captioned=captioned)]
    return found


def summary(seeds: list[NDArray[np.float64]], labels: NDArray[np.str_]) -> dict[str, float]:
    """Return the recall of every group in the lowest tenth, the mean over draws, and the worst of the verbatim ones."""
    recalls: dict[str, list[float]] = {group: [] for group in present(labels)}
    for values in seeds:
        kept = np.zeros(len(values), dtype=bool)
        kept[np.argsort(values)[: round(SHARE * len(values))]] = True
        for group, found in recalls.items():
            found.append(float(kept[inside(labels, group)].mean()))
    return {group: float(np.mean(found)) for group, found in recalls.items()} | {
        "verbatim, worst draw": min(recalls["verbatim"])
    }


def screened(pictures: Pictures, metric: Screen, members: NDArray[np.int64], full: int) -> dict[str, object]:
    """Screen by thresholds from samples; count what goes through the network."""
    labels, n = pictures.labels[members], len(members)
    size = sample_size(n)
    with counting(pictures.model.unet) as rows:
        sample = np.sort(np.random.default_rng(0).choice(members, size, replace=False))
        limit = threshold(pictures.screen(metric, sample))
        values = pictures.screen(metric, members)
    spent = rows() / n
    kept_share = float(suspicious(values, limit).float().mean())
    result: dict[str, object] = {
        "sample": size,
        "forwards a picture": round(spent, 3),
        "with the full audit of the kept": round(spent + full * kept_share, 2),
    }
    for wanted in sorted({size, 512}):
        shares, recalls = [], {group: np.empty(SAMPLES) for group in present(labels)}
        for seed in range(SAMPLES):
            some = np.random.default_rng(seed).choice(n, wanted, replace=False)
            kept = suspicious(values, threshold(values[some])).numpy()
            shares.append(float(kept.mean()))
            for group, found in recalls.items():
                found[seed] = kept[inside(labels, group)].mean()
        result[f"{SAMPLES} samples of {wanted}"] = {
            "kept": [round(float(value), 3) for value in (np.mean(shares), min(shares), max(shares))],
            "recall": {group: round(float(found.mean()), 4) for group, found in recalls.items()},
            "verbatim, worst sample": round(float(recalls["verbatim"].min()), 4),
        }
    return result


@contextmanager
def counting(network: nn.Module) -> Iterator[Callable[[], int]]:
    """Count the rows that go through a network."""
    seen: list[int] = []
    handle = network.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    try:
        yield lambda: sum(seen)
    finally:
        handle.remove()


def inside(labels: NDArray[np.str_], group: str) -> NDArray[np.bool_]:
    """Say which pictures are of a group."""
    return np.isin(labels, VERBATIM if group == "verbatim" else (group,))


def present(labels: NDArray[np.str_]) -> list[str]:
    """Return the groups that have pictures here."""
    return [group for group in GROUPS if inside(labels, group).any()]


if __name__ == "__main__":
    main()
