"""Rows I1, I2, I3, I6, I7 and I8 of the matrix of faults: hostile pictures, names and captions."""

import io
import json
import os
import struct
import subprocess
import sys
import time
import unicodedata
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from pointland.data.folder import read_folder
from pointland.data.picture import Picture, UnreadablePicture, decode_picture, read_picture

pytestmark = pytest.mark.fault

SIZE = (16, 16)
KINDS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]
SOURCE = Path(__file__).parents[2] / "src"


def noise(width: int = 32, height: int = 24) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def samples() -> Iterator[tuple[str, bytes]]:
    """One file of every kind, and of the kinds of compression and metadata that have their own parsers."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker " * 20, 72.0
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "x" * 3000, zip=True)
    for kind in KINDS:
        yield kind, encode(noise(), kind)
    yield "JPEG progressive, EXIF", encode(noise(), "JPEG", progressive=True, exif=exif)
    yield "JPEG CMYK", encode(noise().convert("CMYK"), "JPEG")
    yield "PNG palette, alpha, text, EXIF", encode(noise().convert("P"), "PNG", transparency=3, pnginfo=text, exif=exif)
    yield "WEBP lossless, EXIF", encode(noise().convert("RGBA"), "WEBP", lossless=True, exif=exif)
    yield "TIFF deflate", encode(noise(), "TIFF", compression="tiff_deflate")
    yield "TIFF jpeg", encode(noise(), "TIFF", compression="jpeg")


SAMPLES = dict(samples())


def outcome(data: bytes) -> Picture | str:
    """Decode: a well-formed picture, or the reason against it; anything else fails the test."""
    start = time.perf_counter()
    try:
        found = decode_picture(data, SIZE)
    except UnreadablePicture as error:
        reason = str(error)
        assert reason
        assert len(reason) < 400
        assert " at 0x" not in reason
        return reason
    finally:
        assert time.perf_counter() - start < 5
    assert found.pixels.shape == (3, *SIZE)
    return found


def peak_growth(code: str) -> float:
    """Run code in a fresh process; return by how many bytes its peak memory grew."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    program = (
        "from pointland.data.picture import UnreadablePicture, read_picture\n"
        "from pathlib import Path\n"
        "status = Path('/proc/self/status')\n"  # not ru_maxrss, which begins at the peak of the parent
        "peak = lambda: int(status.read_text().split('VmHWM:')[1].split()[0]) * 1024\n"
        f"before = peak()\n{code}\nprint(peak() - before)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr  # no warnings either
    return float(done.stdout)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *, depth: int = 1, extra: bytes = b"", rows: bytes | None = None) -> bytes:
    """A gray PNG written by hand; all zero unless ``rows`` are given."""
    packer = zlib.compressobj(9)
    stride = b"\0" * (1 + (width * depth + 7) // 8)
    body = b"".join(packer.compress(stride) for _ in range(height)) if rows is None else packer.compress(rows)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", body + packer.flush()) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("percent", range(0, 100, 5))
def test_truncated_files_are_refused(kind: str, percent: int) -> None:
    data = SAMPLES[kind]
    reason = outcome(data[: len(data) * percent // 100])
    assert isinstance(reason, str), "decoded in spite of missing data"


@pytest.mark.parametrize("kind", SAMPLES)
def test_any_truncation_has_a_defined_result(kind: str) -> None:
    for length in np.linspace(0, len(SAMPLES[kind]) - 1, 40).astype(int):
        outcome(SAMPLES[kind][:length])


def test_three_hundred_damaged_files_have_a_defined_result_and_spare_the_good() -> None:
    rng = np.random.default_rng(7)
    before = {name: decode_picture(data, SIZE).pixels for name, data in SAMPLES.items()}
    for case in range(300):
        name = list(SAMPLES)[case % len(SAMPLES)]
        data = bytearray(SAMPLES[name])
        span = 120 if case % 2 else len(data)  # half of the damage goes into headers
        for at in rng.integers(0, span, int(rng.integers(1, 12))):
            data[at] = rng.integers(0, 256)
        outcome(bytes(data))
    assert all(np.array_equal(decode_picture(SAMPLES[name], SIZE).pixels, pixels) for name, pixels in before.items())


def test_the_result_does_not_depend_on_the_filter_of_warnings() -> None:
    """Damaged metadata that Pillow warns about when it parses it: it is not parsed, and the picture is read."""
    exif = Image.Exif()
    exif[0x010F] = "x" * 100
    damaged = exif.tobytes().replace(struct.pack("<HHI", 0x010F, 2, 101), struct.pack("<HHI", 0x010F, 2, 60_000))
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encode(noise(), kind, exif=damaged)
        results = []
        for action in ("error", "ignore"):
            with warnings.catch_warnings():
                warnings.simplefilter(action)
                results.append(decode_picture(data, SIZE).pixels)
        assert np.array_equal(results[0], results[1])


@pytest.mark.parametrize("seed", range(20))
def test_garbage_is_refused(seed: int) -> None:
    data = np.random.default_rng(seed).bytes(1000)
    assert isinstance(outcome(data), str)
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        assert isinstance(outcome(SAMPLES[name][:16] + data), str)


def test_a_web_page_and_empty_files_named_as_pictures(tmp_path: Path) -> None:
    files = {"page.jpg": b"<html><body>404 Not Found</body></html>", "empty.png": b"", "text.webp": "héllo".encode()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadablePicture):
            read_picture(tmp_path / name, SIZE)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "PPM", "ICO", "TGA", "PCX", "JPEG2000", "AVIF"])
def test_formats_that_are_not_allowed_never_reach_their_decoder(kind: str) -> None:
    try:
        data = encode(noise(), kind)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow does not write {kind}")
    assert isinstance(outcome(data), str)


@pytest.mark.parametrize("side", [13_000, 20_000])
def test_a_small_file_of_many_pixels_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side))
    assert path.stat().st_size < 60_000
    growth = peak_growth(
        f"try:\n    read_picture(Path({str(path)!r}), (64, 64))\n    raise SystemExit(1)\n"
        "except UnreadablePicture as error:\n    assert 'more than 64 million' in str(error)"
    )
    assert growth < 20e6


