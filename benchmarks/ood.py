"""Does LID tell what a likelihood cannot: pictures that the bundled miniature was not made for?

    OMP_NUM_THREADS=1 python benchmarks/ood.py [--fashion FOLDER] [--mnist FILE] [-o FILE]

The miniature draws photographs of clothes. Pictures of other kinds, 120 a set, are told from 150 such photographs that
it never saw (``disjoint``) by their log likelihood, their LID, and both; 250 others (``held_out``) are the reference
of the p-values. Sets that are *in* distribution stand beside them: of these none should be flagged above the rate.

- likelihood: the denoising loss of the latents integrated over 16 levels, one draw each (16 forward passes)
- LID: the denoising loss at one level, 8 draws (8 passes); FLIPD with one probe (about 3)
- floors that need no model of the latents: PNG size, and how far the autoencoder's copy is off

``--fashion`` is the folder of Fashion-MNIST's four files (Debian: ``dataset-fashion-mnist``), for photographs of its
test split; ``--mnist`` an ``npz`` of digits with an array ``xt`` of ``(n, 28, 28)``. Sets without a file are left out.
Every draw depends on its picture alone, so that sets measured later with ``--only`` are those of a whole run.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor

from pointland import draws
from pointland.auditing.plan import environment
from pointland.cli.run import quiet
from pointland.demo import MINIATURE
from pointland.demo.plant import read_idx
from pointland.demo.unpack import bundled
from pointland.experiments.dual_threshold import dual_auroc, dual_threshold, mean_log_density
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.flipd import Flipd
from pointland.lid.probability_flow import flow_log_density
from pointland.metrics.png_size import png_bytes
from pointland.models.loading import load
from pointland.verdict import Direction, Interval, clopper_pearson, separations

N, REFERENCE, CONTROLS, BATCH = 120, 250, 150, 50
LEVELS, DRAWS = 16, 8
SIGMA, LARGE_SIGMA = 0.25, 1.0
RATE = 0.05
CHECKED = 40
WITHIN = ("test photographs", "simplest photographs", "seen once", "seen 20 or 50 times an epoch")
Pictures = NDArray[np.uint8]
Columns = dict[str, NDArray[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--only", nargs="+", help="names of sets to measure; the others stay as they are in the file")
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/ood.json"))
    settings = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    started = time.process_time()
    model = load(MINIATURE, device="cpu")
    found: dict[str, Columns] = {}
    for name, pictures in sets(settings.fashion, settings.mnist):
        if settings.only and name not in ("reference", "controls", *settings.only):
            continue
        found[name] = measured(model, pictures, name)
        print(f"{name}: {len(pictures)} pictures, {time.process_time() - started:.0f} s", flush=True)
    table = judged(found)
    if settings.only:
        result = json.loads(settings.out.read_text())
        result["sets"] |= table
        settings.out.write_text(json.dumps(result, indent=1) + "\n")
        return
    result = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/ood.py --fashion FOLDER --mnist FILE",
        "environment": environment(),
        "levels": LEVELS,
        "draws": DRAWS,
        "rate": RATE,
        "reference": REFERENCE,
        "controls": CONTROLS,
        "sets": table,
        "bound_against_probability_flow": against_the_flow(model, found),
        "forward_passes_a_picture": {"likelihood": LEVELS, "lid": DRAWS},
        "cpu_seconds": round(time.process_time() - started),
    }
    settings.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, row in table.items():
        print(f"{name:30}" + "".join(f"{key} {row[key]} " for key in ("likelihood", "lid", "dual_p", "flagged")))


def sets(fashion: Path | None, mnist: Path | None) -> Iterator[tuple[str, Pictures]]:
    """Yield every set by its name, grey pictures of 32 x 32; reference and controls first."""
    rng = np.random.default_rng(0)
    groups: dict[str, list[Pictures]] = {}
    for picture, row in bundled():
        groups.setdefault(row["group"], []).append(picture)
    disjoint = np.stack(groups["disjoint"])
    yield "reference", np.stack(groups["held_out"][:REFERENCE])
    yield "controls", disjoint[:CONTROLS]
    if fashion is not None:
        yield "test photographs", framed(rng.permutation(read_idx(fashion / "t10k-images-idx3-ubyte.gz"))[:N])
    yield "simplest photographs", np.stack(groups["simple_new"][:N])
    yield "seen once", np.stack(groups["once"][:N])
    yield "seen 20 or 50 times an epoch", np.stack(groups["x20"] + groups["x50"])
    others = disjoint[CONTROLS : CONTROLS + N]
    yield "upside down", others[:, ::-1].copy()
    yield "turned by 90 degrees", np.rot90(others, axes=(1, 2)).copy()
    yield "blurred by 2 pixels", np.stack([gaussian_filter(one, 2) for one in others])
    yield "a third as bright", others // 3
    yield "negatives", framed(255 - others[:, 2:-2, 2:-2])
    small = rng.permutation(load_digits().images)[:N]
    yield "digits of 8 x 8, enlarged", framed(np.stack([resized(16 * np.clip(one, 0, 15.9)) for one in small]))
    if mnist is not None:
        with np.load(mnist) as archive:
            yield "MNIST digits", framed(rng.permutation(archive["xt"])[:N])
    yield "one grey each", framed(np.broadcast_to(rng.integers(0, 256, (N, 1, 1), np.uint8), (N, 28, 28)))
    yield "landscape and flower", framed(np.stack([crop(rng) for _ in range(N)]))
    yield "noise", framed(rng.integers(0, 256, (N, 28, 28), np.uint8))


def framed(pictures: Pictures) -> Pictures:
    """Add the black border of two pixels that every photograph of the miniature has."""
    return np.pad(pictures, ((0, 0), (2, 2), (2, 2)))


def resized(picture: NDArray[Any]) -> Pictures:
    return np.asarray(Image.fromarray(picture.astype(np.uint8)).resize((28, 28), Image.Resampling.BILINEAR))


def crop(rng: np.random.Generator) -> Pictures:
    """Cut a square of 56 to 280 pixels out of one of scikit-learn's two photographs, in grey."""
    photograph = Image.fromarray(load_sample_images().images[rng.integers(2)]).convert("L")
    side = int(rng.integers(56, 281))
    left, top = (int(rng.integers(0, length - side + 1)) for length in photograph.size)
    cut = photograph.crop((left, top, left + side, top + side))
    return np.asarray(cut.resize((28, 28), Image.Resampling.BOX))


