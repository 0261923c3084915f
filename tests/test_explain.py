import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import pipelines
import pointland
from models import ExactModel, Shrink
from pointland import exact
from pointland.cli.explain import explain as command
from pointland.data import Picture, open_source
from pointland.denoiser import Denoiser
from pointland.explanation import Explanation, explain, explain_run, write_page
from pointland.explanation.curve import levels_for, lid_curve
from pointland.explanation.evidence import Against, nearest_in, nearest_of
from pointland.explanation.explained_run import suspicious
from pointland.explanation.page import render
from pointland.explanation.sentences import headline
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.noise import Levels
from pointland.report import read_summary, summarize, write_report

DOCS = Path(__file__).parents[1] / "docs"
HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror=alert(2)>\"' \u202e{{ 7 * 7 }}\x00"


class Page(HTMLParser):
    """What a page is made of: every tag with its attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def pixels(seed: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def folder(to: Path, seeds: Sequence[int]) -> Path:
    to.mkdir()
    for seed in seeds:
        Image.fromarray(pixels(seed)).save(to / f"{seed:03d}.png")
    return to


def model() -> ExactModel:
    """Under a caption it knows the pictures 0 to 4 by heart."""
    codec = Shrink()
    images = np.stack([pixels(seed).transpose(2, 0, 1) for seed in range(5)])
    return ExactModel(codec.encode(torch.from_numpy(images)))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    place = tmp_path_factory.mktemp("explain")
    train = folder(place / "train", range(12))
    Image.fromarray(pixels(0)).save(train / "again.png", compress_level=0)
    reference = folder(place / "reference", range(100, 130))
    return explain(
        model(), train / "000.png", caption="zero", train=train, reference=reference, sigma=0.3, n_draws=6,
        n_directions=3, n_reference=30,
    )  # fmt: skip


def test_maps_sum_to_the_dimensions_that_the_estimators_give(found: Explanation) -> None:
    x = Shrink().encode(found.image[None])
    for side, caption in ((found.without, None), (found.under, "zero")):
        assert side is not None
        assert side.map is not None
        own = DenoisingLoss(found.sigma, 6)(model().given([caption]), x, [found.sha256])
        assert side.denoising_loss.value == pytest.approx(float(own.value), rel=1e-4)  # float32, d = 48
        assert side.denoising_loss.stderr == pytest.approx(float(own.stderr), rel=1e-3)
        assert float(side.map.value.sum()) == pytest.approx(side.denoising_loss.value, rel=1e-5)
    assert found.under is not None
    assert found.frozen is not None
    # by heart under the caption: nothing moves, and all that was free is frozen
    assert found.under.denoising_loss.value < 0.01 < 20 < found.without.denoising_loss.value
    assert float(found.frozen.value.sum()) == pytest.approx(found.without.denoising_loss.value, abs=0.01)
    assert found.under.walk is not None
    assert found.without.walk is not None
    assert (found.under.walk.free, found.without.walk.free) == (0, 3)
    assert found.evaluations == 2 * (6 + 5 + 8 * len(found.without.curve.loss.sigmas)) + 2 * (6 * 7 + 12 * 3 * 7)


def test_the_curve_is_that_of_its_module(found: Explanation) -> None:
    x, sigmas = Shrink().encode(found.image[None]), levels_for(model().levels)
    own = lid_curve(model().given([None]), x, found.sha256, sigmas, sigma=found.sigma, n_draws=8).loss
    for mine, theirs in zip(found.without.curve.loss, own, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4, check_dtype=False)  # float32, d = 48


def test_the_nearest_pictures_are_found_and_copies_counted(found: Explanation) -> None:
    near = found.nearest
    assert near is not None
    assert (near.searched, near.unreadable, near.n_exact, near.n_near) == (13, 0, 2, 2)
    assert sorted(near.copies) == ["000.png", "again.png"]
    assert sorted(one.key for one in near.pictures[:2]) == ["000.png", "again.png"]
    distances = [one.distance for one in near.pictures]
    assert distances == sorted(distances, key=float)  # type: ignore[arg-type]  # none is flat
    assert len(near.pictures) == 8


def test_a_template_is_found_by_its_share_and_flat_pictures_are_only_copies_of_themselves(tmp_path: Path) -> None:
    mine = pixels(0, 32)
    other = mine.copy()
    other[20:] = 255 - other[20:]
    folder_ = tmp_path / "train"
    folder_.mkdir()
    for name, one in (("template", other), *((str(seed), pixels(seed, 32)) for seed in range(1, 4))):
        Image.fromarray(one).save(folder_ / f"{name}.png")
    (folder_ / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    near = nearest_in(mine.transpose(2, 0, 1).copy(), open_source(folder_), n=1)
    assert (near.searched, near.unreadable, near.n_near, near.n_alike) == (4, 1, 0, 1)
    shown = {one.key: one.share for one in (*near.pictures, *near.alike)}
    assert shown["template.png"] == 0.5  # rows 20 to 31 spoil the lower two of four rows of cells
    flat = np.full((3, 32, 32), 90, np.uint8)
    alone = nearest_of(flat, [("same", Picture(flat, "", 32, 32)), ("other", Picture(flat // 2, "", 32, 32))])
    told = [(one.key, one.distance, one.exact) for one in alone.pictures]
    assert told == [("same", None, True), ("other", None, False)]
    assert alone.n_near == 1


def test_the_reference_decides_and_without_it_there_is_no_verdict(found: Explanation, tmp_path: Path) -> None:
    said = found.verdict
    assert isinstance(said, Against)
    assert said.n == 30
    assert said.p == pytest.approx((1 + said.n_lower) / 31)
    # the picture is as any other to a standard Gaussian: nothing unusual
    assert "Not unusual" in headline(found)
    bare = explain(model(), found.image, sigma="auto", n_draws=1, n_directions=0)
    assert (bare.verdict, bare.nearest, bare.under, bare.words, bare.without.walk) == (None,) * 5
    assert (bare.sigma_from, bare.name) == ("paper", "picture")
    page = Page(render(bare))
    assert "No verdict: there is nothing to compare this picture with." in page.text
    assert "Sigma 0.3" in page.text
    reference = folder(tmp_path / "reference", [3])
    with pytest.raises(ValueError, match="no other picture than this one"):
        explain(model(), reference / "003.png", reference=reference, sigma=0.3)


def test_the_page_is_whole_without_scripts_and_network(found: Explanation, tmp_path: Path) -> None:
    path = write_page(found, tmp_path / "out" / "page")
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert not page.all("script")
    assert "http" not in re.sub(r"http-equiv", "", html)
    assert [one for one in page.all("img") if not one["alt"] or not str(one["src"]).startswith("data:image/")] == []
    assert len(page.all("img")) >= 1 + 3 + 2 + 8
    charts = [one for one in page.all("svg") if one.get("class") == "chart"]
    assert len(charts) == len([one for one in charts if one["role"] == "img"]) == 4
    ids = {one["id"] for _, one in page.tags if "id" in one}
    assert {str(one["href"])[1:] for one in page.all("a")} <= ids
    names = {"index.html", "explanation.json", "picture.png", "map-unconditional.png", "map-conditional.png",
             "map-frozen.png", "walk-unconditional.png", "walk-conditional.png"}  # fmt: skip
    assert {one.name for one in path.parent.iterdir()} == names
    assert write_page(found, path.parent).read_text(encoding="utf-8") == html
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="is a file"):
        write_page(found, tmp_path / "file")


def test_the_numbers_have_the_documented_schema(found: Explanation, tmp_path: Path) -> None:
    path = write_page(found, tmp_path).with_name("explanation.json")
    record = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda text: pytest.fail(text))
    documented = re.findall(r"^\| `(\w+)` \|", (DOCS / "explain.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert list(record) == documented
    assert record["schema_version"] == 1
    assert set(record["sides"]) == {"unconditional", "conditional"}
    side = record["sides"]["unconditional"]
    assert np.array(side["map"]["value"]).sum() == pytest.approx(side["denoising_loss"]["value"], rel=1e-5)
    assert side["walk"]["eigenvalues"] == sorted(side["walk"]["eigenvalues"], reverse=True)
    assert min(abs(sigma - record["sigma"]) for sigma in side["curve"]["sigmas"]) < 1e-6  # float32
    assert record["verdict"]["from"] == "reference"
    assert record["nearest"]["copies"]


def test_text_from_data_stays_text(tmp_path: Path) -> None:
    place = folder(tmp_path / "train", [0, 1])
    name = HOSTILE.replace("/", "").replace("\x00", "") + ".png"
    (place / "000.png").rename(place / name)
    found = explain(
        model(), place / name, caption=HOSTILE + " \ud800", train=place, sigma=0.3, n_draws=1, n_directions=1
    )
    html = write_page(found, tmp_path / "out").read_text(encoding="utf-8")
    page = Page(html)
    assert not page.all("script")
    assert not [one for one in page.all("img") if one["src"] == "x" or "onerror" in one]
    assert "\u202e" not in html
    assert "Caption: </title></style><script>alert(1)</script>" in page.text  # said as text
    assert "<script>alert(1)<script>" in page.text  # the name, which can hold no slash
    assert "{{ 7 * 7 }}" in page.text


@dataclass(frozen=True)
class Flat:
    """Pictures of 8 x 8 as a row of 48 numbers: a space that is no grid."""

    size: tuple[int, int] = (8, 8)
    space: str = "tokens 48"

    def encode(self, images: Tensor) -> Tensor:
        return Shrink().encode(images).flatten(1)

    def decode(self, x: Tensor) -> Tensor:
        return Shrink().decode(x.reshape(-1, 3, 4, 4))


@dataclass(frozen=True)
class FlatModel:
    codec: Flat = field(default_factory=Flat)
    levels: Levels = field(default_factory=lambda: Levels(torch.logspace(-2, 1, 200, dtype=torch.float64)))
    conditional: bool = False
    identity: dict[str, str] = field(default_factory=lambda: {"name": "flat", "class": "FlatModel"})

    @property
    def unconditional(self) -> Denoiser:
        return exact.gaussian(torch.eye(48))

    def is_cut(self, caption: str) -> bool:
        return False

    def given(self, captions: Sequence[str | None]) -> Denoiser:
        return self.unconditional


def test_a_space_that_is_no_grid_has_all_but_a_map() -> None:
    found = explain(FlatModel(), torch.from_numpy(pixels(0).transpose(2, 0, 1).copy()), sigma=0.3, n_directions=2)
    assert found.without.map is None
    assert found.without.denoising_loss.value > 10
    page = Page(render(found))
    assert "There is no map: a map needs points on a grid" in page.text
    assert len(page.all("img")) == 2  # the picture and the walk


def test_what_cannot_be_explained_says_why(tmp_path: Path) -> None:
    place = folder(tmp_path / "pictures", [0])
    broken = tmp_path / "broken.png"
    broken.write_bytes((place / "000.png").read_bytes()[:60])
    unconditional = ExactModel(model().points, captioned=False)
    with pytest.raises(FileNotFoundError, match="is no file; give one picture"):
        explain(model(), tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"broken\.png: damaged PNG"):
        explain(model(), broken)
    with pytest.raises(ValueError, match="takes no captions"):
        explain(unconditional, place / "000.png", caption="a")
    with pytest.raises(ValueError, match="neither a number nor one of auto, paper"):
        command("model", place / "000.png", tmp_path / "out", sigma="resolution")
    with pytest.raises(ValueError, match="expected uint8"):
        explain(model(), torch.zeros(3, 9, 9, dtype=torch.uint8))
    with pytest.raises(ValueError, match="expected at least 1 and 0"):
        explain(model(), place / "000.png", n_draws=0)
    with pytest.raises(ValueError, match="below the model's lowest"):
        explain(model(), place / "000.png", sigma=1e-6)
    with pytest.raises(ValueError, match="with --out"):
        command("model", place / "000.png")
    with pytest.raises(ValueError, match="leave out IMAGE"):
        command("model", place / "000.png", tmp_path / "out", again=True)
    with pytest.raises(ValueError, match="is no run directory"):
        command(str(place))
    with pytest.raises(ValueError, match="lies inside the pictures"):
        command("model", place / "000.png", place / "out", train=str(place))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit whose first picture stands twice under other names, and nearly a third time."""
    place = tmp_path_factory.mktemp("audited")
    images = folder(place / "images", range(4))
    (images / "twin.png").write_bytes((images / "000.png").read_bytes())
    near = pixels(0).astype(np.int64)
    near[0, 0] += np.where(near[0, 0] < 128, 1, -1)
    Image.fromarray(near.astype(np.uint8)).save(images / "near.png")
    with (images / "captions.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file_name", "caption"), *((f"{seed:03d}.png", "known") for seed in range(3))])
    reference = folder(place / "reference", range(100, 124))
    pointland.audit(model(), images, out=place / "run", reference=reference, sigma=0.3, n_draws=2, n_probes=1)
    pointland.extract(place / "run", model(), top=3, seeds=2, steps=2, ways=("partial",), controls=8)
    return place / "run"


