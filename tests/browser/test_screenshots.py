"""How the report looks, narrow and wide, in light and in dark, against pictures kept beside this file.

The pictures are an eighth of the size, and bring what is seen to their own: letters blur away and other fonts hardly
matter, while a lost style, missing pictures or the wrong theme do. After an intended change, write them again with

    POINTLAND_WRITE_SCREENSHOTS=1 pytest tests/browser/test_screenshots.py
"""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from PIL import Image

from browser.pages import Reports

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SHOTS = Path(__file__).parent / "screenshots"
WIDTHS = {"wide": 1280, "narrow": 392}
PARTS = {"header": "header", "gallery": "#gallery"}
SMALLER = 8
# Mean difference, of the range of a channel. Liberation, DejaVu, serif and monospaced letters differ by 0.12 at most;
# without style it is at least 0.25, without pictures 0.26, in the other theme 0.47.
BOUND = 0.18

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


def kept(part: str, size: str, scheme: str) -> Image.Image:
    with Image.open(SHOTS / f"{part}-{size}-{scheme}.png") as opened:
        return opened.convert("RGB")


def seen(page: "Page", part: str) -> Image.Image:
    with Image.open(io.BytesIO(page.locator(PARTS[part]).screenshot())) as taken:
        return taken.convert("RGB")


def difference(image: Image.Image, other: Image.Image) -> float:
    small = image.resize(other.size, Image.Resampling.BOX)
    return float(np.abs(np.asarray(small, dtype=np.float64) - np.asarray(other, dtype=np.float64)).mean() / 255)


def write(image: Image.Image, name: str) -> None:
    SHOTS.mkdir(exist_ok=True)
    small = image.resize((image.width // SMALLER, image.height // SMALLER), Image.Resampling.BOX)
    small.quantize(64).save(SHOTS / name, optimize=True)


@pytest.mark.parametrize("size", WIDTHS)
def test_it_looks_as_it_did(browser: "Browser", reports: Reports, size: str) -> None:
    page = browser.new_page(viewport={"width": WIDTHS[size], "height": 900}, reduced_motion="reduce")
    page.goto(reports.rich.as_uri())
    page.locator("nav.parts").evaluate("nav => { nav.style.position = 'static'; }")  # or it lies over the gallery
    found: dict[tuple[str, str], Image.Image] = {}
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        found |= {(part, scheme): seen(page, part) for part in PARTS}
    if os.environ.get("POINTLAND_WRITE_SCREENSHOTS"):
        for (part, name), image in found.items():
            write(image, f"{part}-{size}-{name}.png")
    for (part, name), image in found.items():
        assert difference(image, kept(part, size, name)) < BOUND
        assert difference(image, kept(part, size, "light" if name == "dark" else "dark")) > BOUND
    page.close()


def test_a_broken_page_looks_broken(browser: "Browser", reports: Reports) -> None:
    """Or the test before this one could not fail."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce", color_scheme="light")
    page.goto(reports.rich.as_uri())
    page.locator("nav.parts").evaluate("nav => { nav.style.position = 'static'; }")  # or it lies over the gallery
    gallery, header = kept("gallery", "wide", "light"), kept("header", "wide", "light")
    page.locator(".card img").evaluate_all("all => all.forEach(one => { one.style.visibility = 'hidden'; })")
    assert difference(seen(page, "gallery"), gallery) > BOUND
    page.locator(".card img").evaluate_all("all => all.forEach(one => { one.style.visibility = ''; })")
    page.locator("#cards").evaluate("cards => { cards.style.gridTemplateColumns = 'repeat(12, 1fr)'; }")
    assert difference(seen(page, "gallery"), gallery) > BOUND
    page.locator("style").evaluate("style => style.remove()")
    assert difference(seen(page, "header"), header) > BOUND
    page.close()
