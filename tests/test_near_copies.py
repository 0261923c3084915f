import time
import tracemalloc
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pointland.metrics.near_copies import NearCopies, copy_groups, perceptual_hash

Pixels = NDArray[np.uint8]


def scene(seed: int, h: int = 64, w: int = 64) -> Pixels:
    """A smooth random picture, with values from 40 to 200."""
    coarse = np.random.default_rng(seed).integers(40, 200, (6, 6, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((w, h), Image.Resampling.BICUBIC)).transpose(2, 0, 1).clip(40, 200)


def apart(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def hexadecimal(values: Sequence[int] | NDArray[np.uint64]) -> list[str]:
    return [f"{int(value):016x}" for value in values]


def partition(groups: NDArray[np.int64]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == number).tolist()) for number in set(groups.tolist()) - {-1}}


def brute(values: Sequence[int], distance: int) -> set[frozenset[int]]:
    """Connected components by comparing every pair."""
    group = {i: {i} for i in range(len(values))}
    for i, j in combinations(range(len(values)), 2):
        if (values[i] ^ values[j]).bit_count() <= distance and group[i] is not group[j]:
            group[i] |= group[j]
            group.update(dict.fromkeys(group[j], group[i]))
    return {frozenset(members) for members in group.values() if len(members) > 1}


@pytest.mark.parametrize("value", [0, 1, 130, 255])
@pytest.mark.parametrize(("h", "w"), [(1, 1), (5, 7), (512, 512)])
def test_flat_pictures_hash_to_zero(value: int, h: int, w: int) -> None:
    assert perceptual_hash(np.full((3, h, w), value, np.uint8)) == "0" * 16


def test_a_speck_on_a_flat_picture_does_not_show() -> None:
    picture = np.full((3, 256, 256), 100, np.uint8)
    picture[:, 17, 200] = 103
    assert perceptual_hash(picture) == "0" * 16


