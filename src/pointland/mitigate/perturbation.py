"""Perturbed prompts: a few random words or a little noise, so that the prompt is no longer the memorized one.

Source: Somepalli et al. 2023, "Understanding and mitigating copying in diffusion models": two to four random tokens,
random numbers below 100,000, or repeats of the prompt's own words at random places; or Gaussian noise of scale 0.1 on
the embedding. Published without a trigger: every prompt is perturbed.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from pointland import draws
from pointland.mitigate.mitigation import Callback, Decision, Generated
from pointland.mitigate.opening import opening
from pointland.mitigate.signal import EVERY, Trigger
from pointland.model import PromptedModel

Addition = Literal["tokens", "numbers", "repeats"]


@dataclass(frozen=True)
class AddedWords:
    """Insert words at random places of a prompt; which and where depends on the prompt and its generator's seed.

    Attributes:
        what: Random entries of the tokenizer's vocabulary, random numbers, or words of the prompt again.
        n: How many; published with 2 and 4.
        trigger: Which prompts; all by default.

    Cost:
        Nothing beside the trigger's.
    """

    what: Addition = "tokens"
    n: int = 4
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
        """Sample; see :class:`~pointland.mitigate.Mitigation`. Given embeddings have no words and are left alone."""
        start = opening(pipe, prompts, generators, callback, model, arguments)
        if start.embedded:
            return start.sample([Decision(False, "embeddings were given: no words to add to") for _ in prompts])
        values = self.trigger.measured(start)
        decisions = [untouched(value, prompt) for value, prompt in zip(values, prompts, strict=True)]
        words = _vocabulary(pipe) if self.what == "tokens" else []
        for i in self.trigger.above(values):
            text = self._perturbed(prompts[i], generators[i].initial_seed(), words)
            decisions[i] = Decision(True, f"added {self.n} random {self.what}", values[i], prompt=text)
        return replace(start, prompts=tuple(str(each.prompt) for each in decisions)).sample(decisions)

    def _perturbed(self, prompt: str, seed: int, vocabulary: list[str]) -> str:
        rng = random.Random(f"{seed} {prompt}")
        words = prompt.split()
        own = list(words) or [""]
        added: dict[Addition, Callable[[], str]] = {
            "tokens": lambda: rng.choice(vocabulary),
            "numbers": lambda: str(rng.randrange(100_000)),
            "repeats": lambda: rng.choice(own),
        }
        for _ in range(self.n):
            words.insert(rng.randint(0, len(words)), added[self.what]())
        return " ".join(words)


@dataclass(frozen=True)
class EmbeddingNoise:
    """Add Gaussian noise to the text states, keyed by the prompt and its generator's seed.

    Attributes:
        scale: Standard deviation in units of the states.
        trigger: Which prompts; all by default.

    Cost:
        Nothing beside the trigger's.
    """

    scale: float = 0.1
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
        """Sample; see :class:`~pointland.mitigate.Mitigation`."""
        start = opening(pipe, prompts, generators, callback, model, arguments)
        values = self.trigger.measured(start)
        decisions = [untouched(value, prompt) for value, prompt in zip(values, prompts, strict=True)]
        states = start.condition.states.clone()
        for i in self.trigger.above(values):
            key = f"{generators[i].initial_seed()} {prompts[i]}"
            states[i] += self.scale * draws.normal(states[i : i + 1], [key], 1, 0)[0, 0]
            decisions[i] = Decision(True, f"noise of scale {self.scale:g} on the embedding", values[i])
        return start.sample(decisions, condition=start.condition.with_states(states))


def untouched(value: float | None, prompt: str | None) -> Decision:
    """Return the decision to leave a prompt alone."""
    return Decision(False, "below the threshold: plain sampling", value, value, prompt)


def _vocabulary(pipe: Any) -> list[str]:
    """Return the tokenizer's whole words, letters only, in a fixed order."""
    words = (word.removesuffix("</w>").lstrip("▁Ġ") for word in pipe.tokenizer.get_vocab())
    return sorted({word for word in words if word.isalpha() and len(word) > 1}) or [chr(97 + i) for i in range(26)]
