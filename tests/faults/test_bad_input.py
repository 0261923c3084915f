"""The real command on a folder of everything that people really have: nothing is lost, nothing else changes."""

import csv
import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniatures import cut
from pointland.auditing import Run, read_run
from pointland.demo import MINIATURE, Demo

POINTLAND = Path(sys.executable).parent / "pointland"
QUICK = ["--sigma", "0.3", "--n-draws", "1", "--n-probes", "1", "--device", "cpu"]
SCRIPT = "<script>alert('caption')</script>"


def audit(images: Path, out: Path, *more: str) -> Run:
    done = subprocess.run(
        [POINTLAND, "audit", MINIATURE, images, "-o", out, *QUICK, *more], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 10), done.stderr
    return read_run(out)


def picture_bytes(image: Image.Image, kind: str, **settings: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of one bit a pixel, all black: 20 kB on disk, hundreds of megabytes when decoded to RGB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress(bytes(((width + 7) // 8 + 1) * height), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return cut(tmp_path, 12, 8)


@pytest.mark.fault
def test_a_folder_of_everything(demo: Demo, tmp_path: Path) -> None:
    wanted = audit(demo.images, tmp_path / "good").rows
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    photograph = Image.fromarray(noise)
    frames = [Image.fromarray(np.roll(noise, i, axis=1)) for i in range(3)]
    unreadable = {
        "truncated.jpg": picture_bytes(photograph, "JPEG")[:700],
        "nothing.png": b"",
        "text.png": b"Dear diary, this is no picture.",
        "bomb.png": bomb(13_000, 13_000),
        "animated.gif": picture_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:]),
    }
    readable = {
        "16bit.png": picture_bytes(Image.fromarray(noise[..., 0].astype(np.uint16) * 257), "PNG"),
        "cmyk.jpg": picture_bytes(photograph.convert("CMYK"), "JPEG"),
        "größer als 1 ✓.webp": picture_bytes(photograph, "WEBP"),
        "deep folder/Ünï cödé/a b.jpeg": picture_bytes(photograph, "JPEG"),
        "palette.png": picture_bytes(photograph.convert("P"), "PNG"),
    }
    for name, data in (unreadable | readable).items():
        path = demo.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with (demo.images / "captions.csv").open("a", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("cmyk.jpg", SCRIPT), ("16bit.png", "a very long caption " * 50)])
    run = audit(demo.images, tmp_path / "run", "--reference", str(demo.reference))

    reasons = dict(zip(run.failed["key"].to_pylist(), run.failed["reason"].to_pylist(), strict=True))
    assert set(reasons) == set(unreadable)
    assert "empty" in reasons["nothing.png"] or "0 bytes" in reasons["nothing.png"]
    assert "animated" in reasons["animated.gif"]
    assert "pixels" in reasons["bomb.png"]
    rows = {row["key"]: row for row in run.rows.to_pylist() if row["role"] == "audited"}
    assert set(rows) == set(wanted["key"].to_pylist()) | set(readable)
    for row in wanted.to_pylist():
        for column in ("denoising_loss_unconditional", "flipd_conditional"):
            assert rows[row["key"]][column] == pytest.approx(row[column], rel=1e-5, abs=1e-3)
    assert rows["16bit.png"]["note"] is not None  # the caption was cut
    assert json.loads(rows["palette.png"]["reasons"])["flipd_conditional"] == "no caption"
    assert rows["palette.png"]["denoising_loss_unconditional"] is not None
    for name in ("report.html", "report.md"):
        text = (tmp_path / "run" / name).read_text(encoding="utf-8")
        assert SCRIPT not in text
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["verdict"]["n_audited"] == 12 + len(readable)


@pytest.mark.fault
def test_an_empty_folder_and_a_model_without_weights_are_one_message(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "model").mkdir()
    for model, images in ((MINIATURE, tmp_path / "empty"), (tmp_path / "model", demo.images)):
        done = subprocess.run(
            [POINTLAND, "audit", model, images, "-o", tmp_path / "run"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stderr.startswith("Error: ")
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "run").exists()
