r"""The attack on ourselves: search an embedding that brings a training picture back.

For a picture :math:`x_0` Adam descends the denoising error :math:`\|D(x_0 + \sigma n, \sigma, e) - x_0\|^2 / \sigma^2`
in the embedding ``e``, at fresh noise and trained levels in every step, from the embedding of a prompt that has nothing
to do with the picture. Sampling then starts from that embedding with the mitigation switched on.

Source: "Finding DoRI" (2026), arXiv:2507.16880: 50 steps of 8 draws, against which pruned models gave memorized
pictures back. The attack knows the weights and the picture, but not the mitigation.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import draws
from pointland.denoiser import per_item
from pointland.model import Condition, PromptedModel


@dataclass(frozen=True)
class Attack:
    """The search with its settings.

    Attributes:
        n_steps: Steps of Adam.
        n_draws: Noises and levels a step.
        rate: Adam's learning rate.
        seed: Of noises and levels.

    Cost:
        ``n_steps n_draws`` evaluations with a backward pass.
    """

    n_steps: int = 50
    n_draws: int = 8
    rate: float = 0.1
    seed: int = 0

    def __call__(
        self, model: PromptedModel, x0: Float[Tensor, "b *event"], start: Condition
    ) -> Float[Tensor, "b tokens width"]:
        """Return the embeddings found, one a picture; every picture by itself."""
        states = start.states.detach().float().clone().requires_grad_()
        optimizer = torch.optim.Adam([states], lr=self.rate)
        keys = [f"attack {i}" for i in range(len(x0))]
        levels = model.levels.sigmas.float()
        order = torch.Generator().manual_seed(self.seed)
        for step in range(self.n_steps):
            noises = draws.normal(x0, keys, self.n_draws, self.seed, start=step * self.n_draws)
            optimizer.zero_grad()
            for noise in noises:
                sigma = levels[torch.randint(len(levels), (1,), generator=order)].to(x0).expand(len(x0))
                x = x0 + per_item(sigma, x0) * noise
                condition = start.with_states(states.to(start.states.dtype))
                with torch.enable_grad():
                    error = (model.denoise(x, sigma, condition) - x0) / per_item(sigma, x0)
                    loss = error.square().flatten(1).mean(-1).sum() / self.n_draws
                    (gradient,) = torch.autograd.grad(loss, states)
                states.grad = gradient if states.grad is None else states.grad + gradient
            optimizer.step()
        return states.detach().to(start.states.dtype)


DORI = Attack()
