import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pointland import exact
from pointland.exact.vectors import normal_vectors, random_axes
from pointland.lid import flipd_exact
from pointland.lid.flow import Flow, Map, at_scale, flow, flow_from_decoder
from pointland.lid.pushforward import columns

SCALE = torch.tensor([0.05], dtype=torch.float64)


def affine(scales: list[float], seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Map, Map]:
    """Encoder and decoder of ``x = center + A z`` with singular values ``scales``."""
    d = len(scales)
    left, right = random_axes(d, d, seed), random_axes(d, d, seed + 1)
    lengths, center = torch.tensor(scales, dtype=torch.float64), normal_vectors(1, d, seed + 2)

    def encode(x: Tensor) -> Tensor:
        return ((x.flatten(1).double() - center) @ (left / lengths) @ right).reshape(x.shape).to(x)

    def decode(z: Tensor) -> Tensor:
        return (center + z.flatten(1).double() @ (left * lengths @ right).T).reshape(z.shape).to(z)

    return encode, decode


def coupling(k: int, d: int = 6, thin: float = 1e-3, seed: int = 0) -> tuple[Map, Map]:
    """Two coupling layers behind an affine one: a curved ``k``-dimensional sheet of thickness about ``thin``."""
    turn, mix = random_axes(d, d, seed), normal_vectors(d, d, seed + 1) / math.sqrt(d)
    lengths = torch.tensor([1.0] * k + [thin] * (d - k), dtype=torch.float64)
    half = d // 2

    def shift(part: Tensor, w: Tensor) -> Tensor:
        return (part @ w).sin()

    def stretch(part: Tensor, w: Tensor) -> Tensor:
        return 0.5 * (part @ w).tanh()

    upper, lower = mix[:half, half:], mix[half:, :half]

    def decode(z: Tensor) -> Tensor:
        turned = z * lengths @ turn.T
        first, second = turned[:, :half], turned[:, half:]
        second = second * stretch(first, upper).exp() + shift(first, upper)
        first = first * stretch(second, lower).exp() + shift(second, lower)
        return torch.cat([first, second], 1)

    def encode(x: Tensor) -> Tensor:
        first, second = x[:, :half], x[:, half:]
        first = (first - shift(second, lower)) * (-stretch(second, lower)).exp()
        second = (second - shift(first, upper)) * (-stretch(first, upper)).exp()
        return torch.cat([first, second], 1) @ turn / lengths

    return encode, decode


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(4,), (2, 1, 2)])
@pytest.mark.parametrize(
    ("scales", "k"),
    [([1.0, 1.0, 1.0, 1.0], 4), ([2.0, 1.0, 1e-3, 2e-3], 2), ([1.0, 1e-3, 1e-3, 1e-4], 1), ([1e-3] * 4, 0)],
)
def test_an_affine_flow_gives_its_dimension(
    scales: list[float], k: int, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    encode, decode = affine(scales)
    z = normal_vectors(3, 4, 5).reshape(3, *shape).to(dtype)
    found = flow(encode, decode(z), SCALE.to(dtype))
    assert found.value.tolist() == [k] * 3
    assert found.value.dtype == dtype
    wanted = torch.tensor(sorted(scales, reverse=True), dtype=torch.float64).expand(3, -1)
    torch.testing.assert_close(found.singular_values, wanted, rtol=1e-3, atol=0)  # float32 entries of 1e4
    torch.testing.assert_close(found.soft_count, torch.full((3,), float(k), dtype=dtype), atol=0.02, rtol=0)


def test_the_soft_formula_is_flipd_of_the_gaussian_that_the_affine_flow_is() -> None:
    scales = [2.0, 0.7, 0.1, 0.01, 1e-3]
    encode, decode = affine(scales)
    z = 2 * normal_vectors(4, 5, 5)
    x = decode(z)
    matrix = columns(decode, z)[:, 0].T
    model = exact.gaussian(matrix @ matrix.T, decode(torch.zeros(1, 5, dtype=torch.float64))[0])
    for s in (0.005, 0.05, 0.5, 5.0):
        sigma = torch.tensor([s], dtype=torch.float64)
        found, truth = flow(encode, x, sigma), flipd_exact(model, x, sigma)
        torch.testing.assert_close(found.soft, truth.value, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(found.soft_count, truth.parts["trace"], rtol=1e-6, atol=1e-8)
        # the closed form in l and u
        sizes, u = found.singular_values**2, found.latents
        written = 5 + s**2 * (sizes * (u / (sizes + s**2)) ** 2 - 1 / (sizes + s**2)).sum(-1)
        torch.testing.assert_close(found.soft, written, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("k", [1, 3, 5, 6])
def test_a_curved_sheet_gives_its_dimension_from_either_side(k: int) -> None:
    encode, decode = coupling(k)
    z = normal_vectors(6, 6, 3)
    x = decode(z)
    torch.testing.assert_close(encode(x), z, rtol=0, atol=1e-9)
    found, other = flow(encode, x, SCALE), flow_from_decoder(decode, z, SCALE)
    assert found.value.tolist() == [k] * 6
    for one, two in zip(found, other, strict=True):
        torch.testing.assert_close(one.abs(), two.abs(), rtol=1e-5, atol=1e-7)  # u up to its sign


def test_other_scales_cost_nothing() -> None:
    encode, decode = coupling(3, thin=0.01)
    x = decode(normal_vectors(2, 6, 3))
    found = flow(encode, x, SCALE)
    wider = torch.tensor([1e-4, 10.0], dtype=torch.float64)
    for one, two in zip(at_scale(found.singular_values, found.latents, wider), flow(encode, x, wider), strict=True):
        torch.testing.assert_close(one, two)
    assert at_scale(found.singular_values, found.latents, wider).value.tolist() == [6, 0]


def test_a_point_that_the_flow_finds_improbable_has_a_large_residual() -> None:
    encode, decode = affine([1.0, 1.0, 1e-3])
    near = decode(torch.zeros(1, 3, dtype=torch.float64))
    far = near + 1.0
    sigma = torch.tensor([0.05], dtype=torch.float64)
    assert flow(encode, near, sigma).soft.item() == pytest.approx(2, abs=0.01)
    assert flow(encode, far, sigma).soft.item() > 20
    assert flow(encode, far, sigma).value.item() == 2


@given(k=st.integers(1, 5), seed=st.integers(0, 1000))
def test_rotation_and_shift_change_nothing_and_padding_adds_nothing(k: int, seed: int) -> None:
    encode, decode = coupling(k, seed=seed)
    x, turn = decode(normal_vectors(2, 6, seed)), random_axes(7, 7, seed)
    found = flow(encode, x, SCALE)

    def padded(y: Tensor) -> Tensor:
        flat = y @ turn.T - 1
        return torch.cat([encode(flat[:, :6]), flat[:, 6:] / 1e-4], 1)

    moved = (torch.nn.functional.pad(x, (0, 1)) + 1) @ turn
    again = flow(padded, moved, SCALE)
    assert torch.equal(again.value, found.value)
    torch.testing.assert_close(again.soft_count, found.soft_count, rtol=1e-4, atol=1e-4)  # the pad's own 4e-6


def test_order_batch_and_chunks_change_nothing() -> None:
    encode, decode = coupling(2)
    x = decode(normal_vectors(300, 6, 0))
    together = flow(encode, x, SCALE, n_at_once=128)
    assert together.value.shape == (300,)  # dgm_geometry's chunk loop made 900 rows of these
    for i in (0, 150, 299):
        alone = Flow(0.05, n_at_once=1)(encode, x[i : i + 1])
        assert alone.value[0] == together.value[i]
        torch.testing.assert_close(alone.soft[0], together.soft[i], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(flow(encode, x.flip(0), SCALE).soft.flip(0), together.soft, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["NSF", "MAF"])
def test_a_zuko_flow_by_its_encoder_agrees_with_its_own_determinant_and_inverse(kind: str) -> None:
    zuko = pytest.importorskip("zuko", reason="zuko is not installed")
    torch.manual_seed(0)
    make: dict[str, Callable[..., torch.nn.Module]] = {"NSF": zuko.flows.NSF, "MAF": zuko.flows.MAF}
    network = make[kind](5, transforms=2, hidden_features=(16,)).double()
    transform = network().transform
    x = normal_vectors(4, 5, 1)
    found = flow(transform, x, SCALE)
    _, ladj = transform.call_and_ladj(x)
    torch.testing.assert_close(-found.singular_values.log().sum(-1), ladj.detach(), rtol=0, atol=1e-6)
    back = flow_from_decoder(transform.inv, transform(x).detach(), SCALE)
    torch.testing.assert_close(back.singular_values, found.singular_values, rtol=1e-5, atol=0)
    torch.testing.assert_close(back.soft, found.soft, rtol=1e-5, atol=1e-8)


def test_errors() -> None:
    encode, decode = affine([1.0, 1.0, 1e-3])
    x = decode(normal_vectors(2, 3, 0))
    with pytest.raises(ValueError, match="takes 3 to 2"):
        flow(lambda x: encode(x)[:, :2], x, SCALE)
    with pytest.raises(ValueError, match="takes 3 to 4"):
        flow_from_decoder(lambda z: torch.nn.functional.pad(z, (0, 1)), x, SCALE)
    with pytest.raises(ValueError, match="has no inverse"):
        flow(lambda x: x * torch.tensor([1.0, 1.0, 0.0]), x, SCALE)
    with pytest.raises(ValueError, match="must be finite"):
        flow(encode, x * torch.nan, SCALE)
    with pytest.raises(ValueError, match="sigma must be positive and finite"):
        flow(encode, x, 0 * SCALE)
    with pytest.raises(ValueError, match="sigma must be positive and finite"):
        at_scale(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([torch.nan]))
