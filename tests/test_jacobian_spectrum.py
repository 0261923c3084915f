import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pointland import draws, exact
from pointland.derivatives import jacobian
from pointland.lid.jacobian_spectrum import JacobianRank, count_directions, jacobian_spectrum
from pointland.testing import NotConformant, check_denoiser

Exact = exact.Circle | exact.Gaussian | exact.Mixture | exact.Points


def names(n: int) -> list[str]:
    return [str(i) for i in range(n)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("d", "k"), [(1, 0), (1, 1), (3, 0), (3, 3), (20, 5), (48, 44), (48, 47), (48, 48), (100, 30), (1024, 4)]
)
def test_a_plane_gives_exactly_its_dimension(d: int, k: int, dtype: torch.dtype) -> None:
    plane = exact.subspace(d=d, k=k)
    x = plane.sample(2, seed=0, dtype=dtype)
    found = JacobianRank(0.01)(plane, x, names(2))
    assert found.value.tolist() == [k, k]
    assert found.value.dtype == dtype
    assert (found.parts["gap"] > 9).all()  # log of l / sigma^2 is 9.2
    assert (found.parts["directions"] <= max(8, 2 * (k + 4))).all()


def test_the_size_of_latents_takes_few_products() -> None:
    plane = exact.subspace(d=16_384, k=9)
    found = JacobianRank(0.05)(plane, plane.sample(1, seed=0), ["a"])
    assert found.value.tolist() == [9]
    assert found.parts["directions"].tolist() == [16]


@pytest.mark.slow
@pytest.mark.parametrize("d", [1024, 3072])
def test_high_dimension(d: int) -> None:
    """A linear mixture in high dimension, where the published normal bundle is said to err by 529 and 2,949."""
    model = exact.mixture(d, (10, 80, 200))
    x = torch.cat([piece.sample(1, seed=1) for piece in model.pieces])
    assert JacobianRank(0.05)(model, x, names(3)).value.tolist() == [10, 80, 200]


def test_every_exact_model_gives_its_own_dimension(exact_model: Exact) -> None:
    x = exact_model.sample(6, seed=4)
    found = JacobianRank(0.01)(exact_model, x, names(6))
    assert torch.equal(found.value, exact_model.lid(x))