def test_the_pages_of_an_audit_are_linked_kept_and_made_again(run: Path) -> None:
    exact_ = model()
    index = explain_run(run, exact_, top=3, n_draws=2, n_directions=1)
    written = json.loads((run / "explain" / "index.json").read_text(encoding="utf-8"))
    assert written == index
    asked = suspicious(pointland.read_run(run), summarize(pointland.read_run(run)), 3)
    assert set(index) == {key for one in asked for key in one.twins}
    pages = sorted(path.name for path in (run / "explain").glob("*.html"))
    assert pages == sorted(set(index.values()))
    assert len(pages) == 3
    write_report(run)
    linked = {row["key"]: row["explained"] for row in read_summary(run)["rows"] if row["explained"]}
    assert linked == index
    assert f"./explain/{pages[0]}" in (run / "report.html").read_text(encoding="utf-8")
    page = Page((run / "explain" / index[asked[0].key]).read_text(encoding="utf-8"))
    assert {"href": "../report.html"} in page.all("a")
    assert f"number {asked[0].row['rank']} of 6 by suspicion" in page.text
    assert "Asked from partial noise" in page.text

    calls = len(exact_.calls)
    before = {path.name: path.stat().st_mtime_ns for path in (run / "explain").glob("*.html")}
    assert explain_run(run, exact_, top=3, n_draws=2, n_directions=1) == index
    assert len(exact_.calls) == calls
    (run / "explain" / pages[0]).unlink()
    assert explain_run(run, exact_, top=3, n_draws=2, n_directions=1) == index
    after = {path.name: path.stat().st_mtime_ns for path in (run / "explain").glob("*.html")}
    assert [name for name in pages if before[name] != after[name]] == pages[:1]
    explain_run(run, exact_, top=1, n_draws=2, n_directions=1, again=True)
    again = {path.name: path.stat().st_mtime_ns for path in (run / "explain").glob("*.html")}
    assert len([name for name in pages if after[name] != again[name]]) == 1


