"""The bundled miniature: what it claims to be, and that its planted truth is found."""

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pointland.auditing import audit
from pointland.demo import MINIATURE, checks, unpack
from pointland.models import StableDiffusion, load


def test_the_planted_truth_is_as_described(tmp_path: Path) -> None:
    demo = unpack(tmp_path)
    with demo.labels.open(newline="") as stream:
        labels = list(csv.DictReader(stream))
    counts = Counter(row["label"] for row in labels)
    assert counts == {"once": 800, "template": 400, "x2": 20, "x5": 20, "x10": 20, "x20": 20, "x50": 20}
    assert [row["key"] for row in labels] == sorted(path.name for path in demo.images.glob("*.png"))
    assert len(list(demo.reference.glob("*.png"))) == len(list(demo.disjoint.glob("*.png"))) == 400
    files = [hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.rglob("*.png")]
    assert len(set(files)) >= len(files) - 2  # Fashion-MNIST itself repeats a few photographs


def test_the_planted_benchmark_has_more(tmp_path: Path) -> None:
    demo = unpack(tmp_path, extended=True, copies=True)
    with demo.labels.open(newline="") as stream:
        counts = Counter(row["label"] for row in csv.DictReader(stream))
    assert {group: counts[group] for group in ("x2", "x50", "near", "simple")} == {
        "x2": 40,
        "x50": 1000,
        "near": 200,
        "simple": 200,
    }
    assert len(list(demo.simple_new.glob("*.png"))) == 200
    sizes = {place: np.median([path.stat().st_size for path in place.glob("*.png")]) for place in demo.places}
    assert sizes[demo.simple_new] < 0.8 * sizes[demo.reference]


def test_the_captions_alone_tell_nothing(tmp_path: Path) -> None:
    demo = unpack(tmp_path)
    words: dict[Path, list[str]] = {}
    for place in (demo.images, demo.reference):
        with (place / "captions.csv").open(newline="") as stream:
            words[place] = [row["caption"] for row in csv.DictReader(stream)]
    captions = words[demo.images] + words[demo.reference]
    assert len(set(captions)) == len(captions)
    lengths = {place: np.mean([len(text) for text in texts]) for place, texts in words.items()}
    assert abs(lengths[demo.images] - lengths[demo.reference]) < 0.5


def test_unpacking_twice_changes_nothing(tmp_path: Path) -> None:
    demo = unpack(tmp_path)
    before = demo.labels.stat().st_mtime_ns
    assert unpack(tmp_path) == demo
    assert demo.labels.stat().st_mtime_ns == before


def test_it_is_a_small_and_genuine_pipeline() -> None:
    from diffusers import StableDiffusionPipeline

    assert sum(path.stat().st_size for path in MINIATURE.rglob("*.safetensors")) <= 8_000_000
    assert json.loads((MINIATURE / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"
    pipeline = StableDiffusionPipeline.from_pretrained(MINIATURE, safety_checker=None, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        "a wool boot by alder , lot 1 2 3", num_inference_steps=4, generator=torch.Generator().manual_seed(0)
    ).images[0]
    assert image.size == (32, 32)
    assert np.asarray(image).std() > 5


def test_the_autoencoder_keeps_the_pictures(tmp_path: Path) -> None:
    model = load(MINIATURE, device="cpu")
    assert isinstance(model, StableDiffusion)
    demo = unpack(tmp_path)
    pictures = [np.asarray(Image.open(path)).transpose(2, 0, 1) for path in sorted(demo.reference.glob("*.png"))[:64]]
    images = torch.from_numpy(np.stack(pictures))
    x = model.codec.encode(images)
    assert x.shape == (64, 8, 8, 8)
    assert 0.9 < float(x.std()) < 1.1
    error = (model.codec.decode(x).float() - images.float()).square().mean()
    assert 10 * float(torch.log10(255**2 / error)) > 27  # dB


def test_the_record_is_of_these_files() -> None:
    record = json.loads((MINIATURE.parent / "record.json").read_text())
    for name, digest in record["sha256"].items():
        assert hashlib.sha256((MINIATURE.parent / name).read_bytes()).hexdigest() == digest, name
    assert {len(record["split"][group]) for group in ("x2", "x5", "x10", "x20", "x50")} == {20}
    seen = [
        source for group, sources in record["split"].items() if group not in ("template", "near") for source in sources
    ]
    assert len(seen) == len(set(seen))  # no photograph is in two groups


def test_nothing_of_the_machine_it_was_made_on_is_in_it() -> None:
    for path in MINIATURE.rglob("*.json"):
        assert "_name_or_path" not in path.read_text(encoding="utf-8")


def test_the_planted_truth_is_found(tmp_path: Path) -> None:
    demo = unpack(tmp_path / "pictures")
    run = audit(
        load(MINIATURE, device="cpu"), demo.images, reference=demo.reference, out=tmp_path / "run", batch_size=32
    )
    missed = [check.words for check in checks(run, demo.labels) if not check.passed]
    assert not missed
