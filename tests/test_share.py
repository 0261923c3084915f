import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models import ExactModel
from pointland.auditing import read_run
from pointland.auditing.directory import finished_shards
from pointland.auditing.engine import check_out
from pointland.auditing.locks import locked
from pointland.auditing.tasks import Share, Tasks, share_from, tasks_of
from pointland.data import ParquetFiles, spooled
from shares import N_SHARDS, made, model_of, parts_of
from test_audit import write_pictures


@pytest.fixture(autouse=True)
def _short_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointland.auditing.tasks.SHARD", 8)


@pytest.fixture
def model(tmp_path: Path) -> ExactModel:
    return model_of(tmp_path)


def test_shares_are_everything_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointland.auditing.tasks.SHARD", 1)
    write_pictures(tmp_path / "images", 23, seed=0)
    tasks = tasks_of(tmp_path / "images")
    for of in (1, 2, 3, 7, 22, 23, 40):
        found = [number for share in range(of) for number in Share(share, of).shards(tasks)]
        assert sorted(found) == [*range(23)]


def test_more_shares_than_shards_leave_some_nothing(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 10, seed=0)
    tasks = tasks_of(tmp_path / "images")
    assert [len(Share(number, 3).shards(tasks)) for number in range(3)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({"RANK": "2", "WORLD_SIZE": "4"}, (2, 4)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, (3, 8)),
        (
            {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}
            | {"SLURM_ARRAY_TASK_STEP": "2"},
            (3, 4),
        ),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (1, 2)),
        ({"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, (0, 2)),
    ],
)
def test_auto_reads_what_started_the_process(environment: dict[str, str], share: tuple[int, int]) -> None:
    assert share_from("auto", environment) == share


def test_shares_are_read_or_refused() -> None:
    assert share_from(None) == (0, 1)
    assert share_from("3/4") == (3, 4)
    for wrong in ("4/4", "-1/4", "1", "1/0", "a/b", "1/2/3", ""):
        with pytest.raises(ValueError, match="is not i/n"):
            share_from(wrong)
    with pytest.raises(ValueError, match="found neither"):
        share_from("auto", {"RANK": "0"})


def test_two_shares_in_one_directory_are_the_whole_run_to_the_byte(model: ExactModel, tmp_path: Path) -> None:
    wanted = parts_of(made(model, tmp_path, "whole").folder)
    first = made(model, tmp_path, "run", "0/2")
    assert not first.finished
    assert finished_shards(first.folder) == {*range(0, N_SHARDS, 2)}
    ticks: list[int] = []
    second = made(model, tmp_path, "run", "1/2", progress=lambda state: ticks.append(state.total))
    assert {*ticks} == {3 * 8}  # a share counts its own pictures only
    assert second.finished
    assert parts_of(second.folder) == wanted


def test_shares_at_the_same_time_are_the_whole_run_to_the_byte(model: ExactModel, tmp_path: Path) -> None:
    wanted = parts_of(made(model, tmp_path, "whole").folder)
    together = threading.Barrier(3, timeout=60)

    def share(number: int) -> None:
        met = False

        def wait(state: object) -> None:
            nonlocal met
            if not met:
                met = True
                together.wait()

        made(model, tmp_path, "run", f"{number}/3", progress=wait)

    with ThreadPoolExecutor(3) as threads:
        for future in [threads.submit(share, number) for number in range(3)]:
            future.result()
    assert read_run(tmp_path / "run").finished
    assert parts_of(tmp_path / "run") == wanted


HOLD = """
import json, sys, time
from pathlib import Path
from pointland.auditing.locks import locked
with locked(Path(sys.argv[1]), json.loads(sys.argv[2])):
    print("locked", flush=True)
    time.sleep(60)
"""


def holding(run: Path, share: tuple[int, int] | None) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run), json.dumps(share)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_share_keeps_out_itself_and_whoever_wants_all(tmp_path: Path) -> None:
    process = holding(tmp_path, (0, 2))
    try:
        with locked(tmp_path, (1, 2)):
            pass
        for wanted in ((0, 2), None):
            with pytest.raises(ValueError, match="another process"), locked(tmp_path, wanted):
                pass
    finally:
        process.kill()
        process.communicate()
    with locked(tmp_path, (0, 2)):  # the dead process holds nothing
        pass
    with locked(tmp_path):
        assert not list(tmp_path.glob(".lock-*"))


def test_a_whole_run_keeps_out_every_share(model: ExactModel, tmp_path: Path) -> None:
    process = holding(tmp_path / "run", None)
    try:
        with pytest.raises(ValueError, match=r"another process \(process \d+ on .*\) is working in"):
            made(model, tmp_path, "run", "0/2")
    finally:
        process.kill()
        process.communicate()
    assert not made(model, tmp_path, "run", "0/2").finished


def test_a_share_clears_no_file_that_another_may_be_writing(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / ".part-000001.parquet.0.tmp").touch()
    with locked(tmp_path, (0, 2)):
        assert list(tmp_path.glob("rows/.*.tmp"))
    with locked(tmp_path):
        assert not list(tmp_path.glob("rows/.*.tmp"))


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "0"},  # --array=0,5,7
        {"RANK": "7", "WORLD_SIZE": "4"},
        {
            "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_ARRAY_TASK_COUNT": "3",
            "SLURM_ARRAY_TASK_MIN": "0",
            "SLURM_ARRAY_TASK_STEP": "2",
        },
        {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_STEP": "0"},
    ],
)
def test_shares_that_would_leave_shards_out_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="give i/n"):
        share_from("auto", environment)


def test_out_among_pictures_is_refused_whatever_the_source(tmp_path: Path) -> None:
    """Else the parts of the run would become pictures of the set."""
    shards = spooled([(str(i), np.full((8, 8, 3), i, np.uint8), None) for i in range(3)], tmp_path / "shards")
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "a.parquet")
    for source in (shards, ParquetFiles((tmp_path,))):
        with pytest.raises(ValueError, match="lies inside the pictures"):
            check_out((tmp_path if source is not shards else tmp_path / "shards") / "run", Tasks({"audited": source}))
