import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from pointland.auditing import directory, locks


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(exist_ok=True)


def record(**changes: object) -> dict[str, object]:
    return {
        "schema_version": 1,
        "model": {"name": "tiny"},
        "sigma": {"value": 0.3},
        "created": "2026-01-01T00:00:00+00:00",
        "finished": None,
        "environment": {"torch": "2"},
        **changes,
    }


def rows(*keys: str) -> pa.Table:
    return pa.table({"key": list(keys), "lid": [float(i) for i in range(len(keys))]})


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    directory.open_run(tmp_path / "run", record())
    assert directory.finished_shards(tmp_path / "run") == set()
    nothing = directory.FAILED.empty_table()
    directory.commit(
        tmp_path / "run", 1, rows("c"), pa.table({"key": ["d"], "role": ["audited"], "reason": ["0 bytes"]})
    )
    directory.commit(tmp_path / "run", 0, rows("a", "b"), nothing)
    directory.open_run(tmp_path / "run", record(created="later"))
    assert directory.finished_shards(tmp_path / "run") == {0, 1}
    run = directory.read_run(tmp_path / "run")
    assert run.rows["key"].to_pylist() == ["a", "b", "c"]
    assert run.failed["reason"].to_pylist() == ["0 bytes"]
    assert not run.finished
    directory.finish(tmp_path / "run", finished="now")
    assert directory.read_run(tmp_path / "run").finished


def test_a_crash_before_the_record_can_be_continued(tmp_path: Path) -> None:
    for name in ("rows", "failed"):
        (tmp_path / "run" / name).mkdir()
    (tmp_path / "run" / ".lock").touch()
    directory.open_run(tmp_path / "run", record())
    assert directory.finished_shards(tmp_path / "run") == set()


def test_another_environment_is_allowed_and_kept(tmp_path: Path) -> None:
    for torch in ("2", "3", "3", "2"):
        directory.open_run(tmp_path / "run", record(environment={"torch": torch}))
    assert directory.read_record(tmp_path / "run")["continued"] == [{"torch": "3"}]


def test_a_failure_that_was_mended_is_gone(tmp_path: Path) -> None:
    directory.open_run(tmp_path / "run", record())
    failed = pa.table({"key": ["d"], "role": ["audited"], "reason": ["0 bytes"]})
    directory.write_table(tmp_path / "run" / "failed" / "part-000000.parquet", failed)  # and then the power went
    directory.commit(tmp_path / "run", 0, rows("d"), directory.FAILED.empty_table())
    assert directory.read_run(tmp_path / "run").failed.num_rows == 0


def test_another_record_is_refused_by_name(tmp_path: Path) -> None:
    directory.open_run(tmp_path / "run", record())
    with pytest.raises(ValueError, match=r'differs in model: was \{"name": "tiny"\}, is \{"name": "other"\}'):
        directory.open_run(tmp_path / "run", record(model={"name": "other"}))
    with pytest.raises(ValueError, match="differs in sigma"):
        directory.open_run(tmp_path / "run", record(sigma={"value": 0.4}))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="is not a run"):
        directory.open_run(tmp_path, record())
    with pytest.raises(FileNotFoundError, match=r"no run\.json"):
        directory.read_run(tmp_path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    directory.open_run(tmp_path / "run", record(schema_version=99))
    with pytest.raises(ValueError, match="schema 99"):
        directory.read_run(tmp_path / "run")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    directory.write_json(path, {"a": 1})

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        directory.write_whole(path, fail)
    assert json.loads(path.read_text()) == {"a": 1}


def test_leftovers_of_a_crash_are_cleared_and_nothing_else(tmp_path: Path) -> None:
    directory.open_run(tmp_path / "run", record())
    leftover = tmp_path / "run" / "rows" / ".part-000003.parquet.tmp"
    leftover.write_bytes(b"half")
    keep = tmp_path / "run" / "rows" / "notes.txt"
    keep.write_text("mine")
    directory.open_run(tmp_path / "run", record())
    assert leftover.exists()  # it may be another process's, still writing
    with locks.locked(tmp_path / "run"):
        assert not leftover.exists()
    assert keep.exists()


HOLD = """
import sys, time
from pathlib import Path
from pointland.auditing.locks import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_two_processes_cannot_share_a_run_and_a_dead_ones_lock_is_gone(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(ValueError, match="another process"), locks.locked(tmp_path):
        pass
    process.kill()
    process.communicate()
    with locks.locked(tmp_path):
        pass
