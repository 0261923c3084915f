r"""A small diffusion model for points: a perceptron that predicts the noise, its training and its sampler.

The variance-preserving schedule of Song et al. 2021 with linear :math:`\beta` from 0.1 to 20: at time :math:`t` in
(0, 1] the scale is :math:`\sigma^2 = e^{B(t)} - 1` with :math:`B(t) = 0.1 t + 9.95 t^2`. The network sees the scaled
point and :math:`t`; the loss is the squared error of the predicted noise at uniform :math:`t`, over the whole training
set at every step. These are the settings of the authors' notebook (two hidden layers of 512, Adam 1e-3).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import silu

from pointland.denoiser import Denoiser, from_network

BETA_MIN, BETA_MAX = 0.1, 20.0
T_MIN = 1e-3
RATE = 1e-3


class Trained(NamedTuple):
    """A model after some training.

    Attributes:
        steps: Full-batch steps so far.
        loss: Mean squared error of the predicted noise over the last steps, at most 500; 1 is no better than nothing.
        denoise: The model.
    """

    steps: int
    loss: float
    denoise: Denoiser


def train(x0: Float[Tensor, "n d"], steps: Sequence[int], *, width: int = 512, seed: int = 0) -> Iterator[Trained]:
    """Train one network and yield the model after every number of ``steps``, ascending.

    Args:
        x0: The training set, float32 on the CPU; all of it is one batch.
        steps: Ascending numbers of steps, all of one run.
        width: Of both hidden layers.
        seed: Of the initial weights, the times and the noises. No global seed is touched.
    """
    if not steps or list(steps) != sorted(set(steps)) or steps[0] < 1:
        raise ValueError(f"steps must be positive and strictly ascending, got {list(steps)}")
    generator = torch.Generator().manual_seed(seed)
    d = x0.shape[1]
    parameters = [p for n, m in ((d + 1, width), (width, width), (width, d)) for p in _layer(n, m, generator)]
    optimizer = torch.optim.Adam(parameters, lr=RATE, fused=True)
    losses: list[Tensor] = []
    for step in range(1, steps[-1] + 1):
        t = T_MIN + (1 - T_MIN) * torch.rand(len(x0), generator=generator)
        noise = torch.randn(x0.shape, generator=generator)
        sigma = sigma_at(t)[:, None]
        scaled = (x0 + sigma * noise) / (1 + sigma**2).sqrt()
        with torch.enable_grad():
            loss = (_forward(parameters, scaled, t) - noise).square().mean()
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        losses.append(loss.detach())
        if step in steps:
            recent = float(torch.stack(losses[-500:]).mean())
            yield Trained(
                step, recent, from_network(_Network(tuple(p.detach().clone() for p in parameters)), "epsilon")
            )


def sample(denoise: Denoiser, n: int, d: int, *, n_steps: int = 250, seed: int = 0) -> Float[Tensor, "{n} {d}"]:
    r"""Return ``n`` samples of the probability-flow equation :math:`dx/d\sigma = (x - D(x; \sigma)) / \sigma`.

    Euler steps in :math:`\sigma` (DDIM) at ``n_steps`` uniform times, then one last denoising.
    """
    sigmas = sigma_at(torch.linspace(1, T_MIN, n_steps))
    noise = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    x = sigmas[0] * noise
    with torch.no_grad():
        for now, then in pairwise(sigmas):
            denoised = denoise(x, now[None])
            x = denoised + then / now * (x - denoised)
        return denoise(x, sigmas[-1:])


def sigma_at(t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return the noise scale at times ``t`` in (0, 1]."""
    return torch.expm1(BETA_MIN * t + (BETA_MAX - BETA_MIN) / 2 * t**2).sqrt()


def time_at(sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return the time at which the noise scale is ``sigma``."""
    slope = BETA_MAX - BETA_MIN
    return ((BETA_MIN**2 + 2 * slope * torch.log1p(sigma**2)).sqrt() - BETA_MIN) / slope


@dataclass(frozen=True, eq=False)
class _Network:
    parameters: tuple[Tensor, ...]

    def __call__(self, scaled: Float[Tensor, "b d"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b d"]:
        parameters = [p.to(scaled) for p in self.parameters]
        return _forward(parameters, scaled, time_at(sigma.to(scaled)).expand(len(scaled)))


def _forward(parameters: Sequence[Tensor], scaled: Float[Tensor, "b d"], t: Float[Tensor, " b"]) -> Tensor:
    h = torch.cat([scaled, t[:, None]], dim=1)
    for i in range(0, len(parameters) - 2, 2):
        h = silu(torch.addmm(parameters[i + 1], h, parameters[i]))
    return torch.addmm(parameters[-1], h, parameters[-2])


def _layer(n: int, m: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return weights and biases as ``torch.nn.Linear`` draws them."""
    limit = n**-0.5
    weight, bias = (limit * (2 * torch.rand(shape, generator=generator) - 1) for shape in ((n, m), (m,)))
    return weight.requires_grad_(), bias.requires_grad_()
