import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

from pointland.duplicates import (
    Pairs,
    content_hash,
    duplicate_groups,
    flat,
    join,
    near_pairs,
    numbered,
    portraits,
    shared_share,
    template_groups,
    thumbnails,
)
from scenes import noisy, scene

Floats = NDArray[np.float32]


def partition(groups: NDArray[np.int64]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == number).tolist()) for number in set(groups.tolist()) - {-1}}


def brute(x: Floats, radius: float) -> set[frozenset[int]]:
    """Connected components by comparing every pair."""
    near = squareform(pdist(x.astype(np.float64))) <= radius
    return partition(numbered(connected_components(near)[1].astype(np.int64)))


def clusters(n: int, d: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(np.float32)
    x[n // 2 :] = x[: n - n // 2] + 0.01 * rng.standard_normal((n - n // 2, d))
    return x


def names(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def test_joining_is_by_chains() -> None:
    labels = join(np.arange(5), Pairs(np.array([0, 3]), np.array([1, 1])))
    assert numbered(labels).tolist() == [0, 0, -1, 0, -1]
    same = np.arange(3)
    assert join(same, Pairs(np.array([1]), np.array([1]))) is same


@given(st.integers(0, 10_000), st.integers(2, 40), st.sampled_from([1, 3, 20]))
def test_few_items_agree_with_comparing_every_pair(seed: int, n: int, d: int) -> None:
    x = clusters(n, d, seed)
    for radius in (0.05, 0.5, 2.0):
        assert partition(duplicate_groups(names(n), None, x, radius=radius).near) == brute(x, radius)


def test_many_items_agree_with_comparing_every_pair() -> None:
    x = clusters(700, 24, 0)
    found = duplicate_groups(names(700), None, x, radius=0.2)
    assert partition(found.near) == brute(x, 0.2)
    assert len(partition(found.near)) == 350


def test_every_pair_of_the_forest_is_within_the_radius_and_of_two_items() -> None:
    x = clusters(500, 8, 1)
    for a, b in near_pairs(x, 0.3, leaf=16):
        assert (a != b).all()
        assert (np.linalg.norm(x[a].astype(np.float64) - x[b], axis=1) <= 0.3).all()


@pytest.mark.parametrize("n", [2, 31, 33, 65, 129, 1000])
def test_any_number_of_items_fills_the_leaves(n: int) -> None:
    x = np.zeros((n, 3), np.float32)
    labels = np.arange(n)
    for pairs in near_pairs(x, 1.0):
        labels = join(labels, pairs)
    assert len(set(labels.tolist())) == 1  # all alike: trees that break ties at random join all leaves


def test_shifting_and_turning_the_vectors_changes_nothing() -> None:
    x = clusters(300, 12, 2)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0].astype(np.float32)
    groups = partition(duplicate_groups(names(300), None, x, radius=0.2).near)
    assert partition(duplicate_groups(names(300), None, x @ turn + np.float32(50), radius=0.2).near) == groups


def test_order_changes_nothing_but_the_numbers() -> None:
    x = clusters(200, 6, 3)
    turn = np.random.default_rng(4).permutation(200)
    one = partition(duplicate_groups(names(200), None, x, radius=0.1).near)
    other = partition(duplicate_groups(names(200), None, x[turn], radius=0.1).near)
    assert one == {frozenset(turn[list(group)].tolist()) for group in other}


def test_exact_copies_are_groups_whatever_their_vectors_and_lie_within_near_ones() -> None:
    x = np.zeros((4, 2), np.float32)
    x[2], x[3] = (5, 5), (5.01, 5)
    found = duplicate_groups(["a", "a", "b", "c"], None, x, radius=0.1)
    assert found.exact.tolist() == [0, 0, -1, -1]
    assert found.near.tolist() == [0, 0, 1, 1]
    assert found.flat.tolist() == [True, True, False, False]


def test_a_hash_alone_and_a_hash_that_vectors_deny() -> None:
    hashes = ["0" * 16, "0" * 15 + "1", "f" * 16]
    assert duplicate_groups(["a", "b", "c"], hashes).near.tolist() == [0, 0, -1]
    x = np.eye(3, dtype=np.float32)
    assert duplicate_groups(["a", "b", "c"], hashes, x, radius=0.1).near.tolist() == [-1, -1, -1]
    assert duplicate_groups(["a", "b", "c"], hashes, x, radius=1.5).near.tolist() == [0, 0, 0]


def test_flat_pictures_are_reported_and_not_joined() -> None:
    gray = np.stack([np.full((3, 32, 32), level, np.uint8) for level in (0, 1, 90, 255)])
    x = portraits(thumbnails(gray))
    assert flat(x).all()
    found = duplicate_groups([content_hash(one) for one in gray], ["0" * 16] * 4, x)
    assert found.near.tolist() == [-1] * 4
    assert found.flat.all()


def test_a_crowd_of_one_hash_is_told_and_still_compared() -> None:
    x = clusters(400, 16, 5)
    found = duplicate_groups(names(400), ["0" * 16] * 400, x, radius=0.2)
    assert found.crowded.all()
    assert partition(found.near) == brute(x, 0.2)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: noisy(p, 0.25),
        lambda p: noisy(p, 3),
        lambda p: (p * 0.8).astype(np.uint8),
        lambda p: p + np.uint8(40),
    ],
)
def test_noise_and_light_leave_a_portrait_where_it_was(
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> None:
    pictures = np.stack([scene(seed) for seed in range(20)])
    copies = np.stack([change(one) for one in pictures])
    x = portraits(thumbnails(np.concatenate([pictures, copies])))
    found = duplicate_groups(names(40), None, x)
    assert partition(found.near) == {frozenset({i, i + 20}) for i in range(20)}


def test_a_thumbnail_of_a_large_picture_is_that_of_a_small_one() -> None:
    large, small = thumbnails(scene(1, 128)[None]), thumbnails(scene(1, 32)[None])
    assert np.abs(large.astype(int) - small).max() <= 16  # two resamplings of one smooth picture


def test_templates_are_told_from_copies_and_strangers() -> None:
    base, strangers = scene(100), [scene(seed) for seed in range(20)]
    variants = []
    for stranger in strangers[:6]:
        variant = base.copy()
        variant[:, 8:20, 8:20] = stranger[:, 8:20, 8:20]
        variants.append(variant)
    thumbs = thumbnails(np.stack([*variants, *strangers]))
    groups = template_groups(thumbs)
    assert groups[:6].tolist() == [0] * 6
    assert (groups[6:] == -1).all()
    near = duplicate_groups(names(26), None, portraits(thumbs)).near
    assert (near == -1).all()
    assert shared_share(thumbs[:1], thumbs[1:2])[0] > 0.5 > shared_share(thumbs[:1], thumbs[7:8])[0]


def test_twenty_thousand_with_a_crowd_take_seconds_and_no_table_of_pairs() -> None:
    n = 20_000
    x = clusters(n, 32, 6)
    x[: n // 4] = x[0] + 1e-4 * np.random.default_rng(0).standard_normal((n // 4, 32))  # a crowd of near copies
    tracemalloc.start()
    start = time.process_time()
    found = duplicate_groups(names(n), None, x, radius=0.2)
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.bincount(found.near[found.near >= 0]).max() >= n // 4
    assert seconds < 20
    assert peak < 600e6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: duplicate_groups(["a"], ["0" * 16] * 2), "1 names of content and 2 hashes"),
        (lambda: duplicate_groups(["a"], None, np.zeros((2, 3), np.float32)), "and 2 vectors"),
        (lambda: duplicate_groups(["a"], ["0" * 16], distance=99), "0 to 16"),
        (lambda: duplicate_groups(["a"] * 2, None, np.ones((2, 2), np.float32), n_trees=0), "n_trees 0"),
        (lambda: list(near_pairs(np.ones((2, 2), np.float32), 0.0)), "radius 0"),
        (lambda: list(near_pairs(np.full((2, 2), np.nan), 1.0)), "NaN"),
        (lambda: template_groups(np.zeros((2, 32, 32), np.uint8), share=0.0), "share 0"),
    ],
)
def test_bad_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("n", [0, 1])
def test_none_and_one(n: int) -> None:
    found = duplicate_groups(["a"] * n, ["0" * 16] * n, np.ones((n, 3), np.float32))
    assert found.near.tolist() == found.exact.tolist() == [-1] * n
    assert template_groups(np.zeros((n, 32, 32), np.uint8)).tolist() == [-1] * n
