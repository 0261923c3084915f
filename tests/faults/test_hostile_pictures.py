"""Rows I1, I2, I3 and I8: hundreds of bad pictures in a real audit, fuzz, bombs, conversions, hardly any pictures."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import damage
from commands import pointland
from miniatures import cut
from pointland.auditing import audit, read_run
from pointland.data.picture import Picture, UnreadablePicture, decode_picture, read_picture
from pointland.demo import MINIATURE, Demo
from pointland.models import load
from pointland.report import write_report

pytestmark = pytest.mark.fault

SIZE = (16, 16)
SOURCE = Path(__file__).parents[2] / "src"
QUICK: dict[str, Any] = {"sigma": 0.3, "n_draws": 1, "n_probes": 1}
FLAGS = ["--sigma", "0.3", "--n-draws", "1", "--n-probes", "1", "--device", "cpu"]


def outcome(data: bytes) -> Picture | str:
    """Decode: a well-formed picture, or the reason against it; anything else fails the test."""
    try:
        found = decode_picture(data, SIZE)
    except UnreadablePicture as error:
        reason = str(error)
        assert reason
        assert len(reason) < 400
        assert " at 0x" not in reason
        return reason
    assert found.pixels.shape == (3, *SIZE)
    return found


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return cut(tmp_path, 8, 4)


def test_more_than_200_bad_pictures_beside_good_ones_in_a_real_audit(demo: Demo, tmp_path: Path) -> None:
    model = load(MINIATURE, device="cpu")
    wanted = {row["key"]: row for row in audit(model, demo.images, out=tmp_path / "good", **QUICK).rows.to_pylist()}
    bad = dict(damage.bad_pictures())
    assert len(bad) > 200
    for name, data in bad.items():
        (demo.images / name).write_bytes(data)
    before = {path for path in tmp_path.rglob("*") if "run" not in path.parts}
    run = audit(model, demo.images, out=tmp_path / "run", **QUICK)
    rows = {row["key"]: row for row in run.rows.to_pylist()}
    failed = dict(zip(run.failed["key"].to_pylist(), run.failed["reason"].to_pylist(), strict=True))
    assert len(rows) == run.rows.num_rows
    assert len(failed) == run.failed.num_rows
    assert rows.keys() | failed.keys() == wanted.keys() | bad.keys()
    assert not rows.keys() & failed.keys()
    assert all(failed.values())
    assert len(failed) > 100
    for key, row in wanted.items():
        assert rows[key]["sha256"] == row["sha256"]
        for column in ("denoising_loss_unconditional", "flipd_unconditional", "flipd_conditional"):
            assert rows[key][column] == pytest.approx(row[column], rel=1e-5, abs=1e-3)  # float32 in other batches
    write_report(run.folder)
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["n_failed"] == len(failed)
    assert summary["verdict"]["n_audited"] == len(rows)
    assert {path for path in tmp_path.rglob("*") if "run" not in path.parts} == before


def fuzz(kind: str, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    good = {name: data for name, data in damage.samples().items() if name.split()[0] == kind}
    before = {name: decode_picture(data, SIZE).pixels for name, data in good.items()}
    names = sorted(good)
    for case in range(n):
        outcome(damage.flipped(good[names[case % len(names)]], rng))
    assert all(np.array_equal(decode_picture(good[name], SIZE).pixels, pixels) for name, pixels in before.items())


@pytest.mark.parametrize("kind", damage.KINDS)
def test_two_hundred_files_with_flipped_bytes(kind: str) -> None:
    fuzz(kind, 200, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", damage.KINDS)
def test_two_thousand_files_with_flipped_bytes(kind: str) -> None:
    fuzz(kind, 2_000, 2)


@pytest.mark.parametrize("name", damage.samples())
def test_cut_at_every_twentieth(name: str) -> None:
    data = damage.samples()[name]
    for percent in range(0, 100, 5):
        outcome(data[: len(data) * percent // 100])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".tiff", ".webp", ".bmp"])
def test_the_suffix_says_nothing(tmp_path: Path, suffix: str) -> None:
    for kind in damage.KINDS:
        path = tmp_path / f"picture{suffix}"
        path.write_bytes(damage.samples()[kind])
        assert np.array_equal(read_picture(path, SIZE).pixels, decode_picture(damage.samples()[kind], SIZE).pixels)
    path.write_bytes(b"<html><body>Not found</body></html>")
    with pytest.raises(UnreadablePicture, match="a web page"):
        read_picture(path, SIZE)


# What is refused by its header, and what is read without what lies beside its pixels.
PROMISING = {name for name in damage.bombs() if "million" in name or "squared" in name}
PROMISING |= {"four billion wide.tif", "canvas.webp", "a large frame on a small screen.gif", "ten thousand frames.gif"}
PROMISING |= {"many scans.jpg"}


def test_bombs_are_refused_or_read_within_100_megabytes(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    bombs = damage.bombs()
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
    program = f"""
import json
from pathlib import Path
from pointland.data.picture import UnreadablePicture, read_picture
status = Path('/proc/self/status')
peak = lambda: int(status.read_text().split('VmHWM:')[1].split()[0]) * 1024
before, said = peak(), {{}}
for path in sorted(Path({str(tmp_path)!r}).iterdir()):
    try:
        said[path.name] = str(read_picture(path, (64, 64)).width)
    except UnreadablePicture as error:
        said[path.name] = str(error)
