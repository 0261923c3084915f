"""Groups of copies: recall and precision against planted ones in real photographs, and cost against the number.

    OMP_NUM_THREADS=1 python benchmarks/duplicates.py [--data FOLDER] [--n 20000] [--million] [--out FILE]

Quality: Fashion-MNIST photographs (a 2-pixel border makes them 32 x 32) with copies planted of each kind, one copy of
its own photograph each, and templates that differ in one square. Recall is the share of planted copies that are in the
group of their original. Precision is the share of grouped pictures that were planted or have a planted copy; the rest
are copies that Fashion-MNIST itself has, or mistakes: their gray-level differences are given, so that one can judge.
Cost: random descriptors of 64 values with 5 % exact and 5 % near copies and 2 % blank ones, every one with a hash too.
Memory is the peak of the process above what it held before (Linux).
"""

import argparse
import io
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointland.demo.plant import read_idx
from pointland.duplicates import content_hash, duplicate_groups, portraits, template_groups
from pointland.metrics import perceptual_hash

Gray = NDArray[np.uint8]
SIZES = (25_000, 50_000, 100_000, 200_000)
PLANTED, TEMPLATES, VARIANTS = 300, 20, 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--n", type=int, default=20_000, help="photographs")
    parser.add_argument("--million", action="store_true", help="also 1,000,000 descriptors")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/duplicates.json"))
    settings = parser.parse_args()
    result = {
        "command": " ".join(["python", *sys.argv]),
        "quality": quality(settings.data, settings.n),
        "cost": [cost(n) for n in (*SIZES, *([1_000_000] if settings.million else []))],
        "machine": machine(),
    }
    settings.out.write_text(json.dumps(result, indent=2) + "\n")


