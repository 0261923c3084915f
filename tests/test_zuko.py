import sys

import pytest
import torch
import zuko
from torch import Tensor

from pointland.lid import Flow, Lidl, flow_from_decoder
from pointland.models.zuko import encoder, log_densities


def sheet(n: int, delta: float, seed: int) -> Tensor:
    """Points of a plane in three dimensions, with noise."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randn(n, 2, generator=generator)
    points = torch.cat([flat, flat.sum(1, keepdim=True) / 2], 1)
    return points + delta * torch.randn(n, 3, generator=generator)


def trained(delta: float, n_steps: int = 250) -> zuko.flows.Flow:
    torch.manual_seed(0)
    flow = zuko.flows.MAF(features=3, transforms=2, hidden_features=(32,))
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for step in range(n_steps):
        loss = -flow().log_prob(sheet(256, delta, step)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    return flow.eval()


@pytest.fixture(scope="module")
def flow() -> zuko.flows.Flow:
    return trained(0.02)


def test_a_flow_trained_on_a_plane_has_its_dimension(flow: zuko.flows.Flow) -> None:
    x = sheet(8, 0.0, 10_000)
    found = Flow(0.1)(encoder(flow), x)
    assert found.value.tolist() == [2] * 8
    assert (found.soft_count - 2).abs().max() < 0.3
    assert found.singular_values[:, 2].max() < 0.05  # the noise it was trained with is 0.02


def test_inverted_singular_values_are_those_of_the_decoder(flow: zuko.flows.Flow) -> None:
    double = trained(0.1, 5).double()
    x, sigma = sheet(3, 0.0, 1).double(), torch.tensor([0.1], dtype=torch.float64)
    encode = encoder(double)
    z = encode(x).detach()
    other = flow_from_decoder(lambda u: double().transform.inv(u), z, sigma, n_at_once=1)
    torch.testing.assert_close(Flow(0.1)(encode, x).singular_values, other.singular_values, rtol=1e-6, atol=0)
    volume = double().log_prob(x) + 0.5 * z.square().sum(1) + 1.5 * torch.tensor(2 * torch.pi).double().log()
    torch.testing.assert_close(-other.singular_values.log().sum(1), volume.detach(), rtol=1e-6, atol=1e-6)
    assert Flow(0.1)(encoder(flow), x.float().reshape(3, 3, 1)).singular_values.shape == (3, 3)


def test_log_densities_by_scale() -> None:
    flows = {delta: trained(delta, 5) for delta in (0.05, 0.1, 0.2, 0.4)}
    density = log_densities(flows)
    x = sheet(2, 0.0, 3)
    torch.testing.assert_close(density(x, torch.tensor([0.1])), flows[0.1]().log_prob(x))
    assert Lidl((0.05, 0.1, 0.2, 0.4))(density, x).value.isfinite().all()
    with pytest.raises(ValueError, match="no flow was trained at delta"):
        density(x, torch.tensor([0.07]))


def test_a_base_that_is_not_standard_is_made_so() -> None:
    base = zuko.lazy.UnconditionalDistribution(
        zuko.distributions.DiagNormal, torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    )
    flow = zuko.lazy.Flow([zuko.lazy.UnconditionalTransform(torch.distributions.AffineTransform, 0.0, 2.0)], base)
    x = torch.tensor([[0.5, -1.0]])
    torch.testing.assert_close(encoder(flow)(x), torch.zeros(1, 2))  # twice x is the center
    box = zuko.lazy.Flow(
        flow.transform.transforms,
        zuko.lazy.UnconditionalDistribution(zuko.distributions.BoxUniform, -torch.ones(2), torch.ones(2)),
    )
    with pytest.raises(TypeError, match="not a diagonal normal"):
        encoder(box)


def test_without_zuko_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ImportError, match=r"pointland\[zuko\]"):
        log_densities({})
