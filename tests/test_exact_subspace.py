import pytest
import torch

from pointland import exact


@pytest.mark.parametrize(("d", "k"), [(20, 5), (4, 0), (3, 3), (50, 1)])
def test_samples_lie_on_a_plane_of_k_dimensions(d: int, k: int) -> None:
    plane = exact.subspace(d, k, seed=2)
    x = plane.sample(60, dtype=torch.float64)
    assert x.shape == (60, d)
    assert int(torch.linalg.matrix_rank(x - plane.mean, atol=1e-9)) == k
    assert plane.lid(x).tolist() == [k] * 60


def test_at_small_noise_the_plane_passes_and_what_is_across_does_not() -> None:
    plane = exact.subspace(20, 5)
    x, sigma = plane.sample(4, dtype=torch.float64), torch.tensor([1e-6], dtype=torch.float64)
    across = torch.linalg.svd(plane.axes, full_matrices=True).U[:, 5:] @ torch.ones(15, dtype=torch.float64)
    # relative to l: sigma^2 = 1e-12
    torch.testing.assert_close(plane(x + across, sigma), x, rtol=0, atol=1e-11)


def test_seed_turns_and_shifts() -> None:
    one, other, again = exact.subspace(seed=0), exact.subspace(seed=1), exact.subspace(seed=0)
    assert torch.equal(one.axes, again.axes)
    assert torch.equal(one.mean, again.mean)
    assert not torch.allclose(one.axes, other.axes)
    assert not torch.allclose(one.mean, other.mean)
    assert exact.subspace(shift=0.0).mean.abs().max() == 0


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="0 to 4 dimensions, got 5"):
        exact.subspace(4, 5)
    with pytest.raises(ValueError, match="2 variances, got 1"):
        exact.subspace(4, 2, variances=[1.0])
    with pytest.raises(ValueError, match="positive"):
        exact.subspace(4, 2, variances=[1.0, 0.0])
