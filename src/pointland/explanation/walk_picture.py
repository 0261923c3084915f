"""Walks as one picture: a row a direction, a column a step, and where in the picture the walk changes anything.

Small pictures are enlarged by whole factors without smoothing, large ones reduced. What changed is drawn on a fixed
scale, so that two walks can be held side by side: white is a mean change of 64 gray levels or more. The font is
Pillow's own, which has no minus sign and no ellipsis.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pointland.explanation.walk import PictureWalk

SMALLEST, LARGEST = 80, 192  # pixels of a cell's longer side
GAP, PAD, LINE = 4, 14, 19
NAMES = 58  # room for a row's name
WHITE = 64.0  # gray levels of change
INK, MUTED, PAPER = (28, 30, 34), (91, 97, 108), (255, 255, 255)


def as_picture(found: PictureWalk, title: str = "", *, rows: int | None = None) -> Image.Image:
    """Draw a walk.

    Args:
        found: The walk.
        title: A line above it; what does not fit is cut.
        rows: Directions drawn, the leading ones; all by default.

    Returns:
        An RGB picture on white: above, the picture itself and as denoised without a step; below, a row a direction
        with its eigenvalue, steps from the longest backward to the longest forward and the picture without a step in
        the middle, then the map of the change and its mean in gray levels.
    """
    n = len(found.pictures) if rows is None else min(rows, len(found.pictures))
    width, height = _size(found.image.shape[2], found.image.shape[1])
    middle = len(found.steps) // 2
    columns = [f"{step:+.2g}" for step in found.steps]
    columns.insert(middle, "0")
    total = 2 * PAD + NAMES + (len(columns) + 1) * (width + GAP) + 46
    top = PAD + LINE * 2 + height + LINE
    sheet = Image.new("RGB", (total, top + LINE + n * (height + GAP) + PAD), PAPER)
    draw = ImageDraw.Draw(sheet)
    bold, plain = ImageFont.load_default(16), ImageFont.load_default(13)
    draw.text((PAD, PAD), _fitting(title, bold, total - 2 * PAD), INK, bold)
    y, x = PAD + LINE + 6, PAD + NAMES
    for picture in (found.image, found.still):
        sheet.paste(_cell(picture, (width, height)), (x, y))
        x += width + GAP
    mean = float(found.change[:n].mean())
    told = (
        "Left: the picture. Right: denoised, no step.",
        f"sigma {found.sigma:.3g}; a step of 1 is as long as its noise.",
        f"Mean change of a pixel by a step: {mean:.2g} of 255",
    )
    for i, line in enumerate(told):
        draw.text((x + 8, y + i * LINE), line, INK if i == 2 else MUTED, plain)
    y = top
    for i, name in enumerate((*columns, "change")):
        at = PAD + NAMES + i * (width + GAP) + width // 2 + (GAP if name == "change" else 0)
        draw.text((at, y), name, MUTED, plain, anchor="ma")
    draw.text((PAD, y), "eigenv.", MUTED, plain)
    y += LINE
    changes = found.change.mean(1).tolist()
    for k in range(n):
        draw.text((PAD, y + height // 2), f"{found.tangent.values[0, k]:.2f}", INK, bold, anchor="lm")
        cells = list(found.pictures[k])
        cells.insert(middle, found.still)
        for i, picture in enumerate(cells):
            sheet.paste(_cell(picture, (width, height)), (PAD + NAMES + i * (width + GAP), y))
        moved = (found.pictures[k].float() - found.still.float()).abs().mean((0, 1))
        shade = (moved * (255 / WHITE)).clamp(0, 255).byte().expand(3, -1, -1)
        at = PAD + NAMES + len(cells) * (width + GAP) + GAP
        sheet.paste(_cell(shade, (width, height)), (at, y))
        draw.text((at + width + 6, y + height // 2), f"{changes[k]:.1f}", INK, plain, anchor="lm")
        y += height + GAP
    return sheet


def beside(sheets: Sequence[Image.Image]) -> Image.Image:
    """Put pictures side by side."""
    whole = Image.new("RGB", (sum(s.width for s in sheets), max(s.height for s in sheets)), PAPER)
    at = 0
    for sheet in sheets:
        whole.paste(sheet, (at, 0))
        at += sheet.width
    return whole


def _size(width: int, height: int) -> tuple[int, int]:
    longer = max(width, height)
    if longer > LARGEST:
        return max(1, round(width * LARGEST / longer)), max(1, round(height * LARGEST / longer))
    times = max(1, SMALLEST // longer)
    return width * times, height * times


def _cell(picture: UInt8[Tensor, "3 h w"], size: tuple[int, int]) -> Image.Image:
    pixels: NDArray[np.uint8] = picture.permute(1, 2, 0).contiguous().numpy()
    how = Image.Resampling.NEAREST if size[0] >= pixels.shape[1] else Image.Resampling.LANCZOS
    return Image.fromarray(pixels).resize(size, how)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    if font.getlength(shown) <= room:
        return shown
    while shown and font.getlength(shown + "...") > room:
        shown = shown[:-1]
    return shown + "..."
