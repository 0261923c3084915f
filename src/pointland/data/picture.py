"""One picture from bytes nobody vouches for: decoded by fixed rules to RGB of a given size, or refused with a reason.

What is refused: anything but JPEG, PNG, WebP, GIF, BMP and TIFF, told by its first bytes and never by its name; more
than 64 million pixels by the header, 256 MiB of file, or 1,000 scans of a JPEG; truncated and damaged files;
animations and several pages, since which frame a model was trained on is unknown; 32-bit gray, which has no agreed
range. Damage that leaves a decodable file cannot be noticed.

What is converted, in this order: EXIF orientation is applied. 16-bit samples keep their high byte. Gray, palette, CMYK,
YCbCr and LAB become RGB by Pillow's formulas; embedded color profiles are ignored, as training scripts do. The picture
is resampled (see :func:`fit`). Transparent parts are laid over white.

No setting of Pillow or of Python's warnings is touched, so pictures may be read in several threads. The EXIF data
of a JPEG, which Pillow parses and warns about, is kept from it. A damaged TIFF directory can still make it warn; where
the process has made warnings errors, that file is refused.
"""

import hashlib
import io
import re
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageCms import PyCMSError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_PIXELS = 64_000_000
MAX_BYTES = 256 * 2**20
MAX_SCANS = 1_000  # passes over a progressive JPEG, of which encoders make about ten
ANIMATED = "animated, or several pages; extract the frame that was trained on"
KINDS: dict[str, tuple[bytes, type[ImageFile]]] = {
    "JPEG": (rb"\xff\xd8\xff", JpegImageFile),
    "PNG": (rb"\x89PNG\r\n\x1a\n", PngImageFile),
    "WebP": (rb"RIFF....WEBP", WebPImageFile),
    "GIF": (rb"GIF8[79]a", GifImageFile),
    "BMP": (rb"BM", BmpImageFile),
    "TIFF": (rb"II[*+]\0|MM\0[*+]", TiffImageFile),
}
# What Pillow's readers raise on damaged files; warnings where the process has made them errors.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    PyCMSError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadablePicture(Exception):  # noqa: N818  # a finding about the data, not a fault of the program
    """A file that cannot be used as a picture; the message is the reason, for people, without paths."""


class Picture(NamedTuple):
    """A picture as the model sees it.

    Attributes:
        pixels: RGB, uint8, shape ``(3, h, w)``, of the size asked for.
        sha256: Of the file's bytes, in hexadecimal.
        width: Pixels across in the file, after EXIF rotation.
        height: Pixels down in the file, after EXIF rotation.
    """

    pixels: NDArray[np.uint8]
    sha256: str
    width: int
    height: int


def read_picture(path: Path, size: tuple[int, int]) -> Picture:
    """Read and decode a file; see :func:`decode_picture`.

    Args:
        path: The file.
        size: Height and width that the picture is fitted to.

    Raises:
        UnreadablePicture: Also if the file is missing, larger than 256 MiB, no regular file, or may not be read.
    """
    return decode_picture(read_bytes(path), size)


def read_bytes(path: Path) -> bytes:
    """Read a file that should be a picture; errors as in :func:`read_picture`."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise UnreadablePicture("no such file, or not a regular file")
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadablePicture(f"cannot be read: {error.strerror}") from error


def picture_or_reason(data: bytes | UnreadablePicture, size: tuple[int, int]) -> Picture | UnreadablePicture:
    """Decode as :func:`decode_picture` does, and return the reason instead of raising it: for whoever goes on."""
    if isinstance(data, UnreadablePicture):
        return data
    try:
        return decode_picture(data, size)
    except UnreadablePicture as error:
        return error


def decode_picture(data: bytes, size: tuple[int, int]) -> Picture:
    """Decode a picture and fit it to a size, by the rules of this module.

    Args:
        data: The bytes of a file.
        size: Height and width in pixels, as in :attr:`pointland.model.Codec.size`.

    Returns:
        The picture. The same bytes always give the same pixels with the same Pillow.

    Raises:
        UnreadablePicture: If it is refused; the message is the reason.

    Cost:
        Up to 1 GB of memory for a WebP at the limit of 64 million pixels, half of that for other kinds; a refusal by
        the header costs no more than the file.
    """
    if len(data) > MAX_BYTES:
        raise UnreadablePicture(f"larger than {MAX_BYTES // 2**20} MiB")
    kind = next((kind for kind, (start, _) in KINDS.items() if re.match(start, data, re.DOTALL)), None)
    if kind is None:
        raise UnreadablePicture(_what(data))
    try:
        image = _oriented(kind, data)
        width, height = image.size
        pixels = fit(_colored(image), size)
    except DAMAGE as error:
        raise UnreadablePicture(f"damaged {kind}: {error or type(error).__name__!s:.200}") from error
    return Picture(pixels, hashlib.sha256(data).hexdigest(), width, height)


def fit(image: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resample an RGB or RGBA picture so that its shorter side fits, and crop the longer one around the centre.

    Lanczos with antialiasing. Pixels are untouched where only a crop is needed. The crop comes first, so that an
    extreme aspect ratio costs no memory. Smaller pictures are enlarged.

    Args:
        image: Mode ``RGB`` or ``RGBA``; alpha is laid over white.
        size: Height and width.

    Returns:
        Pixels, shape ``(3, h, w)``.
    """
    height, width = size
    scale = min(image.width / width, image.height / height)
    if scale == 1:
        x, y = (image.width - width) // 2, (image.height - height) // 2
        fitted = image.crop((x, y, x + width, y + height))
    else:
        across, down = min(width * scale, image.width), min(height * scale, image.height)
        left, top = (image.width - across) / 2, (image.height - down) / 2
        box = (left, top, min(left + across, image.width), min(top + down, image.height))
        fitted = image.resize((width, height), Image.Resampling.LANCZOS, box=box)
    if fitted.mode == "RGBA":
        fitted = Image.alpha_composite(Image.new("RGBA", fitted.size, "white"), fitted).convert("RGB")
    return np.array(fitted).transpose(2, 0, 1).copy()


