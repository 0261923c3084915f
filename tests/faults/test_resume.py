"""F3, F4, F7, M3: other settings that must not matter, want of memory, and models that give no number."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import ExactModel
from pointland.auditing import Progress, Run, read_run
from pointland.auditing.engine import audit
from pointland.auditing.local import Local
from pointland.data.folder import Folder
from pointland.data.spool import spooled
from pointland.metrics.evaluations import Evaluations
from pointland.report import summarize
from test_audit import write_pictures

pytestmark = pytest.mark.fault

VALUES = ("denoising_loss_unconditional", "flipd_conditional", "guidance_norm", "score_norm_conditional")


class Stopped(BaseException):
    pass


@pytest.fixture
def model(tmp_path: Path) -> ExactModel:
    pictures = write_pictures(tmp_path / "images", 60, seed=0)
    write_pictures(tmp_path / "reference", 40, seed=1)
    return ExactModel(ExactModel(torch.empty(0)).codec.encode(pictures[::2]))


def run(model: ExactModel, tmp_path: Path, out: str = "run", **settings: object) -> Run:
    merged: dict[str, object] = {
        "reference": tmp_path / "reference",
        "sigma": 0.3,
        "n_draws": 2,
        "n_probes": 2,
        "batch_size": 8,
        **settings,
    }
    return audit(model, tmp_path / "images", out=tmp_path / out, **merged)  # type: ignore[arg-type]  # settings by name


def after(n: int):  # type: ignore[no-untyped-def]  # a callback
    def stop(state: Progress) -> None:
        if state.fresh >= n:
            raise Stopped

    return stop


def same(got: Run, wanted: Run) -> None:
    assert got.finished
    assert got.rows["key"].to_pylist() == wanted.rows["key"].to_pylist()
    for name in VALUES:
        np.testing.assert_allclose(
            np.array(got.rows[name].to_pylist(), float), np.array(wanted.rows[name].to_pylist(), float), 1e-5, 1e-5
        )


def test_resumed_with_another_batch_size_readers_and_shares(
    model: ExactModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointland.auditing.tasks.SHARD", 8)
    wanted = run(model, tmp_path, "whole")
    ways: list[dict[str, Any]] = [
        {"batch_size": 1, "engine": Local(0)},
        {"batch_size": 64, "engine": Local(1)},
        {"batch_size": 3, "shard": "1/3"},
        {"batch_size": "auto", "shard": "0/2"},
    ]
    for way in ways:
        with pytest.raises(Stopped):
            run(model, tmp_path, progress=after(17), **way)
    assert not read_run(tmp_path / "run").finished
    same(run(model, tmp_path, batch_size=5), wanted)


def test_in_another_order_and_in_another_source_the_same_pictures_have_the_same_values(
    model: ExactModel, tmp_path: Path
) -> None:
    wanted = {row["sha256"]: row for row in run(model, tmp_path, "whole").rows.to_pylist()}
    items = Folder(tmp_path / "images").items()
    backwards = [(f"{i:03d}", tmp_path / "images" / item.place, item.caption) for i, item in enumerate(items)][::-1]
    shards = spooled(backwards, tmp_path / "shards")
    settings: dict[str, Any] = {"sigma": 0.3, "n_draws": 2, "n_probes": 2, "batch_size": 7}
    got = audit(model, shards, reference=tmp_path / "reference", out=tmp_path / "run", **settings).rows.to_pylist()
    assert len(got) == len(wanted)
    assert got[0]["key"] == "00000.tar/059.png"
    for row in got:
        for name in VALUES:
            assert row[name] == pytest.approx(wanted[row["sha256"]][name], rel=1e-5, abs=1e-5)


def test_a_run_of_other_data_settings_or_weights_is_refused_and_untouched(model: ExactModel, tmp_path: Path) -> None:
    run(model, tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*/*")}
    for name, way in (
        ("seed", {"seed": 1}),
        ("sigma", {"sigma": 0.5}),
        ("metrics", {"n_probes": 3}),
        ("data", {"reference": None}),
        ("fdr", {"fdr": 0.1}),
    ):
        with pytest.raises(ValueError, match=rf"differs in .*{name}"):
            run(model, tmp_path, **way)
    with pytest.raises(ValueError, match=r"differs in .*model"):
        run(ExactModel(torch.zeros(1, 3, 4, 4)), tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*/*")} == before


@pytest.mark.parametrize("error", ["cuda", "cpu"])
def test_out_of_memory_halves_the_batch_for_good_and_skips_nothing(
    model: ExactModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    wanted = run(model, tmp_path, "whole", batch_size=32)
    real, asked = Evaluations.denoise, []

    def small(self: Evaluations, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        asked.append(len(self.x))
        if len(self.x) > 5:
            if error == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory")
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(self, x, sigma)

    monkeypatch.setattr(Evaluations, "denoise", small)
    same(run(model, tmp_path, batch_size=32), wanted)
    assert [n for n in asked if n > 5] == [32, 16, 8]  # once each, then never again


def test_one_picture_that_does_not_fit_ends_with_advice(
    model: ExactModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Evaluations, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Evaluations, "denoise", never)
    with pytest.raises(ValueError, match="one picture at a time"):
        run(model, tmp_path)


class Sick(ExactModel):
    """Gives NaN, infinity or the same number for pictures that are bright on the whole."""

    sickness = float("nan")

    @property
    def unconditional(self):  # type: ignore[no-untyped-def]
        whole = super().unconditional

        def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            bright = x.flatten(1).sum(1).reshape(-1, 1, 1, 1) > 0
            return torch.where(bright, torch.tensor(self.sickness), whole(x, sigma))

        return denoise


@pytest.mark.parametrize("sickness", [float("nan"), float("inf"), -float("inf")])
def test_no_number_is_null_with_a_reason_and_enters_nothing(tmp_path: Path, sickness: float) -> None:
    write_pictures(tmp_path / "images", 60, seed=0, captions=False)
    write_pictures(tmp_path / "reference", 60, seed=1, captions=False)
    model = Sick(torch.empty(0), captioned=False)
    object.__setattr__(model, "sickness", sickness)
    found = run(model, tmp_path)
    rows = found.rows.to_pylist()
    bad = [row for row in rows if row["flipd_unconditional"] is None]
    assert 20 < len(bad) < 100
    for row in rows:
        reasons = json.loads(row["reasons"] or "{}")
        for column in found.record["columns"]:
            value = row[column["name"]]
            assert (value is None) == (column["name"] in reasons)
            assert value is None or np.isfinite(value).all()
    summary = summarize(found)
    assert summary["verdict"]["n_valued"] < 60
    assert "NaN" not in json.dumps(summary)
    assert any(warned["kind"] == "missing" for warned in summary["warnings"])
    plain = run(ExactModel(torch.empty(0), captioned=False), tmp_path, "plain").rows.to_pylist()
    for row, well in zip(rows, plain, strict=True):
        if row["flipd_unconditional"] is not None:
            assert row["flipd_unconditional"] == pytest.approx(well["flipd_unconditional"], rel=1e-5)


def test_no_number_for_any_picture_is_an_error_before_scoring(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 20, seed=0, captions=False)

    class Dead(ExactModel):
        @property
        def unconditional(self):  # type: ignore[no-untyped-def]
            return lambda x, sigma: x * torch.nan

    with pytest.raises(ValueError, match="no finite value"):
        run(Dead(torch.empty(0), captioned=False), tmp_path, reference=None)


def test_one_number_for_all_pictures_is_an_error_before_scoring(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 20, seed=0, captions=False)

    class Stuck(ExactModel):
        @property
        def unconditional(self):  # type: ignore[no-untyped-def]
            return lambda x, sigma: torch.full_like(x, 0.7)

    with pytest.raises(ValueError, match="does not denoise"):
        run(Stuck(torch.empty(0), captioned=False), tmp_path, reference=None)
