"""Pictures that are damaged, that lie, or that cost far more to decode than to store; each has a name."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, PngImagePlugin

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


def noise(width: int = 32, height: int = 24) -> Image.Image:
    """A picture that does not compress."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return the bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(width: int, height: int, *, extra: bytes = b"", rows: bytes | None = None) -> bytes:
    """A PNG of one bit a pixel written by hand; all black unless ``rows`` are given."""
    packer = zlib.compressobj(9)
    stride = b"\0" * (1 + (width + 7) // 8)
    body = b"".join(packer.compress(stride) for _ in range(height)) if rows is None else packer.compress(rows)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", body + packer.flush()) + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(*tags: tuple[int, int, int, int], strip: bytes = bytes(64), after: bytes = b"", following: int = 0) -> bytes:
    """A gray TIFF of 8 x 8 pixels written by hand; ``tags`` are added, ``after`` follows the strip at byte 8."""
    usual = {
        256: (256, 3, 1, 8),
        257: (257, 3, 1, 8),
        258: (258, 3, 1, 8),
        259: (259, 3, 1, 1),
        262: (262, 3, 1, 1),
        273: (273, 4, 1, 8),
        278: (278, 3, 1, 8),
        279: (279, 4, 1, len(strip)),
    } | {tag[0]: tag for tag in tags}
    entries = b"".join(struct.pack("<HHII", *usual[number]) for number in sorted(usual))
    place = 8 + len(strip) + len(after)
    return (
        b"II*\0" + struct.pack("<I", place) + strip + after + struct.pack("<H", len(usual)) + entries
    ) + struct.pack("<I", following)


def samples() -> dict[str, bytes]:
    """Good files: one of every kind, and of the kinds of compression and metadata that have their own parsers."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker " * 20, 72.0
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "x" * 3000, zip=True)
    palette, alpha = noise().convert("P"), noise().convert("RGBA")
    return {kind: encode(noise(), kind) for kind in KINDS} | {
        "JPEG progressive, EXIF": encode(noise(), "JPEG", progressive=True, exif=exif),
        "JPEG CMYK": encode(noise().convert("CMYK"), "JPEG"),
        "PNG palette, alpha, text, EXIF": encode(palette, "PNG", transparency=3, pnginfo=text, exif=exif),
        "WEBP lossless, EXIF": encode(alpha, "WEBP", lossless=True, exif=exif),
        "TIFF deflate": encode(noise(), "TIFF", compression="tiff_deflate"),
        "TIFF jpeg": encode(noise(), "TIFF", compression="jpeg"),
    }


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with 1 to 11 bytes changed, half of the time among the first 120 only, where headers are."""
    changed = bytearray(data)
    span = min(len(data), 120) if rng.random() < 0.5 else len(data)
    for at in rng.integers(0, span, int(rng.integers(1, 12))):
        changed[at] = rng.integers(0, 256)
    return bytes(changed)


def many_scans(side: int, n: int) -> bytes:
    """A progressive JPEG that goes ``n`` times more over its pixels, at 50 bytes a time."""
    data = encode(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    table = data.rfind(b"\xff\xc4", 0, last)
    return data[:-2] + data[table:-2] * n + data[-2:]


def bombs() -> dict[str, bytes]:
    """Small files that promise, or hold, far too much."""
    good, side, zeros = samples(), 9_000, zlib.compress(bytes(100_000_000), 9)
    frame = good["JPEG"].index(b"\xff\xc0")
    moment = b"\x21\xf9\x04\0\x01\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0"
    black = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    large = moment.replace(b",\0\0\0\0\x01\0\x01\0", b",\0\0\0\0\xff\xff\xff\xff")
    icc = b"".join(
        b"\xff\xe2" + struct.pack(">H", 65_533) + b"ICC_PROFILE\0" + bytes((i, 255)) + bytes(65_517)
        for i in range(1, 255)
    )
    return {
        "169 million pixels.png": png(13_000, 13_000),
        "400 million pixels.png": png(20_000, 20_000),
        "a hundred thousand squared.png": png(100_000, 100_000, rows=bytes(1_000)),
        "two billion squared.png": png(2**31 - 1, 2**31 - 1, rows=b""),
        "81 million.bmp": good["BMP"][:18] + struct.pack("<ii", side, side) + good["BMP"][26:],
        "81 million upside down.bmp": good["BMP"][:18] + struct.pack("<ii", side, -side) + good["BMP"][26:],
        "81 million.gif": good["GIF"][:6] + struct.pack("<HH", side, side) + good["GIF"][10:],
        "a large frame on a small screen.gif": black + large + b";",
        "81 million.jpg": good["JPEG"][: frame + 5] + struct.pack(">HH", side, side) + good["JPEG"][frame + 9 :],
        "81 million.tif": tiff((256, 3, 1, side), (257, 3, 1, side)),
        "four billion wide.tif": tiff((256, 4, 1, 2**32 - 1), (257, 4, 1, 2**32 - 1)),
        "canvas.webp": b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + b"\xff\xff\x3f" * 2,
        "ten thousand frames.gif": black + moment * 10_000 + b";",
        "many scans.jpg": many_scans(4_000, 1_000),
        "text.png": png(8, 8, extra=chunk(b"zTXt", b"prompt\0\0" + zeros)),
        "international text.png": png(8, 8, extra=chunk(b"iTXt", b"prompt\0\1\0\0\0" + zeros)),
        "profile.png": png(8, 8, extra=chunk(b"iCCP", b"icc\0\0" + zeros)),
        "much text.png": png(8, 8, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000))) * 200),
        "exif.png": png(8, 8, extra=chunk(b"eXIf", b"II*\0" + bytes(5_000_000))),
        "profile.jpg": good["JPEG"][:2] + icc + good["JPEG"][2:],
        "rows beyond the picture.png": png(8, 8, rows=bytes(100_000_000)),
        "a strip beyond the picture.tif": tiff((259, 3, 1, 8), strip=zeros),
        "directories in a circle.tif": tiff(following=72),
        "a directory in itself.tif": tiff((34665, 4, 1, 72), (330, 4, 1, 72), (274, 3, 1, 6)),
        "tags over the same bytes.tif": tiff(
            *((40_000 + i, 1, 1_000_000, 72) for i in range(3_000)), after=bytes(1_000_000)
        ),
        "a strip in many places.tif": tiff((273, 4, 2**20, 8), (279, 4, 2**20, 8), after=bytes(100)),
    }


