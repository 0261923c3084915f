import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models import ExactModel
from pointland import exact
from pointland.cli.walk import walk as command
from pointland.demo import MINIATURE
from pointland.demo.unpack import bundled
from pointland.explanation.walk import PictureWalk, Walking, steps_of, walk
from pointland.explanation.walk_picture import as_picture, beside


def model() -> ExactModel:
    return ExactModel(torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.4)


def picture(seed: int = 0, height: int = 8, width: int = 8) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


@pytest.mark.parametrize("n_denoise", [1, 3])
@pytest.mark.parametrize("sigmas", [[0.3], [0.2, 0.5]])
def test_what_is_left_of_a_step_is_a_power_of_the_eigenvalue(n_denoise: int, sigmas: list[float]) -> None:
    """On a plane this is exact: along an axis of variance l the eigenvalue is l / (l + sigma^2), across it is 0."""
    plane = exact.subspace(d=20, k=2, variances=[0.5, 2.0])
    x, sigma = plane.sample(2, seed=0, dtype=torch.float64), torch.tensor(sigmas, dtype=torch.float64)
    across = torch.linalg.svd(plane.axes.T).Vh[-1]
    directions = torch.stack([*plane.axes.T, across])[:, None].expand(-1, 2, -1)
    steps = torch.tensor([-1.0, 0.5], dtype=torch.float64)
    went = walk(plane, x, directions, steps, sigma, n_denoise=n_denoise)
    gone = (went.points - went.still) * directions[:, None]
    for axis, variance in enumerate((0.5, 2.0, 0.0)):
        left = (variance / (variance + sigma**2)) ** n_denoise
        wanted = steps[:, None] * sigma * 20**0.5 * left
        torch.testing.assert_close(gone[axis].sum(-1), wanted.expand(2, 2), rtol=0, atol=1e-9)
        torch.testing.assert_close(went.points[axis] - went.still, gone[axis].sum(-1)[..., None] * directions[axis])


