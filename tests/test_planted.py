import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointland.benchmarks.planted import Recipe, plant_folder
from pointland.cli.folders import check_folder
from pointland.data.folder import read_folder

SMALL = Recipe(size=16, ladder=(2, 5), each=3, templates=2, variants=4, near=2, near_variants=3, once=20, held_out=10)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(np.random.default_rng(0).integers(0, 256, (70, 20, 20, 3), dtype=np.uint8)):
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
        (folder / f"{i:03d}.txt").write_text(f"words {i}")
    return folder


def test_every_group_is_as_large_as_asked(pictures: Path, tmp_path: Path) -> None:
    assert SMALL.needed == 58
    card = plant_folder(pictures, tmp_path / "planted", SMALL)
    assert card.counts == {"near": 6, "once": 20, "template": 8, "x2": 6, "x5": 15}
    with (tmp_path / "planted" / "labels.csv").open(newline="") as stream:
        labels = {row["key"]: row["label"] for row in csv.DictReader(stream)}
    train = read_folder(tmp_path / "planted" / "train")
    assert {item.key for item in train} == set(labels)
    assert all(item.caption for item in train)
    contents = Counter(
        hashlib.sha256((tmp_path / "planted" / "train" / item.place).read_bytes()).hexdigest()
        for item in train
        if labels[item.key] == "x5"
    )
    assert sorted(contents.values()) == [5, 5, 5]
    assert len(read_folder(tmp_path / "planted" / "held_out")) == 10
    assert "x5" in (tmp_path / "planted" / "README.md").read_text()


def test_nothing_is_in_two_places(pictures: Path, tmp_path: Path) -> None:
    plant_folder(pictures, tmp_path / "planted", SMALL)
    seen = {
        place: {hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / "planted" / place).glob("*.png")}
        for place in ("train", "held_out", "disjoint")
    }
    assert not seen["train"] & seen["held_out"]
    assert not seen["disjoint"] & (seen["train"] | seen["held_out"])


def test_copies_in_the_source_are_planted_by_nobody(pictures: Path, tmp_path: Path) -> None:
    for i in range(20):
        (pictures / f"again{i}.png").write_bytes((pictures / "000.png").read_bytes())
    assert plant_folder(pictures, tmp_path / "planted", SMALL).n_read == 70


def test_too_few_pictures_and_used_folders_are_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"70 distinct .* needs 5,320.*--once"):
        plant_folder(pictures, tmp_path / "planted")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "x").touch()
    with pytest.raises(ValueError, match="not an empty folder"):
        plant_folder(pictures, tmp_path / "used", SMALL)


def test_a_folder_inside_the_pictures_is_refused(pictures: Path) -> None:
    with pytest.raises(ValueError, match="lies inside the pictures"):
        check_folder(pictures / "planted", None, pictures)


def test_a_broken_picture_is_named(pictures: Path, tmp_path: Path) -> None:
    (pictures / "broken.png").write_bytes(b"no picture")
    assert list(plant_folder(pictures, tmp_path / "planted", SMALL).failed) == ["broken.png"]


def test_one_picture_in_two_formats_is_one_picture(pictures: Path, tmp_path: Path) -> None:
    Image.open(pictures / "000.png").save(pictures / "again.bmp")
    assert plant_folder(pictures, tmp_path / "planted", SMALL).n_read == 70
