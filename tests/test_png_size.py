import numpy as np
import pytest
from numpy.typing import NDArray

from pointland.metrics.png_size import png_bytes


def noise(h: int, w: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (3, h, w), dtype=np.uint8)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (32, 32), (7, 40)])
def test_flat_is_smallest_and_noise_is_its_own_size(h: int, w: int) -> None:
    flat = np.full((3, h, w), 130, np.uint8)
    assert 0 < png_bytes(flat) <= png_bytes(noise(h, w))
    assert png_bytes(noise(h, w)) >= 3 * h * w  # noise cannot be packed


def test_more_detail_is_more_bytes() -> None:
    picture = np.zeros((3, 64, 64), np.uint8)
    sizes = []
    for rows in (0, 8, 16, 32, 64):
        picture[:, :rows] = noise(64, 64)[:, :rows]
        sizes.append(png_bytes(picture))
    assert sizes == sorted(set(sizes))


def test_the_layout_in_memory_changes_nothing() -> None:
    picture = noise(9, 16)
    assert png_bytes(picture) == png_bytes(np.asfortranarray(picture)) == png_bytes(picture[::-1].copy()[::-1])


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, h, w\)"):
        png_bytes(np.zeros((32, 32, 3), np.uint8))
