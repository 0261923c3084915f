"""Each sampler has the dimension it states: by the rank of its parametrization's Jacobian."""

import pytest
import torch

from pointland.experiments.manifolds import MANIFOLDS


@pytest.mark.parametrize("name", list(MANIFOLDS))
def test_rank_of_the_parametrization_is_the_stated_dimension(name: str) -> None:
    manifold = MANIFOLDS[name]
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        g = torch.randn(manifold.n_parameters, generator=generator, dtype=torch.float64)
        jacobian = torch.func.jacfwd(lambda g: manifold.surface(g[None])[0])(g)
        heights = torch.linalg.svdvals(jacobian)
        assert int((heights > 1e-6 * heights[0]).sum()) == manifold.lid  # float64, the smallest is above 1e-3


@pytest.mark.parametrize("name", list(MANIFOLDS))
def test_samples_are_scaled_seeded_and_padded(name: str) -> None:
    manifold = MANIFOLDS[name]
    x = manifold.sample(200, seed=1)
    assert x.shape == (200, manifold.d)
    assert x.dtype == torch.float32
    assert x.std(0).max().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(x, manifold.sample(200, seed=1))
    assert not torch.equal(x, manifold.sample(200, seed=2))


@pytest.mark.parametrize("name", list(MANIFOLDS))
def test_a_rotated_sample_has_the_same_distances(name: str) -> None:
    manifold = MANIFOLDS[name]
    plain, turned = manifold.sample(50, seed=1), manifold.sample(50, seed=1, rotated=True)
    assert not torch.allclose(plain, turned)
    torch.testing.assert_close(torch.cdist(plain, plain), torch.cdist(turned, turned), atol=2e-2, rtol=1e-4)
