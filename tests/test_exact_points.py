import pytest
import torch
from torch import Tensor

from pointland import exact
from pointland.exact import points as module_or_function


def cloud(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(40, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 1.0, 20.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_denoised_is_the_weighted_mean_of_the_points(sigma: float, weighted: bool) -> None:
    x0 = cloud()
    weights = torch.arange(1.0, 41.0) if weighted else None
    model, scale = exact.points(x0, weights), torch.tensor([sigma], dtype=torch.float64)
    x = x0[:5] + sigma * torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logs = -(x[:, None] - x0).square().flatten(2).sum(-1) / (2 * sigma**2) + model.weights.double().log()
    wanted = torch.einsum("bm,mij->bij", logs.softmax(1), x0)
    # float64; log weights of size 10 / sigma^2 lose 1e-16 of that, but only where one point has all the belief
    torch.testing.assert_close(model(x, scale), wanted, rtol=0, atol=1e-12)


def test_a_copy_is_a_weight() -> None:
    x0 = cloud()
    copied = exact.points(torch.cat([x0, x0[:3], x0[:3]]))
    weights = torch.ones(40, dtype=torch.float64)
    weights[:3] = 3
    x, sigma = cloud() + 0.3, torch.tensor([0.8], dtype=torch.float64)
    torch.testing.assert_close(copied(x, sigma), exact.points(x0, weights)(x, sigma), rtol=0, atol=1e-13)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, sigma = exact.points(cloud()), cloud()[:4] + 0.1, torch.tensor([0.5], dtype=torch.float64)
    whole = model(x, sigma)
    monkeypatch.setitem(type(model).__call__.__globals__, "CHUNK_VALUES", 6 * 7)  # chunks of 7 points
    torch.testing.assert_close(model(x, sigma), whole, rtol=0, atol=1e-14)


def test_memorized_points_come_back_and_have_no_dimension() -> None:
    x0 = cloud(torch.float32)
    model = exact.points(x0)
    x = x0 + 0.01 * torch.randn(x0.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model(x, torch.tensor([0.01])), x0)
    assert model.lid(x0).tolist() == [0.0] * 40


def test_samples_follow_the_weights() -> None:
    model = exact.points(torch.tensor([[0.0], [1.0]]), torch.tensor([1.0, 3.0]))
    # 5 standard errors of a share of 3/4 among 10,000
    assert abs(float(model.sample(10_000).mean()) - 0.75) < 0.022
    assert torch.equal(model.sample(20, seed=1), model.sample(20, seed=1))


def test_bad_point_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="m at least 1"):
        exact.points(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="positive"):
        exact.points(torch.zeros(2, 3), torch.tensor([1.0, 0.0]))


def test_the_constructor_is_what_the_package_exports() -> None:
    assert callable(module_or_function)
