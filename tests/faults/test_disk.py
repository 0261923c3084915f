"""F5, F6: a full disk, a read-only one, a folder that is not for us, and two runs in one."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from miniatures import cut
from models import ExactModel
from pointland.auditing import Run, read_run
from pointland.auditing.engine import audit, check_out
from pointland.auditing.tasks import tasks_of
from pointland.demo import MINIATURE
from test_audit import write_pictures

pytestmark = pytest.mark.fault


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("cannot mount a small file system here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)  # tracebacks hold files open


@pytest.fixture
def model(tmp_path: Path) -> ExactModel:
    write_pictures(tmp_path / "images", 60, seed=0)
    return ExactModel(torch.zeros(1, 3, 4, 4))


def run(model: ExactModel, tmp_path: Path, out: Path) -> Run:
    return audit(model, tmp_path / "images", out=out, sigma=0.3, n_draws=1, n_probes=1, batch_size=4)


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("rows/part-*.parquet"))}


def ballast(place: Path, free: int) -> Path:
    """Fill a file system until so many bytes are free."""
    heavy = place / "ballast"
    heavy.write_bytes(b"\0" * (shutil.disk_usage(place).free - free))
    return heavy


def test_a_full_disk_is_one_message_and_the_run_goes_on_when_there_is_room(
    model: ExactModel, tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointland.auditing.tasks.SHARD", 8)
    wanted = parts(run(model, tmp_path, tmp_path / "whole").folder)
    assert len(wanted) == 8
    kept = []
    for free in (0, 4, 8, 12, 24, 36, 48, 80, 100, 120):  # KiB: it fails at the lock, the record, the first part, ...
        out = small / f"run-{free}"
        heavy = ballast(small, free * 1024)
        with pytest.raises(OSError, match=r"space") as caught:
            run(model, tmp_path, out)
        assert caught.value.errno == errno.ENOSPC
        assert not [*out.glob("**/.*.tmp")]
        found = parts(out)
        kept.append(len(found))
        assert found == {name: wanted[name] for name in found}
        heavy.unlink()
        assert run(model, tmp_path, out).finished
        assert parts(out) == wanted
        shutil.rmtree(out)
    assert min(kept) == 0
    assert max(kept) > 1


def test_the_command_says_where_and_what_to_do_and_ends_with_3(tmp_path: Path, small: Path) -> None:
    demo = cut(tmp_path, 8, 8)
    ballast(small, 8 * 1024)
    settings = ["--sigma", "0.3", "--n-draws", "1", "--n-probes", "1", "--device", "cpu", "-o", str(small / "run")]
    command = [sys.executable, "-m", "pointland", "audit", str(MINIATURE), str(demo.images), *settings]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    assert f"cannot write {small}" in ended.stderr.replace("\n", "")
    assert "Free space, then repeat the same command" in ended.stderr


def test_a_read_only_disk_is_refused_before_anything_is_loaded(model: ExactModel, tmp_path: Path, small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    with pytest.raises(OSError, match="Read-only") as caught:
        check_out(small / "deep" / "run", tasks_of(tmp_path / "images"))
    assert caught.value.errno == errno.EROFS
    with pytest.raises(OSError, match="Read-only"):
        run(model, tmp_path, small / "run")
    assert not model.calls


def test_a_finished_run_on_a_read_only_disk_is_still_read(model: ExactModel, tmp_path: Path, small: Path) -> None:
    wanted = run(model, tmp_path, small / "run").rows
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    assert read_run(small / "run").rows.equals(wanted)


def test_missing_folders_are_made_and_strange_ones_refused(model: ExactModel, tmp_path: Path) -> None:
    assert run(model, tmp_path, tmp_path / "a" / "b" / "run").finished
    for place, words in ((tmp_path, "is not a run"), (tmp_path / "images" / "run", "lies inside the pictures")):
        with pytest.raises(ValueError, match=words):
            check_out(place, tasks_of(tmp_path / "images"))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        check_out(tmp_path / "file", tasks_of(tmp_path / "images"))


def test_a_second_run_is_told_who_has_the_folder_and_a_stale_lock_is_none(model: ExactModel, tmp_path: Path) -> None:
    out = tmp_path / "run"
    hold = (
        "import sys, time; from pathlib import Path; from pointland.auditing.locks import locked\n"
        f"with locked(Path({str(out)!r})):\n    print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    model.calls.clear()
    with pytest.raises(ValueError, match=rf"another process \(process {other.pid} on .*\) is working in"):
        run(model, tmp_path, out)
    assert not model.calls  # before the model was asked anything
    other.kill()
    other.wait()
    other.stdout.close()
    assert (out / ".lock").read_text() == f"process {other.pid} on {os.uname().nodename}"  # it was killed
    assert run(model, tmp_path, out).finished