def test_headers_of_every_kind_that_promise_too_much_are_refused(tmp_path: Path) -> None:
    side = 9_000  # 81 million: above our limit, below Pillow's
    bombs = {
        "bmp": SAMPLES["BMP"][:18] + struct.pack("<ii", side, side) + SAMPLES["BMP"][26:],
        "gif": SAMPLES["GIF"][:6] + struct.pack("<HH", side, side) + SAMPLES["GIF"][10:],
        "png": png(side, side, rows=b""),
        "tiff": encode(Image.new("1", (side, side)), "TIFF", compression="group4"),
        "webp": b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + b"\xff\xff\x3f\xff\xff\x3f",
    }
    frame = SAMPLES["JPEG"].index(b"\xff\xc0")
    bombs["jpeg"] = SAMPLES["JPEG"][: frame + 5] + struct.pack(">HH", side, side) + SAMPLES["JPEG"][frame + 9 :]
    for name, data in bombs.items():
        assert isinstance(outcome(data), str), name
        if name != "webp":  # its own library refuses first
            assert "more than 64 million" in str(outcome(data)), name


def test_a_picture_at_the_limit_is_read_within_the_memory_promised(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png(8_000, 8_000, depth=8))
    assert peak_growth(f"read_picture(Path({str(path)!r}), (64, 64))") < 600e6


def test_ten_thousand_frames_are_refused_at_once() -> None:
    header = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x21\xf9\x04\0\x01\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0"
    start = time.perf_counter()
    assert "animated" in str(outcome(header + frame * 10_000 + b";"))
    assert time.perf_counter() - start < 0.5
    assert isinstance(outcome(header + frame + b";"), Picture)


@pytest.mark.parametrize("control", [b"", b"\0" * 3, struct.pack(">II", 0, 0), struct.pack(">II", 2**31 + 5, 0)])
def test_an_animated_png_with_a_damaged_control_chunk_is_refused(control: bytes) -> None:
    assert "animated" in str(outcome(png(8, 8, extra=chunk(b"acTL", control))))


def test_huge_text_and_profiles_cost_no_memory(tmp_path: Path) -> None:
    zeros = zlib.compress(bytes(100_000_000), 9)
    extras = {
        "text": chunk(b"zTXt", b"prompt\0\0" + zeros),
        "international": chunk(b"iTXt", b"prompt\0\1\0\0\0" + zeros),
        "profile": chunk(b"iCCP", b"icc\0\0" + zeros),
        "many": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000))) * 200,
    }
    for name, extra in extras.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(png(8, 8, extra=extra))
        growth = peak_growth(
            f"try:\n    read_picture(Path({str(path)!r}), (8, 8))\nexcept UnreadablePicture:\n    pass"
        )
        assert growth < 100e6, name


def test_damaged_profiles_and_exif_do_no_harm() -> None:
    plain = decode_picture(encode(noise(), "PNG"), SIZE).pixels
    for junk in (
        b"",
        b"junk",
        b"II*\0",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"II*\0\xff\xff\xff\xff",
        np.random.default_rng(0).bytes(500),
    ):
        assert np.array_equal(decode_picture(encode(noise(), "PNG", icc_profile=junk, exif=junk), SIZE).pixels, plain)
        for kind in ("JPEG", "WEBP"):
            alone = decode_picture(encode(noise(), kind), SIZE).pixels
            assert np.array_equal(decode_picture(encode(noise(), kind, exif=b"Exif\0\0" + junk), SIZE).pixels, alone)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 10_000), (10_000, 1), (2, 9_999)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_extreme_shapes(kind: str, width: int, height: int) -> None:
    found = decode_picture(encode(Image.new("RGB", (width, height), (80, 80, 80)), kind), (512, 512))
    assert found.pixels.shape == (3, 512, 512)
    assert np.abs(found.pixels.astype(int) - 80).max() <= 2


