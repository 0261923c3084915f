"""The image-level control: a picture under another picture's caption.

A score that only reads the caption cannot tell the right picture from a wrong one: under swapped captions the published
guidance norm has an AUROC of 0.18 to 0.61 between right and wrong pairs. So the denoising loss is measured once more,
under a caption that is not the picture's. It must not be low where the model has memorized what that caption calls up.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.lid.denoising_loss import from_losses
from pointland.lid.flipd import squared_residual
from pointland.metrics.captioned import captioned, uncaptioned
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column


@dataclass(frozen=True)
class SwappedCaption:
    """The denoising loss under another caption, drawn from a pool by the item's key.

    The choice depends on the key, the seed of the audit and the pool as a set, on nothing else: not on the batch, its
    order, or the order of the pool. Never is it the item's own caption, letter by letter; captions of near copies or of
    one template call up the same picture under other words. An audit takes the captions of the audited pictures, so
    that reference pictures stand under captions that may call up memorized ones.

    Attributes:
        captions: The pool, at least two different ones. It is part of a run's record: some hundred are enough.
        sigma: Noise scale in model-space units.
        n_draws: Noise draws, the same noise as for the denoising loss.

    Cost:
        ``n_draws`` forward passes, of one condition; nothing is shared, since no other metric has these captions.
    """

    captions: tuple[str, ...] = field(repr=False)
    sigma: float
    n_draws: int = 8

    def __post_init__(self) -> None:
        if len(set(self.captions)) < 2:
            raise ValueError(f"swapping needs at least two different captions, got {len(set(self.captions))}")

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column, for items with a caption."""
        return (
            Column(
                "denoising_loss_swapped",
                "Denoising loss with another caption",
                "dimensions",
                "neither",
                "caption",
                "denoising_loss_swapped_stderr",
                f"Control: the denoising loss at sigma {self.sigma:.4g} under the caption of another picture; low only "
                "where the picture is memorized whatever the words.",
                "Lopez Amado et al. 2026, caption-swapped pairs",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image, 0 without captions."""
        return float(self.n_draws) if n_conditions == 2 else 0.0

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the column under swapped captions."""
        names = ("denoising_loss_swapped", "denoising_loss_swapped_stderr")
        if "conditional" not in batch.conditions:
            return uncaptioned(batch, names)
        pool = sorted(set(self.captions))
        swapped = [
            None if own is None else swap(pool, key, own, batch.seed)
            for key, own in zip(batch.keys, batch.captions, strict=True)
        ]
        denoise = batch.model.given(swapped)
        sigma = batch.x.new_tensor([self.sigma])
        with torch.no_grad():
            losses = [
                squared_residual(denoise(batch.x + self.sigma * batch.noise(draw), sigma), batch.x, sigma)
                for draw in range(self.n_draws)
            ]
        estimate = from_losses(torch.stack(losses))
        return captioned(batch, dict(zip(names, (estimate.value, estimate.stderr), strict=True)))


def swap(pool: Sequence[str], key: str, own: str, seed: int) -> str:
    """Return the caption of the pool that an item is given instead of its own.

    Args:
        pool: Different captions in a fixed order, at least two.
        key: The item's.
        own: The caption it must not be given.
        seed: Of the choice.
    """
    digest = hashlib.sha256(f"swapped caption\0{seed}\0{key}".encode("utf-8", "surrogatepass")).digest()
    place = int.from_bytes(digest[:8], "little") % len(pool)
    return pool[place] if pool[place] != own else pool[(place + 1) % len(pool)]