@given(d=st.integers(2, 30), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_the_basis_spans_the_plane(d: int, share: float, seed: int) -> None:
    k = round(share * d)
    plane = exact.subspace(d, k, seed)
    x, sigma = plane.sample(2, seed, torch.float64), torch.tensor([1e-3], dtype=torch.float64)
    found = jacobian_spectrum(plane, x, sigma, probes=draws.signs(x, ["a", "b"], min(k + 3, d), seed))
    tangent = found.basis[:k, 0]
    torch.testing.assert_close(tangent.T @ tangent, plane.axes @ plane.axes.T, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.values, found.singular_values, rtol=0, atol=1e-6)


def test_all_probes_give_the_whole_spectrum_of_the_symmetric_part() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(9, 9, generator=generator, dtype=torch.float64)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x @ matrix.T

    x = torch.zeros(2, 9, dtype=torch.float64)
    sigma = torch.tensor([1.0], dtype=torch.float64)
    found = jacobian_spectrum(denoise, x, sigma, probes=draws.signs(x, ["a", "b"], 9, 0))
    wanted = torch.linalg.eigvalsh((matrix + matrix.T) / 2).flip(0)
    torch.testing.assert_close(found.values[1], wanted, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.singular_values[1], torch.linalg.svdvals(matrix), rtol=0, atol=1e-9)
    torch.testing.assert_close(jacobian(denoise, x, sigma)[0], matrix)
    with pytest.raises(NotConformant):  # a law of denoisers is that they pull towards data; a random matrix does not
        check_denoiser(denoise, torch.randn(2, 9, generator=generator).double(), sigma, vanishing=1e-3)


def test_an_antisymmetric_error_changes_no_count() -> None:
    plane = exact.subspace(d=40, k=6, shift=0.0)
    skew = torch.randn(40, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    skew = 0.02 * (skew - skew.T)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return plane(x, sigma) + x @ skew

    x = plane.sample(2, seed=0, dtype=torch.float64)
    assert JacobianRank(0.01)(denoise, x, names(2)).value.tolist() == [6, 6]


def test_order_batch_and_neighbours_change_nothing() -> None:
    model = exact.mixture(d=40, dims=(0, 3, 20), seed=0)
    x, keys = model.sample(8, seed=0), names(8)
    together = JacobianRank(0.05)(model, x, keys)
    assert torch.equal(together.value, model.lid(x))
    assert len(set(together.parts["directions"].tolist())) > 1  # items of one batch stop where each would alone
    for i in range(8):
        alone = JacobianRank(0.05)(model, x[i : i + 1], keys[i : i + 1])
        assert alone.value[0] == together.value[i]
        assert alone.parts["directions"][0] == together.parts["directions"][i]
        torch.testing.assert_close(alone.parts["gap"][0], together.parts["gap"][i], rtol=1e-3, atol=0)
    back = JacobianRank(0.05)(model, x.flip(0), keys[::-1])
    assert torch.equal(back.value.flip(0), together.value)


def test_sigma_per_item_and_pictures() -> None:
    plane = exact.subspace(d=24, k=2, variances=[1.0, 0.01])
    x = plane.sample(2, seed=0).reshape(2, 2, 3, 4)
    sigma = torch.tensor([0.01, 0.3])
    found = jacobian_spectrum(plane, x, sigma, probes=draws.signs(x, ["a", "b"], 5, 0))
    assert count_directions(found.values).size.tolist() == [2, 1]
    assert found.basis.shape == (5, 2, 2, 3, 4)


def test_too_few_directions_are_a_lower_bound_and_say_so() -> None:
    plane = exact.subspace(d=30, k=12)
    found = JacobianRank(0.01, n_most=8)(plane, plane.sample(1, seed=0), ["a"])
    assert (found.value.item(), found.parts["saturated"].item()) == (8, 1)
    full = JacobianRank(0.01)(plane, plane.sample(1, seed=0), ["a"])
    assert (full.value.item(), full.parts["saturated"].item()) == (12, 0)


def test_a_network_with_large_negative_eigenvalues_and_no_gap_is_not_cut_short() -> None:
    """What a sketch sees first are the largest eigenvalues of either sign; the trained miniature is of this kind."""
    axes = torch.linalg.qr(torch.randn(96, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    values = torch.cat([torch.full((5,), 0.97), torch.linspace(0.0, -2.0, 91)]).double()
    matrix: Tensor = axes @ torch.diag(values) @ axes.T

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x @ matrix

    x = torch.zeros(1, 96, dtype=torch.float64)
    found = JacobianRank(1.0)(denoise, x, ["a"])
    assert (found.value.item(), found.parts["saturated"].item()) == (5, 0)
    few = JacobianRank(1.0, n_most=32)(denoise, x, ["a"])
    assert few.value.item() <= 5
    assert (few.parts["saturated"].item(), few.parts["leak"].item() > 0.1) == (1, True)


def test_the_gap_decides_between_a_tenth_and_nine_tenths() -> None:
    values = torch.tensor(
        [[0.99, 0.6, 0.55, 0.01], [0.99, 0.35, 0.3, 0.0], [0.09, 0.05, 0.0, 0.0], [0.99, 0.98, 0.3, 0.3]]
    )
    split = count_directions(values)
    assert split.size.tolist() == [3, 3, 0, 2]
    assert (split.gap > 3).all()
    none = count_directions(torch.linspace(0.95, 0.05, 40)[None])
    assert (none.size.item(), none.gap.item() < 0.6) == (20, True)  # no gap at all, and the diagnostic says so


def test_errors() -> None:
    plane = exact.subspace(d=4, k=1)
    x = plane.sample(1, seed=0)
    with pytest.raises(ValueError, match="1 to 4 probes, got 5"):
        jacobian_spectrum(plane, x, torch.tensor([0.1]), probes=draws.signs(x, ["a"], 5, 0))
    with pytest.raises(ValueError, match="1 to 4 probes, got 0"):
        jacobian_spectrum(plane, x, torch.tensor([0.1]), probes=torch.empty(0, 1, 4))
    with pytest.raises(ValueError, match="at least one direction"):
        JacobianRank(0.1, n_most=0)(plane, x, ["a"])
    for sigma in (0.0, float("nan")):
        with pytest.raises(ValueError, match="sigma must be positive and finite"):
            JacobianRank(sigma)(plane, x, ["a"])
