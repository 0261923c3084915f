import pytest
import torch
from torch import Tensor

from pointland import draws, exact
from pointland.lid.flipd import flipd
from pointland.lid.on_manifold import from_quadrature, on_manifold
from pointland.lid.spectrum import filtered_spectrum, quadrature

Exact = exact.Circle | exact.Gaussian | exact.Mixture | exact.Points


def names(n: int) -> list[str]:
    return [str(i) for i in range(n)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [0.01, 0.1])
def test_points_of_every_exact_model_are_on_it(exact_model: Exact, sigma: float, dtype: torch.dtype) -> None:
    x = exact_model.sample(20, seed=4, dtype=dtype)
    probes = draws.signs(x, names(20), 4, 0)
    found = on_manifold(exact_model, x, torch.tensor([sigma], dtype=dtype), probes=probes)
    assert found.valid.all()
    assert set(found.validity) == {"dimension"}


@pytest.mark.parametrize("n", [1, 4, 16])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0])
def test_false_alarms_on_a_plane_are_rare_at_every_scale(sigma: float, n: int) -> None:
    plane = exact.subspace(d=60, k=20)
    x = plane.sample(500, seed=0, dtype=torch.float64)
    probes = draws.signs(x, names(500), n, 0)
    found = on_manifold(plane, x, torch.tensor([sigma], dtype=torch.float64), probes=probes)
    assert sum(word == "off the manifold" for word in found.validity) <= 10  # 2 %; three errors of a chi-square are 1 %


def test_the_expectation_is_that_of_points_of_the_manifold() -> None:
    plane = exact.subspace(d=40, k=3, variances=[0.04, 0.2, 1.0])
    x, sigma = plane.sample(4000, seed=0, dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    found = on_manifold(plane, x, sigma, probes=draws.signs(x, names(4000), 8, 0))
    # 4,000 points: the mean of a residual of standard deviation 0.5 is known to 0.01
    assert abs(float(found.residual.mean() - found.expected.mean())) < 0.03


def test_a_point_that_was_never_learned_is_told_from_a_complex_one() -> None:
    """Both have a FLIPD of about 8; only one is a dimension."""
    complex_one = exact.subspace(d=20, k=8)
    simple = exact.subspace(d=20, k=0, shift=0.0)
    x, sigma = complex_one.sample(1, seed=0), torch.tensor([0.1])
    missed = simple.sample(1) + 0.1 * (8 / 20) ** 0.5
    for model, point, word in ((complex_one, x, "dimension"), (simple, missed, "off the manifold")):
        probes = draws.signs(point, ["a"], 400, 0)
        assert abs(flipd(model, point, sigma, probes=probes).value.item() - 8) < 0.8
        assert on_manifold(model, point, sigma, probes=probes).validity == (word,)
    assert on_manifold(simple, missed, sigma, probes=probes).excess.item() == pytest.approx(8, abs=0.01)


def test_a_negative_trace_and_one_above_d_are_no_dimensions() -> None:
    def scaled(gain: float) -> object:
        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            return gain * x

        return denoise

    x, sigma = torch.zeros(2, 16), torch.tensor([0.5])
    probes = draws.signs(x, ["a", "b"], 4, 0)
    for gain, word in ((-0.5, "negative"), (1.5, "above d"), (0.9, "dimension"), (0.0, "dimension")):
        assert on_manifold(scaled(gain), x, sigma, probes=probes).validity == (word, word)  # type: ignore[arg-type]


def test_too_few_probes_are_unsure() -> None:
    """A trace of 0 that one probe alone puts 10 dimensions off."""
    noisy = torch.randn(300, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy = (noisy + noisy.T) / 20

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x @ noisy

    x = torch.zeros(8, 300, dtype=torch.float64)
    found = on_manifold(denoise, x, torch.tensor([1.0], dtype=torch.float64), probes=draws.signs(x, names(8), 3, 1))
    assert "unsure" in found.validity


def test_eigenvalues_that_only_networks_have_spoil_neither_count_nor_expectation() -> None:
    """On a plane but for 40 eigenvalues of -1: FLIPD is negative, the filtered spectrum is the plane's."""
    axes = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    values = torch.tensor([0.9] * 4 + [-1.0] * 40 + [0.0] * 20, dtype=torch.float64)
    matrix: Tensor = axes @ torch.diag(values) @ axes.T

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x @ matrix

    x = torch.zeros(1, 64, dtype=torch.float64)
    sigma, probes = torch.tensor([1.0], dtype=torch.float64), draws.signs(x, ["a"], 200, 0)
    found = on_manifold(denoise, x, sigma, probes=probes)
    assert found.validity == ("negative",)
    assert abs(found.expected.item() - 4 * 0.9 * 0.1) < 0.1
    assert abs(filtered_spectrum(denoise, x, sigma, probes=probes).value.item() - 4) < 0.8


def test_it_is_free_beside_the_spectrum_and_items_are_alone() -> None:
    model = exact.mixture(d=24, dims=(0, 3, 9), seed=0)
    x = model.sample(5, seed=0, dtype=torch.float64)
    x[2] += 0.5
    sigma, probes = torch.tensor([0.3], dtype=torch.float64), draws.signs(x, names(5), 4, 0)
    whole = on_manifold(model, x, sigma, probes=probes)
    free = from_quadrature(x, sigma, model(x, sigma), quadrature(model, x, sigma, probes=probes))
    assert torch.equal(whole.limit, free.limit)
    assert torch.equal(whole.residual, flipd(model, x, sigma, probes=probes).parts["residual"])
    for rows in ([4, 3, 2, 1, 0], [2], [0, 3]):
        again = on_manifold(model, x[rows], sigma, probes=probes[:, rows])
        assert again.validity == tuple(whole.validity[i] for i in rows)
        torch.testing.assert_close(again.limit, whole.limit[rows], rtol=1e-7, atol=1e-7)
    assert whole.validity[2] == "off the manifold"
    assert not whole.valid[2]


def test_errors() -> None:
    plane = exact.subspace(d=4, k=1)
    x = plane.sample(1, seed=0)
    with pytest.raises(ValueError, match="sigma must be positive and finite"):
        on_manifold(plane, x, torch.tensor([0.0]), probes=draws.signs(x, ["a"], 1, 0))
    with pytest.raises(ValueError, match="at least one probe"):
        on_manifold(plane, x, torch.tensor([0.1]), probes=torch.empty(0, 1, 4))
