"""Synthetic run directories of any size, written as an audit writes them, without a model."""

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from pointland.auditing.directory import FAILED, commit, open_run

HOSTILE = (
    "<script>document.title='hacked'</script>",
    "</script><script>document.title='hacked'</script>",
    "<img src=x onerror=\"document.title='hacked'\">",
    '"><svg onload="document.title=\'hacked\'">',
    "' autofocus onfocus='document.title=`hacked`' x='",
    "<iframe srcdoc=\"<script>parent.document.title='hacked'</script>\"></iframe>",
    "<a href=\"javascript:document.title='hacked'\">click</a>",
    (
        "<style>*{display:none}</style><base href='https://evil.example/'><meta http-equiv=refresh "
        "content='0;url=https://evil.example'>"
    ),
    "<!--<script>",
    "]]></script><![CDATA[",
    "{{ 7*7 }}{% raw %}${7*7}",
    "\u202eevil\u202e gnp.exe \u2066isolated",
    "nul\x00 and \x1b[31mescape\x1b[0m and \x08\x08",
    (
        "lone \\ud800 surrogate, line\nbreak and\ttab | pipe `tick` [link](javascript:alert(1)) "
        "![](https://evil.example/x.png) # head"
    ),
    "=cmd|'/C calc'!A0",
    "x" * 1_000_000,
    "supercalifragilistic" * 40,
    "日本語の説明 🙂🏳️‍🌈 e\u0301 " * 20,
)
COLUMNS: tuple[dict[str, Any], ...] = (
    *(
        {
            "name": f"{name}_{condition}",
            "title": f"{title} {words}",
            "unit": unit,
            "memorized_when": when,
            "needs": needs,
            "stderr": f"{name}_{condition}_stderr" if name != "score_norm" else None,
            "description": f"{title} at sigma 0.34, {words}.",
            "source": "arXiv:2406.03537",
        }
        for name, title, unit, when in (
            ("denoising_loss", "Denoising loss", "dimensions", "low"),
            ("flipd", "FLIPD", "dimensions", "low"),
            ("score_norm", "Score norm", "1/x", "neither"),
        )
        for condition, words, needs in (
            ("unconditional", "without caption", "nothing"),
            ("conditional", "with caption", "caption"),
        )
    ),
    {
        "name": "guidance_norm",
        "title": "Guidance norm",
        "unit": "1/x",
        "memorized_when": "high",
        "needs": "caption",
        "stderr": "guidance_norm_stderr",
        "description": "Norm of the difference that the caption makes.",
        "source": "Wen et al. 2023",
    },
    {
        "name": "png_bytes",
        "title": "PNG size",
        "unit": "bytes",
        "memorized_when": "low",
        "needs": "nothing",
        "stderr": None,
        "description": "Size of the picture as PNG: the confounder.",
        "source": "Ross et al. 2024, section 4",
    },
)
CURVE = {
    "sigmas": [0.1, 0.16, 0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0],
    "median": [310.0, 180.0, 90.0, 41.0, 22.0, 12.0, 6.0, 3.0, 1.5],
    "low": [290.0, 160.0, 72.0, 30.0, 15.0, 8.0, 4.1, 2.2, 1.1],
    "high": [330.0, 205.0, 112.0, 54.0, 30.0, 16.0, 8.0, 4.0, 2.0],
    "resolution": [1.2, 1.9, 3.4, 4.6, 4.1, 3.0, 2.2, 1.6, 1.1],
    "n_images": 64,
}
LADDER = ("once", "x2", "x5", "x10", "x20", "x50", "template")

Draw = Callable[[int], NDArray[np.uint8]]


