r"""Cross-attention entropy: a memorized prompt spreads the network's attention over all of its tokens.

The attention of every cross-attention layer, averaged over heads and places of the picture, is a distribution
:math:`p` over tokens; its entropy :math:`-\sum p \log p`, averaged over layers, is published to be higher for memorized
prompts. It is read by forward hooks that compute the weights beside the layer's own call: nothing is replaced, and the
hooks are gone afterwards.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pointland.metrics.captioned import captioned
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column
from pointland.model import PromptedModel


@dataclass(frozen=True)
class AttentionEntropyStart:
    """Ren's detector at the first sampling step.

    Attributes:
        sigma: The model's highest trained level, where its samplers start.
        first: Number of the first layer that counts, in the order of the network's calls; published with 3. Networks
            with no more layers than this are read from their first.

    Cost:
        1 forward pass, under the caption.
    """

    sigma: float
    first: int = 3

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column, for items with a caption."""
        return (
            Column(
                "attention_entropy_start",
                "Cross-attention entropy at the start",
                "nats",
                "high",
                "caption",
                None,
                f"Of the caption, not the picture: entropy of the attention over tokens, from pure noise, sigma "
                f"{self.sigma:.4g}.",
                "Ren et al. 2024 (ECCV), one step",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image, 0 without captions."""
        return 1.0 if n_conditions == 2 else 0.0

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compute the column.

        Raises:
            ValueError: If the model's network has no cross-attention.
        """
        model = batch.model
        if not isinstance(model, PromptedModel) or not cross_attention(model.network):
            raise ValueError(
                "this model's network has no cross-attention layers (attn2), so their entropy is not defined; leave "
                "the signal attention out"
            )
        x = batch.start(self.sigma, 0)
        with torch.no_grad(), watched(model.network) as entropies:
            model.denoise(x, x.new_tensor([self.sigma]), model.condition(batch.captions))
        kept = entropies[self.first :] or entropies
        return captioned(batch, {"attention_entropy_start": torch.stack(kept).mean(0).to(x)})


def cross_attention(network: nn.Module) -> list[nn.Module]:
    """Return the cross-attention layers of a diffusers U-Net."""
    return [module for name, module in network.named_modules() if name.endswith("attn2") and hasattr(module, "to_k")]


@contextmanager
def watched(network: nn.Module) -> Iterator[list[Tensor]]:
    """Inside a ``with`` block, collect the entropy of every cross-attention call, one value an item."""
    found: list[Tensor] = []

    def read(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        states = args[1] if len(args) > 1 else kwargs["encoder_hidden_states"]
        queries, keys = (layer.head_to_batch_dim(to(x)) for to, x in ((layer.to_q, hidden), (layer.to_k, states)))
        weights = layer.get_attention_scores(queries, keys).float()
        p = weights.reshape(len(hidden), -1, weights.shape[-1]).mean(1)
        found.append(-(p * p.clamp(min=1e-12).log()).sum(-1))

    handles = [layer.register_forward_hook(read, with_kwargs=True) for layer in cross_attention(network)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
