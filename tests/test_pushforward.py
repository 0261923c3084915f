import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from pointland import exact
from pointland.exact.vectors import normal_vectors, random_axes
from pointland.lid.data import soft_count
from pointland.lid.pushforward import (
    Generator,
    Pushforward,
    Rule,
    columns,
    from_columns,
    pushforward,
)

SCALE = torch.tensor([0.1], dtype=torch.float64)


def linear(singular: list[float], d: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Generator:
    """A linear map from ``len(singular)`` latents to ``d`` numbers with exactly these singular values."""
    m, r = len(singular), min(len(singular), d)
    inner = torch.zeros(d, m, dtype=torch.float64)
    inner.diagonal()[:r] = torch.tensor(singular[:r], dtype=torch.float64)
    matrix = (random_axes(d, d, seed) @ inner @ random_axes(m, m, seed + 1).T).to(dtype)
    return lambda z: z.flatten(1) @ matrix.T + 3


def bottleneck(k: int, m: int = 6, d: int = 20, seed: int = 0) -> Generator:
    """A smooth nonlinear generator through ``k`` numbers, so of rank ``k``."""
    first, second = normal_vectors(m, k, seed) / math.sqrt(m), normal_vectors(k, d, seed + 1) / math.sqrt(k)
    third = normal_vectors(d, d, seed + 2) / math.sqrt(d)
    return lambda z: (((z @ first).tanh() @ second).sin() @ third).tanh()


def latents(b: int, m: int, seed: int = 7) -> Tensor:
    return normal_vectors(b, m, seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_at_once", [1, 3, 32])
@pytest.mark.parametrize(("m", "k", "d"), [(1, 1, 4), (5, 2, 9), (8, 8, 8), (12, 3, 4), (6, 0, 5)])
def test_a_linear_generator_gives_its_rank(m: int, k: int, d: int, n_at_once: int, dtype: torch.dtype) -> None:
    singular = [2.0 - i / m for i in range(k)] + [0.0] * (m - k)
    z = latents(3, m).to(dtype)
    found = pushforward(linear(singular, d, dtype=dtype), z, SCALE, n_at_once=n_at_once)
    assert found.value.tolist() == [k] * 3
    assert found.value.dtype == dtype
    assert found.singular_values.dtype == torch.float64
    wanted = torch.tensor(singular, dtype=torch.float64)[: min(m, d)].expand(3, -1)
    torch.testing.assert_close(found.singular_values, wanted, rtol=1e-5, atol=2e-6)  # the matrix is rounded to float32
    assert (found.gap > 10).all()


@pytest.mark.parametrize("rule", ["gap", "sigma", 1e-3])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_nonlinear_generator_gives_its_rank(k: int, rule: Rule) -> None:
    found = pushforward(bottleneck(k), latents(8, 6) / 2, SCALE / 100, rule=rule)
    assert found.value.tolist() == [k] * 8


def test_a_normalized_latent_loses_one_dimension() -> None:
    z = latents(4, 5).float()
    found = pushforward(lambda z: 3 * z / z.norm(dim=1, keepdim=True), z, SCALE)
    assert found.value.tolist() == [4] * 4


def test_the_gap_rule_takes_the_largest_gap_not_the_smallest() -> None:
    # dgm_geometry's flow estimator answers 4 here: it takes the largest of negative differences
    found = pushforward(linear([1.0, 0.9, 1e-3, 9e-4, 8.9e-4], 5), latents(1, 5), SCALE, floor=1e-5)
    assert found.value.tolist() == [2]
    torch.testing.assert_close(found.gap.item(), 2 * math.log(0.9 / 1e-3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_singular_value_is_not_lifted(dtype: torch.dtype) -> None:
    singular = [1.0, 0.5, 0.2, 4.8e-5]
    jacobian = columns(linear(singular, 300, dtype=dtype), latents(2, 4).to(dtype))
    found = from_columns(jacobian, SCALE, rule=1e-4)
    assert found.value.tolist() == [3, 3]
    # a float32 matrix holds 4.8e-5 to the rounding of its largest entries, 1e-7 each
    torch.testing.assert_close(found.singular_values[0, 3].item(), 4.8e-5, rtol=2e-2, atol=0)
    assert from_columns(jacobian, SCALE, rule=1e-5).value.tolist() == [4, 4]


def test_wide_spectra_hold_for_many_latents() -> None:
    singular = torch.logspace(0, -5.5, 64, dtype=torch.float64).tolist()
    found = pushforward(linear(singular, 300), latents(1, 64), SCALE)
    torch.testing.assert_close(
        found.singular_values[0], torch.tensor(singular, dtype=torch.float64), rtol=1e-3, atol=0
    )  # float64 Gram: 1e-16 / (3e-6)^2 of the square
    assert found.value.tolist() == [64]
    assert found.gap.item() < 3  # and the diagnostic says that no gap decided


def test_the_soft_count_is_that_of_the_exact_gaussian_and_of_the_data() -> None:
    singular = [3.0, 1.0, 0.3, 0.05]
    plane = exact.subspace(d=10, k=4, variances=[s**2 for s in singular])
    sigma = torch.tensor([0.02, 0.3], dtype=torch.float64)
    found = pushforward(linear(singular, 10), latents(2, 4), sigma)
    torch.testing.assert_close(found.soft_count, plane.soft_count(sigma))
    for i, s in enumerate(sigma.tolist()):
        torch.testing.assert_close(
            found.soft_count[i].item(), float(soft_count(torch.tensor(singular).double().square()[None].numpy(), s)[0])
        )


def test_a_collapsed_generator_keeps_its_rank_and_loses_its_dimension() -> None:
    collapsed = linear([1e-9, 2e-9, 0.0], 8)
    z = latents(2, 3)
    assert pushforward(collapsed, z, SCALE).value.tolist() == [2, 2]
    by_scale = pushforward(collapsed, z, SCALE, rule="sigma")
    assert by_scale.value.tolist() == [0, 0]
    assert (by_scale.soft_count < 1e-12).all()
    constant = pushforward(lambda z: 0 * z, z, SCALE)
    assert constant.value.tolist() == [0, 0]
    assert constant.soft_count.tolist() == [0, 0]


@given(k=st.integers(1, 5), seed=st.integers(0, 1000))
def test_rotation_shift_and_padding_change_nothing(k: int, seed: int) -> None:
    generate, turn = bottleneck(k, seed=seed), random_axes(20, 20, seed)
    z = latents(3, 6, seed) / 2
    found = pushforward(generate, z, SCALE)

    def moved(z: Tensor) -> Tensor:
        return torch.nn.functional.pad(generate(z) @ turn + 5, (0, 7), value=2.0).reshape(len(z), 3, 9)

    again = pushforward(moved, z, SCALE)
    assert torch.equal(again.value, found.value)
    torch.testing.assert_close(again.singular_values[:, :k], found.singular_values[:, :k], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(again.soft_count, found.soft_count, rtol=1e-6, atol=1e-9)


def test_order_batch_and_neighbours_change_nothing() -> None:
    generate, z = bottleneck(3), latents(5, 6)
    together = pushforward(generate, z, SCALE)
    order = [3, 1, 4, 0, 2]
    torch.testing.assert_close(pushforward(generate, z[order], SCALE).soft_count, together.soft_count[order])
    for i in range(5):
        alone = pushforward(generate, z[i : i + 1], SCALE)
        assert alone.value[0] == together.value[i]
        torch.testing.assert_close(alone.soft_count[0], together.soft_count[i])


def test_chunks_add_no_rows() -> None:
    # dgm_geometry's chunk loop turned 300 inputs into 900 rows
    found = pushforward(bottleneck(2), latents(300, 6), SCALE, n_at_once=128)
    assert found.value.shape == (300,)
    assert found.singular_values.shape == (300, 6)


def test_latents_of_any_shape_and_a_generator_with_attention() -> None:
    def generate(z: Tensor) -> Tensor:
        return scaled_dot_product_attention(z, z, z).tanh()

    found = pushforward(generate, torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(0)), SCALE)
    assert found.singular_values.shape == (2, 12)


def test_a_dataclass_is_its_function_and_leaves_the_network_alone() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 10))
    z = latents(2, 4).float()
    found = Pushforward(0.1, rule=1e-3, n_at_once=2)(network, z)
    assert torch.equal(found.value, pushforward(network, z, torch.tensor([0.1]), rule=1e-3).value)
    assert network.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_errors() -> None:
    generate, z = bottleneck(2), latents(2, 6)
    with pytest.raises(ValueError, match="latents must be finite"):
        pushforward(generate, z * torch.nan, SCALE)
    with pytest.raises(ValueError, match="at least one item"):
        pushforward(generate, z[:0], SCALE)
    with pytest.raises(ValueError, match="sigma must be positive and finite"):
        pushforward(generate, z, -SCALE)
    with pytest.raises(ValueError, match="n_at_once must be at least 1"):
        pushforward(generate, z, SCALE, n_at_once=0)
    with pytest.raises(ValueError, match="for 2 latents"):
        pushforward(lambda z: generate(z).sum(0, keepdim=True), z, SCALE)
    with pytest.raises(ValueError, match="answer is not finite"):
        pushforward(lambda z: generate(z) / 0, z, SCALE)
    with pytest.raises(ValueError, match="Jacobian is not finite"):
        pushforward(lambda z: z.abs().sqrt(), torch.zeros(1, 2), SCALE)
    with pytest.raises(ValueError, match="another answer for the same latents"):
        pushforward(lambda z: generate(z) + torch.randn(2, 20), z, SCALE)
    with pytest.raises(ValueError, match="must be floating point"):
        pushforward(lambda z: generate(z).round().int(), z, SCALE)
    with pytest.raises(ValueError, match="floor must be at least"):
        pushforward(linear([1.0] * 6, 9, dtype=torch.float32), z.float(), SCALE, floor=1e-12)
    with pytest.raises(ValueError, match=r"floor must be at least .*bfloat16"):
        pushforward(lambda z: generate(z).bfloat16(), z, SCALE)
    with pytest.raises(ValueError, match="relative rule must be at least the floor"):
        pushforward(generate, z, SCALE, rule=1e-9)
