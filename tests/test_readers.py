"""Reading processes: the same pictures as without them, whatever happens to one."""

import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import ExactModel
from pointland.auditing.engine import audit
from pointland.auditing.local import Local
from pointland.data import readers as module
from pointland.data.folder import Folder
from pointland.data.picture import Picture, UnreadablePicture
from pointland.data.readers import Opened, Readers, Request
from pointland.data.source import Source
from test_audit import write_pictures
from unruly import Unruly, items_of

SIZE = (8, 8)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Twelve pictures, of which two are none."""
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (9 + i, 12, 3), dtype=np.uint8)).save(tmp_path / f"{i:02d}.png")
    (tmp_path / "10.png").write_bytes(b"")
    (tmp_path / "11.png").write_bytes(b"<html>")
    return Folder(tmp_path)


def told(opened: Opened) -> list[tuple[str, object]]:
    return [
        (item.key, (picture.pixels.tobytes(), picture[1:]) if isinstance(picture, Picture) else str(picture))
        for item, picture in opened
    ]


def read(source: Source, n: int, each: int = 5) -> Opened:
    items = items_of(source, "03.png")
    with Readers({"a": source}, SIZE, n) as readers:
        requests = [Request("a", items[start : start + each]) for start in range(0, len(items), each)]
        return [one for opened in readers.read(requests) for one in opened]


@pytest.mark.parametrize("n", [1, 3])
def test_processes_read_what_this_one_would_in_the_same_order(folder: Folder, n: int) -> None:
    wanted = told(read(folder, 0))
    assert told(read(folder, n)) == wanted
    assert dict(wanted)["03.png"] == "a link"
    assert dict(wanted)["10.png"] == "the file is empty"
    assert sum(isinstance(value, tuple) for value in dict(wanted).values()) == 9


@pytest.mark.fault
def test_a_picture_that_kills_or_stalls_its_reader_is_given_up_and_no_other(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 2.0)
    wanted = dict(told(read(folder, 0)))
    unruly = Unruly(folder, kills=("04.png", "07.png"), stalls=("08.png",))
    got = dict(told(read(unruly, 2)))
    assert got.pop("04.png") == "the reading process died (SIGSEGV) on it, 2 times"
    assert got.pop("07.png") == "the reading process died (SIGSEGV) on it, 2 times"
    assert got.pop("08.png") == "reading hung for 2 s on it, 2 times"
    assert got == {key: value for key, value in wanted.items() if key in got}


@pytest.mark.parametrize("n", [0, 1])
def test_a_source_that_fails_on_one_item_goes_on_with_the_next(folder: Folder, n: int) -> None:
    wanted = dict(told(read(folder, 0)))
    got = dict(told(read(Unruly(folder, fails=("05.png",)), n)))
    assert got.pop("05.png") == "cannot be read: RuntimeError: the disk is on fire"
    assert got == {key: value for key, value in wanted.items() if key in got}


def test_leaving_does_not_wait_for_a_picture_that_stalls(folder: Folder) -> None:
    stalled = Unruly(folder, stalls=("00.png",))
    before = threading.active_count()
    with Readers({"a": stalled}, SIZE, 1) as readers:
        opened = readers.read([Request("a", items_of(stalled)), Request("a", [])])
        waiting = threading.Thread(target=lambda: _swallow(opened), daemon=True)
        waiting.start()
        time.sleep(0.5)
    waiting.join(20)
    assert not waiting.is_alive()
    assert threading.active_count() <= before + 1


def _swallow(opened: object) -> None:
    with suppress(Exception):  # what it was waiting for was ended
        list(opened)  # type: ignore[call-overload]  # an iterator


def test_what_a_reader_answers_is_data_alone(folder: Folder) -> None:
    """No object is built from what a reader says, since it decoded hostile bytes: only JSON and pixels."""
    source = Path(module.__file__).with_name("reader.py").read_text(encoding="utf-8")
    assert "pickle.load(sys.stdin.buffer)" in source  # from its parent
    assert "pickle.dump" not in source
    assert "pickle.load" not in Path(module.__file__).read_text(encoding="utf-8")
    ((_, picture),) = read(folder, 1)[10:11]
    assert isinstance(picture, UnreadablePicture)


def test_a_reader_killed_before_it_read_anything_blames_no_picture(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An out-of-memory killer, say: starting is tried again, and in the end the audit stops with what was said."""
    wanted, started = told(read(folder, 0)), []
    real: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen

    def doomed(command: list[str], **settings: object) -> subprocess.Popen[bytes]:
        started.append(command)
        if len(started) in (1, 2):
            command = [command[0], "-c", "raise SystemExit('no room')"]
        return real(command, **settings)

    monkeypatch.setattr(subprocess, "Popen", doomed)
    assert told(read(folder, 1)) == wanted
    assert len(started) == 3
    monkeypatch.setattr(module, "STARTS", 2)
    started.clear()
    with pytest.raises(ValueError, match=r"no reading process starts: .*died \(code 1\); no room"):
        read(folder, 1)


def test_nothing_of_the_working_directory_is_run(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A downloaded data set may hold a json.py, and people audit ``.``."""
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "json.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()")
    monkeypatch.chdir(trap)
    assert len(read(folder, 1)) == 12
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("surplus", [-1, 1])
def test_a_source_that_answers_too_much_or_too_little_mixes_nothing_up(folder: Folder, n: int, surplus: int) -> None:
    wanted = dict(told(read(folder, 0)))
    got = dict(told(read(Unruly(folder, surplus=surplus), n)))
    silent = [key for key, value in got.items() if value == "the source gave no answer for it"]
    assert len(silent) == (3 if surplus < 0 else 0)  # the last of each request
    assert {key: value for key, value in got.items() if key not in silent} == {
        key: value for key, value in wanted.items() if key not in silent
    }


def test_more_open_files_than_select_knows(folder: Folder) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1500:
        pytest.skip("so many files may not be opened here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1500), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert told(read(folder, 1)) == told(read(folder, 0))
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.fault
def test_an_audit_survives_a_picture_that_kills_its_reader_from_the_first_sample_on(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 20, seed=0, captions=False)
    unruly = Unruly(Folder(tmp_path / "images"), kills=("0003.png",))
    model = ExactModel(torch.empty(0), captioned=False)
    run = audit(model, unruly, out=tmp_path / "run", sigma=0.3, n_draws=1, n_probes=1, engine=Local(1))
    assert run.failed["key"].to_pylist() == ["0003.png"]
    assert run.rows.num_rows == 19