@pytest.mark.parametrize("seed", range(8))
def test_scale_brightness_contrast_and_noise_hardly_change_the_hash(seed: int) -> None:
    picture = scene(seed)
    large = np.array(Image.fromarray(picture.transpose(1, 2, 0)).resize((200, 200))).transpose(2, 0, 1)
    noisy = picture + np.random.default_rng(seed).integers(-4, 5, picture.shape)
    for copy in (large, picture + 20, picture // 2, noisy):
        assert apart(perceptual_hash(picture), perceptual_hash(copy.astype(np.uint8))) <= 4


def test_unlike_pictures_are_far_apart_and_at_most_half_the_bits_are_set() -> None:
    hashes = [perceptual_hash(scene(seed)) for seed in range(40)]
    assert min(apart(a, b) for a, b in combinations(hashes, 2)) > 8
    assert all(16 < int(text, 16).bit_count() <= 32 for text in hashes)  # above the median; fewer where some are zero


def test_only_luminance_counts() -> None:
    gray = np.repeat(scene(3)[:1], 3, axis=0)
    assert apart(perceptual_hash(gray), perceptual_hash(np.stack([gray[0], gray[1], gray[2] // 8]))) <= 8
    assert len(perceptual_hash(gray)) == 16


@pytest.mark.parametrize("axis", [1, 2])
def test_stripes_are_told_from_their_mirror_image_and_from_flat(axis: int) -> None:
    line = np.repeat(np.random.default_rng(5).integers(0, 256, 8, dtype=np.uint8), 8)
    stripes = np.broadcast_to(line.reshape((1, 64, 1) if axis == 1 else (1, 1, 64)), (3, 64, 64))
    hashes = {perceptual_hash(stripes), perceptual_hash(np.flip(stripes, axis)), "0" * 16}
    assert len(hashes) == 3


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 255), max_size=30), st.integers(0, 16))
def test_agrees_with_comparing_every_pair(values: list[int], distance: int) -> None:
    found = copy_groups(hexadecimal(values), hexadecimal(values), distance)
    assert partition(found.near) == brute(values, distance)
    assert partition(found.exact) == brute(values, 0)


@pytest.mark.parametrize("distance", [0, 1, 4, 7])
def test_agrees_with_comparing_every_pair_at_every_distance(distance: int) -> None:
    rng = np.random.default_rng(distance)
    values = [int(value) for value in rng.integers(0, 2**63, 60)]
    for value in values[:40]:
        flips = rng.permutation(64)[: int(rng.integers(0, 10))]
        values.append(value ^ sum(1 << int(bit) for bit in flips))
    found = copy_groups(hexadecimal(values), hexadecimal(values), distance)
    assert partition(found.near) == brute(values, distance)


def test_buckets_that_are_split_agree_with_comparing_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointland.duplicates.hamming.HUGE", 3)
    monkeypatch.setattr("pointland.duplicates.hamming.MANY", 5)
    rng = np.random.default_rng(0)
    for bits in (8, 16, 40):
        values = [int(value) for value in rng.integers(0, 2**bits, 150)]
        found = copy_groups(hexadecimal(values), hexadecimal(values), 3)
        assert partition(found.near) == brute(values, 3)


def test_order_changes_nothing_but_the_numbers() -> None:
    values = [int(value) for value in np.random.default_rng(1).integers(0, 2**14, 80)]
    turn = np.random.default_rng(2).permutation(80)
    one = copy_groups(hexadecimal(values), hexadecimal(values), 2)
    other = copy_groups(hexadecimal([values[i] for i in turn]), hexadecimal([values[i] for i in turn]), 2)
    assert partition(one.near) == {frozenset(turn[list(group)].tolist()) for group in partition(other.near)}


def test_groups_are_numbered_by_first_occurrence_and_loners_are_minus_one() -> None:
    found = copy_groups(list("abacb"), hexadecimal([0, 2**40 - 1, 1, 2**63 + 2**50 - 1, 2**40 - 2]), 4)
    assert found.exact.tolist() == [0, 1, 0, -1, 1]
    assert found.near.tolist() == [0, 1, 0, -1, 1]
    assert found.exact.dtype == found.near.dtype == np.int64


@pytest.mark.parametrize("n", [0, 1])
def test_none_and_one(n: int) -> None:
    found = copy_groups(["a"] * n, ["0" * 16] * n)
    assert isinstance(found, NearCopies)
    assert found.exact.tolist() == found.near.tolist() == [-1] * n


def test_a_hundred_thousand_take_seconds_and_no_table_of_pairs() -> None:
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 2**64, 50_000, dtype=np.uint64)
    copies = originals[:25_000] ^ (np.uint64(1) << rng.integers(0, 64, 25_000).astype(np.uint64))
    hashes = hexadecimal(np.concatenate([originals, copies, np.zeros(25_000, np.uint64)]))
    tracemalloc.start()
    start = time.perf_counter()
    found = copy_groups(hashes, hashes)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(partition_sizes(found.near)) == 25_001
    assert max(partition_sizes(found.near)) == 25_000
    assert seconds < 10
    assert peak < 300e6


def partition_sizes(groups: NDArray[np.int64]) -> list[int]:
    return [int(size) for size in np.bincount(groups[groups >= 0])]


@pytest.mark.parametrize(
    ("sha256", "hashes", "distance", "message"),
    [
        (["a"], [], 4, "1 file hashes and 0"),
        (["a"], ["00"], 4, "16 hexadecimal digits"),
        (["a"], ["zz" * 8], 4, "16 hexadecimal digits"),
        (["a", "b"], ["00" * 4, "00" * 12], 4, "16 hexadecimal digits"),
        (["a"], ["0" * 16], 17, "0 to 16"),
        (["a"], ["0" * 16], -1, "0 to 16"),
    ],
)
def test_bad_arguments(sha256: list[str], hashes: list[str], distance: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        copy_groups(sha256, hashes, distance)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, h, w\)"):
        perceptual_hash(np.zeros((32, 32, 3), np.uint8))
