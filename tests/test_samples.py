import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from pointland.cli.samples import run_samples
from pointland.samples import (
    Comparison,
    Images,
    authenticity,
    calibrated_distance,
    compare_samples,
    data_copying,
    judge,
    likelihood_gap,
    local_evidence,
    measures,
    neighbor_ratio,
    neighborhood,
)
from pointland.samples.windows import two_nearest
from pointland.verdict import auroc
from scenes import noisy, save, scene

Floats = NDArray[np.float32]
ALONE = -1


def points(n: int, d: int, seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def brute(queries: Floats, train: Floats, groups: NDArray[np.int64], own: NDArray[np.int64] | None) -> Floats:
    """Sorted distances to groups, each to its nearest member, a query's own group left out."""
    names = np.where(groups < 0, 1000 + np.arange(len(groups)), groups)
    rows = []
    for i, query in enumerate(queries):
        far = np.linalg.norm(train.astype(np.float64) - query, axis=1)
        each = [far[names == name].min() for name in np.unique(names) if own is None or name != names[own[i]]]
        rows.append(sorted(each))
    return np.array(rows, dtype=np.float32)


def grouped(n: int, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Points of which the first 12 are in tight groups of 1 to 5."""
    train = points(n, 6, seed)
    groups = np.full(n, ALONE)
    for number, members in enumerate(([0, 1], [2, 3, 4], [5, 6, 7, 8, 9])):
        train[members] = train[members[0]] + 1e-3 * points(len(members), 6, number)
        groups[members] = number
    return train, groups


@pytest.mark.parametrize("seed", range(4))
def test_a_group_of_copies_is_one_neighbour(seed: int) -> None:
    train, groups = grouped(40, seed)
    queries = np.concatenate([points(20, 6, 99), train[:12] + np.float32(1e-4)])
    near = neighborhood(queries, train, groups, 5)
    expected = brute(queries, train, groups, None)
    assert np.allclose(near.distances[:, 0], expected[:, 0], rtol=1e-5)
    assert np.allclose(near.distances, expected[:, :5], atol=5e-3)  # a group's other members are within the jitter
    nearest = np.linalg.norm(train[near.nearest] - queries, axis=1)
    assert np.allclose(nearest, near.distances[:, 0], rtol=1e-4)


def test_a_training_image_is_not_its_own_neighbour_and_neither_are_its_copies() -> None:
    train, groups = grouped(40, 1)
    own = np.arange(len(train))
    near = neighborhood(train, train, groups, 2, exclude=own)
    assert np.allclose(near.distances[:, 0], brute(train, train, groups, own)[:, 0], atol=5e-3)
    assert near.distances.min() > 0.01


def test_windows_search_the_same_neighbours() -> None:
    train, groups = grouped(60, 2)
    names = np.where(groups < 0, 1000 + np.arange(60), groups)
    found = two_nearest(points(30, 6, 5), train, names)
    expected = brute(points(30, 6, 5), train, groups, None)
    assert np.allclose(found.first, expected[:, 0], rtol=1e-3)
    assert np.allclose(found.second, expected[:, 1], rtol=1e-3)


def test_the_result_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    train, groups = grouped(60, 3)
    names = np.where(groups < 0, 1000 + np.arange(60), groups)
    whole = two_nearest(points(30, 6, 5), train, names)
    monkeypatch.setattr("pointland.samples.windows.BLOCK_TRAIN", 7)
    monkeypatch.setattr("pointland.samples.windows.BLOCK_QUERIES", 4)
    parts = two_nearest(points(30, 6, 5), train, names)
    assert (parts.nearest == whole.nearest).all()
    assert np.allclose(parts.second, whole.second, rtol=1e-4)


@pytest.mark.parametrize("times", [1, 15, 100])
def test_copies_of_duplicated_images_are_seen_where_groups_count_once_and_missed_as_published(times: int) -> None:
    base, fresh = points(300, 16, 0), points(50, 16, 1)
    train = np.concatenate([base, np.repeat(base[:20], times - 1, axis=0)])
    groups = np.full(len(train), ALONE)
    if times > 1:
        groups[:20] = np.arange(20)
        groups[300:] = np.repeat(np.arange(20), times - 1)
    queries = np.concatenate([base[:20] + np.float32(0.01), fresh])
    for names, seen in ((groups, True), (np.full(len(train), ALONE), times == 1)):
        near = neighborhood(queries, train, names)
        for values in (neighbor_ratio(near) < 1 / 3, authenticity(near, train, names) < 1):
            assert values[:20].all() == seen
            assert values[:20].any() == seen
        if times != 15:  # 50 neighbours hold 15 copies and 35 others
            assert (calibrated_distance(near)[:20] < 0.2).all() == seen


def test_authenticity_of_copies_of_training_images_with_a_twin_is_infinite_as_published() -> None:
    train = np.repeat(points(4, 3, 0), 2, axis=0)
    near = neighborhood(train + np.float32(0.1), train, np.full(8, ALONE), 2)
    assert np.isinf(authenticity(near, train, np.full(8, ALONE))).all()


def test_the_data_copying_test_is_near_0_for_one_population_and_far_below_for_copies() -> None:
    rng = np.random.default_rng(0)
    cell = np.repeat([0, 1], 500)
    held, same = rng.gamma(4, 1, 1000), rng.gamma(4, 1, 1000)
    assert abs(data_copying(same, held, cell, cell).value) < 2
    assert data_copying(0.1 * same, held, cell, cell).value < -10
    few = data_copying(same[:3], held, np.zeros(3, np.int64), cell)
    assert np.isnan(few.cells[1])


def test_the_likelihood_gap_is_below_0_for_copies_and_near_0_without() -> None:
    train, held, fresh = points(400, 8, 0), points(400, 8, 1), points(300, 8, 2)
    clean = likelihood_gap(fresh, train, held)
    copied = likelihood_gap(np.concatenate([train[:150] + np.float32(0.001), fresh[:150]]), train, held)
    assert abs(clean.value) < 15
    assert copied.value < clean.value - 20
    assert copied.samples[:150].min() > np.median(copied.samples[150:])
    assert np.isnan(likelihood_gap(fresh, train, None).value)


def thumbs(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.stack([picture[1] for picture in pictures])


def test_a_copied_part_gives_local_evidence_of_its_training_image() -> None:
    train = [scene(seed) for seed in range(60)]
    held = [scene(1000 + seed) for seed in range(60)]
    parts = []
    for seed in range(30):
        part = scene(2000 + seed)
        part[:, 6:22, 8:24] = train[seed][:, 6:22, 8:24]
        parts.append(noisy(part, 5, seed))
    alone = np.full(60, ALONE)
    copied, null = (local_evidence(thumbs(pictures), thumbs(train), alone) for pictures in (parts, held))
    assert (copied.nearest == np.arange(30)).all()
    assert auroc(copied.evidence, null.evidence) > 0.95
    flat = local_evidence(np.full((1, 32, 32), 9, np.uint8), thumbs(train), alone)
    assert np.isnan(flat.evidence[0])


def test_p_values_are_uniform_where_nothing_is_copied_and_the_rate_is_kept() -> None:
    train = Images(points(300, 8, 0), None)
    alone = np.full(300, ALONE)
    small, flags = [], 0
    for seed in range(20):
        pair = [measures(Images(points(400, 8, 10 * seed + i), None), train, alone) for i in (1, 2)]
        found = judge(pair[0], pair[1], 0.1)
        small.append((found.p <= 0.1).mean())
        flags += bool(found.flagged.any())
    assert 0.07 < np.mean(small) < 0.13  # 20 x 400 draws, dependent through 20 references
    assert flags <= 6  # binomial(20, 0.1) exceeds 5 in 1 of 90


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 training pictures, one 21 times; 8 copies, 4 copied parts, 20 others; 150 held out and 3 that were not."""
    place = tmp_path_factory.mktemp("samples")
    for seed in range(60):
        save(scene(seed), place / "train" / f"{seed:03}.png")
    for number in range(20):
        save(noisy(scene(0), 1, number), place / "train" / f"copy{number:03}.png")
    for seed in range(8):
        save(noisy(scene(seed), 4, seed), place / "generated" / f"copy{seed}.png")
    for seed in range(4):
        part = scene(3000 + seed)
        part[:, 4:24, 4:24] = scene(20 + seed)[:, 4:24, 4:24]
        save(noisy(part, 2, seed), place / "generated" / f"part{seed}.png")
    for seed in range(20):
        save(scene(4000 + seed), place / "generated" / f"new{seed:02}.png")
    save(np.full((3, 32, 32), 77, np.uint8), place / "generated" / "flat.png")
    (place / "generated" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    for seed in range(150):
        save(scene(5000 + seed), place / "held_out" / f"{seed:03}.png")
    for seed in (30, 31):
        save(scene(seed), place / "held_out" / f"trained{seed}.bmp")
    save(noisy(scene(32), 2), place / "held_out" / "trained32.png")
    return place


@pytest.fixture(scope="module")
def found(folders: Path) -> Comparison:
    return compare_samples(folders / "generated", folders / "train", reference=folders / "held_out", fdr=0.1)


def generated(found: Comparison) -> dict[str, dict[str, object]]:
    return {row["key"]: row for row in found.rows.to_pylist() if row["role"] == "generated"}


def test_copies_and_parts_are_flagged_with_the_training_image(found: Comparison) -> None:
    rows = generated(found)
    for seed in range(8):
        assert rows[f"copy{seed}.png"]["flagged"], seed
        if seed:
            assert rows[f"copy{seed}.png"]["nearest"] == f"{seed:03}.png"
    assert rows["copy0.png"]["nearest_copies"] == 21
    for seed in range(4):
        row = rows[f"part{seed}.png"]
        assert row["flagged"]
        assert row["copied"] == "part"
        assert row["local_nearest"] == f"{20 + seed:03}.png"
    assert sum(bool(row["flagged"]) for key, row in rows.items() if key.startswith("new")) <= 2
    assert found.summary["verdict"]["state"] == "flagged"


def test_published_metrics_stand_beside_a_real_against_real_reference(found: Comparison) -> None:
    for row in (*found.summary["metrics"], *found.summary["set"]):
        assert row["generated"] is not None
        assert row["reference"] is not None
    rates = {row["name"]: row for row in found.summary["set"]}
    assert rates["AuthPct"]["generated"] < rates["AuthPct"]["reference"]
    assert found.summary["descriptor"]["name"] == "perceptual"


def test_training_images_in_the_reference_are_left_out_with_a_notice(found: Comparison) -> None:
    assert found.summary["counts"]["reference"] == 150
    assert found.summary["notices"] == [
        "3 of 153 reference images are copies of training images (2 the same pixel for pixel) and were left out"
    ]


def test_what_cannot_be_compared_is_a_row_with_a_reason(found: Comparison) -> None:
    rows = generated(found)
    assert len(rows) == 34
    assert rows["flat.png"]["reason"] == "flat: nothing in it to compare"
    assert str(rows["broken.png"]["reason"]).startswith("damaged PNG")
    assert rows["flat.png"]["rank"] is None
    assert rows["copy1.png"]["reason"] is None


def test_without_a_reference_it_only_ranks(folders: Path) -> None:
    found = compare_samples(folders / "generated", folders / "train", local=False)
    rows = generated(found)
    assert found.summary["verdict"]["state"] == "ranked"
    assert not any(row["flagged"] for row in rows.values())
    assert all(rows[f"copy{seed}.png"]["p"] is None for seed in range(8))
    assert {rows[f"copy{seed}.png"]["rank"] for seed in range(8)} == set(range(1, 9))


def test_a_single_sample_is_compared(folders: Path, tmp_path: Path) -> None:
    save(noisy(scene(3), 1), tmp_path / "only.png")
    found = compare_samples(tmp_path, folders / "train", reference=folders / "held_out", fdr=0.5)
    row = generated(found)["only.png"]
    assert row["nearest"] == "003.png"
    assert row["flagged"]
    assert row["likelihood"] is None
    assert found.summary["set"][2]["generated"] is None


def test_a_reference_that_was_trained_on_is_refused(folders: Path) -> None:
    with pytest.raises(ValueError, match="80 of 80 reference images are training images"):
        compare_samples(folders / "generated", folders / "train", reference=folders / "train")


def test_a_reference_too_small_to_decide_says_so(folders: Path, tmp_path: Path) -> None:
    for seed in range(5):
        save(scene(5000 + seed), tmp_path / f"{seed}.png")
    verdict = compare_samples(folders / "generated", folders / "train", reference=tmp_path).summary["verdict"]
    assert verdict["state"] == "undecided"
    assert "At least 40 are needed" in verdict["headline"]


def flat_folder(path: Path) -> Path:
    for level in (3, 90, 200):
        save(np.full((3, 32, 32), level, np.uint8), path / f"{level}.png")
    return path


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, t: compare_samples(f / "generated", flat_folder(t)), "0 training images have anything in them"),
        (lambda f, t: compare_samples(flat_folder(t), f / "train"), "all 3 generated images are flat"),
        (lambda f, t: compare_samples(f / "generated", f / "train", reference=flat_folder(t)), "no reference image is"),
        (lambda f, t: compare_samples(t, f / "train"), "no pictures"),
        (lambda f, t: compare_samples(f / "generated", f / "train", fdr=2.0), "not a rate"),
    ],
)
def test_bad_input_is_an_error_that_says_what_to_do(
    folders: Path, tmp_path: Path, call: Callable[[Path, Path], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(folders, tmp_path)


def test_one_training_image_many_times_is_too_few(folders: Path, tmp_path: Path) -> None:
    for number in range(5):
        save(noisy(scene(1), 1, number), tmp_path / f"{number}.png")
    with pytest.raises(ValueError, match="5 training images are 1 different ones"):
        compare_samples(folders / "generated", tmp_path, local=False)


def test_the_command_writes_and_says_what_it_found(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run_samples(
        folders / "generated",
        folders / "train",
        reference=folders / "held_out",
        descriptor="pixels:16",
        fdr=0.1,
        local=True,
        k=50,
        radius=0.08,
        seed=0,
        out=out,
        top=20,
    )
    shown = capsys.readouterr().out
    assert "generated images copy training images" in shown
    assert "copy1.png" in shown
    assert pq.read_table(out / "rows.parquet").num_rows == 34 + 153
    with (out / "rows.csv").open(newline="", encoding="utf-8") as stream:
        assert len(list(csv.DictReader(stream))) == 34 + 153
    summary = json.loads((out / "summary.json").read_text())
    assert summary["descriptor"]["preprocessing"].startswith("shorter side to 16")
    assert str(folders) not in json.dumps(summary)