def _what(data: bytes) -> str:
    """Say what a file is that is no picture."""
    if not data:
        return "the file is empty"
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"<(!doctype|html|\?xml|svg|head|body)", start, re.IGNORECASE):
        return "a web page or XML, not a picture; perhaps a download that failed"
    if start and not re.search(rb"[^\t\r\n\x20-\x7e]", start):
        return "text, not a picture"
    return f"not a {', '.join(list(KINDS)[:-1])} or {list(KINDS)[-1]} picture"


def _oriented(kind: str, data: bytes) -> Image.Image:
    """Open, check the header, decode and turn upright."""
    exif = b""
    if kind == "JPEG":
        data, exif = _without_exif(data)
    elif kind == "PNG":
        _refuse_animated_png(data)
    image = KINDS[kind][1](io.BytesIO(data))  # not Image.open, which only warns of 89 to 179 million pixels
    if image.width * image.height > MAX_PIXELS:
        raise UnreadablePicture(
            f"{image.width} x {image.height} pixels, more than {MAX_PIXELS // 1_000_000} million; shrink it"
        )
    if getattr(image, "is_animated", False):
        raise UnreadablePicture(ANIMATED)
    if kind == "JPEG":
        _refuse_many_scans(data, image.width * image.height)
    image.load()
    turn = TURNS.get(_orientation(exif or image.info.get("exif", b"")))  # Pillow turns TIFF by itself
    return image if turn is None else image.transpose(turn)


def _colored(image: Image.Image) -> Image.Image:
    """Convert any mode to ``RGB``, or ``RGBA`` if anything may be transparent."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UnreadablePicture("32-bit gray, which has no agreed range; convert it to 8 or 16 bit")
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _without_exif(jpeg: bytes) -> tuple[bytes, bytes]:
    """Return a JPEG whose EXIF segment is renamed, so that Pillow does not parse it, and the segment's contents."""
    at = 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1 : at + 2] not in (b"\xda", b""):
        if jpeg[at + 1] == 0xFF:  # a filling byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
        if jpeg[at + 1] == 0xE1 and jpeg[at + 4 : at + 10] == b"Exif\0\0":
            return jpeg[: at + 4] + b"None\0\0" + jpeg[at + 10 :], jpeg[at + 10 : end]
        at = end
    return jpeg, b""


def _refuse_many_scans(jpeg: bytes, pixels: int) -> None:
    """Refuse a JPEG of so many scans that decoding takes minutes: each is a pass over all pixels, in 50 bytes."""
    scans = jpeg.count(b"\xff\xda")
    if scans > min(MAX_SCANS, max(1, 32 * MAX_PIXELS // pixels)):
        raise UnreadablePicture(f"a JPEG of {scans} scans, which would take long to decode; save it again")


def _refuse_animated_png(png: bytes) -> None:
    """Refuse an animated PNG, also one whose animation is damaged, by the control chunk before its pixels."""
    at = png.find(b"acTL", 0, max(png.find(b"IDAT"), 0))
    if at >= 0 and int.from_bytes(png[at + 4 : at + 8]) != 1:
        raise UnreadablePicture(ANIMATED)


def _orientation(exif: bytes) -> int:
    """Read EXIF tag 274 from the first directory: 1 to 8; 1, upright, if it is absent or damaged."""
    exif = exif.removeprefix(b"Exif\0\0")
    if exif[:2] not in (b"II", b"MM"):
        return 1
    big = exif[:2] == b"MM"

    def number(at: int, length: int) -> int:
        return int.from_bytes(exif[at : at + length], "big" if big else "little")

    first = number(4, 4)
    for at in range(first + 2, min(first + 2 + 12 * number(first, 2), len(exif)), 12):
        if number(at, 2) == 0x0112:
            return number(at + 8, 4 if number(at + 2, 2) == 4 else 2)
    return 1