def measured(model: Any, pictures: Pictures, name: str) -> Columns:
    """Measure every column of a set."""
    grid = np.geomspace(float(model.levels.sigmas[0]), float(model.levels.sigmas[-1]), LEVELS)
    sigmas = [model.levels.nearest(float(sigma)).sigma for sigma in grid]
    small, large = (model.levels.nearest(sigma).sigma for sigma in (SIGMA, LARGE_SIGMA))
    parts: dict[str, list[Tensor]] = {}
    for at in range(0, len(pictures), BATCH):
        images = torch.from_numpy(pictures[at : at + BATCH])[:, None].expand(-1, 3, -1, -1).contiguous()
        keys = [f"{name} {at + i}" for i in range(len(images))]
        x = model.codec.encode(images)
        noises = draws.normal(x, keys, LEVELS, 1)[:, None]
        copy = model.codec.decode(x)
        columns = {
            "likelihood": mean_log_density(model.unconditional, x, sigmas, noises=noises).value,
            "lid": DenoisingLoss(small, DRAWS)(model.unconditional, x, keys).value,
            "lid_large_sigma": DenoisingLoss(large, DRAWS)(model.unconditional, x, keys).value,
            "flipd": Flipd(small, 1)(model.unconditional, x, keys).value,
            "autoencoder_rms": (copy.float() - images.float()).square().mean((1, 2, 3)).sqrt(),
            "png_bytes": torch.tensor([float(png_bytes(image.numpy())) for image in images]),
        }
        for column, values in columns.items():
            parts.setdefault(column, []).append(values)
    return {column: torch.cat(values).double().numpy() for column, values in parts.items()}