def test_extreme_shapes_cost_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "thin.png"
    Image.new("RGB", (1, 10_000)).save(path)
    assert peak_growth(f"read_picture(Path({str(path)!r}), (512, 512))") < 50e6


def test_nothing_process_wide_is_touched() -> None:
    before = (
        Image.MAX_IMAGE_PIXELS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        PngImagePlugin.MAX_TEXT_CHUNK,
        list(warnings.filters),
    )
    for data in SAMPLES.values():
        outcome(data)
        outcome(data[:-20])
    after = (
        Image.MAX_IMAGE_PIXELS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        PngImagePlugin.MAX_TEXT_CHUNK,
        list(warnings.filters),
    )
    assert before == after


NAMES = [
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "🙂👩‍👩‍👧",
    "new\nline",
    "\"quotes\" 'and' `ticks`",
    "-rf",
    "--help",
    "x" * 251,
    " space ",
    "a,b;c\td",
    "<script>alert(1)</script>".replace("/", "∕"),
    "‮gpj",
    "100%41#?&",
    "back\\slash",
    os.fsdecode(b"latin\xe9"),
]


def test_names_come_back_exactly(tmp_path: Path) -> None:
    data = encode(noise(), "PNG")
    for name in NAMES:
        (tmp_path / f"{name}.png").write_bytes(data)
    rows = [json.dumps({"file_name": f"{name}.png", "text": f"caption {i}"}) for i, name in enumerate(NAMES)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    items = {item.key: item for item in read_folder(tmp_path)}
    assert set(items) == {f"{name}.png" for name in NAMES}
    assert {os.fsencode(tmp_path / item.place) for item in items.values()} == {
        bytes(path) for path in tmp_path.glob("*.png")
    }
    for i, name in enumerate(NAMES):
        item = items[f"{name}.png"]
        assert item.caption == f"caption {i}"
        assert read_picture(tmp_path / item.place, SIZE).width == 32


CAPTIONS = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "‮right to left‬",
    "nul\0inside",
    "=cmd|' /C calc'!A0",
    "x" * 1_000_000,
    "line separator, next line\u0085, form feed\x0c.",
    "{{ 7 * 7 }} ${HOME} %s \\u0041",
    "e\u0301 日本 🙂",
]


def test_captions_in_json_come_back_exactly(tmp_path: Path) -> None:
    rows = []
    for i, caption in enumerate(CAPTIONS):
        (tmp_path / f"{i}.png").touch()
        rows.append(json.dumps({"file_name": f"{i}.png", "text": caption}, ensure_ascii=i % 2 == 0))
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    assert [item.caption for item in read_folder(tmp_path)] == CAPTIONS


def test_captions_in_csv_come_back_exactly_or_are_refused_for_length(tmp_path: Path) -> None:
    short = [caption for caption in CAPTIONS if len(caption) < 100_000]
    for i in range(len(short)):
        (tmp_path / f"{i}.png").touch()
    rows = [f'{i}.png,"{caption}"\n' for i, caption in enumerate(short)]
    (tmp_path / "captions.csv").write_text("file,text\n" + "".join(rows), encoding="utf-8", newline="")
    assert [item.caption for item in read_folder(tmp_path)] == short
    (tmp_path / "captions.csv").write_text(f"file,text\n0.png,{'x' * 1_000_000}\n")
    with pytest.raises(ValueError, match=r"captions.csv, line 2: not CSV .* use \.jsonl for very long ones"):
        read_folder(tmp_path)


def test_a_megabyte_of_text_beside_the_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "a.txt").write_text("word\n" * 200_000)
    (item,) = read_folder(tmp_path)
    assert item.caption == " ".join(["word"] * 200_000)


@pytest.mark.parametrize("escape", ["\\ud800", "x\\udfff", "\\udc80 tail"])
def test_half_a_character_in_json_is_refused_and_a_whole_pair_is_not(tmp_path: Path, escape: str) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "metadata.jsonl").write_text(f'{{"file_name": "a.png", "text": "{escape}"}}')
    with pytest.raises(ValueError, match=r"metadata.jsonl, line 1: text has \\u[0-9a-f]{4}, one half of a pair"):
        read_folder(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "\\ud83d\\ude42"}')
    assert read_folder(tmp_path)[0].caption == "🙂"
