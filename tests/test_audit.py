import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pointland
from models import ExactModel
from pointland.auditing import Progress, Run, read_run
from pointland.auditing.engine import audit
from pointland.auditing.plan import default_metrics
from pointland.auditing.tasks import SHARD
from pointland.lid import Flipd
from pointland.metrics.model_lid import FlipdColumns


def write_pictures(folder: Path, n: int, seed: int, captions: bool = True) -> torch.Tensor:
    folder.mkdir(parents=True)
    pictures = np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i:04d}.png")
    if captions:
        with (folder / "captions.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("file_name", "caption"), *((f"{i:04d}.png", f"word {i}") for i in range(n))])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


@pytest.fixture
def model(tmp_path: Path) -> ExactModel:
    """A memorizer, under captions, of half of the 20 pictures it will be audited on."""
    blank = ExactModel(torch.empty(0))
    pictures = write_pictures(tmp_path / "images", 20, seed=0)
    write_pictures(tmp_path / "reference", 30, seed=1)
    return ExactModel(blank.codec.encode(pictures[::2]))


def run(model: ExactModel, tmp_path: Path, out: str = "run", **settings: object) -> Run:
    merged: dict[str, object] = {
        "reference": tmp_path / "reference",
        "sigma": 0.3,
        "n_draws": 2,
        "n_probes": 2,
        "batch_size": 7,
        **settings,
    }
    return audit(model, tmp_path / "images", out=tmp_path / out, **merged)  # type: ignore[arg-type]  # settings by name


def test_every_picture_becomes_a_row(model: ExactModel, tmp_path: Path) -> None:
    found = run(model, tmp_path)
    assert found.finished
    assert found.rows.num_rows == 50
    assert found.rows["role"].to_pylist() == ["audited"] * 20 + ["reference"] * 30
    assert found.rows["key"].to_pylist()[:2] == ["0000.png", "0001.png"]
    assert found.failed.num_rows == 0
    names = {column["name"] for column in found.record["columns"]}
    assert {
        "denoising_loss_unconditional",
        "flipd_conditional",
        "score_norm_unconditional",
        "guidance_norm",
        "png_bytes",
    } <= names
    assert names <= set(found.rows.column_names)


def test_what_the_captions_memorize_is_found(model: ExactModel, tmp_path: Path) -> None:
    """The caption's denoiser returns to the nearest memorized picture: 0 there, far off for all others."""
    found = run(model, tmp_path)
    lid = np.array(found.rows["denoising_loss_conditional"].to_pylist())
    assert lid[:20:2].max() < 1e-3
    assert lid[1:20:2].min() > 10
    flipd = np.array(found.rows["flipd_unconditional"].to_pylist())
    np.testing.assert_allclose(flipd, flipd_of_gaussian(model, found), rtol=1e-4)


def flipd_of_gaussian(model: ExactModel, found: Run) -> np.ndarray:
    sigma = found.record["sigma"]["value"]
    norms = np.array(found.rows["score_norm_unconditional"].to_pylist()) ** 2 * sigma**2
    wanted: np.ndarray = 48 / (1 + sigma**2) + norms
    return wanted


def test_an_item_does_not_depend_on_batch_or_company(model: ExactModel, tmp_path: Path) -> None:
    wanted = run(model, tmp_path).rows
    got = run(model, tmp_path, "other", batch_size=3, reference=None).rows
    for name in ("denoising_loss_unconditional", "flipd_conditional", "guidance_norm"):
        np.testing.assert_allclose(got[name].to_pylist(), wanted[name].to_pylist()[:20], rtol=1e-5, atol=1e-5)


def test_a_continued_run_is_the_uninterrupted_one_to_the_byte(
    model: ExactModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointland.auditing.tasks.SHARD", 8)
    run(model, tmp_path, "whole")

    class Killed(BaseException):
        pass

    def kill(state: Progress) -> None:
        if state.fresh >= 15:
            raise Killed

    attempts = 0
    while not (tmp_path / "run" / "run.json").exists() or not read_run(tmp_path / "run").finished:
        attempts += 1
        try:
            run(model, tmp_path, progress=kill)
        except Killed:
            continue
    assert attempts > 2
    for folder in ("rows", "failed"):
        wanted = {path.name: path.read_bytes() for path in (tmp_path / "whole" / folder).iterdir()}
        assert {path.name: path.read_bytes() for path in (tmp_path / "run" / folder).iterdir()} == wanted


def test_a_finished_run_costs_nothing_more(model: ExactModel, tmp_path: Path) -> None:
    run(model, tmp_path)
    model.calls.clear()
    run(model, tmp_path)
    assert sum(model.calls) <= 16  # the check that the model denoises


def test_a_changed_setting_or_picture_list_is_refused(model: ExactModel, tmp_path: Path) -> None:
    run(model, tmp_path)
    with pytest.raises(ValueError, match=r"differs in .*metrics.*n_draws"):
        run(model, tmp_path, n_draws=3)
    (tmp_path / "images" / "0003.png").unlink()
    (tmp_path / "images" / "captions.csv").unlink()
    with pytest.raises(ValueError, match="differs in data"):
        run(model, tmp_path)


def test_unreadable_pictures_are_listed_and_change_nothing_else(model: ExactModel, tmp_path: Path) -> None:
    wanted = run(model, tmp_path, "good").rows
    (tmp_path / "images" / "0000a.png").write_bytes(b"")
    (tmp_path / "images" / "zz.png").write_text("not a picture")
    found = run(model, tmp_path)
    assert found.failed["key"].to_pylist() == ["0000a.png", "zz.png"]
    assert all(found.failed["reason"].to_pylist())
    assert found.rows["key"].to_pylist() == wanted["key"].to_pylist()
    np.testing.assert_allclose(
        found.rows["flipd_unconditional"].to_pylist(), wanted["flipd_unconditional"].to_pylist(), rtol=1e-5
    )


def test_a_broken_file_of_any_name_is_listed(model: ExactModel, tmp_path: Path) -> None:
    (tmp_path / "images" / os.fsdecode(b"b\xffad.png")).write_bytes(b"")
    found = run(model, tmp_path)
    assert found.failed["key"].to_pylist() == ["b\\xffad.png"]
    assert found.finished


def test_a_column_without_a_suspicious_end_decides_nothing(model: ExactModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot decide by 'score_norm_unconditional'"):
        run(model, tmp_path, decide_by="score_norm_unconditional")


def test_no_caption_is_a_reason_not_a_number(model: ExactModel, tmp_path: Path) -> None:
    (tmp_path / "images" / "captions.csv").write_text("file_name,caption\n0000.png,word\n")
    rows = run(model, tmp_path).rows.to_pylist()
    assert rows[0]["flipd_conditional"] is not None
    assert rows[0]["reasons"] is None
    assert rows[1]["flipd_conditional"] is None
    assert json.loads(rows[1]["reasons"])["flipd_conditional"] == "no caption"
    assert rows[1]["flipd_unconditional"] is not None


def test_a_model_without_captions_has_no_caption_columns(model: ExactModel, tmp_path: Path) -> None:
    plain = ExactModel(model.points, captioned=False)
    found = run(plain, tmp_path)
    assert "flipd_conditional" not in found.rows.column_names
    assert "guidance_norm" not in found.rows.column_names


def test_values_that_are_not_finite_are_null_with_a_reason(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 6, seed=0, captions=False)

    class Sick(ExactModel):
        @property
        def unconditional(self):  # type: ignore[no-untyped-def]
            whole = super().unconditional
            return lambda x, sigma: torch.where(
                x.flatten(1).sum(1).reshape(-1, 1, 1, 1) > 0, whole(x, sigma), torch.nan
            )

    rows = run(Sick(torch.empty(0), captioned=False), tmp_path, reference=None).rows.to_pylist()
    values = [row["flipd_unconditional"] for row in rows]
    assert None in values
    assert all(value is None or np.isfinite(value) for value in values)
    assert "no finite value" in next(row["reasons"] for row in rows if row["flipd_unconditional"] is None)


def test_out_of_memory_halves_the_batch(model: ExactModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = run(model, tmp_path, "whole").rows
    from pointland.metrics.evaluations import Evaluations

    real = Evaluations.denoise

    def small(self: Evaluations, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        if len(self.x) > 2:
            raise torch.OutOfMemoryError("no")
        return real(self, x, sigma)

    monkeypatch.setattr(Evaluations, "denoise", small)
    got = run(model, tmp_path).rows
    np.testing.assert_allclose(
        got["denoising_loss_unconditional"].to_pylist(), wanted["denoising_loss_unconditional"].to_pylist(), rtol=1e-5
    )


def test_sigma_is_chosen_and_the_choice_is_kept(model: ExactModel, tmp_path: Path) -> None:
    found = run(model, tmp_path, sigma="auto")
    entry = found.record["sigma"]
    assert entry["chosen"] == "auto"
    assert len(entry["curve"]["sigmas"]) == len(entry["curve"]["resolution"]) == 9
    assert entry["value"] in entry["curve"]["sigmas"]
    assert run(model, tmp_path, sigma="auto").record["sigma"] == entry


def test_the_papers_settings(model: ExactModel, tmp_path: Path) -> None:
    found = run(model, tmp_path, sigma="paper")
    assert found.record["sigma"]["value"] == pytest.approx(0.34, rel=0.05)
    assert "guidance_norm_euler" in found.rows.column_names
    assert found.rows["flipd_unconditional_stderr"].null_count == 50  # one probe has no error


def test_a_model_that_does_not_denoise_is_refused(model: ExactModel, tmp_path: Path) -> None:
    class Wrong(ExactModel):
        @property
        def unconditional(self):  # type: ignore[no-untyped-def]
            return lambda x, sigma: 3 * x

    with pytest.raises(ValueError, match="does not denoise"):
        run(Wrong(model.points), tmp_path)


def test_impossible_requests_are_refused(model: ExactModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lies inside the pictures"):
        run(model, tmp_path, "images/run")
    with pytest.raises(ValueError, match="cannot decide by 'lid'"):
        run(model, tmp_path, decide_by="lid")
    with pytest.raises(ValueError, match="below the model's lowest"):
        run(model, tmp_path, sigma=1e-4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty"):
        audit(model, tmp_path / "empty", out=tmp_path / "x")
    for path in (tmp_path / "images").glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of the .* can be read"):
        run(model, tmp_path, reference=None)


def test_metrics_of_the_users_choice(model: ExactModel, tmp_path: Path) -> None:
    found = run(model, tmp_path, metrics=[FlipdColumns(Flipd(0.3, 2))], decide_by="flipd_unconditional")
    assert "denoising_loss_unconditional" not in found.rows.column_names


def test_shards_cut_where_they_should() -> None:
    assert SHARD == 256
    assert len(default_metrics(ExactModel(torch.empty(0)), 0.3)) == 6


def test_the_public_name_is_the_function() -> None:
    assert pointland.audit is audit
