from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from pointland import derivatives, draws, exact

Exact = exact.Circle | exact.Gaussian | exact.Mixture | exact.Points
METHODS = ["vjp", "jvp", "finite-difference"]
methods = pytest.mark.parametrize("method", METHODS)


class Attention(nn.Module):
    """A denoiser of pictures with two heads of attention across pixels, like a small U-Net's middle."""

    def __init__(self, channels: int = 4, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.qkv = nn.Linear(channels, 3 * channels, dtype=dtype)
            self.out = nn.Linear(channels, channels, dtype=dtype)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = x.reshape(b, c, h * w).transpose(1, 2) / (1 + sigma.to(x).reshape(-1, 1, 1) ** 2).sqrt()
        q, k, v = (part.reshape(b, h * w, 2, c // 2).transpose(1, 2) for part in self.qkv(tokens).chunk(3, dim=-1))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        change: Tensor = tokens + self.out(mixed)
        return x - change.transpose(1, 2).reshape(x.shape)


def reference_jacobian(denoise: Exact | Attention, x: Tensor, sigma: Tensor) -> Tensor:
    """Return the Jacobian by torch's own means, item by item."""
    rows = []
    for i in range(len(x)):
        s = sigma if len(sigma) == 1 else sigma[i : i + 1]
        full = torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]  # torch
            lambda point, s=s: denoise(point, s), x[i : i + 1]
        )
        rows.append(full.reshape(x[i].numel(), x[i].numel()))
    return torch.stack(rows)


@pytest.mark.parametrize("sigma", [[0.3], [0.05, 0.4, 3.0]])
def test_jacobian_agrees_with_torch(exact_model: Exact, sigma: list[float]) -> None:
    x, scale = exact_model.sample(3, seed=2, dtype=torch.float64), torch.tensor(sigma, dtype=torch.float64)
    found = derivatives.jacobian(exact_model, x, scale)
    # float64; the circle's radial derivative cancels to 1e-16 / 0.05^2
    torch.testing.assert_close(found, reference_jacobian(exact_model, x, scale), rtol=1e-10, atol=1e-12)


def test_rows_of_the_jacobian_are_outputs() -> None:
    x = torch.randn(2, 4, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net, sigma = Attention(), torch.tensor([0.5, 2.0], dtype=torch.float64)
    found = derivatives.jacobian(net, x, sigma)
    assert not torch.allclose(found, found.transpose(1, 2), atol=1e-3)  # a network's is not symmetric
    torch.testing.assert_close(found, reference_jacobian(net, x, sigma))


@methods
@pytest.mark.parametrize("sigma", [[0.3], [0.05, 0.4, 3.0]])
def test_products_agree_with_the_jacobian(exact_model: Exact, method: str, sigma: list[float]) -> None:
    x, scale = exact_model.sample(3, seed=2, dtype=torch.float64), torch.tensor(sigma, dtype=torch.float64)
    probes = draws.signs(x, ["a", "b", "c"], 2, 0)
    found = derivatives.products(exact_model, x, scale, probes=probes, method=method)  # type: ignore[arg-type]
    full = derivatives.jacobian(exact_model, x, scale)
    turned = full.transpose(1, 2) if method == "vjp" else full
    wanted = torch.einsum("bij,nbj->nbi", turned, probes.flatten(2)).reshape(probes.shape)
    # central differences with a step of 0.01 sigma leave a third-derivative error of order 1e-4 where posteriors switch
    tolerance = 2e-3 if method == "finite-difference" else 1e-10
    torch.testing.assert_close(found.products, wanted, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.denoised, exact_model(x, scale), rtol=0, atol=0)


@methods
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("grad", [False, True])
def test_attention_nets_work_in_every_way_and_flags_stay(method: str, dtype: torch.dtype, grad: bool) -> None:
    net = Attention(dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    x, probe = torch.randn(2, 2, 4, 3, 3, generator=generator, dtype=torch.float64).to(dtype)
    sigma, before = torch.tensor([0.5, 2.0], dtype=dtype), flags()
    with torch.set_grad_enabled(grad):
        found = derivatives.products(net, x, sigma, probes=probe[None], method=method)  # type: ignore[arg-type]
        assert torch.is_grad_enabled() is grad
    assert flags() == before
    assert not found.products.requires_grad
    assert not found.denoised.requires_grad
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    full = reference_jacobian(net.double(), x.double(), sigma.double()).to(dtype)
    quadratic = torch.einsum("bi,bij,bj->b", probe.flatten(1), full, probe.flatten(1))
    # float32 differences over a step of 0.005 keep 1e-7 / 0.005 of 36 terms; else rounding
    exactness = {torch.float32: 1e-4, torch.float64: 1e-10}[dtype]
    tolerance = {"finite-difference": {torch.float32: 5e-2, torch.float64: 1e-3}[dtype]}.get(method, exactness)
    torch.testing.assert_close(
        derivatives.quadratic(probe[None], found.products)[0], quadratic, rtol=tolerance, atol=tolerance
    )


@pytest.fixture
def only_math_and_efficient() -> Iterator[None]:
    """A user who turned flash attention off for the process."""
    was = torch.backends.cuda.flash_sdp_enabled()  # type: ignore[no-untyped-call]  # torch
    torch.backends.cuda.enable_flash_sdp(False)
    yield
    torch.backends.cuda.enable_flash_sdp(was)


@methods
@pytest.mark.usefixtures("only_math_and_efficient")
def test_the_user_s_choice_of_attention_kernels_survives(method: str) -> None:
    before = flags()
    assert before[0] is False
    x = torch.ones(1, 4, 2, 2, dtype=torch.float64)
    derivatives.products(Attention(), x, x.new_tensor([0.5]), probes=x[None], method=method)  # type: ignore[arg-type]
    assert flags() == before


@methods
def test_flags_survive_a_denoiser_that_fails(method: str) -> None:
    def fails(x: Tensor, sigma: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    before, x = flags(), torch.ones(1, 2)
    with torch.no_grad(), pytest.raises(RuntimeError, match="out of memory"):
        derivatives.products(fails, x, torch.tensor([0.5]), probes=x[None], method=method)  # type: ignore[arg-type]
    assert flags() == before


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_finite_differences_refuse_half_precision(half: torch.dtype) -> None:
    x = torch.ones(1, 3, dtype=half)
    with pytest.raises(ValueError, match="float32 or float64"):
        derivatives.products(lambda x, s: x, x, torch.tensor([0.5]), probes=x[None], method="finite-difference")


def test_sign_probes_estimate_the_trace() -> None:
    plane = exact.subspace(d=16, k=4)
    x, sigma = plane.sample(1, dtype=torch.float64), torch.tensor([0.1], dtype=torch.float64)
    probes = draws.signs(x, ["a"], 400, 0)
    found = derivatives.quadratic(probes, derivatives.products(plane, x, sigma, probes=probes).products)
    # sd of one probe is at most sqrt(2 k) = 2.8; 4 standard errors
    assert abs(float(found.mean()) - float(plane.soft_count(sigma))) < 4 * 2.8 / 20


def flags() -> tuple[bool, bool, bool]:
    backends = torch.backends.cuda
    return (backends.flash_sdp_enabled(), backends.mem_efficient_sdp_enabled(), backends.math_sdp_enabled())  # type: ignore[no-untyped-call]  # torch
