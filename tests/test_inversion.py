import math

import pytest
import torch
from torch import Tensor

from pointland.exact.vectors import normal_vectors, random_axes
from pointland.lid.inversion import Inversion, invert
from pointland.lid.pushforward import Generator, pushforward

SCALE = torch.tensor([0.1], dtype=torch.float64)


def bottleneck(k: int, m: int = 6, d: int = 20, seed: int = 0) -> Generator:
    """A smooth nonlinear generator through ``k`` numbers, so of rank ``k``."""
    first, second = normal_vectors(m, k, seed) / math.sqrt(m), normal_vectors(k, d, seed + 1) / math.sqrt(k)
    third = normal_vectors(d, d, seed + 2) / math.sqrt(d)
    return lambda z: (((z @ first).tanh() @ second).sin() @ third).tanh()


def latents(b: int, m: int, seed: int = 7) -> Tensor:
    return normal_vectors(b, m, seed)


def test_the_network_is_left_alone() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 10))
    z = latents(2, 4).float()
    invert(network, network(z).detach(), z[None] + 0.1, n_steps=3, n_polish=1)
    assert network.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_inversion_finds_the_latent_and_the_dimension_of_a_picture() -> None:
    generate = bottleneck(4, m=4)
    z = latents(6, 4) / 2
    keys = list("abcdef")
    found = Inversion(n_restarts=2, n_steps=150)(generate, generate(z), torch.zeros_like(z), keys)
    assert found.errors.shape == (3, 6)
    assert found.error.max() < 1e-6  # Levenberg-Marquardt in float64
    torch.testing.assert_close(found.z, z, rtol=0, atol=1e-4)
    assert pushforward(generate, found.z, SCALE).value.tolist() == [4] * 6


def test_inversion_tells_a_picture_off_the_manifold_by_its_distance() -> None:
    d, distance = 20, 0.7
    axes = random_axes(d, 4, 0)
    normal = axes[:, 3]
    z = latents(3, 3)

    def generate(z: Tensor) -> Tensor:
        return z @ axes[:, :3].T

    x = (generate(z) + distance * normal).reshape(3, d)
    found = invert(generate, x, torch.zeros(1, 3, 3, dtype=torch.float64), n_steps=0)
    torch.testing.assert_close(found.error, torch.full((3,), distance / math.sqrt(d), dtype=torch.float64))
    torch.testing.assert_close(found.z, z)


def test_restarts_get_out_of_a_dead_start() -> None:
    def generate(z: Tensor) -> Tensor:
        return torch.cat([z.relu(), z.relu().square()], 1)

    x = generate(torch.tensor([[0.5, 1.0]]))
    dead = torch.full((1, 2), -1.0)
    alone = Inversion(n_restarts=0)(generate, x, dead, ["a"])
    helped = Inversion(n_restarts=8)(generate, x, dead, ["a"])
    assert alone.error.item() > 0.5
    assert helped.error.item() < 1e-5


def test_inversion_of_one_item_never_depends_on_its_neighbours() -> None:
    generate, z, keys = bottleneck(3, m=3), latents(4, 3) / 2, list("abcd")
    x, zero = generate(z), torch.zeros(4, 3, dtype=torch.float64)
    search = Inversion(n_restarts=1, n_steps=60)
    together = search(generate, x, zero, keys)
    backwards = search(generate, x.flip(0), zero, keys[::-1])
    torch.testing.assert_close(backwards.z.flip(0), together.z, rtol=0, atol=1e-6)
    for i in range(4):
        alone = search(generate, x[i : i + 1], zero[:1], keys[i : i + 1])
        torch.testing.assert_close(alone.z[0], together.z[i], rtol=0, atol=1e-6)


def test_errors() -> None:
    generate, z = bottleneck(2), latents(2, 6)
    with pytest.raises((ValueError, TypeError)):  # the run-time shape check of tests comes first
        invert(generate, generate(z), z)
    with pytest.raises(ValueError, match="starts must have shape"):
        invert(generate, generate(z), z[None][:0])
    with pytest.raises(ValueError, match="the pictures have"):
        invert(generate, generate(z)[:, :5], z[None])
    with pytest.raises(ValueError, match="pictures must be finite"):
        invert(generate, generate(z) * torch.nan, z[None])