def build(
    folder: Path,
    n: int = 200,
    *,
    n_reference: int = 400,
    captions: Sequence[str] | bool = True,
    labels: bool = False,
    memorized: int = 20,
    n_failed: int = 0,
    pictures: int = 0,
    side: int = 32,
    draw: Draw | None = None,
    columns: Sequence[dict[str, Any]] = COLUMNS,
    finished: bool = True,
    null_every: int = 0,
    copies: bool = True,
    names: Sequence[str] = (),
    curve: bool = True,
    seed: int = 0,
    **fields: Any,
) -> Path:
    """Write a run of ``n`` audited and ``n_reference`` reference pictures and return its folder.

    Args:
        folder: Where ``run/`` and ``images/`` go.
        n: Audited pictures; the first ``memorized`` of them have a low dimension.
        n_reference: Reference pictures; 0 for none.
        captions: Whether there are captions, or the first of them.
        labels: Whether to write ``labels.csv`` with the demo's groups.
        memorized: How many are memorized.
        n_failed: How many could not be read.
        pictures: How many of the most suspicious pictures to write as files.
        side: Their side in pixels.
        draw: Makes the pixels of one picture, ``(side, side, 3)``.
        columns: Declared columns.
        finished: Whether the run is.
        null_every: Make every so many values of the deciding column null.
        copies: Whether the first pictures are copies of each other in pairs.
        names: File names instead of the numbered ones, for the first pictures.
        curve: Whether sigma was chosen from a sweep.
        seed: Of everything.
        fields: Of the record, to replace.
    """
    rng = np.random.default_rng(seed)
    run = folder / "run"
    total = n + n_reference
    values = _values(rng, n, total, min(memorized, n))
    record: dict[str, Any] = {
        "schema_version": 1,
        "model": {
            "name": "demo/miniature",
            "class": "StableDiffusionPipeline",
            "dtype": "float32",
            "weights_sha256": "5b3f" * 16,
            "space": "latents 4 x 8 x 8",
        },
        "data": {
            "audited": {"kind": "folder", "folder": "../images", "n": n + n_failed, "listing_sha256": "ab" * 32},
            "reference": {"kind": "folder", "folder": "../held_out", "n": n_reference, "listing_sha256": "cd" * 32}
            if n_reference
            else None,
        },
        "metrics": [
            {"name": "DenoisingLossColumns", "estimator": {"sigma": 0.4, "n_draws": 8, "seed": 0}},
            {"name": "PngSize"},
        ],
        "sigma": {"value": 0.4, "chosen": "auto" if curve else "fixed", "curve": CURVE if curve else None},
        "seed": seed,
        "fdr": 0.05,
        "decide_by": "denoising_loss_unconditional",
        "columns": list(columns),
        "batch_size": 16,
        "command": "pointland audit miniature images --reference held_out -o run",
        "environment": {
            "python": "3.11.2",
            "pointland": "0.1.0",
            "torch": "2.12.0",
            "device": "cpu",
            "platform": "Linux x86_64",
        },
        "created": "2026-11-24T11:00:00+00:00",
        "finished": "2026-11-24T11:01:12+00:00" if finished else None,
        **fields,
    }
    open_run(run, record)
    files = [names[i] if i < len(names) else f"{i:06d}.png" for i in range(total)]
    hashes = [hashlib.sha256(str(i // 2 if copies and i < 8 else i).encode()).hexdigest() for i in range(total)]
    spoken = _captions(rng, total, captions)
    data: dict[str, Any] = {
        "key": files,
        "role": ["audited"] * n + ["reference"] * n_reference,
        "file": files,
        "caption": pa.array(spoken, pa.string()),
        "width": pa.array([side] * total, pa.int64()),
        "height": pa.array([side] * total, pa.int64()),
        "sha256": hashes,
        "perceptual_hash": [text[:16] for text in hashes],
    }
    reasons: list[str | None] = [None] * total
    for column in columns:
        known = values[column["name"]]
        if column["needs"] == "caption":
            known = np.where([text is None for text in spoken], np.nan, known)
        if null_every and column["name"] == record["decide_by"]:
            known[null_every - 1 : n : null_every] = np.nan
            for place in range(null_every - 1, n, null_every):
                reasons[place] = json.dumps({column["name"]: "the model gave no finite value"})
        data[column["name"]] = pa.array(known, pa.float64(), from_pandas=True)
        if column["stderr"]:
            data[column["stderr"]] = pa.array(np.abs(known) * 0.08 + 0.4, pa.float64(), from_pandas=True)
    data["reasons"] = pa.array(reasons, pa.string())
    failed = [
        {
            "key": f"broken_{i}.jpg",
            "role": "audited",
            "reason": "cannot identify image file '/home/alice/pictures/broken.jpg'",
        }
        for i in range(n_failed)
    ]
    commit(run, 0, pa.table(data), pa.Table.from_pylist(failed, schema=FAILED))
    if labels:
        with (run / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(("key", "label"))
            writer.writerows((files[i], label_of(i, n, memorized)) for i in range(n))
    if pictures:
        _draw_pictures(folder, files, n, pictures, side, draw or _shape(seed, side))
    return run


def label_of(i: int, n: int, memorized: int) -> str:
    """Return the label of audited picture ``i``: the memorized ones in equal parts from x50 down to x2, then once."""
    if i < memorized:
        return ("x50", "x20", "x10", "x5", "x2")[i * 5 // memorized]
    return "template" if i >= n * 3 // 4 else "once"


def _values(rng: np.random.Generator, n: int, total: int, memorized: int) -> dict[str, NDArray[np.float64]]:
    """A deeper drop in dimension for the more copied."""
    share = np.zeros(total)
    share[:memorized] = np.linspace(1, 0.35, memorized)
    size = rng.lognormal(6.3, 0.25, total).round()
    free = rng.normal(34, 5, total) + (size - 560) * 0.012
    values = {"png_bytes": size, "guidance_norm": rng.lognormal(1, 0.3, total) * (1 + 2.5 * share)}
    for condition, lower in (("unconditional", 0.0), ("conditional", 2.0)):
        loss = np.maximum(free * (1 - 0.97 * share) - lower + rng.normal(0, 0.7, total), 0.02)
        values[f"denoising_loss_{condition}"] = loss
        values[f"flipd_{condition}"] = loss * 1.1 - 30 * share + rng.normal(0, 2, total)
        values[f"score_norm_{condition}"] = np.sqrt(rng.gamma(8, 1, total)) * 4
    return values


def _captions(rng: np.random.Generator, total: int, captions: Sequence[str] | bool) -> list[str | None]:
    if captions is False:
        return [None] * total
    words = ("cotton", "denim", "felt", "linen", "silk", "velvet", "wool", "nylon")
    things = ("shirt", "trouser", "pullover", "dress", "coat", "sandal", "sneaker", "bag", "boot")
    lots = rng.integers(0, [len(words), len(things), 10, 10, 10], (total, 5)).tolist()
    spoken: list[str | None] = [f"a {words[a]} {things[b]} , lot {c} {d} {e}" for a, b, c, d, e in lots]
    if captions is not True:
        spoken[: len(captions)] = list(captions)[:total]
    return spoken


def _draw_pictures(folder: Path, files: Sequence[str], n: int, pictures: int, side: int, draw: Draw) -> None:
    for i, file in enumerate(files[: min(n, pictures)]):
        path = folder / "images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(i)).save(path, "PNG", compress_level=1)


def _shape(seed: int, side: int) -> Draw:
    def draw(i: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng((seed, i))
        y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
        inside = (np.abs(x) ** rng.uniform(1, 4) + np.abs(y) ** rng.uniform(1, 4)) < rng.uniform(0.3, 0.9)
        light = (x * rng.normal() + y * rng.normal() + 2) / 4
        return np.asarray((inside[..., None] * rng.uniform(80, 255, 3) * light[..., None]).clip(0, 255), dtype=np.uint8)

    return draw


def noise(side: int) -> Draw:
    """Draw pictures that compress as badly as any."""

    def draw(i: int) -> NDArray[np.uint8]:
        return np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)

    return draw
