"""Evaluations: the network calls of one batch, each made once and shared by every metric.

Most published signals are the same few evaluations read differently: the value beside a Jacobian product gives the
residual, the conditional and the unconditional prediction at one point give the guidance norm. So metrics do not call
the network, they ask here. Both conditions go through it in one call, with the same noise, so that their difference has
little.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pointland import derivatives, draws
from pointland.denoiser import Denoiser, per_item
from pointland.derivatives import Derivative, Products
from pointland.model import Model

Condition = Literal["unconditional", "conditional"]


@dataclass(frozen=True, eq=False)
class Evaluations:
    """One batch and what the model says of it.

    Attributes:
        model: The model.
        images: The fitted pictures, shape ``(b, 3, h, w)``.
        x: The same in model space, shape ``(b, *event)``, float32.
        keys: What the random draws of each item are keyed by.
        captions: One an item, ``None`` where there is none.
        seed: Of all draws.
    """

    model: Model
    images: UInt8[Tensor, "b 3 h w"]
    x: Float[Tensor, "b *event"]
    keys: Sequence[str]
    captions: Sequence[str | None]
    seed: int
    _denoised: dict[tuple[float, int], list[Tensor]] = field(default_factory=dict)
    _started: dict[tuple[float, int], list[Tensor]] = field(default_factory=dict)
    _products: dict[tuple[float, int, Derivative], list[Products]] = field(default_factory=dict)
    _bound: list[Denoiser] = field(default_factory=list)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions under which this batch is evaluated, both as soon as one item has a caption."""
        if self.model.conditional and any(caption is not None for caption in self.captions):
            return ("unconditional", "conditional")
        return ("unconditional",)

    def noise(self, draw: int) -> Float[Tensor, "b *event"]:
        """Return the batch's noise number ``draw``."""
        return draws.normal(self.x, self.keys, 1, self.seed, start=draw)[0]

    def probes(self, n: int) -> Float[Tensor, "n b *event"]:
        """Return the batch's first ``n`` sign probes."""
        return draws.signs(self.x, self.keys, n, self.seed)

    def denoised(self, condition: Condition, sigma: float, draw: int) -> Float[Tensor, "b *event"]:
        """Return the denoised ``x + sigma * noise(draw)``."""
        at = (sigma, draw)
        if at not in self._denoised:
            self._denoised[at] = self.evaluate(self.x + sigma * self.noise(draw), sigma)
        return self._denoised[at][self.conditions.index(condition)]

    def start(self, sigma: float, draw: int) -> Float[Tensor, "b *event"]:
        """Return where a generation starts, ``sigma * noise(draw)``: pure noise, nothing of the picture."""
        return sigma * self.noise(draw)

    def denoised_start(self, condition: Condition, sigma: float, draw: int) -> Float[Tensor, "b *event"]:
        """Return the denoised ``start(sigma, draw)``."""
        at = (sigma, draw)
        if at not in self._started:
            self._started[at] = self.evaluate(self.start(sigma, draw), sigma)
        return self._started[at][self.conditions.index(condition)]

    def products(self, condition: Condition, sigma: float, n_probes: int, derivative: Derivative = "vjp") -> Products:
        """Return the denoised ``x`` itself, not noised, and the products of the first ``n_probes`` probes there."""
        at = (sigma, n_probes, derivative)
        if at not in self._products:
            n = len(self.conditions)
            probes = self.probes(n_probes).repeat(1, n, *(1,) * (self.x.ndim - 1))
            both = derivatives.products(
                self.denoise, _times(self.x, n), self._sigma(sigma), probes=probes, method=derivative
            )
            parts = zip(both.denoised.chunk(n), both.products.chunk(n, dim=1), strict=True)
            self._products[at] = [Products(*part) for part in parts]
        return self._products[at][self.conditions.index(condition)]

    def evaluate(self, x: Float[Tensor, "b *event"], sigma: float) -> list[Float[Tensor, "b *event"]]:
        """Return the denoised ``x`` under every condition, from one network call; not kept."""
        n = len(self.conditions)
        with torch.no_grad():
            return list(self.denoise(_times(x, n), self._sigma(sigma)).chunk(n))

    def denoise(self, x: Float[Tensor, "nb *event"], sigma: Float[Tensor, "#nb"]) -> Float[Tensor, "nb *event"]:
        """Denoise the batch stacked once a condition, unconditional first."""
        if not self._bound:
            nothing: list[str | None] = [None] * len(self.captions)
            both = len(self.conditions) == 2
            self._bound.append(self.model.given([*nothing, *self.captions]) if both else self.model.unconditional)
        return self._bound[0](x, sigma)

    def difference(self, sigma: float, draw: int) -> Float[Tensor, "b *event"]:
        """Return conditional minus unconditional noise prediction at ``x + sigma * noise(draw)``."""
        gap = self.denoised("unconditional", sigma, draw) - self.denoised("conditional", sigma, draw)
        return gap / per_item(self._sigma(sigma), gap)

    def _sigma(self, sigma: float) -> Tensor:
        return torch.tensor([sigma], dtype=self.x.dtype, device=self.x.device)


def _times(x: Tensor, n: int) -> Tensor:
    return x if n == 1 else x.repeat(n, *(1,) * (x.ndim - 1))
