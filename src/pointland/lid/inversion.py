"""Inversion: the latent of a given picture, without which a generator's Jacobian cannot be taken there.

A generator maps latents to pictures and back comes nothing: the latent is searched for, and what the search leaves over
says whether the picture is on the model's manifold at all.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import draws
from pointland.lid.pushforward import Generator, check_finite, columns


class Inverted(NamedTuple):
    """Latents found for given pictures.

    Attributes:
        z: Best latent, shape ``(b, *latent)``.
        error: Root mean square of ``G(z) - x`` over the numbers of an item, in units of ``x``, shape ``(b,)``.
        errors: The same of every start before the last steps, shape ``(n, b)``. Where the smallest is alone, more
            starts may find better.
    """

    z: Float[Tensor, "b *latent"]
    error: Float[Tensor, " b"]
    errors: Float[Tensor, "n b"]


def invert(
    generate: Generator,
    x: Float[Tensor, "b *event"],
    starts: Float[Tensor, "n b *latent"],
    *,
    n_steps: int = 300,
    rate: float = 0.05,
    n_polish: int = 10,
) -> Inverted:
    r"""Find the latent whose image is nearest to ``x``.

    Adam from every start, with a rate that falls as a cosine; then Levenberg-Marquardt from the best, which on the
    model's manifold takes the error down to rounding, so that a small error means something.

    Args:
        generate: The generator, as for :func:`pushforward`; differentiable.
        x: Pictures in the generator's space, shape ``(b, *event)``.
        starts: Latents to start from, shape ``(n, b, *latent)``.
        n_steps: Adam steps from each; 0 goes to the last steps at once.
        rate: Adam's first rate, in units of latent.
        n_polish: Most Levenberg-Marquardt steps, each a Jacobian; 0 for none.

    Returns:
        An ``error`` well below the scale ``sigma`` at which the LID is asked says that ``x`` is on the model's manifold
        at that scale, as far as latents go: one far out in the prior is never sampled, so look at ``|z|`` too. A large
        one says that it is not, or that the search failed; then the LID at ``z`` is that of another picture.

    Raises:
        ValueError: If a shape does not fit, there are no starts, or something is not finite.

    Cost:
        About ``3 n n_steps`` forward passes and ``n_polish`` times that of :func:`pushforward`.

    Source:
        Inversion by optimization: Zhu et al. 2016, arXiv:1609.03552; Levenberg 1944, Marquardt 1963.

    Example:
        >>> matrix = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> invert(lambda z: z @ matrix, torch.tensor([[3.0, 4.0, 0.6]]), torch.zeros(1, 1, 2)).error
        tensor([0.3464])
    """
    if starts.ndim < 3 or len(starts) == 0 or starts.shape[1] != len(x):
        raise ValueError(
            f"starts must have shape (n, {len(x)}, *latent) with n at least 1, got {tuple(starts.shape)}; "
            "pass z0[None] for a single start"
        )
    check_finite(x, "pictures")
    check_finite(starts.flatten(0, 1), "starts")
    _check_target(generate, x, starts[0])
    found = [_descend(generate, x, start, n_steps, rate) for start in starts]
    errors = torch.stack([_error(generate, x, z) for z in found])
    best = errors.nan_to_num(nan=math.inf).argmin(0)
    z = torch.stack(found)[best, torch.arange(len(x), device=x.device)]
    if not bool(z.isfinite().all()):
        raise ValueError(f"the search left the finite numbers from every start; take a rate below {rate}")
    z = _polish(generate, x, z, n_polish)
    return Inverted(z, _error(generate, x, z), errors)


@dataclass(frozen=True)
class Inversion:
    """Finding latents, with the settings.

    Attributes:
        n_restarts: Standard normal starts an item, beside the one that is given.
        n_steps: Adam steps from each.
        rate: Adam's first rate.
        n_polish: Most Levenberg-Marquardt steps from the best.
        seed: Of the starts, which depend on the item's key alone.
    """

    n_restarts: int = 4
    n_steps: int = 300
    rate: float = 0.05
    n_polish: int = 10
    seed: int = 0

    def __call__(
        self, generate: Generator, x: Float[Tensor, "b *event"], z0: Float[Tensor, "b *latent"], keys: list[str]
    ) -> Inverted:
        """Search from ``z0`` and from random latents of its shape; see :func:`invert`."""
        starts = torch.cat([z0[None], draws.normal(z0, keys, self.n_restarts, self.seed)])
        return invert(generate, x, starts, n_steps=self.n_steps, rate=self.rate, n_polish=self.n_polish)


def _check_target(generate: Generator, x: Tensor, z: Tensor) -> None:
    with torch.no_grad():
        image = generate(z)
    if image.shape != x.shape:
        raise ValueError(f"the generator answers shape {tuple(image.shape)}, the pictures have {tuple(x.shape)}")


def _error(generate: Generator, x: Tensor, z: Tensor) -> Tensor:
    with torch.no_grad():
        return (generate(z) - x).flatten(1).square().mean(-1).sqrt()


def _descend(generate: Generator, x: Tensor, start: Tensor, n_steps: int, rate: float) -> Tensor:
    """Return each item's best latent on the way; Adam moves every number by its own gradients, so items stay apart."""
    z = start.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=rate)
    best, least = start.detach().clone(), _error(generate, x, start)
    for step in range(n_steps):
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / n_steps)) / 2
        with torch.enable_grad():
            losses = (generate(z) - x).flatten(1).square().mean(-1)
            (z.grad,) = torch.autograd.grad(losses.sum(), z)
        better = losses.detach().sqrt() < least
        least = torch.where(better, losses.detach().sqrt(), least)
        best = torch.where(_mask(better, z), z.detach(), best)
        optimizer.step()
    return best


def _polish(generate: Generator, x: Tensor, z: Tensor, n_polish: int) -> Tensor:
    """Take damped Gauss-Newton steps, each item with its own damping, as long as any item gets nearer."""
    error = _error(generate, x, z)
    damping = torch.full((len(z), 1, 1), 1e-3, dtype=torch.float64, device=z.device)
    for _ in range(n_polish):
        rows = columns(generate, z).to(torch.float64).transpose(0, 1)
        with torch.no_grad():
            rest = (x - generate(z)).flatten(1).to(torch.float64)
        gram = rows @ rows.mT
        size = gram.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None].clamp_min(1e-300)
        eye = torch.eye(gram.shape[-1], dtype=torch.float64, device=z.device)
        step = torch.linalg.solve(gram + damping * size * eye, rows @ rest[:, :, None])
        moved = z + step.reshape(z.shape).to(z.dtype)
        error_there = _error(generate, x, moved)
        better = error_there < error
        if not bool(better.any()) and bool((damping > 1).all()):
            break
        z = torch.where(_mask(better, z), moved, z)
        error = torch.where(better, error_there, error)
        damping = torch.where(better[:, None, None], damping / 10, damping * 10).clamp_min(1e-12)
    return z


def _mask(better: Tensor, z: Tensor) -> Tensor:
    return better.reshape(-1, *(1,) * (z.ndim - 1))