def test_copies_of_an_audited_picture_share_its_page_and_are_named(run: Path) -> None:
    index = explain_run(run, model(), top=6, n_draws=1, n_directions=0)
    assert index["000.png"] == index["twin.png"] != index["near.png"]
    record = json.loads((run / "explain" / index["000.png"]).with_suffix(".json").read_text(encoding="utf-8"))
    assert record["sigma_from"] == "run"
    assert {one["key"] for one in record["nearest"]["pictures"][:2]} <= {"000.png", "twin.png", "near.png"}
    assert (record["nearest"]["of"], record["nearest"]["n_near"]) == (5, 2)
    assert record["verdict"]["from"] == "audit"


def test_a_run_of_other_weights_or_with_options_of_one_picture_is_refused(run: Path) -> None:
    other = ExactModel(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="with other weights"):
        explain_run(run, other)
    with pytest.raises(ValueError, match="--caption, --sigma: a run has its own"):
        command(str(run), caption="a", sigma="0.4")


def test_the_command_writes_a_page_of_a_real_pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipelines.stable_diffusion(tmp_path / "words").save_pretrained(tmp_path / "model")
    picture = tmp_path / "picture.png"
    Image.fromarray(pixels(1, 16)).save(picture)
    command(
        str(tmp_path / "model"), picture, tmp_path / "out", caption="a red dog", directions=0, draws=2, sigma="0.5",
        device="cpu",
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "No verdict" in said
    assert "Under the caption" in said
    record = json.loads((tmp_path / "out" / "explanation.json").read_text(encoding="utf-8"))
    assert [word["text"] for word in record["words"]["words"]] == ["a", "red", "dog"]
    assert (record["words_by"], record["no_words"]) == ("guidance", None)
    page = Page((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert "Both name the same word first." in page.text or "They name different words first." in page.text