def bad_pictures(seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield more than 200 files that are no good pictures, by their names."""
    rng, good = np.random.default_rng(seed), samples()
    for kind in KINDS:
        suffix = {"JPEG": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
        for percent in range(0, 100, 10):
            yield f"{kind} cut at {percent}.{suffix}", good[kind][: len(good[kind]) * percent // 100]
        for i in range(20):
            yield f"{kind} flipped {i}.{suffix}", flipped(good[kind], rng)
        yield f"{kind} garbage.{suffix}", good[kind][:16] + rng.bytes(1_000)
    for i in range(10):
        yield f"garbage {i}.png", rng.bytes(int(rng.integers(1, 3_000)))
    yield "page.jpg", b"<!doctype html><title>404</title>"
    yield "letter.webp", "Dear diary, this is no picture. é".encode()
    yield "archive.png", b"PK\x03\x04" + bytes(500)
    yield "program.jpg", b"\x7fELF" + bytes(500)
    yield "drawing.bmp", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\n"
    yield "vectors.png", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    yield "float gray.tif", encode(Image.new("F", (8, 8)), "TIFF")
    yield "two pages.tif", encode(noise(), "TIFF", save_all=True, append_images=[noise()])
    yield "moving.png", encode(noise(), "PNG", save_all=True, append_images=[noise().rotate(180)])
    yield from bombs().items()
