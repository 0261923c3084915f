import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from miniatures import cut
from models import ExactModel
from pointland.auditing.measure import How, ModelEstimator, choose_sigma, measure, measure_data
from pointland.cli.measure import OfModel, of_model, show, sigma_of, write
from pointland.demo import MINIATURE
from pointland.lid import DenoisingLoss, DiffusionLidl, FilteredSpectrum, Flipd
from pointland.lid.data import CensoredHill, Mle, TwoNn
from pointland.noise import Levels

POINTLAND = Path(sys.executable).parent / "pointland"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "images"
    place.mkdir()
    for i, picture in enumerate(np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)):
        Image.fromarray(picture).save(place / f"{i:02d}.png")
    (place / "broken.png").write_bytes(b"")
    (place / "captions.csv").write_text("file_name,caption\n00.png,word\n")
    return place


def model_of(folder: Path) -> ExactModel:
    blank = ExactModel(torch.empty(0))
    picture = torch.from_numpy(np.array(Image.open(folder / "00.png"))).permute(2, 0, 1)[None]
    return ExactModel(blank.codec.encode(picture))


def test_every_picture_is_a_row_with_its_unit_and_scale(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    table = measure(model_of(folder), folder, Flipd(0.3), batch_size=7, progress=lambda a, b: seen.append((a, b)))
    rows = {row["key"]: row for row in table.to_pylist()}
    assert len(rows) == 31
    assert rows["broken.png"]["value"] is None
    assert rows["broken.png"]["reason"]
    good = rows["03.png"]
    assert good["value"] == pytest.approx(good["trace"] + good["residual"], rel=1e-6)
    assert good["low"] < good["value"] < good["high"]
    assert good["on_manifold"] == "yes"
    assert rows["broken.png"]["on_manifold"] is None
    assert (good["unit"], good["sigma"], good["space"]) == ("dimensions", 0.3, "averages 3 x 4 x 4")
    assert seen[-1] == (31, 31)


def test_off_the_manifold_is_said_in_words_and_can_be_left_out(folder: Path) -> None:
    model = model_of(folder)
    (folder / "captions.csv").write_text("file_name,caption\n" + "".join(f"{i:02d}.png,word\n" for i in range(30)))
    table = measure(model, folder, DenoisingLoss(0.05), conditional=True)
    rows = {row["key"]: row for row in table.to_pylist()}
    assert rows["00.png"]["on_manifold"] == "yes"  # the one point of the memorizer
    assert rows["01.png"]["on_manifold"] == "off the manifold"
    plain = measure(model, folder, DenoisingLoss(0.05), conditional=True, check=False)
    assert "on_manifold" not in plain.column_names
    assert plain["value"].to_pylist() == table["value"].to_pylist()


@pytest.mark.parametrize("estimator", [Flipd(0.3), FilteredSpectrum(0.3), FilteredSpectrum(0.3, 8, n_steps=3)])
def test_sharing_evaluations_changes_no_number(folder: Path, estimator: Flipd | FilteredSpectrum) -> None:
    model = model_of(folder)
    alone, both = (measure(model, folder, estimator, check=check).to_pylist() for check in (False, True))
    for a, b in zip(alone[:-1], both[:-1], strict=True):  # the last cannot be read
        for name in ("value", "stderr", "low", "high"):
            assert b[name] == pytest.approx(a[name], rel=1e-5)


def test_sharing_saves_evaluations(folder: Path) -> None:
    model = model_of(folder)
    counts = {}
    estimators: dict[str, ModelEstimator] = {
        "flipd": Flipd(0.3),
        "spectrum": FilteredSpectrum(0.3),
        "loss": DenoisingLoss(0.3),
    }
    for name, estimator in estimators.items():
        for check in (False, True):
            model.calls.clear()
            measure(model, folder, estimator, check=check, batch_size=64)
            counts[name, check] = len(model.calls)
    assert counts["spectrum", True] == counts["spectrum", False] + 1
    assert counts["flipd", True] == counts["flipd", False] + 4  # the first of five Lanczos steps is there
    assert counts["loss", True] == counts["loss", False] + 6


@pytest.mark.parametrize("how", ["plateau", "resolution", "knee"])
def test_a_scale_is_chosen_from_a_sample_with_its_curve(folder: Path, how: How) -> None:
    model = model_of(folder)
    found = choose_sigma(model, folder, how)
    assert model.levels.nearest(found.sigma).sigma == pytest.approx(found.sigma, rel=1e-5)
    assert found.curve.values.shape == (len(found.curve.sigmas), 30 if how == "resolution" else 16)
    if how == "plateau":  # a full-rank Gaussian of variance 1 is level at 48 below its size
        assert found.level
        assert found.value == pytest.approx(48, abs=1)
    with pytest.raises((ValueError, TypeError)):
        choose_sigma(model, folder, "guess")  # type: ignore[arg-type]


def test_every_name_makes_an_estimator_of_that_scale() -> None:
    levels = Levels(torch.logspace(-2, 1, 200, dtype=torch.float64))
    for name in get_args(OfModel):
        made = of_model(name, 0.3, None, 0, levels)
        assert made.sigma == pytest.approx(0.3)
    lidl = of_model("likelihood", 0.01, None, 0, levels)
    assert isinstance(lidl, DiffusionLidl)
    assert min(lidl.deltas) >= 0.01
    assert sigma_of("auto") == (None, "plateau")
    assert sigma_of("0.5")[0] == 0.5
    with pytest.raises(ValueError, match="no number"):
        sigma_of("guess")


def test_under_captions_the_memorized_picture_has_none(folder: Path) -> None:
    table = measure(model_of(folder), folder, DenoisingLoss(0.3), conditional=True)
    rows = {row["key"]: row for row in table.to_pylist()}
    assert rows["00.png"]["value"] < 1e-3
    assert rows["01.png"]["reason"] == "no caption"
    with pytest.raises(ValueError, match="takes no captions"):
        measure(ExactModel(torch.empty(0), captioned=False), folder, DenoisingLoss(0.3), conditional=True)


def test_without_any_caption_every_picture_is_a_row_with_that_reason(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "captions.csv").unlink()
    (folder / "broken.png").unlink()
    table = measure(model_of(folder), folder, DenoisingLoss(0.3), conditional=True)
    assert table["value"].to_pylist() == [None] * 30
    assert set(table["reason"].to_pylist()) == {"no caption"}
    show(table, "denoising-loss", {}, None)
    assert "30 pictures, 30 without a value" in capsys.readouterr().out


def test_batches_do_not_matter(folder: Path) -> None:
    model = model_of(folder)
    one, all_at_once = (measure(model, folder, Flipd(0.3), batch_size=b)["value"].to_pylist() for b in (1, 64))
    np.testing.assert_allclose(one[:-1], all_at_once[:-1], rtol=1e-5)


def test_data_has_dimension_zero_where_it_repeats(folder: Path) -> None:
    for i in range(12):
        shutil.copy(folder / "05.png", folder / f"copy{i}.png")
    table = measure_data(folder, CensoredHill(0.01, 10), size=(8, 8))
    rows = {row["key"]: row for row in table.to_pylist()}
    assert rows["05.png"]["value"] == rows["copy3.png"]["value"] == 0
    assert rows["09.png"]["value"] > 1
    assert rows["broken.png"]["reason"]
    assert set(measure_data(folder, TwoNn(), size=(8, 8))["value"].drop_null().to_pylist()).__len__() == 1


def test_a_reference_of_its_own_and_too_few_neighbours(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    for name in ("00.png", "01.png"):
        shutil.copy(folder / name, tmp_path / "two" / name)
    table = measure_data(tmp_path / "two", Mle(5), reference=folder, size=(8, 8))
    assert table.num_rows == 2
    with pytest.raises(ValueError, match="k"):
        measure_data(tmp_path / "two", Mle(5), size=(8, 8))


def test_tables_are_written_as_they_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").rename(folder / "=cmd.png")
    table = measure(model_of(folder), folder, Flipd(0.3))
    for suffix in (".csv", ".json", ".parquet"):
        write(table, tmp_path / f"x{suffix}")
    assert "\n'=cmd.png," in (tmp_path / "x.csv").read_text()
    assert len(json.loads((tmp_path / "x.json").read_text())) == 31
    assert pq.read_table(tmp_path / "x.parquet").equals(table)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["lid", "MODEL", "IMAGES", "--estimator", "spectrum", "--sigma", "0.4", "--device", "cpu"],
            "No dimension there",
        ),
        (["lid-data", "IMAGES", "--estimator", "ess", "--k", "10"], "dimensions"),
        (["lid-data", "IMAGES", "--estimator", "magic"], "is not one of"),
        (["lid-data", "IMAGES", "-o", "values.xlsx"], "no known format"),
    ],
)
def test_the_commands(tmp_path: Path, arguments: list[str], message: str) -> None:
    demo = cut(tmp_path, 12, 4)
    places = {"MODEL": str(MINIATURE), "IMAGES": str(demo.images)}
    done = subprocess.run(
        [str(POINTLAND), *(places.get(a, a) for a in arguments)], capture_output=True, text=True, check=False
    )
    assert message in " ".join((done.stdout + done.stderr).split())
    assert done.returncode == (0 if message in ("dimensions", "No dimension there") else 2)
