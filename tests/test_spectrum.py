from typing import Literal

import pytest
import torch
from scipy import stats
from torch import Tensor

from pointland import draws, exact
from pointland.denoiser import Denoiser
from pointland.derivatives import jacobian
from pointland.lid.flipd import flipd
from pointland.lid.spectrum import FilteredSpectrum, filtered_spectrum, step

Exact = exact.Circle | exact.Gaussian | exact.Mixture | exact.Points


def names(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def linear(matrix: Tensor) -> Denoiser:
    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x @ matrix.T

    return denoise


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("d", "k"), [(1, 1), (3, 0), (20, 5), (48, 47), (48, 48), (1024, 8), (16_384, 2)])
def test_a_plane_gives_its_dimension_within_the_error(d: int, k: int, dtype: torch.dtype) -> None:
    plane = exact.subspace(d=d, k=k)
    x = plane.sample(2, seed=0, dtype=dtype)
    found = FilteredSpectrum(0.05, n_probes=24, n_steps=3)(plane, x, names(2))
    assert ((found.value - k).abs() <= 4 * found.stderr + 1e-4).all()
    assert (found.stderr <= 1.8 * (2 * k / 24) ** 0.5 + 1e-6).all()
    assert (found.parts["transition"] < 1e-3).all()


def test_zero_and_all_are_exact() -> None:
    x0 = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    assert FilteredSpectrum(0.1)(exact.points(x0), x0[:3], names(3)).value.abs().max() < 1e-6
    full = exact.subspace(d=48, k=48)
    torch.testing.assert_close(FilteredSpectrum(0.1)(full, full.sample(3), names(3)).value, torch.full((3,), 48.0))


def test_enough_steps_give_the_filter_of_every_exact_model(exact_model: Exact) -> None:
    x, sigma = exact_model.sample(2, seed=4, dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64)
    d = x[0].numel()
    full = jacobian(exact_model, x, sigma)
    values, vectors = torch.linalg.eigh((full + full.mT) / 2)
    filtered = vectors @ torch.diag_embed(step(values)) @ vectors.mT
    probes = draws.signs(x, names(2), 3, 0)
    wanted = torch.einsum("nbi,bij,nbj->nb", probes.flatten(2), filtered, probes.flatten(2)).mean(0)
    for sides in ("one", "both"):
        found = filtered_spectrum(exact_model, x, sigma, probes=probes, n_steps=d + 2, sides=sides)
        torch.testing.assert_close(found.value, wanted, rtol=1e-6, atol=1e-6)


def test_the_step() -> None:
    values = torch.tensor([-3.0, 0.0, 0.5, 0.75, 1.0, 7.0], dtype=torch.float64)
    torch.testing.assert_close(step(values)[[0, 1, 2, 4, 5]], torch.tensor([0, 0, 0.5, 1, 1], dtype=torch.float64))
    torch.testing.assert_close(step(values, cutoff=3.0)[3], torch.tensor(0.5, dtype=torch.float64))
    torch.testing.assert_close(step(values[1:5], power=1.0), values[1:5])  # the plain trace


