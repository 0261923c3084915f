import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pointland import draws, exact
from pointland.lid.normal_bundle import NormalBundle, NormalBundleSketch, normal_bundle

Exact = exact.Circle | exact.Gaussian | exact.Mixture | exact.Points
BOTH: list[type[NormalBundle] | type[NormalBundleSketch]] = [NormalBundle, NormalBundleSketch]


def names(n: int) -> list[str]:
    return [str(i) for i in range(n)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bundle", BOTH)
@pytest.mark.parametrize(("d", "k"), [(1, 0), (1, 1), (3, 0), (3, 3), (20, 5), (48, 47), (48, 48), (100, 30)])
def test_a_plane_gives_exactly_its_dimension(
    d: int, k: int, bundle: type[NormalBundle] | type[NormalBundleSketch], dtype: torch.dtype
) -> None:
    plane = exact.subspace(d=d, k=k)
    x = plane.sample(2, seed=0, dtype=dtype)
    found = bundle(0.01)(plane, x, names(2))
    assert found.value.tolist() == [k, k]
    assert found.value.dtype == dtype
    assert (found.parts["gap"] > 3).all()


@pytest.mark.parametrize("bundle", BOTH)
def test_a_memorizer_has_dimension_zero(bundle: type[NormalBundle] | type[NormalBundleSketch]) -> None:
    """The authors' cut errs by 38 here: 64 points in 48 dimensions."""
    x0 = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    for sigma in (0.01, 0.1, 0.3):
        found = bundle(sigma)(exact.points(x0), x0[:4], names(4))
        assert found.value.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("bundle", BOTH)
def test_every_exact_model_gives_its_own_dimension(
    bundle: type[NormalBundle] | type[NormalBundleSketch], exact_model: Exact
) -> None:
    x = exact_model.sample(4, seed=4)
    assert torch.equal(bundle(0.01)(exact_model, x, names(4)).value, exact_model.lid(x))


@given(d=st.integers(2, 24), share=st.floats(0, 1), seed=st.integers(0, 1000), extra=st.integers(0, 6))
def test_turning_shifting_and_padding_change_nothing(d: int, share: float, seed: int, extra: int) -> None:
    plane = exact.subspace(d, round(share * d), seed)
    wider = exact.Gaussian(
        torch.cat([plane.mean, torch.full((extra,), 2.0, dtype=torch.float64)]),
        torch.cat([plane.axes, plane.axes.new_zeros(extra, plane.axes.shape[1])]),
        plane.variances,
    )
    for model in (plane, wider):
        x = model.sample(2, seed)
        for bundle in (NormalBundle(0.02, seed=seed), NormalBundleSketch(0.02, seed=seed)):
            assert torch.equal(bundle(model, x, ["a", "b"]).value, model.lid(x))


@pytest.mark.parametrize(("d", "k"), [(1024, 3), (1024, 64), (16_384, 9)])
def test_a_sketch_takes_passes_in_proportion_to_the_dimension(d: int, k: int) -> None:
    plane = exact.subspace(d=d, k=k)
    calls = 0

    def counted(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return plane(x, sigma)

    found = NormalBundleSketch(0.05)(counted, plane.sample(1, seed=0), ["a"])
    assert found.value.tolist() == [k]
    assert calls == 1 + 3 * int(found.parts["directions"].item()) <= 1 + 6 * (k + 4)


def test_order_batch_and_neighbours_change_nothing() -> None:
    model = exact.mixture(d=30, dims=(0, 2, 14), seed=0)
    x, keys = model.sample(6, seed=0), names(6)
    for bundle in (NormalBundle(0.05), NormalBundleSketch(0.05)):
        together = bundle(model, x, keys).value
        assert torch.equal(together, model.lid(x))
        assert torch.equal(bundle(model, x.flip(0), keys[::-1]).value.flip(0), together)
        assert torch.equal(torch.cat([bundle(model, x[i : i + 1], keys[i : i + 1]).value for i in range(6)]), together)


def test_the_function_is_the_dataclass_and_pictures_are_vectors() -> None:
    plane = exact.subspace(d=12, k=4)
    x = plane.sample(2, seed=0)
    picture = x.reshape(2, 3, 2, 2)
    whole = normal_bundle(plane, x, torch.tensor([0.1, 0.2]), noises=draws.normal(x, names(2), 48, 0))
    assert whole.value.tolist() == [4, 4]
    assert NormalBundle(0.1)(plane, picture, names(2)).value.tolist() == [4, 4]
    assert NormalBundleSketch(0.1)(plane, picture, names(2)).value.tolist() == [4, 4]


def test_the_whole_residual_of_a_point_off_the_manifold_is_no_direction() -> None:
    plane = exact.subspace(d=16, k=16)
    x = plane.sample(2, seed=0) + 20.0
    assert NormalBundle(0.1)(plane, x, names(2)).value.tolist() == [16, 16]


@pytest.mark.parametrize("bundle", BOTH)
def test_curvature_leaves_a_small_gap_and_the_right_count(
    bundle: type[NormalBundle] | type[NormalBundleSketch],
) -> None:
    circle = exact.circle(d=20)
    x = circle.sample(32, seed=1)
    for sigma in (0.01, 0.045, 0.1):
        assert bundle(sigma)(circle, x, names(32)).value.tolist() == [1] * 32


def test_errors() -> None:
    plane = exact.subspace(d=4, k=1)
    x = plane.sample(1, seed=0)
    with pytest.raises(ValueError, match="at least 4 draws, got 3"):
        NormalBundle(0.1, n_draws=3)(plane, x, ["a"])
    for bundle in BOTH:
        with pytest.raises(ValueError, match="sigma must be positive and finite"):
            bundle(-1.0)(plane, x, ["a"])
    with pytest.raises(ValueError, match="at least one direction"):
        NormalBundleSketch(0.1, n_most=0)(plane, x, ["a"])
