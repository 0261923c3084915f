import builtins
import importlib.util
import itertools
from dataclasses import replace
from inspect import unwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lid_data.pieces import everyone, plane
from pointland.lid.data import (
    Neighbors,
    build_index,
    censored_hill,
    merge,
    merging,
    nearest,
    nearest_among,
    neighbor_index,
    neighbor_shards,
    recall_of,
    search_index,
)
from pointland.lid.data.neighbor_store import load_arrays, save_arrays

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="FAISS is not installed: pip install 'pointland[faiss]'"
)
Rows = NDArray[np.float32] | NDArray[np.float64]
FLOATS = [np.float32, np.float64]
N = 3000
DIMENSIONS = [24, 250]  # compared as they are, and on axes first


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells in shards of a size that a test can afford."""
    monkeypatch.setattr(neighbor_index, "EXACT_BELOW", 500)


def data(n: int = N, dim: int = 4, d: int = 24, dtype: type[np.floating] = np.float32) -> Rows:
    """A plane with copies: pairs, and a crowd of 100."""
    points = plane(n, dim, d)
    points[100:150] = points[200:250]
    points[300:400] = points[7]
    return points.astype(dtype)


def parts_of(points: Rows, cuts: list[int], k: int) -> list[Neighbors]:
    """What all points find in each part of a set."""
    ends = [0, *cuts, len(points)]
    return [
        search_index(build_index(points[a:b], k, start=a), points, exclude=everyone(len(points)))
        for a, b in itertools.pairwise(ends)
        if a < b
    ]


def same(one: Neighbors, other: Neighbors) -> None:
    np.testing.assert_array_equal(one.distances, other.distances)
    np.testing.assert_array_equal(one.indices, other.indices)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("d", [3, 24])
@given(cuts=st.lists(st.integers(0, 400), max_size=5).map(sorted))
def test_small_shards_give_the_exact_neighbours_however_the_set_is_cut(
    cuts: list[int], d: int, dtype: type[np.floating]
) -> None:
    points = plane(400, 3, d).astype(dtype)
    points[50:90] = points[3]
    found = merge(*parts_of(points, cuts, 9))
    exact = nearest(points, points, 9, exclude=everyone(400))
    np.testing.assert_allclose(found.distances, exact.distances, rtol=1e-12, atol=0)
    again = np.linalg.norm(points[:, None].astype(np.float64) - points[found.indices], axis=-1)
    np.testing.assert_allclose(found.distances, again, rtol=1e-12, atol=0)
    assert not (found.indices == everyone(400)[:, None]).any()


@st.composite
def tables(draw: st.DrawFn) -> list[Neighbors]:
    """Three parts of a search for 2 queries, with ties, points in several parts, and fewer points than asked for."""
    distance_of = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=12, max_size=12))
    parts = []
    for _ in range(3):
        k = 4
        distances, indices = np.full((2, k), np.inf), np.full((2, k), -1)
        for row in range(2):
            chosen = draw(st.lists(st.integers(0, 11), unique=True, max_size=k))
            ordered = sorted(chosen, key=lambda i: (distance_of[i], i))
            indices[row, : len(ordered)] = ordered
            distances[row, : len(ordered)] = [distance_of[i] for i in ordered]
        parts.append(Neighbors(distances, indices))
    return parts


@given(tables())
def test_merging_is_associative_commutative_and_idempotent(parts: list[Neighbors]) -> None:
    a, b, c = parts
    same(merge(merge(a, b), c), merge(a, merge(b, c)))
    same(merge(a, b), merge(b, a))
    same(merge(a, a), a)
    same(merge(a, b, c), merge(c, merge(a, b), b))
    for found in (merge(a, b, c),):
        for distances, indices in zip(found.distances, found.indices, strict=True):
            real = indices[indices >= 0].tolist()
            assert len(set(real)) == len(real)
            assert sorted(distances.tolist()) == distances.tolist()


def test_blocks_of_a_merge_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points = plane(400, 3, 12)
    parts = parts_of(points, [100, 250], 9)
    whole = merge(*parts)
    monkeypatch.setattr(merging, "BLOCK", 37)
    same(merge(*parts), whole)


@needs_faiss
@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("d", DIMENSIONS)
def test_cells_find_what_was_asked_for_and_measure_it_exactly(d: int, dtype: type[np.floating]) -> None:
    points = data(d=d, dtype=dtype)
    index = build_index(points, 10, recall=0.98, seed=3)
    assert not index.exact
    found = search_index(index, points, exclude=everyone(N))
    exact = nearest(points, points, 10, exclude=everyone(N))
    assert recall_of(found, exact).value > 0.97  # tuned on 256 of 3,000
    again = np.linalg.norm(points[:, None].astype(np.float64) - points[found.indices], axis=-1)
    np.testing.assert_allclose(found.distances, again, rtol=1e-12, atol=0)
    assert not (found.indices == everyone(N)[:, None]).any()
    assert (np.diff(found.distances, axis=1) >= 0).all()


@needs_faiss
@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("d", DIMENSIONS)
def test_copies_are_found_at_distance_zero(d: int, dtype: type[np.floating], offset: float) -> None:
    points = (data(d=d, dtype=np.float64) + offset).astype(dtype)
    index = build_index(points, 10, recall=0.5)
    assert not index.exact
    found = search_index(index, points, exclude=everyone(N))
    crowd = np.r_[7, 300:400]
    assert (found.distances[crowd] == 0).all()
    pairs = np.r_[100:150, 200:250]
    assert (found.distances[pairs, 0] == 0).all()
    np.testing.assert_array_equal(found.indices[pairs, 0], np.r_[200:250, 100:150])
    others = np.setdiff1d(everyone(N), np.r_[crowd, pairs])
    assert (found.distances[others] > 0).all()


@needs_faiss
@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize("d", DIMENSIONS)
def test_copies_are_found_in_a_crowd_of_near_copies(d: int) -> None:
    points = data(d=d, dtype=np.float64)
    crowd = points[0] + 1e-5 * np.random.default_rng(1).standard_normal((1000, d))
    crowd[500:520] = crowd[:20]
    points = np.concatenate([points, crowd])
    own = N + everyone(1000)
    index = build_index(points, 10, recall=0.5)
    assert not index.exact
    found = search_index(index, points[own], exclude=own)
    copies = np.r_[0:20, 500:520]
    assert (found.distances[copies, 0] == 0).all()
    assert (found.distances < 1e-5 * 2 * np.sqrt(2 * d)).all()


@needs_faiss
@pytest.mark.usefixtures("cells")
def test_of_many_copies_only_those_that_can_matter_are_indexed() -> None:
    points = data()
    points[1000:2500] = points[7]
    index = build_index(points, 10)
    assert len(index.points) == N - 1500 - 100 + 10  # the 1,601 copies leave 11
    found = search_index(index, points, exclude=everyone(N))
    exact = nearest(points, points, 10, exclude=everyone(N))
    assert (found.distances[1000:2500] == 0).all()
    assert (found.indices != everyone(N)[:, None]).all()
    assert recall_of(found, exact).value > 0.97


@needs_faiss
@pytest.mark.usefixtures("cells")
def test_a_query_is_told_by_identity_also_in_another_shard() -> None:
    points = data()
    index = build_index(points[1500:], 5, start=1500)
    assert not index.exact
    free = search_index(index, points[2000:2010])
    np.testing.assert_array_equal(free.indices[:, 0], np.arange(2000, 2010))
    assert (free.distances[:, 0] == 0).all()
    same(free, search_index(index, points[2000:2010], exclude=np.full(10, -1)))
    same(free, search_index(index, points[2000:2010], exclude=np.arange(10)))
    own = search_index(index, points[2000:2010], exclude=np.arange(2000, 2010))
    assert (own.distances > 0).all()


@needs_faiss
@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_the_unit_of_the_data_changes_nothing(scale: float) -> None:
    points = data(dtype=np.float64)
    found = search_index(build_index(points, 10), points, exclude=everyone(N))
    index = build_index(scale * points, 10)
    assert not index.exact
    scaled = search_index(index, scale * points, exclude=everyone(N))
    np.testing.assert_allclose(scaled.distances, scale * found.distances, rtol=1e-6)


@needs_faiss
@pytest.mark.usefixtures("cells")
def test_the_same_seed_gives_the_same_result_on_any_number_of_threads() -> None:
    import faiss

    points = data()
    index = build_index(points, 10, seed=5)
    found = search_index(index, points)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        again = build_index(points, 10, seed=5)
        np.testing.assert_array_equal(again.cells.centers, index.cells.centers)
        same(search_index(again, points), found)
    finally:
        faiss.omp_set_num_threads(threads)
    assert not np.array_equal(build_index(points, 10, seed=6).cells.centers, index.cells.centers)


@needs_faiss
@pytest.mark.usefixtures("cells")
def test_batches_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points = data()
    index = build_index(points, 10)
    whole = search_index(index, points, exclude=everyone(N))
    monkeypatch.setattr(neighbor_index, "BLOCK_QUERIES", 77)
    same(search_index(index, points, exclude=everyone(N)), whole)
    assert search_index(index, points[:0]).distances.shape == (0, 10)


@needs_faiss
@pytest.mark.usefixtures("cells")
def test_where_cells_do_not_help_the_search_is_exact() -> None:
    points = np.random.default_rng(0).standard_normal((1500, 60))
    index = build_index(points, 20)
    assert index.exact
    found = search_index(index, points, exclude=everyone(1500))
    exact = nearest(points, points, 20, exclude=everyone(1500))
    np.testing.assert_array_equal(found.distances, exact.distances)


@needs_faiss
@pytest.mark.usefixtures("cells")
def test_cells_with_too_few_points_are_made_up_for() -> None:
    points = data(dtype=np.float64)
    index = build_index(points, 60, recall=0.5)
    assert not index.exact
    index = replace(index, cells=index.cells._replace(n_probe=1))  # cells hold 14 points on average
    found = search_index(index, points, exclude=everyone(N))
    assert (found.indices >= 0).all()
    small = np.bincount(index.cells.cell)[index.cells.cell] <= 60
    assert small.mean() > 0.5
    exact = nearest(points, points, 60, exclude=everyone(N))
    np.testing.assert_allclose(found.distances[index.cells.kept[small]], exact.distances[index.cells.kept[small]])


@needs_faiss
@pytest.mark.usefixtures("cells")
def test_all_among_all_by_shards_is_nearly_the_exact_search() -> None:
    points = data()
    exact = nearest(points, points, 10, exclude=everyone(N))
    for shard in (N, 1000, 700):
        found = nearest_among(lambda rows: points[rows], N, 10, shard_values=24 * shard)
        assert found.n_shards == -(-N // shard)
        true = recall_of(found.neighbors, exact)
        assert true.value > 0.97
        assert abs(found.recall.value - true.value) < 5 * found.recall.stderr + 1e-3
        assert (found.neighbors.distances[300:400] == 0).all()
        lids, truth = (censored_hill(one, 0.0).value for one in (found.neighbors, exact))
        assert np.median(np.abs(lids - truth)) < 0.05


def test_all_among_all_of_few_points_is_exact() -> None:
    points = data(600, dtype=np.float64)
    found = nearest_among(lambda rows: points[rows], 600, 10, shard_values=24 * 130)
    exact = nearest(points, points, 10, exclude=everyone(600))
    np.testing.assert_allclose(found.neighbors.distances, exact.distances, rtol=1e-12)
    assert (found.n_shards, found.n_exact, found.recall.value) == (5, 5, 1.0)


@needs_faiss
@pytest.mark.usefixtures("cells")
def test_machines_that_take_a_part_each_find_the_whole(tmp_path: Path) -> None:
    points = data()

    def search(part: tuple[int, int], folder: Path | None) -> Neighbors:
        return nearest_among(
            lambda rows: points[rows], N, 10, part=part, folder=folder, shard_values=24 * 700
        ).neighbors

    whole = search((0, 1), None)
    parts = [search((i, 3), tmp_path) for i in (2, 0, 1)]
    same(merge(*parts), whole)
    same(search((0, 1), tmp_path), whole)
    assert (search((7, 8), None).indices == -1).all()  # more machines than shards


@needs_faiss
@pytest.mark.usefixtures("cells")
def test_an_interrupted_search_goes_on_and_ends_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = data()
    whole = nearest_among(lambda rows: points[rows], N, 10, shard_values=24 * 1000)
    searches: list[int] = []
    builds: list[int] = []
    look_up, build = neighbor_shards.looked_up, build_index

    def stopping(*arguments: Any) -> Neighbors:
        searches.append(1)
        if len(searches) == 2:
            raise KeyboardInterrupt
        return look_up(*arguments)

    def counted(*arguments: Any, **settings: Any) -> neighbor_index.NeighborIndex:
        builds.append(1)
        return build(*arguments, **settings)

    monkeypatch.setattr(neighbor_shards, "looked_up", stopping)
    monkeypatch.setattr(neighbor_shards, "build_index", counted)
    with pytest.raises(KeyboardInterrupt):
        nearest_among(lambda rows: points[rows], N, 10, shard_values=24 * 1000, folder=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["cells-000000.npz", "cells-000001.npz", "neighbors-000000.npz"]
    found = nearest_among(lambda rows: points[rows], N, 10, shard_values=24 * 1000, folder=tmp_path)
    same(found.neighbors, whole.neighbors)
    assert found.recall == whole.recall
    assert (len(searches), len(builds)) == (4, 3)  # one search was lost, no cells


@needs_faiss
@pytest.mark.usefixtures("cells")
def test_a_folder_of_another_search_is_refused(tmp_path: Path) -> None:
    points = data()
    nearest_among(lambda rows: points[rows], N, 10, folder=tmp_path)
    with pytest.raises(ValueError, match="differs in k: was 10, is 9"):
        nearest_among(lambda rows: points[rows], N, 9, folder=tmp_path)
    other = points.copy()
    other[5, 5] += 1
    with pytest.raises(ValueError, match="differs in points"):
        nearest_among(lambda rows: other[rows], N, 10, folder=tmp_path)


def test_stored_arrays_are_whole_and_damage_is_told(tmp_path: Path) -> None:
    path, arrays = tmp_path / "a.npz", {"x": np.arange(1000)}
    assert load_arrays(path, {}) is None
    assert load_arrays(None, {}) is None
    save_arrays(path, {"n": 1}, arrays)
    again = load_arrays(path, {"n": 1})
    assert again is not None
    np.testing.assert_array_equal(again["x"], arrays["x"])
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", content[:5000] + b"!" + content[5001:], b"no such thing"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="delete it"):
            load_arrays(path, {"n": 1})
    path.unlink()
    with pytest.raises(ValueError, match="Object arrays"):
        save_arrays(path, {}, {"x": np.array([None])})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def no_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def missing(name: str, *arguments: Any) -> ModuleType:
        if name.split(".")[0] == "faiss":
            raise ImportError(name)
        return found(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", missing)


@pytest.mark.usefixtures("cells", "no_faiss")
def test_without_faiss_the_extra_is_named_and_small_sets_need_none() -> None:
    points = data()
    with pytest.raises(ImportError, match=r"pip install 'pointland\[faiss\]'"):
        build_index(points, 10)
    assert search_index(build_index(points[:400], 10), points[:5]).distances.shape == (5, 10)


def test_recall_counts_ties_as_found() -> None:
    exact = Neighbors(np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([[0, 1], [0, 1]]))
    found = Neighbors(np.array([[1.0, 2.0], [2.0, 3.0]]), np.array([[0, 5], [1, 9]]))
    measured = recall_of(found, exact)
    assert measured.value == 0.75
    assert measured.stderr == pytest.approx(0.25)
    assert measured.n == 2
    assert np.isnan(
        recall_of(Neighbors(found.distances[:1], found.indices[:1]), Neighbors(*(a[:1] for a in exact))).stderr
    )


def test_bad_input_is_refused() -> None:
    points = data(50)
    index = build_index(points, 5)
    for k, recall in ((0, 0.9), (5, 0.0), (5, 1.5)):
        with pytest.raises(ValueError, match="k of at least 1 and a recall"):
            build_index(points, k, recall=recall)
    with pytest.raises(ValueError, match="a shard needs points"):
        build_index(points[:0], 5)
    with pytest.raises(ValueError, match="start of at least 0"):
        build_index(points, 5, start=-1)
    with pytest.raises(ValueError, match="NaN or infinity"):
        build_index(points * np.nan, 5)
    with pytest.raises(ValueError, match="encode alike"):
        search_index(index, points[:, :5])
    with pytest.raises(ValueError, match="exclude must name"):
        unwrap(search_index)(index, points, exclude=np.arange(3))
    with pytest.raises(ValueError, match="exclude must name"):
        search_index(index, points, exclude=np.full(50, -2))
    with pytest.raises(ValueError, match="parts of one search"):
        merge(search_index(index, points), search_index(index, points[:5]))
    with pytest.raises(ValueError, match="compares the same queries"):
        recall_of(search_index(index, points), search_index(index, points[:5]))
    with pytest.raises(ValueError, match="lower k"):
        nearest_among(lambda rows: points[rows], 50, 50)
    with pytest.raises(ValueError, match="part is"):
        nearest_among(lambda rows: points[rows], 50, 5, part=(2, 2))
