"""A conditional model in closed form: every caption is bound to a distribution of its own, and none to their base."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models import Shrink
from pointland import exact
from pointland.denoiser import Denoiser
from pointland.metrics import Evaluations
from pointland.noise import Levels


@dataclass(frozen=True)
class CaptionedMixture:
    base: Denoiser
    known: Mapping[str, Denoiser] = field(default_factory=dict)
    calls: list[int] = field(default_factory=list)
    codec: Shrink = field(default_factory=Shrink)
    levels: Levels = field(default_factory=lambda: Levels(torch.logspace(-2, 2, 800, dtype=torch.float64)))

    @property
    def conditional(self) -> bool:
        return bool(self.known)

    @property
    def identity(self) -> dict[str, str]:
        return {"name": "captioned mixture", "weights_sha256": "0" * 64}

    @property
    def unconditional(self) -> Denoiser:
        return self.given([None])

    def is_cut(self, caption: str) -> bool:
        return False

    def given(self, captions: Sequence[str | None]) -> Denoiser:
        denoisers = [self.base if caption is None else self.known[caption] for caption in captions]

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            self.calls.append(len(x))
            each, sigmas = denoisers * (len(x) if len(denoisers) == 1 else 1), sigma.expand(len(x))
            return torch.cat([d(x[i : i + 1], sigmas[i : i + 1]) for i, d in enumerate(each)])

        return denoise


def normal_points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gauss(d: int, mean: float = 0.0, variance: float = 1.0) -> exact.Gaussian:
    return exact.gaussian(variance * torch.eye(d, dtype=torch.float64), mean + torch.zeros(d, dtype=torch.float64))


def batch_of(
    model: CaptionedMixture, x: Tensor, captions: Sequence[str | None] | None = None, keys: Sequence[str] | None = None
) -> Evaluations:
    images = torch.zeros(len(x), 3, 8, 8, dtype=torch.uint8)
    names = [f"key {i}" for i in range(len(x))] if keys is None else keys
    return Evaluations(model, images, x, names, [None] * len(x) if captions is None else captions, 0)


def memorizer(x: Tensor) -> CaptionedMixture:
    """Without caption a Gaussian; under ``picture i`` the point ``x[i]``; under ``plain i`` a Gaussian not its own."""
    known: dict[str, Denoiser] = {f"picture {i}": exact.points(x[i : i + 1]) for i in range(len(x))}
    known |= {f"plain {i}": gauss(x[0].numel(), 0.1 * i, 0.8) for i in range(3)}
    return CaptionedMixture(gauss(x[0].numel()), known)


def pictured(n: int) -> list[str]:
    return [f"picture {i}" for i in range(n)]
