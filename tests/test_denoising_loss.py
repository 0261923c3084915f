import pytest
import torch

from pointland import draws, exact
from pointland.lid import DenoisingLoss, denoising_loss


@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0])
def test_a_gaussian_gives_the_soft_count(sigma: float) -> None:
    plane = exact.subspace(d=24, k=6, seed=2)
    x = plane.sample(400, seed=0)
    keys = [str(i) for i in range(len(x))]
    found = DenoisingLoss(sigma, n_draws=8)(plane, x, keys)
    wanted = float(plane.soft_count(torch.tensor([sigma])))
    # the mean over points and draws, within five standard errors of that mean
    assert abs(float(found.value.mean()) - wanted) < 5 * float(found.value.std()) / 20 + 1e-3


def test_the_error_is_that_of_a_chi_square() -> None:
    plane = exact.subspace(d=40, k=8)
    x = plane.sample(4, seed=0)
    found = DenoisingLoss(0.01, n_draws=2000)(plane, x, list("abcd"))
    one_draw = found.stderr * 2000**0.5
    torch.testing.assert_close(one_draw, torch.full((4,), (2 * 8.0) ** 0.5), rtol=0.1, atol=0)  # sd of an sd: 2 %


def test_a_memorized_point_gives_exactly_nothing_and_no_error() -> None:
    x0 = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    found = DenoisingLoss(0.05)(exact.points(x0), x0, list("abcde"))
    assert float(found.value.max()) < 1e-3
    assert float(found.stderr.max()) < 1e-3


def test_more_draws_extend_fewer_and_neighbours_do_not_matter() -> None:
    mixture = exact.mixture(d=16, dims=(2, 4), seed=0)
    x = mixture.sample(3, seed=0)
    four = denoising_loss(mixture, x, torch.tensor([0.3]), noises=draws.normal(x, list("abc"), 4, 0)).value
    parts = [
        denoising_loss(mixture, x, torch.tensor([0.3]), noises=draws.normal(x, list("abc"), 2, 0, start=s)).value
        for s in (0, 2)
    ]
    torch.testing.assert_close((parts[0] + parts[1]) / 2, four)
    alone = DenoisingLoss(0.3, 4)(mixture, x[1:2], ["b"]).value
    torch.testing.assert_close(alone[0], four[1], rtol=1e-5, atol=1e-5)


def test_no_gradient_is_kept() -> None:
    plane = exact.subspace(d=4, k=2)
    x = plane.sample(2, seed=0).requires_grad_()
    assert not DenoisingLoss(0.1)(plane, x, ["a", "b"]).value.requires_grad


def test_no_draws_are_refused() -> None:
    plane = exact.subspace(d=4, k=1)
    with pytest.raises(ValueError, match="at least one draw"):
        denoising_loss(plane, plane.sample(1, seed=0), torch.tensor([0.1]), noises=torch.empty(0, 1, 4))


def test_pairs_of_noises_cost_what_singles_do_and_lose_on_a_plane() -> None:
    plane = exact.subspace(d=24, k=8)
    x = plane.sample(1).expand(400, -1)
    keys = [str(i) for i in range(400)]
    singles, pairs = (DenoisingLoss(0.01, 8, antithetic=a)(plane, x, keys) for a in (False, True))
    # a pair is one draw of the same chi-square: twice the variance
    assert 1.6 < float(pairs.value.var() / singles.value.var()) < 2.5
    assert 1.2 < float(pairs.stderr.mean() / singles.stderr.mean()) < 1.6  # and it says so
    torch.testing.assert_close(pairs.value.mean(), singles.value.mean(), rtol=0.05, atol=0)


def test_pairs_win_where_the_mixed_term_is_the_larger() -> None:
    wide = exact.subspace(d=24, k=8)
    x = wide.sample(1).expand(400, -1)
    keys = [str(i) for i in range(400)]
    singles, pairs = (DenoisingLoss(3.0, 8, antithetic=a)(wide, x, keys) for a in (False, True))
    assert float(pairs.value.var() / singles.value.var()) < 0.4


def test_an_odd_number_of_pairs_is_refused() -> None:
    plane = exact.subspace(d=4, k=1)
    with pytest.raises(ValueError, match="come in pairs"):
        DenoisingLoss(0.1, 3, antithetic=True)(plane, plane.sample(1), ["a"])
