import math

import pytest
import torch

from pointland.noise import Level, Levels, levels_from_alphas, sigma_of_time


def levels(*sigmas: float) -> Levels:
    return Levels(torch.tensor(sigmas, dtype=torch.float64))


def test_nearest_is_nearest_in_ratio() -> None:
    ladder = levels(0.01, 1.0, 100.0)
    # 0.2 is nearer to 0.01 in difference, to 1 in ratio
    assert ladder.nearest(0.2) == Level(1.0, 1)
    assert ladder.nearest(0.09) == Level(0.01, 0)
    assert ladder.nearest(11.0) == Level(100.0, 2)


def test_a_level_is_nearest_to_itself_even_from_float32() -> None:
    ladder = levels(0.1, 0.3, 0.7)
    for index, sigma in enumerate(ladder.sigmas):
        assert ladder.nearest(float(sigma)).timestep == index
        assert ladder.nearest(float(sigma.float())).timestep == index


@pytest.mark.parametrize(("sigma", "side"), [(0.0999, "below"), (0.71, "above"), (float("nan"), "")])
def test_outside_the_trained_range_is_an_error_that_names_the_range(sigma: float, side: str) -> None:
    with pytest.raises(ValueError, match=f"{side}.*pass a sigma from 0.1 to 0.7"):
        levels(0.1, 0.3, 0.7).nearest(sigma)


def test_one_level() -> None:
    assert levels(0.5).nearest(0.5) == Level(0.5, 0)
    with pytest.raises(ValueError, match="above"):
        levels(0.5).nearest(0.6)


def test_index_of_a_batch_agrees_with_nearest() -> None:
    ladder = levels(*torch.logspace(-2, 2, 50, dtype=torch.float64).tolist())
    sigma = torch.logspace(-1.9, 1.9, 77)
    assert ladder.index(sigma).tolist() == [ladder.nearest(float(s)).timestep for s in sigma]


@pytest.mark.parametrize("bad", [[], [0.0, 1.0], [-1.0], [1.0, 1.0], [2.0, 1.0], [1.0, float("nan")]])
def test_levels_must_be_positive_and_ascend(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="noise levels must"):
        Levels(torch.tensor(bad, dtype=torch.float64))


def test_levels_from_alphas_invert_the_schedule() -> None:
    sigmas = torch.tensor([0.03, 0.5, 14.0], dtype=torch.float64)
    found = levels_from_alphas(1 / (1 + sigmas**2))
    # 1 - a loses digits at small sigma: 1e-16 / 0.03^2
    torch.testing.assert_close(found.sigmas, sigmas, rtol=1e-12, atol=0)
    assert found.sigmas.dtype == torch.float64


def test_zero_terminal_signal_is_left_out() -> None:
    found = levels_from_alphas(torch.tensor([0.9, 0.5, 0.0]))
    assert len(found.sigmas) == 2
    assert bool(found.sigmas.isfinite().all())


def test_the_paper_s_clock() -> None:
    assert sigma_of_time(0.1) == pytest.approx(0.34, abs=0.005)  # given to two digits
    assert sigma_of_time(0.01) == pytest.approx(0.045, abs=0.001)
    assert sigma_of_time(0.0) == 0.0
    # small t: sigma^2 is the integral of beta; the rest is of relative order sigma^2
    assert sigma_of_time(1e-6) == pytest.approx(math.sqrt(1e-7), rel=1e-4)
