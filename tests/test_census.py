import csv
import json
import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from inspect import unwrap
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pointland.census import Census, census
from pointland.cli.tabular import prepared
from pointland.lid.data import nearest_among, neighbor_index
from scenes import noisy, save, scene

POINTLAND = Path(sys.executable).parent / "pointland"
N = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures; an exact copy in another format, a near copy, a template, flat ones, damaged ones."""
    place = tmp_path_factory.mktemp("pictures")
    for seed in range(N):
        save(scene(seed), place / f"{seed:02}.png")
    save(scene(0), place / "exact.bmp")
    save(noisy(scene(1), 2), place / "near.png")
    template = scene(2)
    template[:, 4:14, 4:14] = scene(50)[:, 4:14, 4:14]
    save(template, place / "template.png")
    for level in (0, 200):
        save(np.full((3, 32, 32), level, np.uint8), place / f"flat{level}.png")
    (place / "=cmd.png").write_bytes(b"nothing")
    (place / "empty.png").touch()
    return place


@pytest.fixture(scope="module")
def found(folder: Path) -> Census:
    return census(folder, k=5)


def row(found: Census, key: str) -> dict[str, object]:
    rows: list[dict[str, object]] = found.rows.to_pylist()
    return next(row for row in rows if row["key"] == key)


def members(found: Census, kind: str) -> list[list[str]]:
    return [sorted(group.keys) for group in found.groups if group.kind == kind]


def test_every_kind_of_group_is_found_and_nothing_else(found: Census) -> None:
    assert members(found, "exact") == [["00.png", "exact.bmp"]]
    assert members(found, "near") == [["00.png", "exact.bmp"], ["01.png", "near.png"]]
    assert ["02.png", "template.png"] in members(found, "template")
    assert row(found, "near.png")["near_group"] == row(found, "01.png")["near_group"]
    assert row(found, "01.png")["n_near"] == 2
    assert row(found, "05.png")["near_group"] is None
    assert row(found, "05.png")["n_exact"] == 1


def test_a_copy_has_a_lower_data_lid_and_flat_pictures_are_told(found: Census) -> None:
    lids = np.array([row(found, f"{seed:02}.png")["lid"] for seed in range(3, N)], dtype=float)
    copied = row(found, "exact.bmp")["lid"]
    assert isinstance(copied, float)
    assert copied < np.quantile(lids, 0.1)
    assert row(found, "flat0.png")["flat"] is True
    assert row(found, "flat0.png")["near_group"] is None
    assert found.summary["flat"] == 2


def test_what_cannot_be_read_is_a_row_with_a_reason(found: Census) -> None:
    assert found.rows.num_rows == N + 7
    assert found.summary["n_failed"] == 2
    assert row(found, "empty.png")["reason"] == "the file is empty"
    assert row(found, "empty.png")["lid"] is None
    assert row(found, "05.png")["reason"] is None


def test_pictures_that_agree_only_when_shrunk_are_no_exact_copies(tmp_path: Path) -> None:
    for seed in range(8):
        save(scene(seed, 64), tmp_path / f"{seed}.png")
    board = np.indices((256, 256)).sum(0) % 2 * 255  # shrinks to the same gray whichever square comes first
    for number, one in enumerate((board, 255 - board)):
        Image.fromarray(one.astype(np.uint8)).save(tmp_path / f"board{number}.png")
    assert members(census(tmp_path, k=3), "exact") == []


def test_neighbours_may_be_looked_for_in_a_sample(folder: Path) -> None:
    sampled = census(folder, k=5, neighbors_in=20)
    assert members(sampled, "near") == members(census(folder, k=5), "near")
    assert all(row["lid"] is not None for row in sampled.rows.to_pylist() if row["reason"] is None)


def test_too_few_pictures_and_no_picture_at_all(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lower k"):
        census(folder, k=N + 10)
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match="none of the 1 pictures"):
        census(tmp_path)


def test_the_command_writes_tables_groups_and_a_summary(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command: list[str | Path] = [POINTLAND, "data", folder, "--k", "5", "--fail-on-duplicates", "-o", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 10, done.stderr
    assert "near copies (exact ones included): 2 groups of 4 pictures" in done.stdout
    assert pq.read_table(out / "rows.parquet").num_rows == N + 7
    with (out / "rows.csv").open(newline="", encoding="utf-8") as stream:
        keys = [line["key"] for line in csv.DictReader(stream)]
    assert "'=cmd.png" in keys  # no formula for a spreadsheet
    groups = json.loads((out / "groups.json").read_text())["groups"]
    assert {"kind": "exact", "number": 0, "keys": ["00.png", "exact.bmp"]} in groups
    assert json.loads((out / "summary.json").read_text())["near"]["groups"] == 2
    assert str(folder) not in (out / "summary.json").read_text()


def test_a_folder_with_other_files_is_not_written_into(folder: Path) -> None:
    with pytest.raises(ValueError, match="holds other files"):
        prepared(folder, names=("rows.csv",))
    with pytest.raises(NotADirectoryError, match="is a file"):
        prepared(folder / "00.png", names=())


@pytest.fixture
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures, two of them the same."""
    place = tmp_path_factory.mktemp("many")
    for seed in range(60):
        save(scene(seed), place / f"{seed:02}.png")
    save(scene(0), place / "copy.png")
    return place


@pytest.mark.skipif(find_spec("faiss") is None, reason="FAISS is not installed: pip install 'pointland[faiss]'")
def test_neighbours_may_be_looked_for_in_all_through_an_index(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = census(many, k=5)
    whole = census(many, k=5, search="index", neighbors_in=10)  # which is for the sample
    assert whole.rows.equals(exact.rows)
    assert whole.summary["neighbors"]["lid"] == {
        "among": 61, "shards": 1, "exact_shards": 1, "recall": 1.0, "recall_stderr": 0.0, "recall_n": 61,
    }  # fmt: skip
    assert exact.summary["neighbors"] == {"lid": {"among": 61}}
    monkeypatch.setattr(neighbor_index, "EXACT_BELOW", 30)
    monkeypatch.setattr(neighbor_index, "TUNED_ON", 30)
    monkeypatch.setattr("pointland.census.nearest_among", partial(nearest_among, recall=0.5))
    cells = census(many, k=5, search="index")
    assert cells.summary["neighbors"]["lid"]["exact_shards"] == 0
    assert cells.summary["neighbors"]["lid"]["recall"] > 0.4
    assert cells.summary["settings"]["search"] == "index"
    one, other = (np.array(found.rows["lid"].to_pylist()) for found in (cells, exact))
    assert np.median(np.abs(one - other)) < 0.2 * np.median(other)


def test_the_command_searches_an_index_and_names_the_extra(many: Path, tmp_path: Path) -> None:
    command: list[str | Path] = [POINTLAND, "data", many, "--k", "5", "--search", "index", "-o", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if find_spec("faiss") is not None:
        assert done.returncode == 0, done.stderr
        assert "neighbours for lid: among 61 pictures, 100.0% of the true ones found" in done.stdout
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "faiss.py").write_text("raise ImportError")
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(blocked)}
    )
    assert done.returncode == 2
    assert done.stderr.strip() == "Error: an index of neighbours needs FAISS: pip install 'pointland[faiss]'"
    with pytest.raises(ValueError, match="sample, index"):
        unwrap(census)(many, search="everywhere")  # unwrapped: what a user runs, without the checks of the tests
