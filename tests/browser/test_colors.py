"""The colors of the report, in light and in dark: contrasts, and charts that color-blind people can tell apart."""

import itertools
import re
from importlib import resources

import numpy as np
import pytest
from numpy.typing import NDArray

Color = NDArray[np.float64]

STYLE = (resources.files("pointland.report") / "templates" / "report.css").read_text(encoding="utf-8")
PAIRS = {
    name: (light, dark)
    for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", STYLE)
}
TEXTS, GRAPHICS = ("ink", "muted", "flag", "note", "link"), ("edge", "focus", "ref", *(f"c{i}" for i in range(7)))
GROUNDS = ("bg", "surface", "sunken")
# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB: who lacks one kind of cone sees these colors.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def linear(color: str) -> Color:
    coded = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2, 1.4.3."""
    dim, bright = sorted(float(linear(color) @ [0.2126, 0.7152, 0.0722]) for color in (one, other))
    return (bright + 0.05) / (dim + 0.05)


def lab(rgb: Color) -> Color:
    """CIE 1976 L*a*b* of linear sRGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ rgb.clip(0, 1) / [0.9505, 1.0, 1.089])  # good for all but the darkest
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def closest(theme: int, names: tuple[str, ...], blindness: str) -> float:
    seen = [lab(BLINDNESS[blindness] @ linear(PAIRS[name][theme])) for name in names]
    return min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(seen, 2))


def test_contrast_of_known_colors() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # the palest gray that WCAG takes for text


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_stand_out(theme: int) -> None:
    for ground, name in itertools.product(GROUNDS, TEXTS):
        assert contrast(PAIRS[name][theme], PAIRS[ground][theme]) >= 4.5, (name, ground)
    for ground, name in itertools.product(GROUNDS, GRAPHICS):
        assert contrast(PAIRS[name][theme], PAIRS[ground][theme]) >= 3, (name, ground)
    assert contrast(PAIRS["flag"][theme], PAIRS["flag-soft"][theme]) >= 4.5
    badge = re.search(r"--badge: (#[0-9a-f]{6})", STYLE)
    assert badge
    assert contrast(badge[1], "#ffffff") >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("blindness", BLINDNESS)
def test_groups_in_charts_can_be_told_apart(theme: int, blindness: str) -> None:
    # A difference of 2 is just seen; the brown and the green below, 55 apart for most, are 5 to 10 apart for others.
    assert closest(theme, ("ref", *(f"c{i}" for i in range(7))), blindness) >= 10
    assert closest(theme, ("c0", "ref", "flag"), blindness) >= 20


@pytest.mark.parametrize("blindness", ["protanopia", "deuteranopia"])
def test_brown_and_green_would_be_found(blindness: str) -> None:
    brown, green = (lab(BLINDNESS[blindness] @ linear(color)) for color in ("#b35900", "#6b8000"))
    assert np.linalg.norm(brown - green) < 10