print(json.dumps([peak() - before, said]))
"""
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    growth, said = json.loads(done.stdout)
    assert said.keys() == bombs.keys()
    assert growth < 100e6
    assert [name for name in sorted(PROMISING) if said[name].isdigit()] == []
    for name in ("169 million pixels.png", "400 million pixels.png", "a hundred thousand squared.png"):
        assert "more than 64 million" in said[name]
    assert "scans" in said["many scans.jpg"]


def test_a_jpeg_of_a_hundred_scans_is_read_if_it_is_small() -> None:
    assert isinstance(outcome(damage.many_scans(64, 100)), Picture)
    assert "1106 scans" in str(outcome(damage.many_scans(64, 1_100)))


def plane(dtype: type = np.uint8, channels: int = 1, width: int = 8, height: int = 6) -> Any:
    """Values that differ everywhere, made of integers alone."""
    top = np.iinfo(dtype).max + 1
    return (
        np.arange(width * height * channels).reshape(height, width, channels).squeeze() * 2_654_435_761 % top
    ).astype(dtype)


def palette() -> Image.Image:
    image = Image.fromarray(plane() % 16, "P")
    image.putpalette([value * 37 % 256 for value in range(48)])
    return image


def turned(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return damage.encode(Image.fromarray(plane(channels=3)), kind, exif=exif)


def rgb(kind: str, **options: object) -> bytes:
    return damage.encode(Image.fromarray(plane(channels=3)), kind, **options)


CASES: dict[str, tuple[Callable[[], bytes], tuple[int, int], str]] = {
    "RGB": (lambda: rgb("PNG"), (6, 8), "b4437d7ce7af15b7"),
    "CMYK": (lambda: damage.encode(Image.fromarray(plane(channels=4), "CMYK"), "TIFF"), (6, 8), "922b70c34615cde5"),
    "16-bit gray": (lambda: damage.encode(Image.fromarray(plane(np.uint16)), "PNG"), (6, 8), "15d406cb85d32b2d"),
    "16-bit gray TIFF": (lambda: damage.encode(Image.fromarray(plane(np.uint16)), "TIFF"), (6, 8), "15d406cb85d32b2d"),
    "palette": (lambda: damage.encode(palette(), "PNG"), (6, 8), "30f9ed1d0aaadded"),
    "palette GIF": (lambda: damage.encode(palette(), "GIF"), (6, 8), "30f9ed1d0aaadded"),
    "palette with alpha": (
        lambda: damage.encode(palette(), "PNG", transparency=bytes(range(0, 256, 16))),
        (6, 8),
        "feb13a648b9e59c6",
    ),
    "RGBA": (lambda: damage.encode(Image.fromarray(plane(channels=4), "RGBA"), "PNG"), (6, 8), "d12632e5ea47c9eb"),
    "gray with alpha": (
        lambda: damage.encode(Image.fromarray(plane(channels=2), "LA"), "PNG"),
        (6, 8),
        "fb35cd771c257881",
    ),
    "turned by EXIF, PNG": (lambda: turned("PNG", 6), (8, 6), "719055de3274df50"),
    "turned by EXIF, TIFF": (lambda: turned("TIFF", 6), (8, 6), "719055de3274df50"),
    "mirrored by EXIF": (lambda: turned("PNG", 7), (8, 6), "cff94ac3402249f4"),
    "1 x 1": (
        lambda: damage.encode(Image.fromarray(plane(channels=3, width=1, height=1)[None, None]), "PNG"),
        (1, 1),
        "c933c72c0c523417",
    ),
    "1 x 10,000": (
        lambda: damage.encode(Image.fromarray(plane(channels=3, width=1, height=10_000)[:, None]), "BMP"),
        (10_000, 1),
        "e7e1297b09c35743",
    ),
    "lossless WebP": (lambda: rgb("WEBP", lossless=True, exact=True), (6, 8), "b4437d7ce7af15b7"),
    "cropped around the centre": (lambda: rgb("PNG"), (6, 6), "e731f37b23869910"),
}


@pytest.mark.parametrize("name", CASES)
def test_conversions_are_these(name: str) -> None:
    make, size, golden = CASES[name]
    assert hashlib.sha256(decode_picture(make(), size).pixels.tobytes()).hexdigest()[:16] == golden


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_what_moves_is_refused(kind: str) -> None:
    frames = [Image.fromarray(np.roll(plane(channels=3), i, axis=0)) for i in range(3)]
    assert "animated" in str(outcome(damage.encode(frames[0], kind, save_all=True, append_images=frames[1:])))


def test_one_picture_or_none(tmp_path: Path) -> None:
    one, none = cut(tmp_path, 1, 1), tmp_path / "none"
    none.mkdir()
    first, second = tmp_path / "first", tmp_path / "second"
    done, *others = pointland(
        ["audit", MINIATURE, one.images, "--reference", one.reference, "-o", first, *FLAGS],
        *([*words, place] for words in (["data"], ["lid", MINIATURE], ["lid-data"]) for place in (one.images, none)),
        ["audit", MINIATURE, none, "-o", second],
        ["audit", MINIATURE, one.images, "--reference", none, "-o", second],
    )
    assert done.code == 0, done.err  # one of reference cannot carry a flag
    assert read_run(first).rows["role"].to_pylist() == ["audited", "reference"]
    verdict = json.loads((first / "summary.json").read_text())["verdict"]
    assert (verdict["n_audited"], verdict["n_flagged"], verdict["n_reference"]) == (1, 0, 1)
    assert [other.code for other in others[1::2]] == [2, 2, 2, 2]
    for other in others:
        assert other.code in (0, 2), other.err
        assert other.out.strip() if other.code == 0 else other.err.strip().splitlines()[-1].startswith("Error: ")
    assert others[-2].code == 2
    assert not second.exists()


def test_nothing_but_a_bad_picture(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of the 1 pictures can be read; the last reason was a.png: .*empty"):
        audit(load(MINIATURE, device="cpu"), tmp_path / "images", out=tmp_path / "run", **QUICK)
