import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pointland.data.picture import UnreadablePicture, decode_picture, fit, read_picture

Pixels = NDArray[np.uint8]
LOSSLESS = ["PNG", "BMP", "TIFF", "WEBP"]


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    lossless = {"lossless": True} if kind == "WEBP" else {}
    image.save(stream, kind, **lossless, **options)
    return stream.getvalue()


def pixels(image: Image.Image) -> Pixels:
    return np.array(image.convert("RGB")).transpose(2, 0, 1)


def far(a: Pixels, b: Pixels) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize(("width", "height"), [(40, 24), (7, 7), (1, 1)])
def test_the_right_size_is_not_resampled(kind: str, width: int, height: int) -> None:
    image = picture(width, height)
    data = encode(image, kind)
    found = decode_picture(data, (height, width))
    assert np.array_equal(found.pixels, pixels(image))
    assert found.pixels.dtype == np.uint8
    assert found.pixels.flags.writeable
    assert found.pixels.flags.c_contiguous
    assert (found.width, found.height) == (width, height)
    assert found.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(("width", "height"), [(24, 33), (33, 24), (24, 25), (90, 24)])
def test_a_crop_is_centred_and_changes_no_pixel(width: int, height: int) -> None:
    image = picture(width, height)
    left, top = (width - 24) // 2, (height - 24) // 2
    found = decode_picture(encode(image), (24, 24)).pixels
    assert np.array_equal(found, pixels(image.crop((left, top, left + 24, top + 24))))


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (10, 300), (13, 13), (3, 2)])
@pytest.mark.parametrize("size", [(32, 32), (16, 48), (1, 1)])
def test_fitting_keeps_flat_pictures_flat_and_symmetric_ones_symmetric(
    width: int, height: int, size: tuple[int, int]
) -> None:
    flat = fit(Image.new("RGB", (width, height), (9, 200, 77)), size)
    assert flat.shape == (3, *size)
    assert np.array_equal(flat[:, 0, 0], [9, 200, 77])
    assert np.ptp(flat, axis=(1, 2)).max() == 0
    image = picture(width, height)
    assert far(fit(image, size)[:, :, ::-1], fit(ImageOps.mirror(image), size)) <= 1  # rounding
    assert far(fit(image, size)[:, ::-1], fit(ImageOps.flip(image), size)) <= 1


def test_fitting_agrees_with_pillow() -> None:
    image = picture(97, 61)
    theirs = ImageOps.fit(image, (32, 32), Image.Resampling.LANCZOS)
    assert far(fit(image, (32, 32)), pixels(theirs)) <= 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    image = picture(16, 24)
    exif = Image.Exif()
    exif[0x010F] = "a maker whose name is longer than four bytes"
    exif[0x0112] = orientation
    turned = decode_picture(encode(image, kind, exif=exif), (24, 16))
    with Image.open(io.BytesIO(encode(image, kind, exif=exif))) as stored:
        upright = ImageOps.exif_transpose(stored)
        expected = decode_picture(encode(upright), (24, 16))
    assert np.array_equal(turned.pixels, expected.pixels)
    assert (turned.width, turned.height) == (upright.width, upright.height)
    assert (turned.width < turned.height) == (orientation < 5)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_either_byte_order(order: str) -> None:
    image = picture(16, 24)
    exif = Image.Exif()
    exif.endian = order
    exif[0x0112] = 6
    found = decode_picture(encode(image, "PNG", exif=exif.tobytes()), (16, 24))
    assert np.array_equal(found.pixels, pixels(image.transpose(Image.Transpose.ROTATE_270)))


def test_sixteen_bit_gray_keeps_its_high_byte() -> None:
    values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    for kind in ("PNG", "TIFF"):
        found = decode_picture(encode(Image.fromarray(values), kind), (64, 64)).pixels
        assert np.array_equal(found, np.broadcast_to(values >> 8, (3, 64, 64)))


def test_gray_palette_and_black_and_white() -> None:
    for mode in ("L", "P", "1"):
        image = picture(20, 20, mode)
        assert np.array_equal(decode_picture(encode(image), (20, 20)).pixels, pixels(image))
        assert np.array_equal(decode_picture(encode(image, "GIF"), (20, 20)).pixels, pixels(image))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_color_spaces_become_rgb(mode: str) -> None:
    image = picture(20, 20)
    found = decode_picture(encode(image.convert(mode), "TIFF"), (20, 20)).pixels
    assert far(found, pixels(image)) < 24  # LAB in 8 bits rounds coarsely


