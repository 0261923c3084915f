r"""Optimized embeddings: move the text states until the signal is normal.

With a signal :math:`s` of the states :math:`e`, high for memorized (guidance norm, score norm, minus FLIPD), AdamW
takes steps down :math:`\nabla_e s`, at all positions but the first, until the trigger's own signal is at the target.
Where the signal is measured away from the start, every step walks there anew with the states as they are, so that the
walk itself is mitigated too; the gradient is taken at its end.

Source: Wen et al. 2024 (ICLR), with the guidance norm at the first step, learning rate 0.05, at most 10 steps, target 3
as the norm of a batch of 4 on 16,384 coordinates: 0.0117 as a root mean square an image. Ross et al. 2025 with FLIPD.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.mitigate.mitigation import Callback, Decision, Generated
from pointland.mitigate.opening import Opening, opening, with_row, without_prompt
from pointland.mitigate.perturbation import untouched
from pointland.mitigate.signal import Signal, Trigger
from pointland.model import PromptedModel

WEN = 3 / 2 / 128  # of a batch of 4, on 4 x 64 x 64 coordinates
AT_START = Trigger(WEN)


@dataclass(frozen=True)
class OptimizedEmbedding:
    """Optimize the embedding of prompts above the trigger until they are below it.

    Attributes:
        trigger: Which prompts, and when they are done.
        target: The trigger's signal at which a prompt is done; the trigger's threshold if left out.
        descend: What is descended; the trigger's signal if left out.
        rate: AdamW's learning rate.
        n_steps: The most steps.
        fall_back: Sample without the prompt where the target was not reached; otherwise from the last states.

    Cost:
        The signal for every prompt; for those above, a walk, an evaluation and its backward pass a step.
    """

    trigger: Trigger = AT_START
    target: float | None = None
    descend: Signal | None = None
    rate: float = 0.05
    n_steps: int = 10
    fall_back: bool = True

    def __post_init__(self) -> None:
        if self.trigger.threshold is None and self.target is None:
            raise ValueError("an embedding is optimized until a target: give one, or a trigger with a threshold")

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
        """Sample; see :class:`~pointland.mitigate.Mitigation`."""
        start = opening(pipe, prompts, generators, callback, model, arguments)
        values = self.trigger.measured(start)
        decisions = [untouched(value, prompt) for value, prompt in zip(values, prompts, strict=True)]
        condition = start.condition
        for row, found, after, taken in self._optimized(start, self.trigger.above(values)):
            one, words = start.condition.select([row]).with_states(found[None]), f"embedding optimized in {taken} steps"
            if after <= self.goal or not self.fall_back:
                decisions[row] = Decision(True, words, values[row], after)
            else:
                one, words = without_prompt(start), f"{words}, not normal even then: sampled without the prompt"
                decisions[row] = Decision(True, words, values[row])
            condition = with_row(condition, row, one)
        return start.sample(decisions, condition=condition)

    @property
    def goal(self) -> float:
        """The signal at which a prompt is done."""
        return float(self.trigger.threshold if self.target is None else self.target)  # type: ignore[arg-type]  # checked

    def _optimized(self, start: Opening, rows: list[int]) -> list[tuple[int, Float[Tensor, "t w"], float, int]]:
        """Return for each row its states, their signal, and the steps they took."""
        if not rows:
            return []
        states = start.condition.states[rows].detach().float().clone().requires_grad_()
        optimizer = torch.optim.AdamW([states], lr=self.rate)
        dtype, done = start.condition.states.dtype, []
        active = list(range(len(rows)))
        for step in range(self.n_steps + 1):
            values, gradient = self._slope(start, states, [rows[i] for i in active], active)
            ended = [not value > self.goal or step == self.n_steps for value in values]
            done += [
                (rows[i], states[i].detach().to(dtype).clone(), value, step)
                for i, value, end in zip(active, values, ended, strict=True)
                if end
            ]
            kept = [j for j, end in enumerate(ended) if not end]
            active = [active[j] for j in kept]
            if not active:
                break
            states.grad = torch.zeros_like(states)
            states.grad[active] = gradient[kept]
            states.grad[:, 0] = 0  # the first position starts every prompt
            first = states.detach()[:, 0].clone()
            optimizer.step()
            with torch.no_grad():
                states[:, 0] = first  # nor is it decayed
        return done

    def _slope(
        self, start: Opening, states: Tensor, rows: list[int], active: list[int]
    ) -> tuple[list[float], Float[Tensor, "n t w"]]:
        signal, dtype = self.descend or self.trigger.signal, start.condition.states.dtype
        leaf = states.detach()[active].requires_grad_()
        condition = start.condition.select(rows).with_states(leaf.to(dtype))
        x, sigma = signal.reached(start, condition, rows)
        with torch.enable_grad(), start.charging(rows, backward=True):
            value = signal.at(start.model, x, sigma, condition, start.base.select(rows))
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        decided = value.detach() if signal == self.trigger.signal else self.trigger.signal(start, condition, rows)
        return decided.tolist(), gradient
