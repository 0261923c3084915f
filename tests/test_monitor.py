"""A monitor sees what is memorized, alarms no more often than it says, and leaves the training as it was."""

import copy
import json
import runpy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import Tensor

import pipelines
from commands import pointland
from models import ExactModel
from pointland import Monitor, exact
from pointland.cli.monitor import monitor as command
from pointland.models.diffusers import from_pipeline
from pointland.monitoring.checkpoints import checkpoints
from pointland.monitoring.drawing import as_svg
from pointland.monitoring.gap import compared
from pointland.monitoring.lightning import callback
from pointland.monitoring.reading import Reading, fallen, reading_of, rounded
from pointland.monitoring.watched import evaluating, model_of, unwrapped

SIDE = 8


def pictures(n: int, seed: int = 0, side: int = SIDE) -> Tensor:
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@dataclass(frozen=True)
class Partly(ExactModel):
    """A standard Gaussian that has memorized a share of its points: dimension 0 there, 48 elsewhere."""

    n_memorized: int = 0

    @property
    def unconditional(self) -> Any:
        known = exact.points(self.points[: self.n_memorized]) if self.n_memorized else None

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            free = x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)
            if known is None:
                return free
            near = (x[:, None] - known.x0[None]).flatten(2).norm(dim=2).amin(1) < 3 * sigma * 48**0.5 / 2
            return torch.where(near[:, None, None, None], known(x, sigma), free)

        return denoise


def partly(n_memorized: int, train: Tensor) -> Partly:
    model = Partly(torch.zeros(1, 3, 4, 4))
    return replace(model, points=model.codec.encode(train), n_memorized=n_memorized)


TRAIN, HELD_OUT = pictures(32, 1), pictures(32, 2)


def test_the_gap_is_that_of_the_dimensions() -> None:
    monitor = Monitor(TRAIN, HELD_OUT, every=10, sigma=0.05, n_draws=16)
    free = monitor.read(1, partly(0, TRAIN))
    assert free.low < 0 < free.high
    assert not free.alarm
    assert [free.train, free.held_out] == pytest.approx([48, 48], abs=2)
    half = monitor.read(2, partly(16, TRAIN))
    assert half.train == pytest.approx(24, abs=2)
    assert half.low < 24 < half.high
    assert (half.since, half.alarm) == (1, True)
    assert half.lost == pytest.approx(24, abs=3)
    assert monitor.alarmed == half
    assert monitor.recommended_step == 1
    lost = monitor.lost(20)
    assert {key for key, _ in lost[:16]} == {f"train {i}" for i in range(16)}
    assert lost[0][1] == pytest.approx(48, abs=6)
    assert abs(lost[16][1]) < 6


TRAINED = np.repeat([True, False], 60)