def quality(folder: Path, n: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    photographs = read_idx(folder / "train-images-idx3-ubyte.gz")
    deck = rng.permutation(len(photographs))
    originals = np.pad(photographs[deck[:n]], ((0, 0), (2, 2), (2, 2)))
    kinds: dict[str, Callable[[Gray], Gray]] = {
        "exact": lambda one: one,
        "noise 1e-3": lambda one: noisy(one, 1e-3, rng),
        "noise 0.02": lambda one: noisy(one, 0.02, rng),
        "darker by 20 %": lambda one: (one * 0.8).astype(np.uint8),
        "lighter by 20 levels": lambda one: np.minimum(one.astype(np.int64) + 20, 255).astype(np.uint8),
        "JPEG 90": lambda one: jpeg(one, 90),
        "JPEG 75": lambda one: jpeg(one, 75),
        "cropped 1 pixel a side": lambda one: cropped(one, 1),
        "cropped 2 pixels a side": lambda one: cropped(one, 2),
    }
    thumbs, of = [originals], [np.arange(n)]
    for number, change in enumerate(kinds.values()):
        chosen = np.arange(number * PLANTED, (number + 1) * PLANTED)
        thumbs.append(np.stack([change(one) for one in originals[chosen]]))
        of.append(chosen)
    bases = np.pad(photographs[deck[n : n + TEMPLATES]], ((0, 0), (2, 2), (2, 2)))
    variants, fillings = np.repeat(bases, VARIANTS, axis=0), iter(deck[n + TEMPLATES :])
    for number in range(len(variants)):
        y, x = np.random.default_rng(number // VARIANTS).integers(8, 13, 2)
        filling = np.pad(photographs[next(fillings)], 2)
        variants[number, y : y + 12, x : x + 12] = filling[y : y + 12, x : x + 12]
    all_thumbs = np.concatenate([*thumbs, variants])
    original, n_copies = np.concatenate(of), len(kinds) * PLANTED
    pictures = np.repeat(all_thumbs[:, None], 3, axis=1)
    content = [content_hash(picture) for picture in pictures]
    hashes = [perceptual_hash(picture) for picture in pictures]
    started = time.perf_counter()
    found = duplicate_groups(content, hashes, portraits(all_thumbs))
    seconds = time.perf_counter() - started
    by_hash = duplicate_groups(content, hashes)
    started = time.perf_counter()
    templates = template_groups(all_thumbs)
    seconds_templates = time.perf_counter() - started
    rows = []
    for number, kind in enumerate(kinds):
        copies = n + np.arange(number * PLANTED, (number + 1) * PLANTED)
        row: dict[str, object] = {"kind": kind}
        for name, groups in (
            ("exact", found.exact),
            ("near", found.near),
            ("near by hash alone", by_hash.near),
            ("template", templates),
        ):
            same = (groups[copies] >= 0) & (groups[copies] == groups[original[copies]])
            row[name] = round(float(same.mean()), 4)
        rows.append(row)
        print(row, flush=True)
    last = n + n_copies
    found_templates = templates[last:].reshape(TEMPLATES, VARIANTS)
    most = [int(np.bincount(group[group >= 0], minlength=1).max()) for group in found_templates]
    planted = np.zeros(len(all_thumbs), np.bool_)
    planted[n:] = True
    planted[:n_copies] = True
    summary: dict[str, object] = {
        "photographs": n,
        "planted_of_each_kind": PLANTED,
        "recall": rows,
        "template_recall": round(sum(most) / (TEMPLATES * VARIANTS), 4),
        "seconds_near": round(seconds, 2),
        "seconds_templates": round(seconds_templates, 2),
    }
    for name, groups in (("near", found.near), ("near by hash alone", by_hash.near), ("template", templates)):
        grouped = groups >= 0
        others = np.flatnonzero(grouped & ~planted)
        mates = [np.flatnonzero(groups == groups[one]) for one in others[:300]]
        apart = [
            min(float(np.sqrt(np.mean((all_thumbs[one].astype(float) - all_thumbs[m]) ** 2))) for m in mate if m != one)
            for one, mate in zip(others[:300], mates, strict=True)
        ]
        summary[f"precision of {name}"] = {
            "precision": round(float(planted[grouped].mean()), 4),
            "not planted": len(others),
            "their median difference to the nearest of the group, gray levels": round(float(np.median(apart)), 2)
            if apart
            else None,
            "largest group": int(np.bincount(groups[grouped]).max()),
        }
        print(name, summary[f"precision of {name}"], flush=True)
    print({key: value for key, value in summary.items() if key not in ("recall",)})
    return summary


def noisy(one: Gray, level: float, rng: np.random.Generator) -> Gray:
    return np.clip(np.rint(one + 255 * level * rng.standard_normal(one.shape)), 0, 255).astype(np.uint8)


def jpeg(one: Gray, level: int) -> Gray:
    stream = io.BytesIO()
    Image.fromarray(one).save(stream, "JPEG", quality=level)
    return np.asarray(Image.open(stream))


def cropped(one: Gray, margin: int) -> Gray:
    h, w = one.shape
    cut = Image.fromarray(one).crop((margin, margin, w - margin, h - margin))
    return np.asarray(cut.resize((w, h), Image.Resampling.LANCZOS))


def cost(n: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n, 64), dtype=np.float32)
    m, blank = n // 20, n // 50
    vectors[n - m :] = vectors[:m] + 0.01 * rng.standard_normal((m, 64), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    bits = rng.integers(0, 2**64, n, dtype=np.uint64)
    bits[n - m :] = bits[:m] ^ (np.uint64(1) << rng.integers(0, 64, m).astype(np.uint64))
    content = [str(i) for i in range(n)]
    for i in range(m):
        content[n - 2 * m + i] = str(i)
        vectors[n - 2 * m + i], bits[n - 2 * m + i] = vectors[i], bits[i]
    vectors[n // 2 : n // 2 + blank // 2] = 0  # flat
    gentle = slice(n // 2 + blank // 2, n // 2 + blank)  # nearly flat ones, all near each other
    vectors[gentle] = vectors[n // 2 + blank] + 1e-4 * rng.standard_normal((blank - blank // 2, 64), dtype=np.float32)
    bits[n // 2 : n // 2 + blank] = 0
    hashes = [f"{value:016x}" for value in bits.tolist()]
    before = forget_peak()
    started = time.perf_counter()
    found = duplicate_groups(content, hashes, vectors)
    seconds = time.perf_counter() - started
    near = (found.near[:m] >= 0) & (found.near[:m] == found.near[n - m :])
    exact = (found.exact[:m] >= 0) & (found.exact[:m] == found.exact[n - 2 * m : n - m])
    row: dict[str, object] = {
        "n": n,
        "seconds": round(seconds, 2),
        "microseconds_an_item": round(1e6 * seconds / n, 1),
        "memory_gib_above_data": round(held("VmHWM") - before, 3),
        "recall_exact": float(exact.mean()),
        "recall_near": float(near.mean()),
        "groups": int(found.near.max()) + 1,
        "groups_planted": m + 1,
        "flat": int(found.flat.sum()),
        "crowded": int(found.crowded.sum()),
    }
    print(row, flush=True)
    return row


def forget_peak() -> float:
    """Reset the peak memory of the process to what it holds now, and return that in GiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return held("VmRSS")


def held(what: str) -> float:
    """Return memory of the process in GiB: now (VmRSS) or at its peak (VmHWM)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 2**20


def machine() -> dict[str, object]:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": model[0].split(": ")[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


if __name__ == "__main__":
    main()
