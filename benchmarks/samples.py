"""Sample metrics against planted copies: what a calibrated verdict finds, and what published metrics say of them.

    OMP_NUM_THREADS=1 python benchmarks/samples.py [--data FOLDER] [--train 20000] [--reference 15000] [--out FILE]

Pictures: Fashion-MNIST photographs with a 2-pixel border. Training set: photographs, 100 of them 15 times and 20 of
them 100 times. Samples that copy nothing are photographs that were not trained on, so that "no copying" is known to be
true; those of them, and of the held-out ones, that are near copies of training photographs (Fashion-MNIST has some)
are left out. A copy is a training photograph with noise of 0.02, in 8 bits. A "part" is a window of 16 x 16 of a
training photograph, pasted on another photograph; a "template" is a training photograph with another's square of 12 x
12 in it. Every scenario is drawn 50 times, and each time those that copy nothing and those that are held out are dealt
anew; the rate asked for is 5 %. The verdict is on portraits and windows with copies in the training set counted once;
published metrics are on pixels, as published.
Vectors: the 64 values a sample of a mixture on a subspace, as in the literature's comparisons, without pictures.
"""

import argparse
import io
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointland.demo.plant import read_idx
from pointland.duplicates import duplicate_groups, portraits, template_groups
from pointland.samples import (
    Images,
    Local,
    Measures,
    cells,
    data_copying,
    judge,
    likelihood_gap,
    local_evidence,
    measures,
)
from pointland.verdict import auroc

Gray = NDArray[np.uint8]
FDR, DRAWS, N, RADIUS = 0.05, 50, 2000, 0.08
RULES = {"calibrated < 1": ("calibrated", 1.0), "ratio < 1/3": ("ratio", 1 / 3), "not authentic": ("authenticity", 1.0)}


class Scenario(NamedTuple):
    """A mixture of samples: a share of one kind of copies among samples that copy nothing."""

    name: str
    kind: str
    share: float


SCENARIOS = (
    Scenario("no copying", "copy", 0.0),
    Scenario("0.5 % copies", "copy", 0.005),
    Scenario("2 % copies", "copy", 0.02),
    Scenario("10 % copies", "copy", 0.1),
    Scenario("2 % copies of images that are there 15 times", "copy x15", 0.02),
    Scenario("10 % copies of images that are there 15 times", "copy x15", 0.1),
    Scenario("2 % copies of images that are there 100 times", "copy x100", 0.02),
    Scenario("2 % copies as JPEG 75", "JPEG 75", 0.02),
    Scenario("2 % copies, darker by 20 %", "darker", 0.02),
    Scenario("2 % copies with noise 0.05", "noise 0.05", 0.02),
    Scenario("5 % templates (all but a square of 12 x 12)", "template", 0.05),
    Scenario("5 % parts (a window of 16 x 16)", "part", 0.05),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--train", type=int, default=20_000, help="different training photographs")
    parser.add_argument("--reference", type=int, default=15_000, help="held-out photographs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/samples.json"))
    settings = parser.parse_args()
    result = {
        "command": " ".join(["python", *sys.argv]),
        "fdr": FDR,
        "samples": N,
        "draws": DRAWS,
        "vectors": vectors(),
        "pictures": pictures(settings.data, settings.train, settings.reference),
        "machine": import_module("duplicates").machine(),
    }
    settings.out.write_text(json.dumps(result, indent=2) + "\n")


