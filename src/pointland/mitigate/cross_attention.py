r"""Cross-attention scaling: padding is not attended to, and the first token more.

Where a prompt is memorized the network attends to the tokens that end and fill it, which sum it up. Their attention is
taken away, and the logit of the first token, which starts every prompt and says nothing, is multiplied. Both are done
from outside the layers, for the duration of one call and for the images acted on alone: a mask goes in with the layer's
arguments, and a logit :math:`q \cdot k` is scaled by scaling its key.

Source: Ren et al. 2024 (ECCV), factor 1.25. It exists where there is cross-attention: U-Nets, not joint attention.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pointland.mitigate.mitigation import Callback, Decision, Generated
from pointland.mitigate.opening import Opening, opening
from pointland.mitigate.perturbation import untouched
from pointland.mitigate.signal import EVERY, Trigger
from pointland.model import PromptedModel
from pointland.prompts.attention import cross_attention

AWAY = -10_000.0  # what diffusers adds to a logit to mask it


@dataclass(frozen=True)
class ScaledAttention:
    """Scale the cross-attention under the prompts.

    Attributes:
        factor: Of the first token's logit.
        trigger: Which prompts; all by default.

    Cost:
        Nothing beside the trigger's.
    """

    factor: float = 1.25
    trigger: Trigger = EVERY

    def __call__(
        self,
        pipe: Any,
        prompts: Sequence[str],
        generators: Sequence[torch.Generator],
        callback: Callback | None = None,
        *,
        model: PromptedModel | None = None,
        **arguments: Any,
    ) -> Generated:
        """Sample; see :class:`~pointland.mitigate.Mitigation`.

        Raises:
            ValueError: Also if the network has no cross-attention, or guidance is off.
        """
        start = opening(pipe, prompts, generators, callback, model, arguments)
        values = self.trigger.measured(start)
        decisions = [untouched(value, prompt) for value, prompt in zip(values, prompts, strict=True)]
        rows = self.trigger.above(values)
        for i in rows:
            decisions[i] = Decision(True, "cross-attention scaled", values[i], prompt=prompts[i])
        if not rows:
            return start.sample(decisions)
        layers = cross_attention(start.model.network)
        if not layers:
            raise ValueError(f"{type(pipe).__name__} has no cross-attention to scale; choose another mitigation")
        if not start.scale > 1:
            raise ValueError(f"guidance scale {start.scale:g} is off: there is no call under the prompts to tell apart")
        with _scaled(layers, self._mask(start), [len(prompts) + i for i in rows], self.factor):
            return start.sample(decisions)

    def _mask(self, start: Opening) -> Tensor:
        """Return what is added to every logit of every row, without the prompts first, shape ``(2 b, 1, tokens)``."""
        tokens = [start.model.tokens(prompt) for prompt in start.prompts]
        end = [names.index(names[-1], 1) + 1 if names[-1] in names[1:] else len(names) for names in tokens]
        mask = torch.zeros(2 * len(tokens), 1, len(tokens[0]))
        for i, stop in enumerate(end):  # padding repeats the token that ends the prompt
            mask[len(tokens) + i, :, stop:] = AWAY
        return mask.to(start.condition.states)


@contextmanager
def _scaled(layers: Sequence[nn.Module], mask: Tensor, rows: Sequence[int], factor: float) -> Iterator[None]:
    """Mask and scale inside a ``with`` block; other rows are left alone."""
    chosen = torch.zeros(len(mask), 1, 1, dtype=torch.bool, device=mask.device)
    chosen[list(rows)] = True
    added = torch.where(chosen, mask, torch.zeros_like(mask))

    def masked(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
        given = kwargs.get("attention_mask")
        return args, {**kwargs, "attention_mask": added if given is None else given + added}

    def scaled(module: nn.Module, args: tuple[Any, ...], keys: Tensor) -> Tensor:
        new = keys.clone()
        new[list(rows), 0] *= factor
        return new

    hooks = []
    for layer in layers:
        hooks += [layer.register_forward_pre_hook(masked, with_kwargs=True)]
        hooks += [layer.to_k.register_forward_hook(scaled)]  # type: ignore[union-attr]  # diffusers' Attention
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
