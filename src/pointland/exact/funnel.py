r"""A funnel: a curved manifold whose width changes over orders of magnitude; the denoiser is a sum over one variable.

Neal's funnel gives a coordinate :math:`v \sim N(0, s^2)` and, given it, ``n`` others of variance :math:`e^v`. Here the
plane of the others also turns as ``v`` passes, so that no plane holds the manifold. With orthonormal columns
:math:`u, e_1 \ldots e_n, f_1 \ldots f_n` and the angle :math:`\varphi(v) = a \tanh(v / s)`,

.. math:: x_0 = \mu + v\,u + e^{v/2} \sum_i z_i (\cos\varphi(v)\, e_i + \sin\varphi(v)\, f_i), \qquad z_i \sim N(0, 1),

a manifold of dimension :math:`k = n + 1`. Given ``v`` all is Gaussian. With :math:`y = x - \mu` and the parts
:math:`p = E^\top y`, :math:`q = F^\top y`, the posterior of ``v`` depends on five numbers,
:math:`u^\top y, |p|^2, p^\top q, |q|^2` and what is left of :math:`|y|^2`:

.. math::
    -2 \log \pi(v \mid x) = \frac{v^2}{s^2} + \frac{(v - u^\top y)^2}{\sigma^2} + n \log(e^v + \sigma^2)
    + \frac{|p \cos\varphi + q \sin\varphi|^2}{e^v + \sigma^2} + \frac{|p \sin\varphi - q \cos\varphi|^2}{\sigma^2} + c,

and with :math:`g = e^v / (e^v + \sigma^2)` the posterior mean is :math:`\mu + \mathbb{E}[v] u + E(\mathbb{E}[g \cos^2
\varphi]\, p + \mathbb{E}[g \cos\varphi \sin\varphi]\, q) + F(\mathbb{E}[g \cos\varphi \sin\varphi]\, p + \mathbb{E}[g
\sin^2 \varphi]\, q)`. The expectations are sums over evenly spaced nodes that close in on where the posterior is, item
by item; of a smooth function that has vanished at both ends such a sum converges faster than any power of the spacing.
The whole turn stays below a quarter, so that a plane is met at one ``v`` only.

Source: Neal 2003, *Slice sampling*, section 8, for the funnel; the turning planes and the denoiser are ours. The
"funnel" mixtures of Osada 2026, arXiv:2605.01221, share name, dimensions and space with these; we have not seen how he
draws them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pointland.exact.vectors import as_column, as_vectors, normal_vectors, random_axes

N_FIRST, N_NODES, N_ROUNDS = 512, 160, 5
DEPTH = 50.0  # nats below the maximum that nodes reach down to: what is left out is 1e-21 of the whole


def funnel(
    d: int, k: int, seed: int = 0, *, spread: float = 3.0, twist: float = 0.7, center: Tensor | None = None
) -> "Funnel":
    """Make a randomly turned funnel of ``k`` dimensions in ``d``.

    Args:
        d: Dimensions of the space, at least ``2 k - 1``, or ``k`` without a twist.
        k: Dimensions of the funnel, at least 2.
        seed: Of its position.
        spread: Standard deviation of the logarithm of the variance; Neal's is 3, where one point in forty is wider
            than 19 or narrower than 1/19.
        twist: Radians that the planes turn by to either side, from 0 (Neal's funnel, within a plane) to below pi / 4.
        center: Shape ``(d,)``; the origin if left out.

    Raises:
        ValueError: If there is no room for it, or a number is out of its range.
    """
    if k < 2 or (2 * k - 1 if twist else k) > d:
        need = "2 k - 1" if twist else "k"
        raise ValueError(f"a funnel of {k} dimensions takes k at least 2 and {need} dimensions of space, got d {d}")
    axes = random_axes(d, 2 * k - 1 if twist else k, seed)
    middle = torch.zeros(d, dtype=torch.float64) if center is None else center.detach().to("cpu", torch.float64)
    return Funnel(middle, axes[:, 0], axes[:, 1:k], axes[:, k:], spread, twist)


def funnels(
    d: int, dims: Sequence[int], seed: int = 0, *, separation: float = 10.0, spread: float = 3.0, twist: float = 0.7
) -> "Funnels":
    """Make a mixture of equally likely funnels, one for each of ``dims``, centers ``separation`` apart.

    Args:
        d: Dimensions of the space.
        dims: Dimensions of the funnels, each at least 2.
        seed: Of the rotations.
        separation: Distance between any two centers.
        spread: Standard deviation of the logarithm of the variance.
        twist: Radians that the planes turn by to either side; see :func:`funnel`.

    Raises:
        ValueError: If there are more funnels than dimensions, or none, or one has no room.
    """
    if not 0 < len(dims) <= d:
        raise ValueError(f"a mixture in {d} dimensions takes 1 to {d} funnels, got {len(dims)}")
    centers = separation / 2**0.5 * random_axes(d, len(dims), seed).T
    made = (funnel(d, k, seed + 1 + j, spread=spread, twist=twist, center=centers[j]) for j, k in enumerate(dims))
    return Funnels(tuple(made), (1 / len(dims),) * len(dims))


class _Seen(NamedTuple):
    """What a noised point looks like from a funnel."""

    p: Float[Tensor, "b n"]
    q: Float[Tensor, "b m"]
    height: Float[Tensor, "b 1"]
    pp: Float[Tensor, "b 1"]
    pq: Float[Tensor, "b 1"]
    qq: Float[Tensor, "b 1"]


@dataclass(frozen=True, eq=False)
class Funnel:
    """A funnel given by its axes, callable as a denoiser; computes in float64 and answers in the dtype of ``x``.

    Attributes:
        center: Where ``v`` and all else is 0, shape ``(d,)``.
        neck: Unit direction of ``v``, shape ``(d,)``.
        axes: Orthonormal columns :math:`e_i`, shape ``(d, n)``.
        turned: Orthonormal columns :math:`f_i`, shape ``(d, n)``, or ``(d, 0)`` without a twist.
        spread: Standard deviation of ``v``, positive.
        twist: Largest angle in radians, 0 to below pi / 4.
    """

    center: Float[Tensor, " d"]
    neck: Float[Tensor, " d"]
    axes: Float[Tensor, "d n"]
    turned: Float[Tensor, "d m"]
    spread: float
    twist: float

    def __post_init__(self) -> None:
        if not self.spread > 0:
            raise ValueError(f"spread must be positive, got {self.spread}; a funnel without it is a plane")
        if not 0 <= self.twist < math.pi / 4:
            raise ValueError(f"twist must be from 0 to below pi / 4 = 0.785, got {self.twist}")

    @property
    def dimension(self) -> int:
        """Dimension of the manifold."""
        return self.axes.shape[1] + 1

    def __call__(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        """Return the posterior mean of the clean point."""
        vectors = as_vectors(x, len(self.center))
        column = as_column(sigma, vectors)
        seen = self._look(vectors)
        v, _ = self._nodes(seen, column)
        belief = self._log_weights(v, seen, column).softmax(1)
        angle = self._angle(v)
        gain = belief * (v - (v.exp() + column**2).log()).exp()
        same, mixed = gain * angle.cos() ** 2, gain * angle.cos() * angle.sin()
        a, b = same.sum(1, keepdim=True), mixed.sum(1, keepdim=True)
        height = (belief * v).sum(1, keepdim=True)
        along = seen.p * a + (seen.q * b if self.twist else 0.0)
        denoised = self.center.to(vectors) + height * self.neck.to(vectors) + along @ self.axes.to(vectors).T
        if self.twist:
            c = (gain * angle.sin() ** 2).sum(1, keepdim=True)
            denoised = denoised + (seen.p * b + seen.q * c) @ self.turned.to(vectors).T
        return denoised.reshape(x.shape).to(x.dtype)

    def log_density(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, " b"]:
        """Return the log density of noised data, in nats, float64."""
        vectors = as_vectors(x, len(self.center))
        column = as_column(sigma, vectors).expand(len(vectors), 1)
        seen = self._look(vectors)
        v, spacing = self._nodes(seen, column)
        d, n = self.axes.shape
        rest = vectors - self.center.to(vectors) - seen.height * self.neck.to(vectors)
        rest = rest - seen.p @ self.axes.to(vectors).T
        if self.twist:
            rest = rest - seen.q @ self.turned.to(vectors).T
        constant = (d + 1) * math.log(2 * math.pi) / 2 + math.log(self.spread)
        whole = self._log_weights(v, seen, column).logsumexp(1) + spacing.log()
        outside = (rest / column).square().sum(1) / 2 + (d - n) * column[:, 0].log()
        return whole - outside - constant

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Float[Tensor, "{n} d"]:
        """Return ``n`` clean points on the CPU, exact to the rounding of ``dtype``."""
        drawn = normal_vectors(n, self.dimension, seed)
        v, wide = self.spread * drawn[:, :1], drawn[:, 1:]
        angle = self._angle(v)
        wide = (v / 2).exp() * wide
        points = self.center.cpu() + v * self.neck.cpu() + (angle.cos() * wide) @ self.axes.cpu().T
        if self.twist:
            points = points + (angle.sin() * wide) @ self.turned.cpu().T
        return points.to(dtype)

    def lid(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Return the true local intrinsic dimension at clean points; seen only by a scale below the funnel's width."""
        return x.new_full((len(x),), self.dimension)

    def _look(self, vectors: Float[Tensor, "b d"]) -> _Seen:
        y = vectors - self.center.to(vectors)
        p, q = y @ self.axes.to(vectors), y @ self.turned.to(vectors)
        height = (y @ self.neck.to(vectors))[:, None]
        if not self.twist:
            none = torch.zeros_like(height)
            return _Seen(p, q, height, p.square().sum(1, keepdim=True), none, none)
        products = (p.square(), p * q, q.square())
        return _Seen(p, q, height, *(product.sum(1, keepdim=True) for product in products))

    def _angle(self, v: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        return self.twist * (v / self.spread).tanh()

    def _log_weights(self, v: Float[Tensor, "b m"], seen: _Seen, column: Float[Tensor, "#b 1"]) -> Float[Tensor, "b m"]:
        """Return the log posterior of ``v`` up to what does not depend on it."""
        angle = self._angle(v)
        cos, sin = angle.cos(), angle.sin()
        along = seen.pp * cos**2 + 2 * seen.pq * cos * sin + seen.qq * sin**2
        across = seen.pp * sin**2 - 2 * seen.pq * cos * sin + seen.qq * cos**2
        wide = v.exp() + column**2
        gaussian = (v / self.spread) ** 2 + ((v - seen.height) / column) ** 2
        return -0.5 * (gaussian + self.axes.shape[1] * wide.log() + along / wide + across / column**2)

    def _nodes(self, seen: _Seen, column: Float[Tensor, "#b 1"]) -> tuple[Tensor, Tensor]:
        """Return evenly spaced nodes over where the posterior of ``v`` is, and their spacing, one an item."""
        with torch.no_grad():
            width = ((seen.pp + seen.qq) / self.axes.shape[1]).clamp_min(1.0).log()
            low = seen.height.clamp_max(0.0) - 9 * self.spread
            high = torch.maximum(seen.height.clamp_min(0.0), width) + 9 * self.spread
            for i in range(N_ROUNDS):
                share = torch.linspace(0, 1, N_NODES if i else N_FIRST, dtype=low.dtype, device=low.device)
                v = low + (high - low) * share
                logs = self._log_weights(v, seen, column)
                within = logs > logs.max(1, keepdim=True).values - DEPTH
                step = (high - low) * share[1]
                inside = torch.where(within, v, torch.inf).min(1, keepdim=True).values
                outside = torch.where(within, v, -torch.inf).max(1, keepdim=True).values
                low, high = inside - step, outside + step
            share = torch.linspace(0, 1, N_NODES, dtype=low.dtype, device=low.device)
            return low + (high - low) * share, ((high - low) * share[1])[:, 0]


@dataclass(frozen=True, eq=False)
class Funnels:
    """A mixture of funnels, callable as a denoiser; computes in float64 and answers in the dtype of ``x``.

    Attributes:
        pieces: The funnels, all in one space.
        weights: Their probabilities, positive, of sum 1.
    """

    pieces: tuple[Funnel, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.pieces) != len(self.weights) or not self.pieces:
            raise ValueError(f"got {len(self.weights)} weights for {len(self.pieces)} funnels; pass one a funnel")
        if min(self.weights) <= 0 or abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"weights must be positive and sum to 1, got {self.weights}")

    def __call__(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        """Return the posterior mean of the clean point."""
        vectors = as_vectors(x, len(self.pieces[0].center))
        responsible = self.responsibilities(vectors, sigma)
        denoised = torch.stack([piece(vectors, sigma) for piece in self.pieces], dim=1)
        return torch.einsum("bj,bjd->bd", responsible, denoised).reshape(x.shape).to(x.dtype)

    def log_density(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, " b"]:
        """Return the log density of noised data, in nats, float64."""
        return self._logs(x, sigma).logsumexp(1)

    def responsibilities(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b j"]:
        """Return the posterior probability of every funnel given the noised point, float64."""
        return self._logs(x, sigma).softmax(1)

    def component(self, x: Float[Tensor, "b *event"]) -> Int[Tensor, " b"]:
        """Return the index of the funnel each clean point lies on."""
        return self.responsibilities(x, x.new_full((1,), 1e-3, dtype=torch.float64)).argmax(1)

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Float[Tensor, "{n} d"]:
        """Return ``n`` clean points on the CPU."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(torch.tensor(self.weights), n, replacement=True, generator=generator)
        drawn = torch.stack([piece.sample(n, seed + 1 + j, dtype) for j, piece in enumerate(self.pieces)])
        return drawn[chosen, torch.arange(n)]

    def lid(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Return the true local intrinsic dimension at clean points: that of the funnel each lies on."""
        return x.new_tensor([piece.dimension for piece in self.pieces])[self.component(x)]

    def _logs(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b j"]:
        logs = torch.stack([piece.log_density(x, sigma) for piece in self.pieces], dim=1)
        return logs + logs.new_tensor(self.weights).log()