def pictures(folder: Path, n: int, n_reference: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    photographs, labels = (read_idx(folder / f"train-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    deck = rng.permutation(len(photographs))
    padded = np.pad(photographs[deck], ((0, 0), (2, 2), (2, 2)))
    labels = labels[deck]
    single, fifteen, hundred = np.arange(n - 120), np.arange(n - 120, n - 20), np.arange(n - 20, n)
    train = np.concatenate([padded[:n], np.repeat(padded[fifteen], 14, axis=0), np.repeat(padded[hundred], 99, axis=0)])
    fresh, held = padded[n : n + 5000], padded[n + 5000 : n + 5000 + n_reference]
    others = padded[n + 5000 + n_reference :]
    of = {label: iter(np.flatnonzero(labels[n + 5000 + n_reference :] == label)) for label in range(10)}

    def noisy(images: Gray, level: float) -> Gray:
        return np.clip(np.rint(images + 255 * level * rng.standard_normal(images.shape)), 0, 255).astype(np.uint8)

    def another(place: int) -> Gray:
        return np.asarray(others[next(of[int(labels[place])])])

    kinds: dict[str, Gray] = {
        "copy": noisy(padded[single[:400]], 0.02),
        "copy x15": noisy(padded[np.repeat(fifteen, 3)], 0.02),
        "copy x100": noisy(padded[np.repeat(hundred, 5)], 0.02),
        "JPEG 75": np.stack([jpeg(one, 75) for one in padded[single[400:500]]]),
        "darker": (padded[single[500:600]] * 0.8).astype(np.uint8),
        "noise 0.05": noisy(padded[single[600:700]], 0.05),
    }
    parts, templates = [], []
    for place in single[700:900].tolist():
        y, x = rng.integers(2, 15, 2)
        window = np.s_[y : y + 16, x : x + 16]
        part = another(place).copy()
        part[window] = padded[place][window]
        y, x = rng.integers(8, 13, 2)
        square = np.s_[y : y + 12, x : x + 12]
        template = padded[place].copy()
        template[square] = another(place)[square]
        parts.append(part)
        templates.append(template)
    kinds |= {"part": noisy(np.stack(parts), 0.02), "template": noisy(np.stack(templates), 0.02)}
    started = time.perf_counter()
    content = [one.tobytes().hex() for one in train]
    groups = duplicate_groups(content, None, portraits(train)).near
    local_groups = template_groups(train)
    seconds_groups = time.perf_counter() - started
    pools = {"none": fresh, "held out": held, **kinds}
    alone = np.full(len(train), -1)
    started = time.perf_counter()
    local = {name: local_evidence(pool, train, local_groups) for name, pool in pools.items()}
    seconds_local = time.perf_counter() - started
    faces = {name: portraits(pool) for name, pool in pools.items()}
    seen = portraits(train)
    started = time.perf_counter()
    ours = {
        name: measures(Images(of, None), Images(seen, None), groups)._replace(local=local[name])
        for name, of in faces.items()
    }
    seconds_whole = time.perf_counter() - started
    pixels, trained = {name: gray(pool) for name, pool in pools.items()}, gray(train)
    published = {name: measures(Images(of, None), Images(trained, None), alone) for name, of in pixels.items()}
    once = np.unique(np.where(groups < 0, np.arange(len(groups)) + len(groups), groups), return_index=True)[1]
    near = {name: ours[name].distance <= RADIUS for name in ("none", "held out")}
    return {
        "train": len(train),
        "held out": len(held),
        "near copies of training photographs left out": {name: int(bad.sum()) for name, bad in near.items()},
        "seconds": {
            "groups": round(seconds_groups, 1),
            "local": round(seconds_local, 1),
            "whole": round(seconds_whole, 1),
        },
        "scenarios": scenarios(ours, published, pixels, trained[once], near),
    }


def gray(images: Gray) -> NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def scenarios(
    ours: dict[str, Measures],
    published: dict[str, Measures],
    pixels: dict[str, NDArray[np.float32]],
    train: NDArray[np.float32],
    near: dict[str, NDArray[np.bool_]],
) -> list[dict[str, object]]:
    """Draw every scenario: who copies nothing and who is held out is dealt anew from one pool each time."""
    pool = stacked(ours["none"], ours["held out"])
    plain_pool = stacked(published["none"], published["held out"])
    pixel_pool = np.concatenate([pixels["none"], pixels["held out"]])
    usable = np.flatnonzero(~np.concatenate([near["none"], near["held out"]]))
    rows = []
    for scenario in SCENARIOS:
        rng = np.random.default_rng(1)
        kind, n_copies = scenario.kind, round(scenario.share * N)
        found: list[float] = []
        false: list[float] = []
        any_false: list[float] = []
        level: list[float] = []
        area: list[float] = []
        rates: dict[str, tuple[list[float], list[float]]] = {rule: ([], []) for rule in RULES}
        for _ in range(DRAWS):
            copies = rng.permutation(len(ours[kind].distance))[:n_copies]
            innocent, held_out = np.split(rng.permutation(usable), [N - n_copies])
            sample = stacked(only(ours[kind], copies), only(pool, innocent))
            verdict = judge(sample, only(pool, held_out), FDR)
            false.append(float(verdict.flagged[n_copies:].sum() / max(1, verdict.flagged.sum())))
            any_false.append(float(verdict.flagged[n_copies:].any()))
            level.append(float((verdict.p[n_copies:] <= 0.01).mean()))
            if n_copies:
                found.append(float(verdict.flagged[:n_copies].mean()))
                area.append(auroc(-verdict.p[:n_copies], -verdict.p[n_copies:]))
            for rule, (column, threshold) in RULES.items():
                if n_copies:
                    rates[rule][0].append(float((getattr(published[kind], column)[copies] < threshold).mean()))
                rates[rule][1].append(float((getattr(plain_pool, column)[innocent] < threshold).mean()))
        mixed = np.concatenate([pixels[kind][copies], pixel_pool[innocent]])
        plain = stacked(only(published[kind], copies), only(plain_pool, innocent))
        null = only(plain_pool, held_out)
        of_samples, of_held = cells(train, mixed, pixel_pool[held_out])
        row: dict[str, object] = {
            "scenario": scenario.name,
            "copies": n_copies,
            "copies flagged": mean(found),
            "false among flagged": mean(false),
            "draws with a false flag": mean(any_false),
            "innocent with p at most 0.01": mean(level),
            "AUROC": mean(area),
            "published": {
                rule: {"copies flagged": mean(of_copies), "innocent flagged": mean(of_innocent)}
                for rule, (of_copies, of_innocent) in rates.items()
            },
            "AuthPct": round(100 * float((plain.authenticity >= 1).mean()), 1),
            "C_T": round(data_copying(plain.distance, null.distance, of_samples, of_held).value, 2),
            "likelihood gap": round(likelihood_gap(mixed, train, pixel_pool[held_out]).value, 3),
        }
        rows.append(row)
        print("pictures", json.dumps(row), flush=True)
    return rows


def vectors() -> list[dict[str, object]]:
    """Run the verbatim scenarios on 64 values a sample, where nothing but formulas can fail."""
    rng = np.random.default_rng(0)
    means, basis = rng.standard_normal((20, 16)), rng.standard_normal((16, 64)) / 4

    def draw(n: int) -> NDArray[np.float32]:
        return ((means[rng.integers(0, 20, n)] + 0.5 * rng.standard_normal((n, 16))) @ basis).astype(np.float32)

    base, held, fresh = draw(6000), draw(10_000), draw(2000)
    rows = []
    for name, share, times in (
        ("no copying", 0.0, 1),
        ("0.5 % copies", 0.005, 1),
        ("2 % copies", 0.02, 1),
        ("10 % copies", 0.1, 1),
        ("2 % copies, there 15 times", 0.02, 15),
        ("10 % copies, there 15 times", 0.1, 15),
        ("2 % copies, there 100 times", 0.02, 100),
    ):
        n_copies = round(share * len(fresh))
        train = np.concatenate([base, np.repeat(base[:n_copies], times - 1, axis=0)])
        copies = base[:n_copies] + 0.05 * rng.standard_normal((n_copies, 64)).astype(np.float32) / 4
        generated = Images(np.concatenate([copies, fresh[n_copies:]]).astype(np.float32), None)
        groups = duplicate_groups([one.tobytes().hex() for one in train]).near
        ours = measures(generated, Images(train, None), groups)
        null = measures(Images(held, None), Images(train, None), groups)
        plain = measures(generated, Images(train, None), np.full(len(train), -1))
        verdict = judge(ours, null, FDR)
        mine = slice(0, n_copies)
        row: dict[str, object] = {
            "scenario": name,
            "copies flagged": mean([float(verdict.flagged[mine].mean())] if n_copies else []),
            "false among flagged": round(float(verdict.flagged[n_copies:].sum() / max(1, verdict.flagged.sum())), 4),
            "published": {
                rule: mean([float((getattr(plain, column)[mine] < threshold).mean())] if n_copies else [])
                for rule, (column, threshold) in RULES.items()
            },
            "AuthPct": round(100 * float((plain.authenticity >= 1).mean()), 1),
        }
        rows.append(row)
        print("vectors", json.dumps(row), flush=True)
    return rows


def only(found: Measures, places: NDArray[np.int64]) -> Measures:
    local = found.local
    return Measures(
        found.nearest[places],
        found.distance[places],
        found.calibrated[places],
        found.ratio[places],
        found.authenticity[places],
        None if local is None else Local(local.evidence[places], local.nearest[places], local.share[places]),
        found.neighbors,
    )


def stacked(one: Measures, other: Measures) -> Measures:
    a, b = one.local, other.local
    both = np.concatenate
    return Measures(
        both([one.nearest, other.nearest]),
        both([one.distance, other.distance]),
        both([one.calibrated, other.calibrated]),
        both([one.ratio, other.ratio]),
        both([one.authenticity, other.authenticity]),
        None
        if a is None or b is None
        else Local(both([a.evidence, b.evidence]), both([a.nearest, b.nearest]), both([a.share, b.share])),
        one.neighbors,
    )


def jpeg(one: Gray, level: int) -> Gray:
    stream = io.BytesIO()
    Image.fromarray(one).save(stream, "JPEG", quality=level)
    return np.asarray(Image.open(stream))


def mean(values: list[float]) -> float | None:
    known = [value for value in values if np.isfinite(value)]
    return round(float(np.mean(known)), 4) if known else None


if __name__ == "__main__":
    main()