def test_a_point_takes_every_step_back_and_items_walk_alone() -> None:
    clusters = exact.points(10 * torch.eye(8)[:3])
    x = 10 * torch.eye(8)[:3]
    directions = torch.nn.functional.normalize(torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    steps, sigma = torch.tensor(steps_of(5)), torch.tensor([0.5])
    went = walk(clusters, x, directions, steps, sigma)
    torch.testing.assert_close(went.points, x.expand(4, 4, 3, 8), rtol=0, atol=1e-4)
    alone = walk(clusters, x[1:2], directions[:, 1:2], steps, sigma)
    torch.testing.assert_close(alone.points, went.points[:, :, 1:2])


def test_steps_and_what_cannot_be_asked() -> None:
    assert steps_of(7, 1.5) == (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5)
    for n in (1, 2, 4):
        with pytest.raises(ValueError, match="odd number of steps"):
            steps_of(n)
    for reach in (0.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"must be positive and finite, got {reach}"):
            steps_of(3, reach)
    plane = exact.subspace(d=4, k=1)
    x = plane.sample(1, seed=0)
    with pytest.raises(ValueError, match="at least once"):
        walk(plane, x, x[None], torch.tensor([1.0]), torch.tensor([0.1]), n_denoise=0)


def test_a_memorized_picture_stays_and_a_free_one_moves() -> None:
    """The same picture: without a caption a Gaussian, with one a perfect memorizer."""
    whole = model()
    image = whole.codec.decode(whole.points[:1])[0]
    walking = Walking(0.3, n_directions=3, n_steps=5, n_denoise=4, reach=0.5)  # farther, and other points are nearer
    free, fixed = walking(whole, image, "a"), walking(whole, image, "a", "a caption")
    assert free.pictures.shape == (3, 4, 3, 8, 8)
    assert (free.change > 2).all()
    assert free.kept == pytest.approx((1 / 1.09) ** 4, abs=0.05)  # an eigenvalue to the fourth; bytes are rounded
    assert fixed.kept < 0.1
    assert float(fixed.change.mean()) < 0.1 * float(free.change.mean())
    assert free.free == 3
    assert fixed.free == 0
    assert fixed.drift <= 1
    torch.testing.assert_close(free.change, free.change.flip(1), rtol=0.1, atol=1)  # linear: both ways as far


def test_evaluations_are_those_of_the_network() -> None:
    whole = model()
    found = Walking(0.3, n_directions=3, n_steps=5, n_denoise=4, n_blocks=2)(whole, picture(), "a")
    assert found.tangent.products == 2 * (3 + 4)
    assert found.evaluations == found.tangent.products + 3 * 5 * 4
    assert sum(whole.calls) == 2 + 3 * 5 * 4  # a block of vjps takes one forward pass


def test_a_walk_is_refused_where_it_makes_no_sense() -> None:
    whole = model()
    with pytest.raises(ValueError, match="1 to 48 directions, got n 49"):
        Walking(0.3, n_directions=49)(whole, picture(), "a")
    with pytest.raises(ValueError, match="below the model's lowest"):
        Walking(0.001)(whole, picture(), "a")
    with pytest.raises(ValueError, match="takes no captions"):
        Walking(0.3)(ExactModel(whole.points, captioned=False), picture(), "a", "caption")


def of_size(height: int, width: int) -> PictureWalk:
    """A walk whose picture has another size."""
    found = Walking(0.3, n_directions=2, n_steps=3, n_denoise=1)(model(), picture(), "a")
    many = torch.stack([torch.stack([picture(4 * i + j, height, width) for j in range(2)]) for i in range(2)])
    image, still = picture(9, height, width), picture(10, height, width)
    return PictureWalk(image, still, many, found.stepped, found.steps, found.sigma, found.tangent, found.evaluations)


@pytest.mark.parametrize(("height", "width", "cell"), [(8, 8, (80, 80)), (100, 30, (30, 100)), (300, 600, (192, 96))])
def test_the_picture_of_a_walk(height: int, width: int, cell: tuple[int, int]) -> None:
    found = of_size(height, width)
    sheet = as_picture(found, "<b>a name\u202e\n" + "long " * 100)
    assert sheet.mode == "RGB"
    assert sheet.width > 4 * cell[0]
    assert sheet.height > 3 * cell[1]
    pixels = np.asarray(sheet)
    shown = np.asarray(
        Image.fromarray(found.still.permute(1, 2, 0).numpy()).resize(
            cell, Image.Resampling.NEAREST if cell[0] >= width else Image.Resampling.LANCZOS
        )
    )
    windows = np.lib.stride_tricks.sliding_window_view(pixels[..., 0], (cell[1], cell[0]))
    first = np.argwhere(windows[:, :, 0, 0] == shown[0, 0, 0])
    places = [(y, x) for y, x in first if np.array_equal(pixels[y : y + cell[1], x : x + cell[0]], shown)]
    assert len(places) == 3  # above, and in the middle of both rows
    assert len({x for _, x in places[1:]}) == 1
    assert as_picture(found, rows=1).height < sheet.height
    assert beside([sheet, sheet]).width == 2 * sheet.width


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture with 50 copies."""
    pixels = next(picture for picture, row in bundled() if row["group"] == "x50")
    place = tmp_path_factory.mktemp("walk") / "picture.png"
    Image.fromarray(pixels).save(place)
    return place


def test_the_command_draws_and_says_what_it_means(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "walk.png"
    command(str(MINIATURE), image, out, directions=2, steps=3, sigma=0.25, device="cpu")
    said = capsys.readouterr().out
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 5 * 64
    assert "of 512 dimensions (denoising loss) at sigma 0.25" in said
    assert "steps are kept in part" in said or "steps are taken back" in said
    assert "eigenvalue" in said
    with pytest.raises(ValueError, match="exists; remove it"):
        command(str(MINIATURE), image, out)


def test_the_command_refuses_before_it_loads_a_model(image: Path, tmp_path: Path) -> None:
    missing, out = str(tmp_path / "no-model"), tmp_path / "walk.png"
    with pytest.raises(ValueError, match="expected one of"):
        command(missing, image, tmp_path / "walk.txt")
    with pytest.raises(FileNotFoundError, match="make the folder"):
        command(missing, image, tmp_path / "nowhere" / "walk.png")
    with pytest.raises(ValueError, match="not both"):
        command(missing, image, out, sigma=0.3, like=tmp_path)
    with pytest.raises(ValueError, match="odd number"):
        command(missing, image, out, steps=4)
    with pytest.raises(FileNotFoundError, match="is no file"):
        command(missing, tmp_path / "absent.png", out)
    with pytest.raises(FileNotFoundError, match="no-model does not exist"):
        command(missing, image, out)


def test_the_command_refuses_what_is_no_picture_and_captions_for_nothing(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.png"
    text.write_text(json.dumps({"no": "picture"}))

    def load(source: str, **_: object) -> ExactModel:
        return ExactModel(torch.zeros(1, 3, 4, 4), captioned=False)

    monkeypatch.setattr("pointland.models.loading.load", load)
    with pytest.raises(ValueError, match=r"text\.png: text, not a picture"):
        command("exact", text, tmp_path / "walk.png")
    with pytest.raises(ValueError, match="takes no captions"):
        command("exact", image, tmp_path / "walk.png", caption="a boot")
    with pytest.raises(ValueError, match="got n 100"):
        command("exact", image, tmp_path / "walk.png", directions=100)
    capsys.readouterr()
    command("exact", image, tmp_path / "short.png", directions=2, reach=1e-9)
    assert "too short to change a pixel" in (said := capsys.readouterr().out)
    assert "nan" not in said
    command("exact", image, tmp_path / "walk.jpg", directions=2)
    with Image.open(tmp_path / "walk.jpg") as sheet:
        assert sheet.format == "JPEG"
