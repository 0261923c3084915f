"""One small Ray, started once, on this machine; and what a worker does without Ray."""

import os
import pickle
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from models import ExactModel
from pointland.auditing import Run
from pointland.auditing.engine import audit
from pointland.auditing.local import Local, Work
from pointland.auditing.ray_engine import Ray
from pointland.auditing.tasks import tasks_of
from pointland.auditing.worker import Worker, orders, parts
from pointland.cli.engines import Place, check_place, engine_at
from pointland.denoiser import Denoiser
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.metrics import ModelGap
from pointland.metrics.metric import Metric
from pointland.metrics.model_lid import DenoisingLossColumns
from test_audit import write_pictures

SETTINGS: dict[str, Any] = {"sigma": 0.3, "n_draws": 2, "n_probes": 2, "batch_size": 7}


@pytest.fixture(autouse=True)
def _short_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointland.auditing.tasks.SHARD", 8)


@pytest.fixture
def model(tmp_path: Path) -> ExactModel:
    """A memorizer of half of the pictures in ``images``."""
    pictures = write_pictures(tmp_path / "images", 30, seed=0)
    write_pictures(tmp_path / "reference", 21, seed=1)
    return ExactModel(ExactModel(torch.empty(0)).codec.encode(pictures[::2]))


@pytest.fixture(scope="module")
def connected() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    from pointland.auditing.ray_engine import _connected

    with _connected(ray, None, 4):
        yield


def parts_of(run: Run) -> dict[str, bytes]:
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in run.folder.glob("*/part-*.parquet")}


def made(model: Any, tmp_path: Path, out: str, engine: Any = None, **settings: Any) -> Run:
    settings = {"reference": tmp_path / "reference", **SETTINGS, **settings}
    return audit(model, tmp_path / "images", out=tmp_path / out, engine=engine, **settings)


@dataclass(frozen=True)
class Deadly(ExactModel):
    """Takes its process down, ``times`` times, unless it is the one that made it."""

    home: int = 0
    folder: Path = Path()
    times: int = 0

    def given(self, captions: Sequence[str | None]) -> Denoiser:
        if os.getpid() != self.home:
            for number in range(self.times):
                try:
                    (self.folder / str(number)).touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return super().given(captions)


def deadly(model: ExactModel, folder: Path, times: int) -> Deadly:
    folder.mkdir()
    return Deadly(model.points, home=os.getpid(), folder=folder, times=times)


@pytest.mark.usefixtures("connected")
def test_rows_are_those_of_the_local_engine_to_the_byte(model: ExactModel, tmp_path: Path) -> None:
    (tmp_path / "images" / "0003.png").write_text("not a picture")
    wanted = made(model, tmp_path, "local")
    ticks: list[int] = []
    found = made(model, tmp_path, "ray", Ray(2, threads=1), progress=lambda state: ticks.append(state.done))
    assert found.finished
    assert len(parts_of(found)) == 8  # of 51 pictures, and one failure
    assert parts_of(found) == parts_of(wanted)
    assert ticks == sorted(ticks)
    assert ticks[-1] == 51


@pytest.mark.usefixtures("connected")
@pytest.mark.fault
@pytest.mark.slow
def test_workers_that_are_killed_are_replaced_and_nothing_is_lost(model: ExactModel, tmp_path: Path) -> None:
    killed = deadly(model, tmp_path / "kills", 2)
    found = made(killed, tmp_path, "ray", Ray(2, threads=1))
    assert {path.name for path in (tmp_path / "kills").iterdir()} == {"0", "1"}
    assert parts_of(found) == parts_of(made(killed, tmp_path, "local"))


@pytest.mark.usefixtures("connected")
@pytest.mark.fault
@pytest.mark.slow
def test_what_kills_every_worker_ends_the_run_and_names_the_shards(model: ExactModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"2 workers died at each of the shards 0, 1.*--engine local"):
        made(deadly(model, tmp_path / "kills", 1000), tmp_path, "ray", Ray(1, tries=2))


@pytest.mark.usefixtures("connected")
def test_errors_of_a_worker_keep_their_message(model: ExactModel, tmp_path: Path) -> None:
    def other() -> ExactModel:
        return ExactModel(model.points + 1)

    with pytest.raises(ValueError, match="loaded another model than the one here: weights_sha256 differs"):
        made(model, tmp_path, "ray", Ray(1, load=other))
    with pytest.raises(ValueError, match=r"no machine of the cluster can have a worker of 0\.5 CPU, 64 GPU"):
        made(model, tmp_path, "ray", Ray(1, gpus=64.0))