def simulated(rng: np.random.Generator, gap: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Dimensions of 60 and 60 pictures of which complexity and a first reading say most, in unequal spreads."""
    complexity, own = rng.normal(0, 1, 120), rng.normal(0, 3, 120)
    noise = rng.normal(0, 1, 120) * np.where(TRAINED, 2, 1)
    return 20 + 4 * complexity + own + noise - gap * TRAINED, [complexity, own + rng.normal(0, 0.5, 120)]


def test_however_often_it_looks_it_alarms_no_more_than_it_says() -> None:
    rng, rate, n = np.random.default_rng(0), 0.2, 100
    alarmed = 0
    for _ in range(n):
        values, levels = simulated(rng, 0)
        looks = [compared(values + rng.normal(0, 2, 120), TRAINED, levels).p for _ in range(10)]
        alarmed += any(p <= rate / (k * (k + 1)) for k, p in enumerate(looks, 1))
    assert alarmed / n <= rate + 3 * (rate * (1 - rate) / n) ** 0.5


def test_the_interval_holds_the_true_gap_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    ends = [compared(*_split(simulated(rng, 3))) for _ in range(1000)]
    assert sum(one.low < 3 < one.high for one in ends) / 1000 == pytest.approx(0.95, abs=0.025)
    plain = compared(simulated(rng, 3)[0], TRAINED)
    assert ends[0].high - ends[0].low < 0.4 * (plain.high - plain.low)  # what pictures differ by anyway is out


def test_a_few_pictures_are_judged_with_their_leverage() -> None:
    rng, few = np.random.default_rng(3), np.r_[0:8, 60:68]
    ends = []
    for _ in range(1000):
        values, levels = simulated(rng, 3)
        ends.append(compared(values[few], TRAINED[few], [level[few] for level in levels]))
    assert sum(one.low < 3 < one.high for one in ends) / 1000 > 0.93  # without leverage 0.90


def test_trainings_without_memorization_are_alarmed_at_most_at_the_rate() -> None:
    rng, rate, n = np.random.default_rng(4), 0.4, 150
    complexity = np.linspace(5, 6, 120)
    alarmed = 0
    for _ in range(n):
        own, readings = rng.normal(100, 20, 120), list[Reading]()
        for step in (100, 200, 400, 800):
            own = own + rng.normal(0, 20, 120)
            lids = (rounded(own[TRAINED]), rounded(own[~TRAINED]))
            readings.append(reading_of(step, lids, complexity, readings, rate))
        alarmed += any(one.alarm for one in readings)
    assert sum(one.level for one in readings) == pytest.approx(rate * (1 - 1 / 5))
    assert alarmed / n <= rate + 3 * (rate * (1 - rate) / n) ** 0.5


def _split(made: tuple[np.ndarray, list[np.ndarray]]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    return made[0], TRAINED, made[1]


def test_the_gap_follows_scale_and_shift_and_constant_levels_say_nothing() -> None:
    values, levels = simulated(np.random.default_rng(2), 3)
    once = compared(values, TRAINED, levels)
    other = compared(10 + 2 * values, TRAINED, [5 - 3 * levels[0], levels[1], np.full(120, 7.0)])
    assert (other.gap, other.low, other.high, other.p) == pytest.approx(
        (2 * once.gap, 2 * once.low, 2 * once.high, once.p)
    )
    assert compared(np.full(120, 3.0), TRAINED).p == 1


def test_it_reads_when_due_once_and_tells_loggers() -> None:
    told: list[tuple[dict[str, float], int]] = []
    model = partly(0, TRAIN)
    monitor = Monitor(TRAIN, HELD_OUT, every=5, n_draws=1, log=lambda numbers, step: told.append((numbers, step)))
    found = [monitor(step, model) for step in (0, 1, 4, 5, 5, 6, 10)]  # a step repeats while gradients accumulate
    assert [one is not None for one in found] == [False, False, False, True, False, False, True]
    assert [step for _, step in told] == [5, 10]
    assert told[0][0]["memorization/gap"] == monitor.readings[0].gap
    assert told[1][0]["memorization/lost"] == monitor.readings[1].lost == pytest.approx(0, abs=0.1)
    assert set(told[0][0]) == {f"memorization/{n}" for n in ("train", "held_out", "gap", "low", "high", "p", "alarm")}


def test_what_is_lost_is_seen_before_the_gap_is() -> None:
    """Memorization of a few dimensions where pictures differ by many: only the comparison with themselves sees it."""
    rng = np.random.default_rng(0)
    own, complexity = rng.normal(100, 20, 120), rng.normal(6, 0.3, 120)
    readings: list[Reading] = []
    for step, lost in ((100, 0), (200, 0), (300, 0), (400, 3), (800, 6)):
        now = own + rng.normal(0, 2, 120) - lost * TRAINED
        lids = (rounded(now[TRAINED]), rounded(now[~TRAINED]))
        readings.append(reading_of(step, lids, complexity, readings, 0.05))
    assert [one.since for one in readings] == [None, 100, 100, 200, 400]
    assert [one.alarm for one in readings] == [False, False, False, True, True]
    assert readings[3].lost == pytest.approx(3, abs=1.5)
    assert readings[3].low < 0  # the gap alone says nothing yet
    assert fallen(readings).mean() == pytest.approx(3, abs=1.5)  # from 400 to 800


def test_the_same_pictures_get_the_same_draws_at_every_reading() -> None:
    monitor, model = Monitor(TRAIN, HELD_OUT), partly(4, TRAIN)
    assert monitor.read(1, model).lids == monitor.read(2, model).lids


def timeless(one: Reading, other: Reading) -> bool:
    return replace(one, seconds=0.0) == replace(other, seconds=0.0)


def test_tensors_images_and_folders_are_the_same_pictures(tmp_path: Path) -> None:
    made: dict[str, Any] = {"train": TRAIN, "held_out": HELD_OUT}
    images = {name: [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in made[name]] for name in made}
    for name in made:
        (tmp_path / name).mkdir()
        for i, image in enumerate(images[name]):
            image.save(tmp_path / name / f"{i:02d}.png")
    (tmp_path / "train" / "broken.png").write_bytes(b"no picture")
    model = partly(0, TRAIN)
    of_tensors = Monitor(**made).read(1, model)
    of_images = Monitor(images["train"], images["held_out"]).read(1, model)
    assert timeless(of_tensors, of_images)
    with_broken = Monitor(tmp_path / "train", str(tmp_path / "held_out"))
    of_folders = with_broken.read(1, model)
    assert list(with_broken.unread) == ["broken.png"]
    assert of_folders.held_out == pytest.approx(of_tensors.held_out, abs=3)  # other names, other draws


def test_the_smaller_of_two_p_values_counts_twice() -> None:
    values, levels = simulated(np.random.default_rng(5), 1)
    own = levels[1] - levels[1].min() + 1.0
    first = reading_of(100, (rounded(own[TRAINED]), rounded(own[~TRAINED])), levels[0], [], 0.05)
    now = (rounded(values[TRAINED]), rounded(values[~TRAINED]))
    second = reading_of(200, now, levels[0], [first], 0.05)
    both = compared(values, TRAINED, levels[:1]).p, compared(values, TRAINED, [levels[0], own]).p
    assert second.p == pytest.approx(min(1, 2 * min(both)), rel=1e-3)  # dimensions are kept to six digits


def test_a_record_is_continued_also_after_a_kill(tmp_path: Path) -> None:
    file, model = tmp_path / "monitor.jsonl", partly(32, TRAIN)
    whole = Monitor(TRAIN, HELD_OUT, every=1, record=tmp_path / "whole.jsonl")
    first = Monitor(TRAIN, HELD_OUT, every=1, record=file)
    for step in (1, 2, 3):
        whole(step, replace(model, n_memorized=10 * step))
    first(1, replace(model, n_memorized=10))
    first(2, replace(model, n_memorized=20))
    text = file.read_text()
    file.write_text(text[:-20])  # killed in the middle of the second line of readings
    again = Monitor(TRAIN, HELD_OUT, every=1, record=file)
    assert [one.step for one in again.readings] == [1]
    assert again(1, model) is None
    again(2, replace(model, n_memorized=20))
    again(3, replace(model, n_memorized=30))
    assert all(timeless(a, b) for a, b in zip(whole.readings, again.readings, strict=True))
    assert whole.lost() == again.lost()
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 4
    for others in (TRAIN[:20], TRAIN.flip(0)):
        with pytest.raises(ValueError, match="made with other pictures"):
            Monitor(others, HELD_OUT, record=file).read(4, model)
    with pytest.raises(ValueError, match=r"monitor\.jsonl was made with another n_draws"):
        Monitor(TRAIN, HELD_OUT, n_draws=8, record=file)
    for wrong in (b"no record\n", b"3\n", b"[]\n", b"\xff\x00\n"):
        file.write_bytes(wrong)
        with pytest.raises(ValueError, match="no record of a monitor"):
            Monitor(TRAIN, HELD_OUT, record=file)
        assert file.read_bytes() == wrong
    with pytest.raises(FileNotFoundError, match="make the folder of the record"):
        Monitor(TRAIN, HELD_OUT, record=tmp_path / "nowhere" / "monitor.jsonl")


def test_a_fine_tuning_that_starts_again_keeps_its_first_reading(tmp_path: Path) -> None:
    record = tmp_path / "monitor.jsonl"
    first = Monitor(TRAIN, HELD_OUT, every=10, sigma=0.05, record=record)
    for step in (0, 10, 20):
        first.read(step, partly(0, TRAIN))
    again = Monitor(TRAIN, HELD_OUT, every=10, sigma=0.05, record=record)
    assert again.read(0, partly(16, TRAIN)) == first.readings[0]  # the script's line before its loop
    assert not again.is_due(10)
    assert again.read(30, partly(16, TRAIN)).alarm
    assert [one.step for one in again.readings] == [0, 10, 20, 30]
    assert again.recommended_step == 20
    with pytest.raises(ValueError, match="step 25 lies before the last one read, 30"):
        again.read(25, partly(0, TRAIN))


def test_captions_that_are_not_there_are_not_read_under() -> None:
    with pytest.raises(ValueError, match="no picture has a caption"):
        Monitor(TRAIN, HELD_OUT, captioned=True).read(1, partly(0, TRAIN))


def test_a_training_goes_on_as_if_it_had_not_been_looked_at() -> None:
    def trained(watch: bool) -> list[Tensor]:
        torch.manual_seed(0)
        pipe = pipelines.ddpm()
        unet = pipe.unet.train()
        unet.mid_block.eval()  # someone froze a part
        optimizer = torch.optim.SGD(unet.parameters(), lr=0.1)
        monitor = Monitor(pictures(8, 1, 16), pictures(8, 2, 16), every=1, n_draws=1)
        for step in range(1, 3):
            x = torch.randn(2, 3, 16, 16)
            loss = torch.nn.functional.dropout(unet(x, torch.tensor([5])).sample, 0.5).square().mean()
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            if watch:
                assert monitor(step, pipe) is not None
        assert (unet.training, unet.mid_block.training) == (True, False)
        return [weight.detach().clone() for weight in unet.parameters()]

    for plain, seen in zip(trained(False), trained(True), strict=True):
        assert torch.equal(plain, seen)


def test_a_bare_network_takes_the_place_of_the_pipelines() -> None:
    pipe = pipelines.ddpm()
    other = copy.deepcopy(pipe.unet)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(0.5)
    train, held_out = pictures(8, 1, 16), pictures(8, 2, 16)
    own = Monitor(train, held_out).read(1, pipe)
    assert timeless(own, Monitor(train, held_out, pipeline=pipe).read(1, pipe.unet))
    changed = Monitor(train, held_out, pipeline=pipe).read(1, other)
    assert changed.train != own.train
    wrapped = torch.nn.DataParallel(torch.nn.Identity())
    wrapped.module = other
    assert timeless(changed, Monitor(train, held_out, pipeline=pipe).read(1, wrapped))
    assert unwrapped(wrapped) is other
    assert own.train == Monitor(train, held_out).read(1, from_pipeline(pipe)).train
    assert from_pipeline(pipe).network is pipe.unet  # the pipeline kept its own


def test_modes_come_back_after_an_error_too() -> None:
    pipe = pipelines.ddpm()
    pipe.unet.train()
    watched = evaluating(from_pipeline(pipe))
    watched.__enter__()
    assert not pipe.unet.training
    watched.__exit__(RuntimeError, RuntimeError(), None)
    assert pipe.unet.training


def test_what_is_not_finite_is_left_out_and_counted() -> None:
    @dataclass(frozen=True)
    class Broken(ExactModel):
        share: float = 0.25

        @property
        def unconditional(self) -> Any:
            def denoise(x: Tensor, sigma: Tensor) -> Tensor:
                lost = torch.arange(len(x)) < self.share * len(x)
                return torch.where(lost[:, None, None, None], torch.nan, x / (1 + sigma**2))

            return denoise

    monitor = Monitor(TRAIN, HELD_OUT)
    assert monitor.read(1, Broken(torch.zeros(1, 3, 4, 4))).n_missing == 16
    with pytest.raises(ValueError, match="Has the training diverged"):
        monitor.read(2, Broken(torch.zeros(1, 3, 4, 4), share=0.9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every": 0}, "must be positive"),
        ({"sigma": 0.0}, "sigma must be positive"),
        ({"rate": 1.0}, "rate between 0 and 1"),
        ({"n_draws": 0}, "must be positive"),
    ],
)
def test_settings_out_of_range_are_refused_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Monitor(TRAIN, HELD_OUT, **changes)


@pytest.mark.parametrize(
    ("train", "held_out", "message"),
    [
        (TRAIN.float(), HELD_OUT, "uint8 of shape"),
        (TRAIN[:, :1], HELD_OUT, "uint8 of shape"),
        (TRAIN[:5], HELD_OUT, "5 pictures can be read"),
        ([], HELD_OUT, "0 pictures can be read"),
        (TRAIN, TRAIN[:10], "10 held-out pictures are training pictures too"),
    ],
)
def test_pictures_that_cannot_be_followed_are_refused(train: Any, held_out: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Monitor(train, held_out).read(1, partly(0, TRAIN))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match="a bare network"):
        model_of(torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="got int"):
        model_of(3)
    with pytest.raises(TypeError, match="no network that could be exchanged"):
        model_of(torch.nn.Linear(1, 1), partly(0, TRAIN))
    with pytest.raises(TypeError, match="holds Pillow images, got str"):
        Monitor(["a.png"] * 9, HELD_OUT).read(1, partly(0, TRAIN))


def test_lightnings_trainer_calls_it(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")
    pipe = pipelines.ddpm()
    logged: list[tuple[dict[str, float], int | None]] = []

    class Logger(lightning.loggers.logger.DummyLogger):  # type: ignore[name-defined,misc]
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            logged.append((metrics, step))

    class Training(lightning.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.unet = pipe.unet

        def training_step(self, batch: Tensor, _: int) -> Tensor:
            loss: Tensor = self.unet(batch, 5).sample.square().mean()
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    monitor = Monitor(pictures(8, 1, 16), pictures(8, 2, 16), every=2, n_draws=1)
    batches = torch.utils.data.DataLoader(torch.randn(12, 3, 16, 16), batch_size=2)  # type: ignore[arg-type,var-annotated]
    lightning.Trainer(
        max_epochs=1,
        accumulate_grad_batches=2,
        callbacks=[callback(monitor, lambda module: pipe)],
        logger=Logger(),
        log_every_n_steps=1,
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    ).fit(Training(), batches)
    assert [one.step for one in monitor.readings] == [2]  # three steps of two batches
    assert [(numbers["memorization/gap"], step) for numbers, step in logged if "memorization/gap" in numbers] == [
        (monitor.readings[0].gap, 2)
    ]


def test_checkpoints_are_read_by_step_and_the_record_is_continued(tmp_path: Path) -> None:
    for name, seed in (("train", 1), ("held_out", 2)):
        (tmp_path / name).mkdir()
        for i, one in enumerate(pictures(8, seed, 16)):
            Image.fromarray(one.permute(1, 2, 0).numpy()).save(tmp_path / name / f"{i}.png")
    base = pipelines.ddpm()
    base.save_pretrained(tmp_path / "base")
    runs = tmp_path / "runs"
    for step in (1000, 200):
        pipelines.ddpm(seed=step).save_pretrained(runs / f"checkpoint-{step}")
    later = tmp_path / "later" / "checkpoint-3000"
    (later / "unet_ema").mkdir(parents=True)  # left empty by a kill
    pipelines.ddpm(seed=3).unet.save_pretrained(later / "unet")  # as a training script leaves it
    out = tmp_path / "out"
    options = ["--train", tmp_path / "train", "--held-out", tmp_path / "held_out", "-o", out]
    (tmp_path / "file").touch()
    shown, refused, again, no_folder = pointland(
        ["monitor", runs, *options],
        ["monitor", runs, later, *options],
        ["monitor", runs, later, *options, "--model", tmp_path / "base"],
        ["monitor", runs, *options[:-1], tmp_path / "file"],
    )
    assert (no_folder.code, "is a file; give a folder" in no_folder.err) == (2, True)
    assert shown.code == 0, shown.err
    assert shown.out.index("200") < shown.out.index("1,000")
    assert (refused.code, "--model" in refused.err) == (2, True)
    assert again.code == 0, again.err
    ElementTree.fromstring((out / "monitor.svg").read_text())
    second = (out / "monitor.jsonl").read_text()
    steps = [json.loads(line).get("step") for line in second.splitlines()]
    assert steps == [None, 200, 1000, 3000]
    network = from_pipeline(pipelines.ddpm(seed=3))
    alone = Monitor(tmp_path / "train", tmp_path / "held_out").read(3000, network)
    assert json.loads(second.splitlines()[-1])["train"] == pytest.approx(alone.train)


def test_an_alarm_names_the_pictures_and_nothing_in_a_name_does_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, given in (("train", TRAIN), ("held_out", HELD_OUT)):
        (tmp_path / name).mkdir()
        for i, one in enumerate(given):
            file = tmp_path / name / f"{i:02d}\x1b[31m[bold]\u202e.png"
            Image.fromarray(one.permute(1, 2, 0).numpy()).save(file)
    for step in (1, 2):
        (tmp_path / "runs" / f"checkpoint-{step}").mkdir(parents=True)
        (tmp_path / "runs" / f"checkpoint-{step}" / "model_index.json").touch()

    def load(folder: Path, **_: object) -> Partly:
        return partly(16 if folder.name == "checkpoint-2" else 0, TRAIN)

    monkeypatch.setattr("pointland.monitoring.checkpoints.load", load)
    train, held_out = str(tmp_path / "train"), str(tmp_path / "held_out")
    with pytest.raises(typer.Exit) as end:
        command([tmp_path / "runs"], train, held_out, tmp_path / "out", sigma=0.05)
    said = capsys.readouterr().out
    assert end.value.exit_code == 10
    assert "Memorizing from step 2 on; keep the one of step 1." in said
    assert "[31m[bold].png" in said
    assert "\x1b" not in said
    assert "\u202e" not in said


def test_the_example_trains_and_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("train", 1), ("held_out", 2)):
        (tmp_path / name).mkdir()
        for i, one in enumerate(pictures(8, seed, 32)):
            Image.fromarray(one.permute(1, 2, 0).numpy()).save(tmp_path / name / f"{i}.png")
    words = ["monitor.py", "train", "held_out", "--steps", "2", "--every", "1"]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(Path(__file__).parents[1] / "examples" / "monitor.py"), run_name="__main__")
    assert "step 2: gap" in capsys.readouterr().out
    assert [one.step for one in checkpoints([tmp_path / "trained"])] == [1, 2]


def test_what_holds_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        checkpoints([tmp_path])
    with pytest.raises(FileNotFoundError, match="no such folder"):
        checkpoints([tmp_path / "nowhere"])
    for parent in ("a", "b"):
        (tmp_path / parent / "checkpoint-5").mkdir(parents=True)
        (tmp_path / parent / "checkpoint-5" / "model_index.json").touch()
    with pytest.raises(ValueError, match="two checkpoints are of step 5"):
        checkpoints([tmp_path / "a", tmp_path / "b"])
    (tmp_path / "a").rename(tmp_path / "run-2")
    (tmp_path / "run-2" / "model_index.json").touch()  # the final pipeline, beside the checkpoints
    assert [one.step for one in checkpoints([tmp_path / "run-2"])] == [5]
    (tmp_path / "b" / "checkpoint-5" / "model_index.json").unlink()
    (tmp_path / "b" / "checkpoint-5" / "unet_ema").mkdir()  # empty
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        checkpoints([tmp_path / "b"])


def test_the_chart_shows_every_reading_and_the_alarm() -> None:
    monitor = Monitor(TRAIN, HELD_OUT, sigma=0.05)
    with pytest.raises(ValueError, match="no reading"):
        as_svg(monitor.readings)
    monitor.read(100, partly(0, TRAIN))
    assert "no alarm" in as_svg(monitor.readings)
    ElementTree.fromstring(as_svg([replace(monitor.readings[0], train=0.0, held_out=0.0)]))
    monitor.read(200, partly(30, TRAIN))
    drawn = as_svg(monitor.readings)
    assert "first alarm at step 200" in drawn
    root = ElementTree.fromstring(drawn)
    assert len(root.findall(".//{*}circle")) == 3  # one reading, and two keys
