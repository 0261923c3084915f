import math

import pytest
import torch
from torch import Tensor

from captioned_mixture import CaptionedMixture, batch_of, gauss, memorizer, normal_points, pictured
from pointland import draws, exact
from pointland.metrics import CriticalScale, Metric, Recall, ladder, residual_map
from pointland.metrics.crossing import largest_within
from pointland.metrics.recall import pulled_back
from pointland.noise import Levels


def rungs(low: float = 0.1, high: float = 50.0, n: int = 25) -> tuple[float, ...]:
    return ladder(CaptionedMixture(gauss(2)).levels, low, high, n)


@pytest.mark.parametrize("n_steps", [3, 8])
@pytest.mark.parametrize("gap", [2.0, 12.0])
def test_the_basin_of_two_points_is_half_the_gap_over_the_noise_along_it(gap: float, n_steps: int) -> None:
    b, d = 8, 12
    ends = torch.stack([torch.zeros(d), torch.zeros(d)])
    ends[1] = gap * torch.nn.functional.normalize(normal_points(1, d))[0]
    batch = batch_of(CaptionedMixture(exact.points(ends)), ends[:1].repeat(b, 1))
    sigmas = rungs()
    basin = Recall(sigmas, sigmas[0], n_steps, n_draws=1)(batch)["basin_unconditional"]
    along = draws.normal(batch.x, batch.keys, 1, 0)[0] @ (ends[1] / gap)
    assert (along < 0).any()
    assert (along > 0).any()
    for found, towards in zip(basin.tolist(), along.tolist(), strict=True):
        wanted = gap / 2 / towards if towards > 0 else math.inf  # half way is the border, towards the other point
        below = max([0.0, *(sigma for sigma in sigmas if sigma < wanted)])
        above = min([sigmas[-1], *(sigma for sigma in sigmas if sigma > wanted)])
        assert below * (1 - 1e-4) <= found <= above * (1 + 1e-4)  # float32


def test_many_steps_follow_the_flow_of_a_gaussian() -> None:
    x = normal_points(3, 3, 4, 4)
    model = CaptionedMixture(gauss(48), levels=Levels(torch.logspace(-3, 2, 4000, dtype=torch.float64)))
    batch = batch_of(model, x)
    for sigma in (0.3, 3.0):
        found = pulled_back(batch, sigma, 0, 100)["unconditional"]
        wanted = (x + sigma * batch.noise(0)) / math.sqrt(1 + sigma**2)
        torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05)  # Euler's error at 100 steps


def test_a_memorized_point_comes_back_and_others_do_not() -> None:
    point, others = normal_points(1, 48, seed=1), normal_points(3, 48, seed=2)
    spike = exact.Gaussian(point[0].double(), torch.zeros(48, 0).double(), torch.zeros(0).double())
    model = CaptionedMixture(exact.Mixture((spike, gauss(48)), (0.5, 0.5)))
    sigmas = rungs(0.1, 20.0, 10)
    got = Recall(sigmas, sigmas[5])(batch_of(model, torch.cat([point, others])))
    basin, distance = got["basin_unconditional"], got["recall_distance_unconditional"]
    assert basin[0] > 4 * basin[1:].max()
    assert distance[0] < 0.01
    assert distance[1:].min() > 0.5


def test_only_the_memorizing_caption_has_a_basin() -> None:
    x = normal_points(3, 48)
    sigmas = rungs(0.1, 20.0, 8)
    got = Recall(sigmas, sigmas[3])(batch_of(memorizer(x), x, ["picture 0", "plain 1", None]))
    assert got["basin_conditional"][0] == pytest.approx(sigmas[-1])
    assert got["recall_distance_conditional"][0] < 1e-6
    assert got["basin_conditional"][1] < 1.0
    assert got["basin_unconditional"].max() < 1.0
    for name in ("basin_conditional", "basin_conditional_stderr", "recall_distance_conditional"):
        assert got[name].isnan().tolist()[2]


def test_one_step_is_the_denoising_loss_s_own_evaluation() -> None:
    x = normal_points(2, 48)
    model = memorizer(x)
    batch = batch_of(model, x, pictured(2))
    batch.denoised("conditional", 0.5, 0)
    sigma = model.levels.nearest(0.5).sigma
    Recall((0.5, sigma + 1), 0.5, n_steps=1, n_draws=1)(batch)
    assert model.calls == [4, 4]  # one level was there already


def test_the_map_is_low_where_a_template_is_frozen() -> None:
    """Left half the same in every picture, right half free."""
    free = torch.zeros(3, 4, 4, dtype=torch.bool)
    free[..., 2:] = True
    axes = torch.eye(48, dtype=torch.float64)[:, free.flatten()]
    template = exact.Gaussian(normal_points(48).double(), axes, torch.ones(24, dtype=torch.float64))
    x = template.sample(5, seed=3).reshape(5, 3, 4, 4)
    for n_steps in (1, 4):
        found = residual_map(batch_of(CaptionedMixture(template), x), "unconditional", 2.0, n_steps=n_steps)
        assert found.shape == (5, 4, 4)
        assert found[..., :2].max() < 1e-5
        assert found[..., 2:].min() > 0.2