def test_power_one_is_the_trace_of_flipd() -> None:
    plane = exact.subspace(d=30, k=6, variances=[0.1, 0.3, 1.0, 2.0, 4.0, 9.0])
    x, sigma = plane.sample(3, seed=0, dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    probes = draws.signs(x, names(3), 5, 0)
    found = filtered_spectrum(plane, x, sigma, probes=probes, power=1.0, n_steps=2)
    torch.testing.assert_close(found.value, flipd(plane, x, sigma, probes=probes).parts["trace"], rtol=1e-9, atol=1e-9)


def test_small_eigenvalues_of_a_network_are_not_counted() -> None:
    """Error of 0.03 in each of 500 directions is 15 dimensions to a trace and none to a step."""
    axes = torch.linalg.qr(torch.randn(504, 504, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    values = torch.full((504,), 0.03, dtype=torch.float64)
    values[:4] = 1.0
    x = torch.zeros(2, 504, dtype=torch.float64)
    network = linear(axes @ torch.diag(values) @ axes.T)
    found = FilteredSpectrum(1.0, n_probes=32)(network, x, names(2))
    assert ((found.value - 4).abs() < 4 * found.stderr + 0.05).all()


@pytest.mark.parametrize("sides", ["one", "both"])
def test_a_jacobian_that_is_not_symmetric(sides: Literal["one", "both"]) -> None:
    generator = torch.Generator().manual_seed(0)
    axes = exact.subspace(d=30, k=6).axes
    matrix = axes @ axes.T + 0.02 * torch.randn(30, 30, generator=generator, dtype=torch.float64)
    symmetric = (matrix + matrix.T) / 2
    values, vectors = torch.linalg.eigh(symmetric)
    x, sigma = torch.zeros(1, 30, dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    probes = draws.signs(x, ["a"], 8, 0)
    flat = probes[:, 0]
    wanted = ((flat @ vectors).square() @ step(values)).mean()
    found = filtered_spectrum(linear(matrix), x, sigma, probes=probes, n_steps=30, sides=sides).value[0]
    # every step that there is: one side spans the whole space too, and both are exact
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    few = filtered_spectrum(linear(matrix), x, sigma, probes=probes, n_steps=5, sides=sides).value[0]
    assert abs(float(few - wanted)) < 0.05
    antisymmetric = linear(matrix - matrix.T)
    assert filtered_spectrum(antisymmetric, x, sigma, probes=probes, sides="both").value.abs() < 1e-9


def test_the_transition_tells_a_gap_from_none() -> None:
    clear = exact.subspace(d=30, k=6)
    none = exact.subspace(d=30, k=30, variances=torch.logspace(-4, 0, 30).tolist())
    for model, low, high in ((clear, 0.0, 0.01), (none, 2.0, 30.0)):
        found = FilteredSpectrum(0.1, n_probes=16, n_steps=12)(model, model.sample(2), names(2))
        assert (low <= found.parts["transition"]).all()
        assert (found.parts["transition"] <= high).all()
        torch.testing.assert_close(found.parts["transition_mass"] * 30, found.parts["transition"])


@pytest.mark.parametrize(("d", "k", "n"), [(64, 8, 8), (64, 32, 8), (64, 60, 4)])
def test_intervals_cover(d: int, k: int, n: int) -> None:
    plane = exact.subspace(d=d, k=k)
    x = plane.sample(1, seed=0).expand(1000, d)
    found = FilteredSpectrum(0.01, n, n_steps=2)(plane, x, names(1000))
    covered = (found.value - k).abs() <= float(stats.t.ppf(0.975, n - 1)) * found.stderr + 1e-3
    assert 0.9 <= covered.float().mean() <= 0.99


def test_turning_shifting_padding_batch_and_order_change_nothing() -> None:
    model = exact.mixture(d=24, dims=(0, 3, 9), seed=0)
    x, keys = model.sample(5, seed=0, dtype=torch.float64), names(5)
    found = FilteredSpectrum(0.3, n_probes=3)(model, x, keys)
    for rows in ([4, 3, 2, 1, 0], [2], [0, 3]):
        again = FilteredSpectrum(0.3, n_probes=3)(model, x[rows], [keys[i] for i in rows])
        torch.testing.assert_close(again.value, found.value[rows], rtol=1e-7, atol=1e-7)
    picture = FilteredSpectrum(0.3, n_probes=3)(model, x.reshape(5, 2, 3, 4), keys)
    torch.testing.assert_close(picture.value, found.value, rtol=1e-7, atol=1e-7)
    more = FilteredSpectrum(0.3, n_probes=400)(model, x[:1], keys[:1])
    turned = exact.mixture(d=24, dims=(0, 3, 9), seed=5)  # the same model, turned and moved
    there = turned.sample(5, seed=0, dtype=torch.float64)
    same = FilteredSpectrum(0.3, n_probes=400)(turned, there[:1], keys[:1])
    assert (more.value - same.value).abs() < 4 * (more.stderr**2 + same.stderr**2).sqrt() + 1e-2


def test_sigma_per_item_equals_one_at_a_time() -> None:
    plane = exact.subspace(d=12, k=3)
    x = plane.sample(2, seed=0)
    probes = draws.signs(x, ["a", "b"], 3, 0)
    both = filtered_spectrum(plane, x, torch.tensor([0.1, 0.9]), probes=probes).value
    for i, s in enumerate((0.1, 0.9)):
        alone = filtered_spectrum(plane, x[i : i + 1], torch.tensor([s]), probes=probes[:, i : i + 1]).value
        torch.testing.assert_close(alone[0], both[i])


def test_errors() -> None:
    plane = exact.subspace(d=4, k=1)
    x = plane.sample(1, seed=0)
    with pytest.raises(ValueError, match="at least one probe"):
        filtered_spectrum(plane, x, torch.tensor([0.1]), probes=torch.empty(0, 1, 4))
    for made in (
        FilteredSpectrum(0.1, n_steps=0),
        FilteredSpectrum(0.1, cutoff=0.0),
        FilteredSpectrum(0.1, power=-1.0),
    ):
        with pytest.raises(ValueError, match="must be positive"):
            made(plane, x, ["a"])
    with pytest.raises(ValueError, match="sigma must be positive and finite"):
        FilteredSpectrum(0.0)(plane, x, ["a"])
