"""Trigger words: take the words out that call the memorized picture up, or have the prompt written anew.

The words are found by leaving each out in turn and measuring the signal of what is left. Of the words without which it
is normal, the one is dropped that means least: whose absence moves the denoised point at the start, where the picture
is still all open, the least. If no single word suffices, the one without which the signal is lowest goes, and the rest
is tried again. The paper rewrites prompts by a language model
told which tokens matter (Ross et al. 2025); PRSS (Chen et al. 2025) rewrites up to 25 times until the guidance norm is
low: :class:`Rewritten` takes whatever writes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pointland.metrics.rms import root_mean_square
from pointland.mitigate.mitigation import Callback, Decision, Generated
from pointland.mitigate.opening import Opening, opening, with_row, without_prompt
from pointland.mitigate.perturbation import untouched
from pointland.mitigate.signal import Signal, Trigger
from pointland.model import PromptedModel


@dataclass(frozen=True)
class DroppedWords:
    """Drop the words that trigger until the signal is normal.

    Attributes:
        trigger: Which prompts, and when to stop.
        share: The largest share of a prompt's words that may go.
        replacement: What stands in a dropped word's place; nothing if left out.
        fall_back: Sample without the prompt where that did not suffice; otherwise from what is left of it. Given
            embeddings have no words: those above the trigger fall back at once.

    Cost:
        The signal for every prompt; for those above, the signal and an evaluation for every word left, for every word
        dropped.
    """

    trigger: Trigger
    share: float = 0.5
    replacement: str = ""
    fall_back: bool = True

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
        return _until_normal(start, self.trigger, self._attempts, self.fall_back)

    def _attempts(self, start: Opening, row: int) -> Iterator[tuple[str, str]]:
        """Yield shorter and shorter prompts, each with what was done."""
        words = start.prompts[row].split()
        kept = list(range(len(words)))
        for _ in range(int(self.share * len(words))):
            shorter = [[i for i in kept if i != gone] for gone in kept]
            values, moved = left_out(self.trigger.signal, start, row, [self._text(words, each) for each in shorter])
            normal = [i for i in range(len(kept)) if not self.trigger.above([values[i]])]
            chosen = min(normal, key=lambda i: moved[i]) if normal else min(range(len(kept)), key=lambda i: values[i])
            kept = shorter[chosen]
            dropped = " ".join(word for i, word in enumerate(words) if i not in kept)
            yield self._text(words, kept), f"dropped: {dropped}"

    def _text(self, words: list[str], kept: list[int]) -> str:
        text = " ".join(word if i in kept else self.replacement for i, word in enumerate(words))
        return " ".join(text.split())


@dataclass(frozen=True)
class Rewritten:
    """Have prompts above the trigger written anew until the signal is normal.

    Attributes:
        trigger: Which prompts, and when to stop.
        rewrite: Takes a prompt and the number of the attempt, returns another prompt: a language model, a template.
        n_attempts: The most attempts; published with 25.
        fall_back: Sample without the prompt where none was normal; otherwise from the last.

    Cost:
        The signal for every prompt, and for every attempt; whatever ``rewrite`` costs.
    """

    trigger: Trigger
    rewrite: Callable[[str, int], str]
    n_attempts: int = 25
    fall_back: bool = True

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
        return _until_normal(start, self.trigger, self._attempts, self.fall_back)

    def _attempts(self, start: Opening, row: int) -> Iterator[tuple[str, str]]:
        prompt = start.prompts[row]
        for n in range(self.n_attempts):
            yield self.rewrite(prompt, n), f"rewritten, attempt {n + 1}"


def left_out(signal: Signal, start: Opening, row: int, prompts: Sequence[str]) -> tuple[list[float], list[float]]:
    """Return the signal of other prompts in one image's place, and how far each moves the denoised point at the start.

    Cost:
        The signal of each prompt, and an evaluation.
    """
    rows = [row] * len(prompts)
    with torch.no_grad():
        condition = start.model.condition(list(prompts))
    values = signal(start, condition, rows)
    both = condition.joined(start.condition.select([row]))
    with torch.no_grad(), start.charging(rows):
        points = start.x[[row] * len(both)]
        denoised = start.model.denoise(points, start.sigma[[row] * len(both)], both)
    return values.tolist(), root_mean_square(denoised[:-1] - denoised[-1:]).tolist()


def _until_normal(
    start: Opening, trigger: Trigger, attempts: Callable[[Opening, int], Iterable[tuple[str, str]]], fall_back: bool
) -> Generated:
    """Try each prompt's attempts in turn until its signal is normal, then sample."""
    values = trigger.measured(start)
    decisions = [untouched(v, prompt) for v, prompt in zip(values, start.prompts, strict=True)]
    condition = start.condition
    for row in trigger.above(values):
        text, words, after, found = None, "no words to change", values[row], condition.select([row])
        for text, words in [] if start.embedded else attempts(start, row):  # noqa: B007  # the last is used below
            with torch.no_grad():
                found = start.model.condition([text])
            after = float(trigger.signal(start, found, [row])) if trigger.threshold is not None else None
            if not trigger.above([after]) or after is None:
                break
        if after is not None and trigger.above([after]) and fall_back:
            found, after, text = without_prompt(start), None, ""
            words = f"{words}; not normal even then: sampled without the prompt"
        condition = with_row(condition, row, found)
        decisions[row] = Decision(True, words, values[row], after, text)
    return replace(start, condition=condition).sample(decisions, condition=condition)