def test_cmyk_jpeg_is_not_inverted() -> None:
    image = Image.new("RGB", (16, 16), (250, 120, 10))
    assert far(decode_picture(encode(image.convert("CMYK"), "JPEG"), (16, 16)).pixels, pixels(image)) < 6


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("size", [(16, 16), (9, 9)])
def test_alpha_is_laid_over_white(kind: str, size: tuple[int, int]) -> None:
    image = Image.new("RGBA", (16, 16), (200, 0, 0, 0))
    assert (
        decode_picture(encode(image, kind, **({"exact": True} if kind == "WEBP" else {})), size).pixels == 255
    ).all()
    half = Image.new("RGBA", (16, 16), (200, 0, 100, 128))
    found = decode_picture(encode(half, kind), size).pixels[:, 3, 3]
    assert np.abs(found - np.array([227, 127, 177])).max() <= 1


def test_transparent_palette_gray_and_color_are_laid_over_white() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    gray = Image.fromarray(ramp)
    cases = {
        "palette, one color": encode(gray.convert("P"), transparency=7),
        "palette, alphas": encode(gray.convert("P"), transparency=bytes([255] * 7 + [0] + [255] * 248)),
        "gray": encode(gray, transparency=7),
        "color": encode(gray.convert("RGB"), transparency=(7, 7, 7)),
        "gif": encode(gray.convert("P"), "GIF", transparency=7),
    }
    expected = np.where(ramp == 7, 255, ramp)
    for name, data in cases.items():
        assert np.array_equal(decode_picture(data, (16, 16)).pixels, np.broadcast_to(expected, (3, 16, 16))), name
    la = np.stack([ramp, np.where(ramp == 7, 0, 255).astype(np.uint8)], -1)
    assert np.array_equal(decode_picture(encode(Image.fromarray(la, "LA")), (16, 16)).pixels[0], expected)


def test_the_name_decides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "jpeg.png"
    path.write_bytes(encode(picture(16, 16), "JPEG"))
    assert np.array_equal(read_picture(path, (8, 8)).pixels, decode_picture(path.read_bytes(), (8, 8)).pixels)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"key,label\r\na.png,1\n", "text, not a picture"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>404</html>", "web page"),
        (b'<?xml version="1.0"?><svg/>', "web page or XML"),
        (b"\0" * 100, "not a JPEG, PNG, WebP, GIF, BMP or TIFF picture"),
        (b"\0\0\0\x1cftypavif", "not a JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "text"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG"),
        (b"BM", "damaged BMP"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadablePicture, match=reason) as error:
        decode_picture(data, (8, 8))
    assert "0x" not in str(error.value)  # no addresses: a reason must not change from run to run


def test_thirty_two_bit_gray_is_refused() -> None:
    for mode in ("I", "F"):
        with pytest.raises(UnreadablePicture, match="no agreed range"):
            decode_picture(encode(Image.new(mode, (8, 8)), "TIFF"), (8, 8))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_frames_are_refused_and_one_is_not(kind: str) -> None:
    frames = [picture(8, 8, seed=seed) for seed in range(3)]
    with pytest.raises(UnreadablePicture, match=r"animated.* extract the frame"):
        decode_picture(encode(frames[0], kind, save_all=True, append_images=frames[1:]), (8, 8))
    assert decode_picture(encode(frames[0], kind, save_all=True), (8, 8)).width == 8


def test_a_phone_picture_with_a_second_one_behind_it_is_its_first() -> None:
    first, second = picture(16, 16), picture(16, 16, seed=1)
    two = encode(first, "MPO", save_all=True, append_images=[second])
    alone = decode_picture(encode(first, "JPEG"), (16, 16)).pixels
    assert np.array_equal(decode_picture(two, (16, 16)).pixels, alone)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("absent.png", "pipe.png", "folder.png", "zero.png", "nul\0.png"):
        with pytest.raises(UnreadablePicture, match="no such file, or not a regular file"):
            read_picture(tmp_path / name, (8, 8))


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(picture(16, 16)) + bytes(2000))
    monkeypatch.setattr("pointland.data.picture.MAX_BYTES", 2000)
    with pytest.raises(UnreadablePicture, match="larger than"):
        read_picture(path, (8, 8))
