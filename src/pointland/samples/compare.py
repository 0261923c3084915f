"""Generated images against training images: one row a sample, and what each published metric says of the set.

Train images that are copies of each other count once. Held-out images that are copies of training images are no
held-out
images: they are left out with a notice, and a reference that is mostly such is refused.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pointland.auditing.rows import portable
from pointland.duplicates import duplicate_groups, flat, join, numbered, portraits, template_groups
from pointland.duplicates.groups import chains
from pointland.samples.authenticity import PUBLISHED as AUTHENTIC
from pointland.samples.calibrated import PUBLISHED as NEAR
from pointland.samples.data_copying import cells, data_copying
from pointland.samples.describe import Described, describe
from pointland.samples.descriptors import Descriptor, Perceptual
from pointland.samples.judge import Judged, judge
from pointland.samples.likelihood_gap import LikelihoodGap, likelihood_gap
from pointland.samples.measures import Images, Measures, measures
from pointland.samples.ratio import PUBLISHED as THIRD
from pointland.samples.windows import distinct, two_nearest
from pointland.verdict import check_rate

SCHEMA_VERSION = 1
MOSTLY = 0.5  # a reference of which more is in the training set is refused
FLAT = "flat: nothing in it to compare"
Floats = NDArray[np.float64]


class Comparison(NamedTuple):
    """What is known of generated images.

    Attributes:
        rows: One row a sample (``role`` is ``generated``) and one a held-out image (``reference``), by role and key.
        summary: Verdict, metrics of the set, counts, settings.
    """

    rows: pa.Table
    summary: dict[str, Any]


def compare_samples(
    generated: Path | str,
    train: Path | str,
    *,
    reference: Path | str | None = None,
    descriptor: Descriptor | None = None,
    fdr: float = 0.05,
    local: bool = True,
    k: int = 50,
    radius: float = 0.08,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Compare a folder of generated images with a folder of training images.

    Args:
        generated: Folder of samples of the model.
        train: Folder of what it was trained on.
        reference: Folder of images of the same kind that it was not trained on; without it there is a ranking only.
        descriptor: What distances of whole images are measured on; ``Perceptual()`` by default.
        fdr: False discovery rate asked for.
        local: Look for copied parts too; 49 small searches more.
        k: Neighbours of the calibrated distance; fewer where there are fewer training images.
        radius: Within which training images are copies of each other, and held-out ones of training images.
        seed: Of the searches for copies and of k-means.
        progress: Called with the folder's role, pictures read and in all.

    Raises:
        ValueError: If a folder cannot be read, fewer than 3 different training images are left, or most of the
            reference is in the training set.

    Cost:
        ``(m + h) n`` distances of the descriptor, and 49 times as many of 64 values if ``local``; blocks, never a
        table of all pairs.
    """
    check_rate(fdr)
    made = Perceptual() if descriptor is None else descriptor

    def read(role: str, folder: Path | str) -> Described:
        return describe(folder, made, None if progress is None else lambda done, n: progress(role, done, n))

    seen, samples = read("train", train), read("generated", generated)
    other = None if reference is None else read("reference", reference)
    n_flat = len(seen.keys)
    seen, faces = _busy(seen)
    n_flat -= len(seen.keys)
    if len(seen.keys) < 3:
        raise ValueError(
            f"{len(seen.keys)} training images have anything in them, and a comparison needs 3 different ones; "
            "give the whole training set"
        )
    groups = duplicate_groups(seen.content, None, faces, radius=radius, seed=seed).near
    joined = join(
        join(np.arange(len(groups)), chains(distinct(groups))), chains(distinct(_templates(seen, local, seed)))
    )
    notices: list[str] = []
    held = None if other is None else _held_out(other, seen, faces, radius, notices)
    busy, _ = _busy(samples)
    if not busy.keys:
        raise ValueError(f"all {len(samples.keys)} generated images are flat: there is nothing in them to compare")
    trained = _images(seen, local)
    found = measures(_images(busy, local), trained, groups, numbered(joined), k)
    null = None if held is None else measures(_images(held, local), trained, groups, numbered(joined), k)
    judged = judge(found, null, fdr)
    once = np.unique(distinct(groups), return_index=True)[1]
    gap = LikelihoodGap(np.nan, np.full(len(busy.keys), np.nan))
    if len(busy.keys) > 1:
        gap = likelihood_gap(busy.vectors, seen.vectors[once], None if held is None else held.vectors)
    sizes = np.bincount(groups[groups >= 0], minlength=1)
    copies = np.where(groups >= 0, sizes[groups], 1)
    rows = _rows("generated", busy, found, seen.keys, copies, judged, gap.samples)
    rows += _missing("generated", samples, set(busy.keys))
    if held is not None and other is not None and null is not None:
        rows += _rows("reference", held, null, seen.keys, copies, None, None)
        rows += _missing("reference", other, set(held.keys), "left out: flat, or a copy of a training image")
    summary = {
        "schema_version": SCHEMA_VERSION,
        "descriptor": made.identity,
        "verdict": _verdict(judged, null, len(busy.keys), fdr),
        "metrics": _metrics(found, null),
        "set": _of_the_set(found, null, busy, held, seen.vectors[once], gap, seed),
        "counts": {
            "train": len(seen.keys),
            "train_failed": len(seen.failed),
            "train_flat": n_flat,
            "train_in_groups_of_copies": int((groups >= 0).sum()),
            "train_groups_of_copies": int(groups.max(initial=-1)) + 1,
            "generated": len(busy.keys),
            "generated_failed": len(samples.failed),
            "generated_flat": len(samples.keys) - len(busy.keys),
            "reference": 0 if held is None else len(held.keys),
            "reference_failed": 0 if other is None else len(other.failed),
        },
        "notices": notices,
        "settings": {"fdr": fdr, "local": local, "k": found.neighbors, "radius": radius, "seed": seed},
    }
    return Comparison(_table(rows), summary)


