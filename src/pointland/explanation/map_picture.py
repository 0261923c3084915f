"""A map as a picture: colors that everyone can tell apart, beside a ruler that says what they mean.

Dark is frozen, bright is free. Lightness rises all along the ramp, from blue to yellow, so that it reads the same in
gray and to the color-blind. A difference has two signs and another ramp: blue below 0, orange above.
"""

import io

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

RAMP = ((0, 30, 78), (52, 69, 109), (110, 112, 117), (172, 158, 108), (225, 205, 90), (255, 240, 150))
SIGNED = ((20, 60, 140), (110, 150, 205), (242, 242, 242), (235, 160, 85), (160, 70, 0))
RULER, MARGIN, TEXT = 12, 6, 14  # pixels


def colored(
    found: Float[np.ndarray, "h w"], *, low: float, high: float, signed: bool = False
) -> UInt8[np.ndarray, "h w 3"]:
    """Paint a map; values outside ``low`` to ``high`` take the color of the nearer end.

    Args:
        found: A number a place.
        low: Value of the first color.
        high: Value of the last.
        signed: Take the ramp of differences; then ``low`` is best ``-high``.

    Raises:
        ValueError: If ``high`` is not above ``low``, or a number is not finite.
    """
    if not (high > low and np.isfinite(found).all()):
        raise ValueError(f"a map is painted between two ends, low below high, and finite; got {low:g} to {high:g}")
    stops = np.array(SIGNED if signed else RAMP, dtype=np.float64)
    at = np.clip((found - low) / (high - low), 0, 1)
    places = np.linspace(0, 1, len(stops))
    channels = [np.interp(at, places, stops[:, i]) for i in range(3)]
    return np.asarray(np.stack(channels, -1).round(), dtype=np.uint8)


def map_png(
    found: Float[np.ndarray, "h w"],
    *,
    high: float | None = None,
    picture: UInt8[np.ndarray, "3 H W"] | None = None,
    side: int = 256,
    signed: bool = False,
) -> bytes:
    """Draw a map with its ruler as a PNG.

    Args:
        found: In dimensions a place or a pixel.
        high: Value of the brightest color, the largest magnitude if left out; give several maps the same to compare.
        picture: Drawn in gray beneath, at 40 %.
        side: Width of the drawing in pixels.
        signed: For differences; the ruler then runs from ``-high`` to ``high``.

    Returns:
        The file's bytes, the same for the same map.
    """
    most = float(np.abs(found).max()) if high is None else high
    most = most if most > 0 else 1.0
    low = -most if signed else 0.0
    height = max(1, round(side * found.shape[0] / found.shape[1]))
    drawn = Image.fromarray(colored(found, low=low, high=most, signed=signed)).resize(
        (side, height), Image.Resampling.NEAREST
    )
    if picture is not None:
        below = Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).convert("L").convert("RGB")
        drawn = Image.blend(drawn, below.resize((side, height), Image.Resampling.BICUBIC), 0.4)
    sheet = Image.new("RGB", (side, height + 2 * MARGIN + RULER + TEXT), "white")
    sheet.paste(drawn, (0, 0))
    steps: NDArray[np.float64] = np.linspace(low, most, side)[None].repeat(RULER, 0)
    sheet.paste(Image.fromarray(colored(steps, low=low, high=most, signed=signed)), (0, height + MARGIN))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    level = height + MARGIN + RULER + 2
    pen.text((2, level), f"{low:.3g}", fill="black", font=font)
    pen.text((side / 2, level), "dimensions", fill="black", font=font, anchor="ma")
    pen.text((side - 2, level), f"{most:.3g}", fill="black", font=font, anchor="ra")
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return stream.getvalue()
