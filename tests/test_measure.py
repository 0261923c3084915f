import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from miniatures import cut
from models import ExactModel
from pointland.auditing.measure import measure, measure_data
from pointland.cli.measure import write
from pointland.demo import MINIATURE
from pointland.lid import DenoisingLoss, Flipd
from pointland.lid.data import CensoredHill, Mle, TwoNn

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
    assert (good["unit"], good["sigma"], good["space"]) == ("dimensions", 0.3, "averages 3 x 4 x 4")
    assert seen[-1] == (31, 31)


def test_under_captions_the_memorized_picture_has_none(folder: Path) -> None:
    table = measure(model_of(folder), folder, DenoisingLoss(0.3), conditional=True)
    rows = {row["key"]: row for row in table.to_pylist()}
    assert rows["00.png"]["value"] < 1e-3
    assert rows["01.png"]["reason"] == "no caption"
    with pytest.raises(ValueError, match="takes no captions"):
        measure(ExactModel(torch.empty(0), captioned=False), folder, DenoisingLoss(0.3), conditional=True)


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
        (["lid", "MODEL", "IMAGES", "--estimator", "spectrum", "--sigma", "0.4", "--device", "cpu"], "dimensions"),
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
    assert done.returncode == (0 if message == "dimensions" else 2)