def _busy(pictures: Described) -> tuple[Described, NDArray[np.float32]]:
    """Leave out flat pictures; return the others with their portraits."""
    faces = portraits(pictures.thumbs)
    kept = np.flatnonzero(~flat(faces))
    return pictures.only(kept), faces[kept]


def _images(pictures: Described, local: bool) -> Images:
    return Images(pictures.vectors, pictures.thumbs if local else None)


def _templates(seen: Described, local: bool, seed: int) -> NDArray[np.int64]:
    return template_groups(seen.thumbs, seed=seed) if local else np.full(len(seen.keys), -1)


def _held_out(
    other: Described, seen: Described, faces: NDArray[np.float32], radius: float, notices: list[str]
) -> Described:
    """Leave out of the reference what the training set has."""
    exact = np.isin(np.array(other.content), np.array(seen.content))
    busy, own = _busy(other)
    near = two_nearest(own, faces, np.arange(len(faces))).first <= radius
    of_all = np.isin(np.array(other.keys), np.array(busy.keys)[near]) | exact
    if of_all.mean() > MOSTLY:
        raise ValueError(
            f"{int(of_all.sum()):,} of {len(other.keys):,} reference images are training images or near copies of them "
            f"({int(exact.sum()):,} the same pixel for pixel), so they cannot stand for images never trained on; give "
            "another --reference"
        )
    if of_all.any():
        notices.append(
            f"{int(of_all.sum()):,} of {len(other.keys):,} reference images are copies of training images "
            f"({int(exact.sum()):,} the same pixel for pixel) and were left out"
        )
    copied = set(np.array(other.keys)[of_all].tolist())
    kept = np.array([i for i, key in enumerate(busy.keys) if key not in copied], dtype=np.int64)
    if not len(kept):
        raise ValueError(
            "no reference image is left: all are flat or copies of training images; give another --reference"
        )
    return busy.only(kept)


def _rows(
    role: str,
    pictures: Described,
    found: Measures,
    train_keys: list[str],
    copies: NDArray[np.int64],
    judged: Judged | None,
    likelihood: Floats | None,
) -> list[dict[str, object]]:
    rows = []
    for i, key in enumerate(pictures.keys):
        row: dict[str, object] = {
            "key": portable(key),
            "role": role,
            "nearest": portable(train_keys[found.nearest[i]]),
            "nearest_copies": int(copies[found.nearest[i]]),
            "distance": float(found.distance[i]),
            "calibrated": float(found.calibrated[i]),
            "ratio": float(found.ratio[i]),
            "authenticity": _finite(found.authenticity[i]),
        }
        reasons = [] if row["authenticity"] is not None else ["authenticity: the nearest training image has a twin"]
        if found.local is not None and np.isfinite(found.local.evidence[i]):
            row |= {
                "local_evidence": float(found.local.evidence[i]),
                "local_nearest": portable(train_keys[found.local.nearest[i]]),
                "local_share": float(found.local.share[i]),
            }
        elif found.local is not None:
            reasons.append("local_evidence: no window has anything in it")
        if likelihood is not None:
            row["likelihood"] = _finite(likelihood[i])
        if judged is not None:
            row |= {name: _finite(getattr(judged, name)[i]) for name in ("p_whole", "p_local", "p", "q")}
            row |= {"rank": int(judged.rank[i]), "flagged": bool(judged.flagged[i])}
            if judged.flagged[i]:
                row["copied"] = "whole" if judged.p_whole[i] <= judged.p_local[i] else "part"
        row["reason"] = "; ".join(reasons) or None
        rows.append(row)
    return rows


