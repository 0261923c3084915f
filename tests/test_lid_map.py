import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from models import Shrink
from pointland import draws, exact
from pointland.derivatives import jacobian
from pointland.explanation.lid_map import LidMap, caption_maps, decoded_map, gain_map, lid_map, to_pixels
from pointland.explanation.map_mask import choose_threshold, frozen_mask, intersection_over_union
from pointland.explanation.map_picture import RAMP, colored, map_png
from pointland.lid import Flipd, denoising_loss

SHAPE = (3, 4, 5)
SIGMA = torch.tensor([0.1])


def frozen_left(dtype: torch.dtype = torch.float64) -> tuple[exact.Gaussian, Tensor]:
    """Return a Gaussian on pictures of three channels of which the first two columns never vary, and its soft map."""
    variances = torch.rand(SHAPE, generator=torch.Generator().manual_seed(3), dtype=dtype) * 0.05
    variances[..., :2] = 0
    return exact.gaussian(torch.diag(variances.flatten())), (variances / (variances + SIGMA.item() ** 2)).sum(0)


def points(model: exact.Gaussian, n: int, seed: int = 0) -> tuple[Tensor, list[str]]:
    return model.sample(n, seed).reshape(n, *SHAPE), [f"{seed}-{i}" for i in range(n)]


def test_frozen_places_are_frozen_and_free_ones_as_free_as_they_are() -> None:
    model, truth = frozen_left()
    x, keys = points(model, 400)
    found = lid_map(model, x, SIGMA, noises=draws.normal(x, keys, 8, 0))
    assert float(found.value[..., :2].max()) < 1e-10
    # the mean over points and draws, within five of its own standard errors; 12 places
    error = found.value.std(0) / 20
    assert bool(((found.value.mean(0) - truth).abs() <= 5 * error + 1e-6).all())


