import pytest
import torch

from pointland import draws, exact
from pointland.derivatives import Derivative, products
from pointland.lid import Flipd, flipd, flipd_exact
from pointland.lid.flipd import from_products


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("d", "k"), [(3, 0), (20, 5), (48, 47)])
def test_a_plane_gives_its_dimension_and_a_point_zero(d: int, k: int, dtype: torch.dtype) -> None:
    plane = exact.subspace(d=d, k=k)
    x = plane.sample(4, seed=0).to(dtype)
    found = flipd_exact(plane, x, torch.tensor([1e-2], dtype=dtype))
    # bias of the soft count k sigma^2 plus float32 in the residual
    torch.testing.assert_close(found.value, torch.full((4,), float(k), dtype=dtype), atol=2e-2, rtol=0)


def test_the_perfect_memorizer_has_dimension_zero_at_its_points_and_off_them_a_large_residual() -> None:
    x0 = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    memorizer = exact.points(x0)
    assert flipd_exact(memorizer, x0, torch.tensor([0.05])).value.abs().max() < 1e-3
    assert flipd_exact(memorizer, x0 + 1, torch.tensor([0.05])).parts["residual"].min() > 100


@pytest.mark.parametrize("derivative", ["vjp", "jvp", "finite-difference"])
def test_probes_are_unbiased_and_their_error_is_the_stated_one(derivative: Derivative) -> None:
    plane = exact.subspace(d=30, k=6, seed=1)
    x = plane.sample(8, seed=0)
    keys = [str(i) for i in range(8)]
    sigma = torch.tensor([0.05])
    found = flipd(plane, x, sigma, probes=draws.signs(x, keys, 400, 0), derivative=derivative)
    truth = flipd_exact(plane, x, sigma).value
    assert ((found.value - truth).abs() < 4.5 * found.stderr).all()  # 8 items: a 4.5-sigma event is 1 in 20,000
    assert (found.stderr < 0.3).all()
    torch.testing.assert_close(found.parts["trace"] + found.parts["residual"], found.value)


def test_one_item_never_depends_on_its_neighbours() -> None:
    mixture = exact.mixture(d=16, dims=(2, 4), seed=0)
    x = mixture.sample(5, seed=0)
    keys = list("abcde")
    together = Flipd(0.1)(mixture, x, keys)
    for i in range(5):
        alone = Flipd(0.1)(mixture, x[i : i + 1], keys[i : i + 1])
        torch.testing.assert_close(alone.value[0], together.value[i], rtol=1e-5, atol=1e-5)
    order = [3, 1, 4, 0, 2]
    torch.testing.assert_close(
        Flipd(0.1)(mixture, x[order], [keys[i] for i in order]).value, together.value[order], rtol=1e-5, atol=1e-5
    )


def test_sigma_per_item_equals_one_at_a_time() -> None:
    plane = exact.subspace(d=12, k=3)
    x = plane.sample(2, seed=0)
    probes = draws.signs(x, ["a", "b"], 3, 0)
    both = flipd(plane, x, torch.tensor([0.1, 0.4]), probes=probes).value
    for i, s in enumerate((0.1, 0.4)):
        torch.testing.assert_close(
            flipd(plane, x[i : i + 1], torch.tensor([s]), probes=probes[:, i : i + 1]).value[0], both[i]
        )


def test_from_products_is_the_same_number() -> None:
    plane = exact.subspace(d=12, k=3)
    x = plane.sample(2, seed=0)
    sigma, probes = torch.tensor([0.2]), draws.signs(x, ["a", "b"], 3, 0)
    made = from_products(x, sigma, probes, products(plane, x, sigma, probes=probes))
    assert torch.equal(made.value, flipd(plane, x, sigma, probes=probes).value)


def test_exact_setting_and_single_probe_error() -> None:
    plane = exact.subspace(d=12, k=3)
    x = plane.sample(2, seed=0)
    assert (Flipd(0.01, "exact")(plane, x, ["a", "b"]).stderr == 0).all()
    assert Flipd(0.01, 1)(plane, x, ["a", "b"]).stderr.isnan().all()


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_sigma_is_refused(sigma: float) -> None:
    plane = exact.subspace(d=4, k=1)
    with pytest.raises(ValueError, match="sigma must be positive and finite"):
        Flipd(sigma)(plane, plane.sample(1, seed=0), ["a"])


def test_no_probes_are_refused() -> None:
    plane = exact.subspace(d=4, k=1)
    x = plane.sample(1, seed=0)
    with pytest.raises(ValueError, match="at least one probe"):
        flipd(plane, x, torch.tensor([0.1]), probes=torch.empty(0, 1, 4))
