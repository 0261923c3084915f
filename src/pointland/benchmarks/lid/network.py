r"""A perceptron around the best linear denoiser.

With the training points' mean :math:`\mu` and covariance :math:`C`, and all functions of matrices symmetric,

.. math::
    D(x; \sigma) = \mu + C (C + \sigma^2)^{-1} (x - \mu)
    + \sigma (C (C + \sigma^2)^{-1})^{1/2} F((C + \sigma^2)^{-1/2} (x - \mu), \log \sigma) ,

the preconditioning of Karras et al. 2022 (EDM, section 5) with its scalar variance of the data replaced by the
covariance. The target of :math:`F` has unit variance in every direction of the data, and there is none in others.

The squares among the inputs of :math:`F` and the displacement that is divided by sigma were chosen by the held-out loss
on the Clifford torus, where perceptrons and gated ones without squares learned nothing in 3,000 steps.
"""

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR = 0.02  # sigma below which a displacement is no longer amplified


class Gated(torch.nn.Module):
    """A gated linear unit, SwiGLU of Shazeer 2020, after layer normalization."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.normalize = torch.nn.LayerNorm(width)
        self.spread = torch.nn.Linear(width, 2 * width)
        self.gather = torch.nn.Linear(width, width)

    def forward(self, hidden: Float[Tensor, "b w"]) -> Float[Tensor, "b w"]:
        """Return what is added to ``hidden``."""
        gate, value = self.spread(self.normalize(hidden)).chunk(2, 1)
        output: Tensor = self.gather(torch.nn.functional.silu(gate) * value)
        return output


class Network(torch.nn.Module):
    """The denoiser of the module's head; initial weights by torch's global generator."""

    vectors: Tensor
    variances: Tensor
    mean: Tensor

    def __init__(self, points: Float[Tensor, "n d"], width: int, n_blocks: int) -> None:
        super().__init__()
        d = points.shape[1]
        found = torch.linalg.eigh(points.double().T.cov())
        variances = found.eigenvalues.clamp_min(0)
        variances = torch.where(variances > 1e-10 * variances[-1], variances, 0)
        self.register_buffer("vectors", found.eigenvectors.float())
        self.register_buffer("variances", variances.float().clone())
        self.register_buffer("mean", points.mean(0))
        self.first = torch.nn.Linear(2 * d + 16, width)
        self.blocks = torch.nn.ModuleList(Gated(width) for _ in range(n_blocks))
        self.last = torch.nn.Linear(width, 4 * d)
        torch.nn.init.zeros_(self.last.weight)
        torch.nn.init.zeros_(self.last.bias)

    def forward(self, x: Float[Tensor, "b d"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b d"]:
        """Return the denoised points."""
        s = sigma.reshape(-1, 1)
        whole = self.variances + s**2
        pass_rate = self.variances / whole
        along = (x - self.mean) @ self.vectors
        output = self.inner((along / whole.sqrt()) @ self.vectors.T, s.expand(len(x), 1))
        moved = pass_rate * along + s * pass_rate.sqrt() * (output @ self.vectors)
        denoised: Tensor = self.mean + moved @ self.vectors.T
        return denoised

    def inner(self, scaled: Float[Tensor, "b d"], s: Float[Tensor, "b 1"]) -> Float[Tensor, "b d"]:
        """Return ``F``: a part of the size of the noise and a displacement that hardly depends on sigma."""
        phases = s.log() / 4 * torch.linspace(0, 4, 8).exp()
        hidden = self.first(torch.cat([scaled, scaled.square() - 1, phases.sin(), phases.cos()], 1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        near, near_gate, far, far_gate = self.last(torch.nn.functional.silu(hidden)).chunk(4, 1)
        output: Tensor = near + scaled * near_gate + 0.3 * (far + scaled * far_gate) / (s**2 + FLOOR**2).sqrt()
        return output

    def loss(self, x0: Float[Tensor, "b d"], sigma: Float[Tensor, " b"]) -> Float[Tensor, ""]:
        """Return the squared error in units of sigma, a direction of the data on average: the LID per direction."""
        s = sigma.reshape(-1, 1)
        residual: Tensor = (self(x0 + s * torch.randn_like(x0), sigma) - x0) / s
        loss: Tensor = residual.square().sum(1).mean() / (self.variances > 0).sum()
        return loss
