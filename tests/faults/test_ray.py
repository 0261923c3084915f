"""A Ray cluster of three nodes, of which one is killed, and workers with it: not a row may be lost or change.

Ray counts eight CPUs here, and half a one for a worker: where workers take all CPUs that Ray counts, it can come to a
standstill (ray-project/ray#44687).
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster import cluster, kill_node, scorers
from miniatures import cut
from pointland.auditing import Progress, Run, read_run
from pointland.auditing.engine import audit
from pointland.auditing.ray_engine import Ray
from pointland.auditing.verifying import verify
from pointland.demo import MINIATURE, Demo
from pointland.models import load
from shares import parts_of

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [pytest.mark.fault, pytest.mark.slow]

there = partial(load, MINIATURE, device="cpu")


@pytest.fixture(autouse=True)
def _short_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointland.auditing.tasks.SHARD", 16)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return cut(tmp_path_factory.mktemp("demo"), 96, 64)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with cluster((2, 3, 3)) as made:
        yield made


def made(demo: Demo, out: Path, **settings: Any) -> Run:
    return audit(
        there(),
        demo.images,
        out=out,
        reference=demo.reference,
        sigma=0.3,
        n_draws=4,
        n_probes=2,
        batch_size=8,
        **settings,
    )


@pytest.fixture
def wanted(demo: Demo, tmp_path: Path) -> dict[str, bytes]:
    return parts_of(made(demo, tmp_path / "local").folder)


@pytest.mark.usefixtures("nodes")
def test_one_two_and_four_workers_write_the_rows_of_the_local_engine(
    demo: Demo, tmp_path: Path, wanted: dict[str, bytes]
) -> None:
    for workers, gpus in ((1, None), (2, 0.5), (4, None)):
        found = made(demo, tmp_path / f"{workers}", engine=Ray(workers, gpus=gpus, threads=1, load=there))
        assert parts_of(found.folder) == wanted


def test_a_node_and_a_worker_are_killed_and_no_row_is_lost_or_twice(
    demo: Demo, tmp_path: Path, nodes: Any, wanted: dict[str, bytes]
) -> None:
    killed: list[str] = []

    def kill(state: Progress) -> None:
        if state.fresh >= 32 and not killed:
            kill_node(nodes, 0)
            killed.append("node")
        elif state.fresh >= 64 and len(killed) == 1:
            os.kill(scorers()[0], signal.SIGKILL)
            killed.append("worker")

    run = made(demo, tmp_path / "run", engine=Ray(4, threads=1, load=there), progress=kill)
    assert killed == ["node", "worker"]
    assert run.finished
    assert parts_of(run.folder) == wanted
    assert {*Counter(zip(*(run.rows[name].to_pylist() for name in ("role", "key")), strict=True)).values()} == {1}
    assert all(check.passed for check in verify(run.folder, deep=True))


SHORT_SHARDS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
from pointland.auditing import tasks
tasks.SHARD = 16
from pointland.cli import main
main()
"""


def command(demo: Demo, folder: Path) -> list[str]:
    places = [str(MINIATURE), os.path.relpath(demo.images, folder), "--reference", str(demo.reference), "-o", "run"]
    settings = ["--sigma", "0.3", "--n-draws", "4", "--n-probes", "2", "--batch-size", "8", "--device", "cpu"]
    return [sys.executable, "-c", SHORT_SHARDS, "audit", *places, *settings, "--engine", "ray", "--workers", "2"]


def started(demo: Demo, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(demo, folder),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_the_command_on_ray_of_its_own_is_interrupted_and_continued(
    demo: Demo, tmp_path: Path, wanted: dict[str, bytes]
) -> None:
    process = started(demo, tmp_path)
    while not parts_of(tmp_path / "run"):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "continue with the same command" in stderr
    assert not read_run(tmp_path / "run").finished
    process = started(demo, tmp_path)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode in (0, 10), stderr
    assert parts_of(tmp_path / "run") == wanted
    assert "ray" not in stdout.lower()