def test_a_map_needs_a_picture_and_a_caption() -> None:
    with pytest.raises(ValueError, match="laid out"):
        residual_map(batch_of(CaptionedMixture(gauss(6)), normal_points(2, 6)), "unconditional", 1.0)
    with pytest.raises(ValueError, match="caption"):
        residual_map(batch_of(CaptionedMixture(gauss(48)), normal_points(2, 3, 4, 4)), "conditional", 1.0)


def wanted_critical(gap: float, tolerance: float) -> float:
    """Where the fixed point of v = tanh(v r), r = gap^2 / 4 sigma^2, lies at 1 - tolerance."""
    v = 1 - tolerance / (gap / 2)
    return gap / 2 / math.sqrt(math.atanh(v) / v)


@pytest.mark.parametrize("gap", [2.0, 10.0])
def test_the_critical_scale_of_two_points_is_half_their_gap(gap: float) -> None:
    ends = torch.tensor([[0.0], [gap]])
    sigmas = rungs(gap / 3, 0.7 * gap, 12)
    metric = CriticalScale(sigmas, n_iterations=40, tolerance=0.5 * gap / 2)  # half of the way to the middle
    found = metric(batch_of(CaptionedMixture(exact.points(ends)), ends))["critical_scale_unconditional"]
    torch.testing.assert_close(found, torch.full((2,), wanted_critical(gap, 0.5 * gap / 2)), rtol=0.03, atol=0.0)
    assert found.max() < gap / 2
    assert found.min() > 0.9 * gap / 2


def test_the_critical_scale_of_a_gaussian_is_where_the_iterations_shrink_it() -> None:
    x = torch.ones(2, 48)
    sigmas = rungs(0.05, 0.5, 30)
    found = CriticalScale(sigmas, n_iterations=16)(batch_of(CaptionedMixture(gauss(48)), x))
    wanted = math.sqrt(0.7 ** (-1 / 16) - 1)  # 1 - (1 + sigma^2)^-16 = 0.3
    torch.testing.assert_close(
        found["critical_scale_unconditional"], torch.full((2,), wanted), rtol=0.01, atol=0.0
    )  # between rungs
    assert found["critical_scale_conditional"].isnan().all()


def test_a_crossing_is_continuous_and_counted_from_below() -> None:
    sigmas = (1.0, 2.0, 4.0)

    def at(*distances: float) -> float:
        return float(largest_within(sigmas, torch.tensor(distances)[:, None], 0.5))

    assert at(0.0, 0.0, 0.0) == 4.0
    assert at(0.25, 0.75, 0.0) == pytest.approx(1.5)  # that it comes back further up does not count
    assert at(1.0, 2.0, 3.0) == pytest.approx(0.5)
    assert at(0.0, 0.0, 1.0) == pytest.approx(3.0)
    assert math.isnan(at(0.0, math.nan, 0.0))


def test_a_ladder_holds_trained_levels() -> None:
    levels = Levels(torch.tensor([0.1, 0.2, 0.4, 0.8, 1.6], dtype=torch.float64))
    assert ladder(levels, 0.01, 100.0, 3) == pytest.approx((0.1, 0.4, 1.6))
    assert ladder(levels, 0.2, 0.8, 30) == pytest.approx((0.2, 0.4, 0.8))
    with pytest.raises(ValueError, match="low < high"):
        ladder(levels, 1.0, 0.5, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recall((), 1.0), "ascend"),
        (lambda: Recall((2.0, 1.0), 1.0), "ascend"),
        (lambda: Recall((1.0, 2.0), 3.0), "not one of"),
        (lambda: Recall((1.0,), 1.0, n_steps=0), "steps"),
        (lambda: Recall((1.0,), 1.0, tolerance=0.0), "positive"),
        (lambda: CriticalScale((1.0,), n_iterations=0), "iteration"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


def test_a_start_outside_the_trained_levels_is_refused() -> None:
    x = normal_points(2, 48)
    with pytest.raises(ValueError, match="above its highest"):
        Recall((1.0, 1000.0), 1.0)(batch_of(CaptionedMixture(gauss(48)), x))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5, equal_nan=True)


def test_recall_and_critical_scale_do_not_see_the_batch() -> None:
    x, sigmas = normal_points(4, 3, 4, 4), rungs(0.1, 10.0, 5)
    captions = ["picture 0", None, "plain 1", "picture 3"]
    keys = [f"key {i}" for i in range(4)]
    metrics: list[Metric] = [Recall(sigmas, sigmas[2]), CriticalScale(sigmas, n_iterations=4)]
    for metric in metrics:
        together = metric(batch_of(memorizer(x), x, captions, keys))
        turned = metric(batch_of(memorizer(x), x.flip(0), captions[::-1], keys[::-1]))
        same(together, {name: value.flip(0) for name, value in turned.items()})
        for i in range(4):
            alone = metric(batch_of(memorizer(x), x[i : i + 1], captions[i : i + 1], keys[i : i + 1]))
            same({name: value[i : i + 1] for name, value in together.items()}, alone)
