"""Do audits in half precision rank pictures as audits in float32 do: Spearman's correlation of every column.

    OMP_NUM_THREADS=1 python benchmarks/precision.py [--pictures 420] [--work FOLDER] [--out FILE]

The same pictures of the bundled miniature, under the same draws, are scored with the model in float32, bfloat16 and
float16. For every column: Spearman's correlation with float32 over all pictures, over the verbatim copies (20 or 50 an
epoch) and over the others; the relative error, median and 95 % of pictures; the error itself, in the column's unit, its
median size and its mean; and how many values are not finite. A column of many numbers is flattened.

*encoder* and *network* say which part caused it: only the one or only the other is in half precision. *other draws* is
the yardstick: float32 against itself with another seed, the Monte-Carlo error that every audit has.

Target: 0.99 over all pictures for denoising loss, FLIPD, map and guidance norm. Float16 is emulated by most processors,
so that it takes many times as long as the others here.
"""

import argparse
import csv
import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from pointland.auditing.plan import default_metrics
from pointland.demo import MINIATURE, Demo, unpack
from pointland.metrics import Evaluations, Metric, PngSize, Screen, Sketch
from pointland.models import load
from pointland.models.diffusers.stable_diffusion import StableDiffusion

SIGMA = 0.2507  # what an audit of the demo chooses
BATCH = 60
COPIES = ("x2", "x5", "x10", "x20", "x50")
VERBATIM = ("x20", "x50")
Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pictures", type=int, default=420, help="all 100 copies, and of the others as many as are left"
    )
    parser.add_argument("--work", type=Path, default=Path("/tmp/precision"), help="where pictures go")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/precision.json"))
    settings = parser.parse_args()
    files, captions, labels = chosen(unpack(settings.work), settings.pictures)
    pixels = [np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1) for file in files]
    images, keys = torch.from_numpy(np.stack(pixels)), [f"{file.parent.name}/{file.name}" for file in files]
    exact, half = loaded("float32"), loaded("bfloat16")
    models = {
        "bfloat16": half,
        "bfloat16 encoder": replace(exact, codec=half.codec),
        "bfloat16 network": replace(half, codec=exact.codec),
        "other draws": exact,
        "float16": loaded("float16"),
    }
    verbatim = np.isin(labels, VERBATIM)
    wanted = columns(exact, images, keys, captions, seed=0)
    result: dict[str, object] = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/precision.py",
        "target": 0.99,
        "pictures": len(files),
        "verbatim": int(verbatim.sum()),
        "sigma": SIGMA,
        "autoencoder": {name: str(model.codec.vae.dtype).removeprefix("torch.") for name, model in models.items()},
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    for name, model in models.items():
        found = columns(model, images, keys, captions, seed=int(model is exact))
        row = {column: agreement(wanted[column], found[column], verbatim) for column in wanted}
        result[name] = row
        print(name, json.dumps(row, indent=1), flush=True)
        settings.out.write_text(json.dumps(result, indent=1) + "\n")


def loaded(dtype: str) -> StableDiffusion:
    """Load the miniature in a precision."""
    model = load(MINIATURE, device="cpu", dtype=getattr(torch, dtype))
    assert isinstance(model, StableDiffusion)
    return model


def chosen(demo: Demo, n: int) -> tuple[list[Path], list[str], list[str]]:
    """Return files, captions and groups: all copies, and others seen once, in templates or never."""
    with demo.labels.open(newline="") as stream:
        label_of = {row["key"]: row["label"] for row in csv.DictReader(stream)}
    found: list[tuple[Path, str, str]] = []
    for place in (demo.images, demo.disjoint):
        with (place / "captions.csv").open(newline="") as stream:
            found += [
                (place / row["file_name"], row["caption"], label_of.get(row["file_name"], "never"))
                for row in csv.DictReader(stream)
            ]
    copies = [one for one in found if one[2] in COPIES]
    others = [one for one in found if one[2] not in COPIES]
    order = np.random.default_rng(0).permutation(len(others))[: max(0, n - len(copies))]
    files, captions, labels = zip(*copies, *(others[i] for i in order), strict=True)
    return list(files), list(captions), list(labels)


def columns(
    model: StableDiffusion, images: Tensor, keys: Sequence[str], captions: Sequence[str], *, seed: int
) -> dict[str, Floats]:
    """Score the pictures; the standard errors and what the network has no part in are left out."""
    sigma = model.levels.nearest(SIGMA).sigma
    metrics: list[Metric] = [m for m in default_metrics(model, sigma) if not isinstance(m, PngSize | Sketch)]
    found: dict[str, list[Tensor]] = {}
    for start in range(0, len(images), BATCH):
        some = slice(start, start + BATCH)
        x = model.codec.encode(images[some])
        batch = Evaluations(model, images[some], x, keys[some], captions[some], seed)
        for metric in [*metrics, Screen(sigma)]:
            for name, value in metric(batch).items():
                if not name.endswith("_stderr"):
                    found.setdefault(name, []).append(value)
    return {name: torch.cat(parts).double().numpy() for name, parts in found.items()}


def agreement(wanted: Floats, found: Floats, verbatim: NDArray[np.bool_]) -> dict[str, float | int]:
    """Compare a column with float32's."""
    finite = np.isfinite(found).reshape(len(found), -1).all(1)
    error = found[finite] - wanted[finite]
    relative = np.abs(error) / np.maximum(np.abs(wanted[finite]), 1e-12)
    groups = {"all": finite, "verbatim": finite & verbatim, "others": finite & ~verbatim}
    correlations = {
        f"Spearman, {name}": round(float(spearmanr(wanted[members].ravel(), found[members].ravel()).statistic), 5)
        for name, members in groups.items()
    }
    return correlations | {
        "relative error, median": rounded(np.median(relative)),
        "relative error, 95 %": rounded(np.quantile(relative, 0.95)),
        "error, median size": rounded(np.median(np.abs(error))),
        "error, mean": rounded(error.mean()),
        "not finite": int((~finite).sum()),
    }


def rounded(value: np.floating[Any]) -> float:
    """Return three digits of a number."""
    return float(f"{value:.3g}")


if __name__ == "__main__":
    main()