def judged(found: dict[str, Columns]) -> dict[str, dict[str, Any]]:
    """Tell every set from the controls, by every column."""
    known = found["reference"]
    for columns in found.values():
        for lid in ("lid", "lid_large_sigma", "flipd"):
            tested = dual_threshold(columns["likelihood"], columns[lid], known["likelihood"], known[lid])
            columns["dual_p" if lid == "lid" else f"dual_p_{lid}"] = tested.p
            if lid == "lid":
                columns["by_lid"] = tested.by_lid.astype(np.float64)
    controls = found["controls"]
    high = {"autoencoder_rms"}
    table: dict[str, dict[str, Any]] = {}
    for name, columns in found.items():
        if name in ("reference", "controls"):
            continue
        both: dict[str, tuple[NDArray[np.float64], Direction]] = {
            column: (np.concatenate([values, controls[column]]), "high" if column in high else "low")
            for column, values in columns.items()
            if column != "by_lid"
        }
        labels = [name] * len(columns["lid"]) + ["held_out"] * len(controls["lid"])
        row: dict[str, Any] = {one.column: rounded(one.auroc) for one in separations(both, labels)}
        dual = dual_auroc(columns["likelihood"], columns["lid"], controls["likelihood"], controls["lid"])
        flagged = columns["dual_p"] <= RATE
        row |= {
            "kind": "in distribution" if name in WITHIN else "out of distribution",
            "n": len(flagged),
            "dual_auroc": rounded(dual.value),
            "dual_chance": round(dual.chance, 3),
            "flagged": rounded(clopper_pearson(int(flagged.sum()), len(flagged))),
            "flagged_by_lid": round(float((flagged * columns["by_lid"]).mean()), 3),
            "medians": {key: round(float(np.median(columns[key])), 1) for key in ("likelihood", "lid", "flipd")},
        }
        table[name] = row
    false = controls["dual_p"] <= RATE
    table["controls"] = {
        "kind": "in distribution",
        "n": len(false),
        "flagged": rounded(clopper_pearson(int(false.sum()), len(false))),
        "flagged_by_lid": round(float((false * controls["by_lid"]).mean()), 3),
        "likelihood": None,
        "lid": None,
        "dual_p": None,
        "medians": {key: round(float(np.median(controls[key])), 1) for key in ("likelihood", "lid", "flipd")},
    }
    return table


def against_the_flow(model: Any, found: dict[str, Columns]) -> dict[str, Any]:
    """Compare the bound with the density of the probability flow, on the controls and on one set."""
    low, high = float(model.levels.sigmas[0]), float(model.levels.sigmas[-1])
    pictures = dict(sets(None, None))
    report: dict[str, Any] = {"pictures": CHECKED, "n_steps": 16, "probes": 1}
    for name in ("controls", "digits of 8 x 8, enlarged"):
        images = torch.from_numpy(pictures[name][:CHECKED])[:, None].expand(-1, 3, -1, -1).contiguous()
        x = model.codec.encode(images)
        probes = draws.signs(x, [f"{name} {i}" for i in range(CHECKED)], 1, 0)
        flow = flow_log_density(
            model.unconditional, x, torch.tensor([low]), probes=probes, sigma_max=high, n_steps=16
        ).value.numpy()
        bound = found[name]["likelihood"][:CHECKED]
        report[name] = {
            "spearman": round(float(spearmanr(flow, bound).statistic), 3),
            "median_flow": round(float(np.median(flow)), 1),
            "median_bound": round(float(np.median(bound)), 1),
        }
    return report


def rounded(interval: Interval) -> list[float]:
    return [round(end, 3) for end in interval]


if __name__ == "__main__":
    main()
