"""SIGKILL and SIGTERM of the real command, at moments that nobody chose."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from miniatures import cut
from pointland.auditing import read_run
from pointland.demo import MINIATURE, Demo

SHORT_SHARDS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
from pointland.auditing import tasks
tasks.SHARD = 16
from pointland.cli import main
main()
"""


def command(demo: Demo, out: Path) -> list[str]:
    settings = ["--sigma", "0.3", "--n-draws", "4", "--n-probes", "2", "--device", "cpu", "--batch-size", "8"]
    places = [str(MINIATURE), str(demo.images), "--reference", str(demo.reference), "-o", str(out)]
    return [sys.executable, "-c", SHORT_SHARDS, "audit", *places, *settings]


def finished_parts(out: Path) -> int:
    return len(list(out.glob("rows/part-*")))


@pytest.mark.fault
def test_killed_three_times_and_continued_the_rows_are_the_same_to_the_byte(tmp_path: Path) -> None:
    demo = cut(tmp_path, 96, 64)
    whole = subprocess.run(command(demo, tmp_path / "whole"), capture_output=True, text=True, check=False)
    assert whole.returncode in (0, 10), whole.stderr
    chance, parts = random.Random(0), []
    for _ in range(3):
        process = subprocess.Popen(
            command(demo, tmp_path / "run"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wanted_parts = finished_parts(tmp_path / "run") + chance.choice((0, 1, 2))
        while finished_parts(tmp_path / "run") < wanted_parts:
            time.sleep(0.01)
            assert process.poll() is None, "finished before it was killed: the job is too short"
        time.sleep(chance.uniform(0, 0.5))
        process.kill()
        process.wait()
        parts.append(finished_parts(tmp_path / "run"))
    assert 0 < parts[-1] < 10
    last = subprocess.run(command(demo, tmp_path / "run"), capture_output=True, text=True, check=False)
    assert last.returncode == whole.returncode, last.stderr
    assert parts == sorted(parts)  # nothing finished was ever lost
    for folder in ("rows", "failed"):
        wanted = {path.name: path.read_bytes() for path in (tmp_path / "whole" / folder).iterdir()}
        assert {path.name: path.read_bytes() for path in (tmp_path / "run" / folder).iterdir()} == wanted
    assert not list((tmp_path / "run").rglob("*.tmp"))


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_politely_it_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    demo = cut(tmp_path, 96, 64)
    process = subprocess.Popen(
        command(demo, tmp_path / "run"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not finished_parts(tmp_path / "run"):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(number)
    started = time.monotonic()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - started < 20
    assert "continue with the same command" in stderr
    assert not read_run(tmp_path / "run").finished
