import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from models import ExactModel, Shrink
from pointland.cli import figure_4 as command
from pointland.cli.reproduce import jsonable
from pointland.data import read_labels
from pointland.demo import MINIATURE, unpack
from pointland.experiments import figure_4
from pointland.experiments.figure_4.settings import Named, at_step, metrics_of, settings_of
from pointland.lid.flipd import Flipd
from pointland.metrics.model_lid import FlipdColumns

Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Make a folder of noise pictures, each with a caption of its own."""

    def make(name: str, n: int, seed: int, *, captions: bool = True) -> Path:
        place = tmp_path / name
        place.mkdir()
        rng = np.random.default_rng(seed)
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(place / f"{i:03d}.png")
        if captions:
            with (place / "captions.csv").open("w", newline="") as stream:
                csv.writer(stream).writerows(
                    [("file_name", "caption"), *((f"{i:03d}.png", f"a {i}") for i in range(n))]
                )
        return place

    return make


def memorizer(place: Path) -> ExactModel:
    """A model that under any caption knows the folder's pictures and nothing else, and without one is a Gaussian."""
    pixels = [np.asarray(Image.open(path)).transpose(2, 0, 1) for path in sorted(place.glob("*.png"))]
    return ExactModel(Shrink().encode(torch.from_numpy(np.stack(pixels))))


def test_a_memorizing_model_is_told_from_its_captions(folder: Folder, tmp_path: Path) -> None:
    memorized = folder("memorized", 12, 0)
    others = [folder("coco", 110, 1), folder("tuxemon", 8, 2, captions=False)]
    result = figure_4.run(memorizer(memorized), memorized, others, out=tmp_path / "out", n_draws=2, n_bootstrap=50)
    areas = {(one.metric, one.setting): one for one in result.separations}
    for name in ("published", "configuration"):
        assert areas["FLIPD with caption", name].auroc == 1
        assert areas["FLIPD with caption", name].n_controls == 110  # Tuxemon has no captions here
        assert areas["FLIPD without caption", name].n_controls == 118
        assert 0.2 < areas["FLIPD without caption", name].auroc < 0.8  # the Gaussian knows nothing of them
    one = areas["Denoising loss with caption", "pointland"]
    assert one.tpr == 1
    assert one.auroc_low == one.auroc_high == 1
    assert one.median == pytest.approx(0, abs=0.01)  # a point mass
    assert {name for name, setting in areas if setting == "floor"} >= {"PNG size", "Length of the caption"}
    assert [group.group for group in result.groups] == ["memorized", "coco", "tuxemon"]
    assert [group.captions for group in result.groups] == [12, 110, 0]
    assert {one.against for one in result.by_folder} == {"coco", "tuxemon"}
    assert not any(one.metric.endswith("with caption") for one in result.by_folder if one.against == "tuxemon")
    assert result.claims["FLIPD with caption, as published: AUROC of at least 0.95"]
    assert not result.claims["FLIPD without caption, as published: AUROC of at least 0.95"]
    ElementTree.fromstring(figure_4.draw(result))
    assert json.loads(json.dumps(jsonable(result), allow_nan=False))["groups"][0]["n"] == 12


def test_positives_are_cleaned_of_near_copies_and_negatives_of_leaks(folder: Folder, tmp_path: Path) -> None:
    memorized, others = folder("memorized", 10, 0), folder("coco", 20, 1)
    for copy in range(3):
        shutil.copy(memorized / "000.png", memorized / f"copy-{copy}.png")
    shutil.copy(memorized / "001.png", others / "leak.png")
    result = figure_4.run(memorizer(memorized), memorized, [others], out=tmp_path / "out", n_draws=1, n_bootstrap=20)
    assert [(group.n, group.cleaned_away) for group in result.groups] == [(13, 3), (21, 1)]
    assert result.separations[0].n == 13
    assert (result.cleaned[0].n, result.cleaned[0].n_controls) == (10, 20)
    assert result.by_folder == ()
    assert result.left_out[-1].metric == "TPR at 1 % FPR"


def test_without_captions_the_conditional_parts_are_left_out_with_the_reason(folder: Folder, tmp_path: Path) -> None:
    memorized, others = folder("memorized", 6, 0, captions=False), folder("coco", 6, 1)
    model = memorizer(memorized)
    result = figure_4.run(model, memorized, [others], out=tmp_path / "out", n_draws=1, n_bootstrap=20)
    reasons = {one.metric: one.reason for one in result.left_out}
    assert reasons["FLIPD with caption, published"] == "no memorized picture has a caption"
    assert reasons["Guidance norm after Euler steps, configuration"] == "no memorized picture has a caption"
    assert {one.metric for one in result.separations if one.setting == "floor"} == {"PNG size"}
    uncaptioned = figure_4.run(
        replace(model, captioned=False), memorized, [others], out=tmp_path / "other", n_draws=1, n_bootstrap=20
    )
    assert {one.metric for one in uncaptioned.settings} == {"FLIPD", "Denoising loss"}
    assert not any("with caption" in one.metric for one in uncaptioned.histograms)
    ElementTree.fromstring(figure_4.draw(uncaptioned))


