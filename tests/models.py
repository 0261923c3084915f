"""A model without a network: exact denoisers behind the model protocol, for tests of everything above it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pointland import exact
from pointland.denoiser import Denoiser
from pointland.noise import Levels


@dataclass(frozen=True)
class Shrink:
    """Pictures of 8 x 8 as 48 averaged numbers: a codec with a known, linear form."""

    size: tuple[int, int] = (8, 8)
    space: str = "averages 3 x 4 x 4"

    def encode(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images.float() / 127.5 - 1, 2)

    def decode(self, x: Tensor) -> Tensor:
        images = torch.nn.functional.interpolate(x, scale_factor=2)
        return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class ExactModel:
    """Without a caption a standard Gaussian; with one, the perfect memorizer of ``points``."""

    points: Tensor
    captioned: bool = True
    calls: list[int] = field(default_factory=list)
    codec: Shrink = field(default_factory=Shrink)
    levels: Levels = field(default_factory=lambda: Levels(torch.logspace(-2, 1, 200, dtype=torch.float64)))

    @property
    def conditional(self) -> bool:
        return self.captioned

    @property
    def identity(self) -> dict[str, str]:
        return {
            "name": "exact",
            "class": "ExactModel",
            "dtype": "float32",
            "space": self.codec.space,
            "weights_sha256": hashlib.sha256(type(self).__name__.encode() + self.points.numpy().tobytes()).hexdigest(),
        }

    @property
    def unconditional(self) -> Denoiser:
        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            self.calls.append(len(x))
            return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)

        return denoise

    def is_cut(self, caption: str) -> bool:
        return len(caption) > 100

    def given(self, captions: Sequence[str | None]) -> Denoiser:
        if not self.captioned and any(caption is not None for caption in captions):
            raise ValueError("takes no captions")
        memorizer = exact.points(self.points.flatten(1))
        with_caption = torch.tensor([caption is not None for caption in captions]).reshape(-1, 1, 1, 1)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            self.calls.append(len(x))
            plain = x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)
            return torch.where(with_caption, memorizer(x.flatten(1), sigma).reshape(x.shape), plain)

        return denoise
