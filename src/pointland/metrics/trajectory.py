r"""Signals along a generation: the guidance norm over its steps, and how far its updates leave the stable region.

From pure noise a deterministic sampler (DDIM) takes a few steps with guidance. At every level the *guidance norm* is
taken, and its mean is Wen's detector over several steps. A memorized prompt also moves the latent further than an
ordinary generation from the same noise would: with :math:`u_k` the update of step ``k`` in the sampler's own coordinate
:math:`x / \sqrt{1 + \sigma^2}`, and :math:`u^0_k` that of the generation without prompt from the same noise,

.. math:: \max_k \left| \log \|u_k\| - \log \|u^0_k\| \right|

is how far the updates' norms leave the band that the model itself, without a prompt, keeps to. That memorized
generations leave a region of stable update norms is published ("Broken memories", KDD 2026); to take the unprompted
generation for the region, which needs no reference prompts, is ours.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.metrics.captioned import captioned, uncaptioned
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column
from pointland.metrics.rms import root_mean_square


@dataclass(frozen=True)
class Trajectory:
    """The guidance norm over steps, and the excess of the updates.

    Attributes:
        sigmas: Levels of the steps, descending from the model's highest; the last is where the last step ends.
        guidance: Scale of classifier-free guidance; published with 7.5.

    Cost:
        Three forward passes a step: both conditions along the generation, and the one without prompt.
    """

    sigmas: tuple[float, ...]
    guidance: float = 7.5

    def __post_init__(self) -> None:
        falling = all(high > low for high, low in zip(self.sigmas, self.sigmas[1:], strict=False))
        if len(self.sigmas) < 2 or not falling:
            raise ValueError(f"a generation needs two or more descending levels, got {list(self.sigmas)}")

    @property
    def columns(self) -> tuple[Column, ...]:
        """The guidance norm's mean over steps, and the excess."""
        n = len(self.sigmas) - 1
        return (
            Column(
                "guidance_norm_steps",
                "Guidance norm over steps",
                "1",
                "high",
                "caption",
                None,
                f"Of the caption, not the picture: mean guidance norm over {n} steps of a generation.",
                "Wen et al. 2024 (ICLR), several steps",
            ),
            Column(
                "update_excess",
                "Excess of the sampler's updates",
                "nats",
                "high",
                "caption",
                None,
                f"Of the caption, not the picture: largest log ratio of the norms of the updates with the caption and "
                f"without, over {n} steps.",
                "after Broken memories (KDD 2026), arXiv:2605.22050; the band is this package's",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image when nothing is shared, 0 without captions."""
        return float(3 * (len(self.sigmas) - 1)) if n_conditions == 2 else 0.0

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the columns along one generation and the one without prompt."""
        if "conditional" not in batch.conditions:
            return uncaptioned(batch, [column.name for column in self.columns])
        x = plain = batch.start(self.sigmas[0], 0)
        unconditional = batch.model.unconditional
        norms, excess = [], []
        for high, low in zip(self.sigmas, self.sigmas[1:], strict=False):
            without, conditional = batch.evaluate(x, high)
            with torch.no_grad():
                prior = unconditional(plain, plain.new_tensor([high]))
            norms.append(root_mean_square(without - conditional) / high)
            moved, unprompted = (
                step(point, denoised, high, low)
                for point, denoised in ((x, without + self.guidance * (conditional - without)), (plain, prior))
            )
            sizes = [
                root_mean_square(latent(new, low) - latent(old, high)) for new, old in ((moved, x), (unprompted, plain))
            ]
            excess.append((sizes[0].log() - sizes[1].log()).abs())
            x, plain = moved, unprompted
        found = {"guidance_norm_steps": torch.stack(norms).mean(0), "update_excess": torch.stack(excess).amax(0)}
        return captioned(batch, found)


def step(
    x: Float[Tensor, "b *event"], denoised: Float[Tensor, "b *event"], high: float, low: float
) -> Float[Tensor, "b *event"]:
    """Step from level ``high`` to ``low`` along the line to the denoised point: DDIM, written for sigma."""
    return denoised + low / high * (x - denoised)


def latent(x: Float[Tensor, "b *event"], sigma: float) -> Float[Tensor, "b *event"]:
    """Return the point in a sampler's variance-preserving coordinate."""
    scale: float = (1 + sigma**2) ** 0.5
    return x / scale