def test_on_an_axis_aligned_plane_the_map_is_a_count() -> None:
    free = torch.zeros(SHAPE)
    free[:2, 1:3, 1:4] = 1.0  # two of three channels vary in a rectangle
    plane = exact.gaussian(torch.diag(free.flatten()))
    x, keys = points(plane, 100)
    sigma = torch.tensor([0.01])
    found = lid_map(plane, x, sigma, noises=draws.normal(x, keys, 20, 0)).value.mean(0)
    torch.testing.assert_close(found, free.sum(0), rtol=0.12, atol=1e-3)  # a chi-square of 2: five times sqrt(1 / 2000)
    exactly = gain_map(plane, x, sigma, probes=draws.signs(x, keys, 1, 0)).value
    torch.testing.assert_close(exactly, free.sum(0).expand(100, -1, -1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("sigma", [torch.tensor([0.3]), torch.tensor([0.1, 0.2, 0.5])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_maps_sum_to_the_estimators_values(sigma: Tensor, dtype: torch.dtype) -> None:
    model = exact.subspace(d=60, k=17, seed=1)
    x, keys = model.sample(3, 0, dtype).reshape(3, *SHAPE), list("abc")
    noises, probes = draws.normal(x, keys, 5, 0), draws.signs(x, keys, 4, 0)
    whole = denoising_loss(model, x, sigma, noises=noises)
    torch.testing.assert_close(lid_map(model, x, sigma, noises=noises).value.sum((1, 2)), whole.value)
    if len(sigma) == 1:
        trace = Flipd(float(sigma), n_probes=4)(model, x, keys).parts["trace"]
        torch.testing.assert_close(gain_map(model, x, sigma, probes=probes).value.sum((1, 2)), trace)


def test_the_gain_is_the_diagonal_of_the_jacobian() -> None:
    model = exact.mixture(d=60, dims=(9, 20), seed=0)
    x, keys = model.sample(1, 0, torch.float64).reshape(1, *SHAPE), ["a"]
    found = gain_map(model, x, SIGMA, probes=draws.signs(x, keys, 300, 0))
    truth = jacobian(model, x, SIGMA).diagonal(dim1=1, dim2=2).reshape(1, *SHAPE).sum(1)
    assert bool(((found.value - truth).abs() < 5 * found.stderr).all())


def test_the_error_is_honest_and_shrinks_with_the_root_of_the_draws() -> None:
    model, _ = frozen_left()
    x = points(model, 1)[0].expand(300, -1, -1, -1)  # one point, 300 sets of draws
    keys = [str(i) for i in range(300)]
    few, many = (lid_map(model, x, SIGMA, noises=draws.normal(x, keys, n, 0)) for n in (8, 32))
    free = few.value.mean(0) > 0.01
    for found in (few, many):
        spread = found.value.std(0)[free]
        claimed = found.stderr.square().mean(0).sqrt()[free]
        torch.testing.assert_close(claimed, spread, rtol=0.25, atol=0)  # the sd of an sd of 300 is 4 to 6 %
    ratio = few.stderr.square().mean(0).sqrt()[free] / many.stderr.square().mean(0).sqrt()[free]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 2.0), rtol=0.15, atol=0)


def turns() -> dict[str, Callable[[Tensor], Tensor]]:
    """Return changes of a batch of pictures that undo themselves, by name."""
    return {
        "channels": lambda x: x.flip(-3),
        "rows": lambda x: x.flip(-2),
        "columns": lambda x: x.flip(-1),
    }


@pytest.mark.parametrize("name", list(turns()))
def test_flips_and_channels_commute_with_the_map(name: str) -> None:
    turn = turns()[name]
    model, _ = frozen_left()
    x, keys = points(model, 2)
    noises = draws.normal(x, keys, 3, 0)

    def turned(x: Tensor, sigma: Tensor) -> Tensor:
        return turn(model(turn(x), sigma))

    plain, other = lid_map(model, x, SIGMA, noises=noises), lid_map(turned, turn(x), SIGMA, noises=turn(noises))
    torch.testing.assert_close(other.value, plain.value if name == "channels" else turn(plain.value))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_pixels_keep_the_sum_and_a_level_map_stays_level(h: int, w: int, tall: int, wide: int, seed: int) -> None:
    cells = torch.randn(2, h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    spread = to_pixels(LidMap(cells, cells.abs()), (h * tall, w * wide))
    torch.testing.assert_close(spread.value.sum((1, 2)), cells.sum((1, 2)))
    level = to_pixels(LidMap(torch.ones_like(cells), cells), (h * tall, w * wide)).value
    torch.testing.assert_close(level, torch.full_like(level, 1 / (tall * wide)))


def test_decoded_draws_keep_the_sum_and_the_frozen_half() -> None:
    variances = torch.zeros(3, 4, 4)
    variances[..., 2:] = 0.09
    model = exact.gaussian(torch.diag(variances.flatten()))
    x, keys = model.sample(2, 0).reshape(2, 3, 4, 4), ["a", "b"]
    noises = draws.normal(x, keys, 6, 0)
    found = decoded_map(Shrink().decode, model, x, SIGMA, noises=noises)
    assert found.value.shape == (2, 8, 8)
    torch.testing.assert_close(
        found.value.sum((1, 2)), denoising_loss(model, x, SIGMA, noises=noises).value, rtol=1e-4, atol=0
    )
    assert float(found.value[..., :3].sum()) < 1e-2 * float(found.value.sum())
    assert bool((found.stderr >= 0).all())
    alone = decoded_map(Shrink().decode, model, x, SIGMA, noises=noises[:1])
    assert bool(alone.stderr.isnan().all())


def halves(x: Tensor) -> Tensor:
    """A decoder that shows the first channel in the left pixel of every cell, the second in the right one."""
    wide = torch.stack([x[:, 0], x[:, 1]], -1).flatten(2).repeat_interleave(2, 1)
    return (wide * 60 + 128).round().clamp(0, 255).to(torch.uint8)[:, None].repeat(1, 3, 1, 1)


def test_decoded_draws_see_within_a_cell_with_an_honest_error() -> None:
    variances = torch.zeros(2, 2, 2)
    variances[0] = 1.0  # what the left pixels show is free, what the right ones show is frozen
    model, sigma = exact.gaussian(torch.diag(variances.flatten())), torch.tensor([0.5])
    x = model.sample(1, 0).reshape(1, 2, 2, 2).expand(60, -1, -1, -1)
    found = decoded_map(halves, model, x, sigma, noises=draws.normal(x, [str(i) for i in range(60)], 8, 0))
    assert float(found.value[..., 0::2].sum()) > 2 * float(found.value[..., 1::2].sum())
    spread, claimed = (float(one.mean().sqrt()) for one in (found.value.var(0), found.stderr.square()))
    assert claimed == pytest.approx(spread, rel=0.3)  # a jackknife of 8 is somewhat too large


def test_what_a_caption_froze_has_the_error_of_differences() -> None:
    model, _ = frozen_left()
    x, keys = points(model, 2)
    noises = draws.normal(x, keys, 6, 0)
    maps = caption_maps(exact.points(x), model, x, SIGMA, noises=noises)
    torch.testing.assert_close(maps.frozen.value, maps.unconditional.value - maps.conditional.value)
    same = caption_maps(model, model, x, SIGMA, noises=noises)
    assert float(same.frozen.stderr.max()) == 0.0
    assert float(same.unconditional.stderr.max()) > 0


def test_what_is_no_grid_or_has_no_draws_is_refused() -> None:
    plane = exact.subspace(d=12, k=3)
    x = plane.sample(2, 0)
    with pytest.raises(ValueError, match="reshape them to a grid"):
        lid_map(plane, x, SIGMA, noises=draws.normal(x, ["a", "b"], 2, 0))
    grid = x.reshape(2, 3, 2, 2)
    with pytest.raises(ValueError, match="at least one draw"):
        lid_map(plane, grid, SIGMA, noises=torch.empty(0, 2, 3, 2, 2))
    with pytest.raises(ValueError, match=r"at least one draw.*signs"):
        gain_map(plane, grid, SIGMA, probes=torch.empty(0, 2, 3, 2, 2))
    with pytest.raises(ValueError, match="positive"):
        lid_map(plane, grid, torch.tensor([0.0]), noises=torch.zeros(1, 2, 3, 2, 2))
    with pytest.raises(ValueError, match="does not divide"):
        to_pixels(LidMap(torch.ones(1, 2, 2), torch.ones(1, 2, 2)), (5, 4))


def test_a_threshold_from_other_pictures_finds_the_frozen_part() -> None:
    model, _ = frozen_left()
    x, keys = points(model, 20)
    maps = lid_map(model, x, SIGMA, noises=draws.normal(x, keys, 32, 0)).value
    truth = torch.zeros(20, *SHAPE[1:], dtype=torch.bool)
    truth[..., :2] = True
    threshold = choose_threshold(maps[:10], truth[:10])
    masks = frozen_mask(maps[10:] * 7.0, threshold)  # a map's own scale does not matter
    assert float(intersection_over_union(masks, truth[10:]).min()) > 0.9
    negative = torch.where(truth[:1], -3.0, 1.0)  # a network's gain, whose mean says nothing
    assert bool((frozen_mask(negative, 0.5) == truth[:1]).all())
    with pytest.raises(ValueError, match="a free and a frozen part"):
        choose_threshold(maps[:1], torch.ones_like(truth[:1]))


def test_agreement_of_masks() -> None:
    a, b = torch.zeros(2, 2, 2, dtype=torch.bool), torch.zeros(2, 2, 2, dtype=torch.bool)
    a[0, 0], b[0, :, 0] = True, True
    assert intersection_over_union(a, b).tolist() == [pytest.approx(1 / 3), 1.0]


def test_colors_rise_in_lightness_and_say_which_end() -> None:
    levels = colored(np.linspace(0, 1, 64)[None], low=0.0, high=1.0)[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(levels) > 0).all()
    ends = colored(np.array([[-5.0, 9.0]]), low=0.0, high=1.0)[0]
    assert [tuple(int(v) for v in end) for end in ends] == [RAMP[0], RAMP[-1]]
    with pytest.raises(ValueError, match="low below high"):
        colored(np.zeros((1, 1)), low=1.0, high=1.0)


@pytest.mark.parametrize("signed", [False, True])
def test_a_drawn_map_is_a_picture_with_a_ruler(signed: bool) -> None:
    found = np.array([[0.0, 2.0], [1.0, -2.0 if signed else 0.0]])
    drawn = map_png(found, side=64, signed=signed)
    with Image.open(io.BytesIO(drawn)) as picture:
        assert picture.size[0] == 64
        assert picture.size[1] > 64
        assert picture.getpixel((40, 5)) == tuple(
            int(v) for v in colored(found, low=-2.0 if signed else 0.0, high=2.0, signed=signed)[0, 1]
        )
    assert drawn == map_png(found, side=64, signed=signed)
    over = map_png(found, side=64, signed=signed, picture=np.full((3, 8, 8), 200, dtype=np.uint8))
    assert over != drawn
    assert map_png(np.zeros((2, 2)), side=32)