def _missing(role: str, read: Described, kept: set[str], why: str = FLAT) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [
        {"key": portable(key), "role": role, "reason": why} for key in read.keys if key not in kept
    ]
    return rows + [{"key": portable(key), "role": role, "reason": reason} for key, reason in read.failed.items()]


def _verdict(judged: Judged, null: Measures | None, n: int, fdr: float) -> dict[str, Any]:
    flagged = int(judged.flagged.sum())
    n_reference = 0 if null is None else len(null.distance)
    if null is None:
        state = "ranked"
        headline = (
            f"{n:,} generated images ranked. Without --reference (images of the same kind, never trained on) nothing "
            "is known of how near the nearest training image would be by chance, so none is called a copy."
        )
    elif judged.needed > n:
        state = "undecided"
        headline = (
            f"The reference is too small to decide at a rate of {fdr:g}: {n_reference:,} images. At least "
            f"{int(np.ceil(2 / fdr))} are needed and some thousands are good."
        )
    elif flagged:
        state, headline = "flagged", f"{flagged:,} of {n:,} generated images copy training images."
    else:
        state, headline = "none", f"None of {n:,} generated images is nearer to a training image than chance allows."
    return {
        "state": state,
        "headline": headline,
        "n": n,
        "n_flagged": flagged,
        "n_reference": n_reference,
        "needed_together": judged.needed,
        "fdr": fdr,
    }


def _metrics(found: Measures, null: Measures | None) -> list[dict[str, Any]]:
    """What each published per-sample rule says at its published threshold, of samples and of held-out images."""

    def share(values: Floats | None, threshold: float) -> float | None:
        return None if values is None else float((values < threshold).mean())

    rules = (
        ("calibrated", "calibrated distance below 1", NEAR, "Carlini et al. 2023"),
        ("ratio", "nearest over second nearest below 1/3", THIRD, "Yoon et al. 2023, Gu et al. 2025"),
        ("authenticity", "nearer than the training image's neighbour", AUTHENTIC, "Alaa et al. 2022"),
    )
    return [
        {
            "name": name,
            "rule": rule,
            "threshold": threshold,
            "source": source,
            "generated": share(getattr(found, name), threshold),
            "reference": share(None if null is None else getattr(null, name), threshold),
        }
        for name, rule, threshold, source in rules
    ]


def _of_the_set(
    found: Measures,
    null: Measures | None,
    samples: Described,
    held: Described | None,
    train: NDArray[np.float32],
    gap: LikelihoodGap,
    seed: int,
) -> list[dict[str, Any]]:
    """Numbers of the whole set, and the same with held-out images in place of samples."""
    percent = 100 * float((found.authenticity >= AUTHENTIC).mean())
    rows: list[dict[str, Any]] = [
        {"name": "AuthPct", "copying_when": "low", "generated": percent, "reference": None},
        {"name": "C_T", "copying_when": "below 0", "generated": None, "reference": None},
        {"name": "likelihood gap", "copying_when": "below 0", "generated": None, "reference": None},
    ]
    if null is None or held is None or len(held.keys) < 4:
        return rows
    rows[0]["reference"] = 100 * float((null.authenticity >= AUTHENTIC).mean())
    of_samples, of_held = cells(train, samples.vectors, held.vectors, seed=seed)
    half = np.random.default_rng(seed).permutation(len(held.keys)) < len(held.keys) // 2
    rows[1]["generated"] = _finite(data_copying(found.distance, null.distance, of_samples, of_held).value)
    rows[1]["reference"] = _finite(
        data_copying(null.distance[half], null.distance[~half], of_held[half], of_held[~half]).value
    )
    rows[2]["generated"] = _finite(gap.value)
    rows[2]["reference"] = _finite(likelihood_gap(held.vectors[half], train, held.vectors[~half]).value)
    return rows


def _finite(value: float | np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None


def _table(rows: list[dict[str, object]]) -> pa.Table:
    text, number, whole = pa.string(), pa.float64(), pa.int64()
    schema = pa.schema(
        [
            ("key", text),
            ("role", text),
            ("rank", whole),
            ("flagged", pa.bool_()),
            ("copied", text),
            ("nearest", text),
            ("nearest_copies", whole),
            ("local_nearest", text),
            ("p", number),
            ("q", number),
            ("p_whole", number),
            ("p_local", number),
            ("distance", number),
            ("calibrated", number),
            ("ratio", number),
            ("authenticity", number),
            ("likelihood", number),
            ("local_evidence", number),
            ("local_share", number),
            ("reason", text),
        ]
    )
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (str(row["role"]), str(row["key"]))), schema=schema)