def test_impossible_engines_are_refused() -> None:
    wrongs: list[dict[str, Any]] = [{"workers": 0}, {"tries": 0}, {"cpus": 0.0}, {"gpus": -1.0}]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="needs workers"):
            Ray(**wrong)


def test_the_command_line_asks_for_engines_by_their_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"--engine 'spark' is not one of local, ray"):
        check_place(Place("spark"))
    with pytest.raises(ValueError, match=r"--workers, --gpus is of Ray; add --engine ray"):
        check_place(Place(workers=2, gpus=0.5))
    assert engine_at(Place(readers=3), load_here, None) == Local(3)
    asked = engine_at(Place("ray", 4, 8, "auto", 0.5), load_here, None)
    assert asked == Ray(8, "auto", 0.5, readers=4, load=load_here)
    monkeypatch.setattr("pointland.cli.engines.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'pointland\[ray\]'"):
        check_place(Place("ray"))


def work_on(model: ExactModel, tmp_path: Path) -> Work:
    """A piece of work whose metrics hold a second model."""
    loss = DenoisingLoss(0.3, 2)
    metrics: list[Metric] = [DenoisingLossColumns(loss), ModelGap(loss, ExactModel(model.points[:3], captioned=False))]
    columns = [column for metric in metrics for column in metric.columns]
    tasks = tasks_of(tmp_path / "images", reference=tmp_path / "reference")
    return Work(model, metrics, columns, tasks, [0, 4], 7, "cpu", 0, lambda n: None)


def told_to(work: Work, **settings: Any) -> Any:
    given = {"load": None, "load_reference": None, "readers": 0, "threads": 1, "pickler": pickle.Pickler, **settings}
    return pickle.loads(orders(work, **given))


def test_a_worker_scores_as_the_local_engine_does_with_its_own_copies(model: ExactModel, tmp_path: Path) -> None:
    work = work_on(model, tmp_path)
    worker = Worker(told_to(work))
    for wanted in Local(readers=0)(work):
        found = worker.score(wanted.shard, parts(work.tasks, wanted.shard))
        assert found == wanted
        assert found.rows["lid_gap_unconditional"].null_count == 0
    worker.close()


LOADED: list[str] = []


def load_here() -> ExactModel:
    LOADED.append("audited")
    return ExactModel(torch.zeros(1, 3, 4, 4))


def load_reference_here() -> ExactModel:
    LOADED.append("reference")
    return ExactModel(torch.ones(1, 3, 4, 4), captioned=False)


def test_models_that_a_worker_loads_are_not_sent(model: ExactModel, tmp_path: Path) -> None:
    big = ExactModel(torch.zeros(100, 3, 4, 4))
    work = work_on(big, tmp_path)._replace(model=load_here())
    LOADED.clear()
    small = orders(
        work, load=load_here, load_reference=load_reference_here, readers=0, threads=1, pickler=pickle.Pickler
    )
    Worker(pickle.loads(small))
    assert LOADED == ["audited", "reference"]
    whole = orders(work_on(big, tmp_path), load=None, load_reference=None, readers=0, threads=1, pickler=pickle.Pickler)
    assert len(whole) - len(small) > big.points.nbytes / 2


def test_a_worker_that_sees_other_pictures_or_versions_says_so(model: ExactModel, tmp_path: Path) -> None:
    told = told_to(work_on(model, tmp_path))
    with pytest.raises(ValueError, match=r"has torch .* instead of 1\.0"):
        Worker(told._replace(environment={**told.environment, "torch": "1.0"}))
    (tmp_path / "images" / "0000.png").write_bytes((tmp_path / "images" / "0001.png").read_bytes())
    with pytest.raises(ValueError, match=r"audited picture '0000\.png'.*other content"):
        Worker(told)
    (tmp_path / "images" / "0000.png").unlink()
    with pytest.raises(ValueError, match=r"'0000\.png' as it is read here.*a disk that every machine has"):
        Worker(told)


def test_what_cannot_be_sent_is_refused_with_what_to_do(model: ExactModel, tmp_path: Path) -> None:
    work = work_on(model, tmp_path)._replace(seed=lambda: 0)  # type: ignore[arg-type]  # has no pickle
    with pytest.raises(ValueError, match=r"cannot be sent to another process.*load="):
        told_to(work)