def test_an_interrupted_run_goes_on_where_it_was(folder: Folder, tmp_path: Path) -> None:
    memorized, others = folder("memorized", 6, 0), folder("coco", 6, 1)
    model = memorizer(memorized)

    def interrupt(name: str, _state: object) -> None:
        if name == "coco":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        figure_4.run(model, memorized, [others], out=tmp_path / "out", n_draws=1, progress=interrupt)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("0-memorized/rows/*.parquet")}
    assert before
    again = figure_4.run(model, memorized, [others], out=tmp_path / "out", n_draws=1, n_bootstrap=20)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    fresh = figure_4.run(model, memorized, [others], out=tmp_path / "fresh", n_draws=1, n_bootstrap=20)
    assert again == fresh


def test_settings_are_those_of_the_paper_and_of_the_configuration() -> None:
    model = memorizer_of_nothing()
    found = {(one.metric, one.setting): one for one in settings_of(model)}
    euler = "Guidance norm after Euler steps"
    for metric, setting, sigma, evaluations in (
        ("FLIPD", "published", 0.3402, 1),
        (euler, "published", 0.0447, 3),
        ("FLIPD", "configuration", at_step(model.levels, 0.01), 1),
        (euler, "configuration", at_step(model.levels, 0.5), 10),
    ):
        assert found[metric, setting].sigma == pytest.approx(sigma, rel=0.02)  # the model's levels are 3.5 % apart
        assert found[metric, setting].evaluations == evaluations
    names = [column.name for metric in metrics_of(model, n_draws=1, seed=0) for column in metric.columns]
    assert len(names) == len(set(names))
    assert Named("x", FlipdColumns(Flipd(0.3, 1))).columns[0].stderr == "flipd_unconditional_stderr_x"


def memorizer_of_nothing() -> ExactModel:
    return ExactModel(torch.zeros(1, 3, 4, 4))


def test_bad_input_is_refused_before_anything_is_measured(folder: Folder, tmp_path: Path) -> None:
    memorized = folder("memorized", 3, 0)
    model, out = memorizer_of_nothing(), tmp_path / "out"
    with pytest.raises(ValueError, match="at least one folder"):
        figure_4.run(model, memorized, [], out=out)
    with pytest.raises(ValueError, match="given twice"):
        figure_4.run(model, memorized, [memorized], out=out)
    with pytest.raises(FileNotFoundError, match="no folder"):
        figure_4.run(model, memorized, [tmp_path / "nowhere"], out=out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no pictures"):
        figure_4.run(model, memorized, [tmp_path / "empty"], out=out)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="can be read"):
        figure_4.run(model, memorized, [broken], out=out)
    assert model.calls == [] or not list(out.rglob("1-negatives/rows/*"))


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    named = figure_4.folders(tmp_path / "m", [tmp_path / "a" / "images", tmp_path / "b" / "images"])
    assert list(named) == ["memorized", "images", "images (2)"]


def test_the_command_says_what_it_needs_and_writes_figure_and_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"batch_size": 16, "seed": 0, "device": "cpu", "dtype": "float32", "command": "pointland reproduce"}
    with pytest.raises(ValueError, match=r"(?s)Stable Diffusion v1\.5.*Missing: --model, --memorized, --negatives"):
        command.run_figure_4(tmp_path / "out", model=None, memorized=None, negatives=[], **settings)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="no folder"):
        command.run_figure_4(
            tmp_path / "out",
            model=str(MINIATURE),
            memorized=tmp_path / "no",
            negatives=[tmp_path / "nor"],
            **settings,  # type: ignore[arg-type]
        )
    demo = unpack(tmp_path / "demo")
    labels = read_labels(demo.labels, [path.name for path in demo.images.glob("*.png")])
    verbatim = [name for name, label in labels.items() if label == "x50"][:6]
    for name, source, names in (
        ("verbatim", demo.images, verbatim),
        ("held_out", demo.reference, sorted(path.name for path in demo.reference.glob("*.png"))[:8]),
    ):
        place = tmp_path / name
        place.mkdir()
        with (source / "captions.csv").open(newline="") as stream:
            rows = [line for line in csv.reader(stream) if line[0] == "file_name" or line[0] in names]
        with (place / "captions.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
        for file in names:
            shutil.copy(source / file, place / file)
    command.run_figure_4(
        tmp_path / "out",
        model=str(MINIATURE),
        memorized=tmp_path / "verbatim",
        negatives=[tmp_path / "held_out"],
        **settings,  # type: ignore[arg-type]
    )
    assert "AUROC" in capsys.readouterr().out
    ElementTree.fromstring((tmp_path / "out" / "figure-4.svg").read_text())
    numbers = json.loads((tmp_path / "out" / "figure-4.json").read_text(), parse_constant=pytest.fail)
    areas = {(one["metric"], one["setting"]): one["auroc"] for one in numbers["separations"]}
    assert areas["FLIPD without caption", "published"] >= 0.99
    assert areas["FLIPD with caption", "published"] >= 0.99
    assert areas["Denoising loss without caption", "pointland"] >= 0.99
