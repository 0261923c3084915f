"""Smooth random pictures, unlike each other, and folders of them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def scene(seed: int, side: int = 32) -> Pixels:
    """A smooth random picture with values from 40 to 200, shape (3, side, side)."""
    coarse = np.random.default_rng(seed).integers(40, 200, (6, 6, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    return np.array(smooth).transpose(2, 0, 1).clip(40, 200)


def noisy(picture: Pixels, levels: float, seed: int = 0) -> Pixels:
    """The same with noise of so many gray levels."""
    noise = levels * np.random.default_rng(seed).standard_normal(picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def save(picture: Pixels, path: Path) -> Path:
    """Write a picture as its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(path)
    return path
