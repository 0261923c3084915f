r"""Attribution: which words of a prompt make the model call up something memorized.

Two answers, one an approximation of the other. The *gradient* of an objective with respect to the token embeddings,
:math:`\|\partial L / \partial e_i\|`, tells how sensitive the objective is to each token (Wen et al. 2024); it is one
backward pass for all tokens. *Leaving a word out* and asking again tells what the word does; it is one evaluation a
word. The word is left out in place, its tokens read as padding, so that the others stay where they are: to delete it
moves all words after it, and a memorized prompt often does not survive that whichever word was deleted. They need not
agree: a gradient sees how steep the objective is where it stands, not what is lost with the word. Both are given, with
their agreement.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor, nn

from pointland import draws
from pointland.lid.estimate import standard_error
from pointland.model import Condition, PromptedModel
from pointland.prompts.objectives import Objective
from pointland.prompts.signals import JUMP_TO
from pointland.prompts.words import Word, unread, without, words_of
from pointland.verdict import Direction

Place = Literal["embeddings", "states"]
Product = Literal["norm", "gradient-times-input"]
Starts = Callable[[PromptedModel, Condition, Float[Tensor, "n *event"]], tuple[Float[Tensor, "n *event"], float]]


class WordScore(NamedTuple):
    """One word and what it does.

    Attributes:
        text: The word.
        gradient: Norm of the objective's gradient at the word's tokens, mean over starts; 0 for a word not read.
        gradient_stderr: Over starts; NaN for one.
        drop: How much less memorized the prompt looks without the word: the objective with it minus without it, signed
            so that more is more memorized. Mean over starts.
        drop_stderr: Over starts; NaN for one.
    """

    text: str
    gradient: float
    gradient_stderr: float
    drop: float
    drop_stderr: float


class Rewrite(NamedTuple):
    """Another prompt and the objective that it would have, mean over starts."""

    prompt: str
    value: float
    how: str


class Attribution(NamedTuple):
    """What was found of one prompt.

    Attributes:
        prompt: The prompt.
        value: The objective, mean over starts.
        words: In the order of the prompt.
        agree: Whether gradient and leaving out name the same word first.
        spearman: Rank correlation of both over the words; NaN where one is constant.
        rewrites: Prompts without the words that matter most, and what ``rewrite`` proposed, least memorized first.
        unread: The end of the prompt that the model does not read.
    """

    prompt: str
    value: float
    words: list[WordScore]
    agree: bool
    spearman: float
    rewrites: list[Rewrite]
    unread: str


def attribute(
    model: PromptedModel,
    prompt: str,
    objective: Objective,
    *,
    memorized_when: Direction = "high",
    starts: Starts | None = None,
    n_draws: int = 4,
    seed: int = 0,
    place: Place = "embeddings",
    product: Product = "norm",
    rewrite: Callable[[str, str], Iterable[str]] | None = None,
) -> Attribution:
    """Score every word of a prompt by gradient and by leaving it out.

    Args:
        model: The model.
        prompt: With one word or more.
        objective: What is explained; see :mod:`pointland.prompts.objectives`.
        memorized_when: Which end of the objective is memorized.
        starts: From pure noise to the points and the level at which the objective is taken; by default
            :func:`landed`.
        n_draws: Starts, keyed by the prompt.
        seed: Of the starts.
        place: Gradients with respect to the text encoders' input embeddings, or to their states, in which every
            position already knows those before it.
        product: Norm of the gradient, or size of its product with the embedding itself.
        rewrite: Given the prompt and its first word by leaving out, prompts to try; each is evaluated like the others.

    Raises:
        ValueError: If the prompt has no word, or the model's text encoders cannot be found.

    Cost:
        ``n_draws`` times: the objective with its gradient, the objective once a word and rewrite, and the starts.
    """
    words = words_of(model, prompt)
    if not any(word.positions for word in words):
        raise ValueError(f"the prompt {prompt!r} has no word that the model reads; pass one with words")
    sign = 1.0 if memorized_when == "high" else -1.0
    ask = _Question(model, prompt, objective, landed if starts is None else starts, n_draws, seed)
    values, gradients = ask.with_gradients(place, product)
    slopes = torch.stack([_of_word(gradients, word) for word in words])
    numbers = [number for number, word in enumerate(words) if word.positions]
    drops = torch.zeros(len(words), n_draws)
    for number in numbers:
        drops[number] = sign * (values - ask.about(prompt, words[number].positions))
    order = sorted(numbers, key=lambda number: -float(drops[number].mean()))
    tried = [(without(prompt, order[:k]), "without " + ", ".join(words[n].text for n in order[:k])) for k in (1, 2, 3)]
    tried = [(text, how) for text, how in tried if text]
    if rewrite is not None:
        tried += [(text, "proposed") for text in rewrite(prompt, words[order[0]].text)]
    rewrites = [Rewrite(text, float(ask.about(text).mean()), how) for text, how in dict(tried).items()]
    scores = [
        WordScore(word.text, *_summed(slope), *_summed(drop))
        for word, slope, drop in zip(words, slopes, drops, strict=True)
    ]
    by_gradient = max(numbers, key=lambda number: scores[number].gradient)
    return Attribution(
        prompt,
        float(values.mean()),
        scores,
        by_gradient == order[0],
        _rank_correlation([scores[n].gradient for n in numbers], [scores[n].drop for n in numbers]),
        sorted(rewrites, key=lambda rewrite: sign * rewrite.value),
        unread(words),
    )


def at_start(
    model: PromptedModel, condition: Condition, noise: Float[Tensor, "n *event"]
) -> tuple[Float[Tensor, "n *event"], float]:
    """Take the objective where a generation starts: pure noise at the model's highest level.

    Args:
        model: The model.
        condition: Of the prompt, one row.
        noise: Standard normal, one row a start.
    """
    sigma = float(model.levels.sigmas[-1])
    return sigma * noise, sigma


def landed(
    model: PromptedModel, condition: Condition, noise: Float[Tensor, "n *event"], low: float = JUMP_TO
) -> tuple[Float[Tensor, "n *event"], float]:
    """Take the objective after one step under the prompt, at a low level: :mod:`pointland.metrics.guidance_jump`.

    The point is held fixed; a gradient tells what the words do there.

    Args:
        model: The model.
        condition: Of the prompt, one row.
        noise: Standard normal, one row a start.
        low: Level at which it lands.
    """
    start, high = at_start(model, condition, noise)
    sigma = model.levels.nearest(low).sigma
    with torch.no_grad():
        denoised = model.denoise(start, start.new_tensor([high]), condition)
    return denoised + sigma / high * (start - denoised), sigma


class _Question:
    """An objective of changing prompts at the points that the whole prompt leads to."""

    def __init__(
        self, model: PromptedModel, prompt: str, objective: Objective, starts: Starts, n_draws: int, seed: int
    ) -> None:
        self.model, self.prompt, self.objective, self.n = model, prompt, objective, n_draws
        blank = torch.zeros(1, 3, *model.codec.size, dtype=torch.uint8)
        noise = draws.normal(model.codec.encode(blank), [prompt], n_draws, seed)[:, 0]
        with torch.no_grad():
            self.base = model.condition([None]).select([0] * n_draws)
            self.points, sigma = starts(model, model.condition([prompt]).select([0] * n_draws), noise)
        self.sigma = self.points.new_tensor([sigma])

    def about(self, prompt: str, silent: Sequence[int] = ()) -> Float[Tensor, " n"]:
        """Return the objective of a prompt, one value a start, with the tokens at some positions read as padding."""
        with torch.no_grad(), silenced(self.model, silent):
            condition = self.model.condition([prompt]).select([0] * self.n)
            return self.objective(self.model, self.points, self.sigma, condition, self.base).cpu()

    def with_gradients(self, place: Place, product: Product) -> tuple[Float[Tensor, " n"], Float[Tensor, "tokens n"]]:
        """Return the objective and the size of its gradient at every token of the prompt."""
        with torch.enable_grad(), ExitStack() as hooks:
            if place == "states":
                condition = self.model.condition([self.prompt] * self.n)
                states = condition.states.detach().requires_grad_()
                condition, inputs = condition.with_states(states), {"states": (states, states.detach())}
            else:
                inputs = hooks.enter_context(offset_embeddings(self.model))
                condition = self.model.condition([self.prompt] * self.n)
            values = self.objective(self.model, self.points, self.sigma, condition, self.base)
            found: Sequence[Tensor | None] = torch.autograd.grad(
                values.sum(), [leaf for leaf, _ in inputs.values()], allow_unused=True
            )
        length = condition.states.shape[1]
        total = torch.zeros(length, self.n)
        for (_, value), gradient in zip(inputs.values(), found, strict=True):
            if gradient is None:  # an encoder that this objective does not hear
                continue
            sizes = gradient.norm(dim=-1) if product == "norm" else (gradient * value).sum(-1).abs()
            shown = sizes.T.float().cpu()
            first = 0 if len(shown) == length or len(shown) < length / 2 else length - len(shown)
            total[first : first + len(shown)] += shown
        return values.detach().cpu(), total


@contextmanager
def offset_embeddings(model: PromptedModel) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Inside a ``with`` block, add a zero that takes a gradient to every text encoder's token embeddings.

    Yields:
        By the encoder's name the offset and the embeddings, shape ``(b, tokens, width)``, once it was called.

    Raises:
        ValueError: If no text encoder is found in the model.
    """
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def hook_of(name: str) -> Hook:
        def add(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            offset = torch.zeros_like(output).requires_grad_()
            found[name] = (offset, output.detach())
            return output + offset

        return add

    with _hooked(model, hook_of):
        yield found


@contextmanager
def silenced(model: PromptedModel, positions: Sequence[int]) -> Iterator[None]:
    """Inside a ``with`` block, give the tokens at these positions the embedding of the last, which is padding.

    Raises:
        ValueError: If no text encoder is found in the model.
    """

    def hook_of(name: str) -> Hook:
        def silence(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            changed = output.clone()
            inside = [position for position in positions if position < output.shape[1]]
            changed[:, inside] = output[:, -1:]
            return changed

        return silence

    with _hooked(model, hook_of) if positions else nullcontext():
        yield


Hook = Callable[[nn.Module, Any, Tensor], Tensor]


@contextmanager
def _hooked(model: PromptedModel, hook_of: Callable[[str], Hook]) -> Iterator[None]:
    encoders = dict(text_encoders(model))
    if not encoders:
        raise ValueError(f"no text encoder is found among the parts of {type(model).__name__}; words need one")
    handles = [module.register_forward_hook(hook_of(name)) for name, module in encoders.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def text_encoders(model: object, depth: int = 3) -> Iterator[tuple[str, nn.Module]]:
    """Yield the token embeddings of the text encoders among a model's fields, and those of its fields."""
    if isinstance(model, nn.Module):
        embeddings = getattr(model, "get_input_embeddings", None)
        if embeddings is not None and isinstance(module := embeddings(), nn.Module):
            yield "", module
        return
    if depth == 0:
        return
    if is_dataclass(model):
        parts = [(field.name, getattr(model, field.name)) for field in fields(model)]
    elif isinstance(model, (tuple, list)):
        parts = [(str(number), part) for number, part in enumerate(model)]
    else:
        return
    for name, part in parts:
        for rest, module in text_encoders(part, depth - 1):
            yield f"{name}.{rest}".rstrip("."), module


def _of_word(gradients: Tensor, word: Word) -> Tensor:
    """Return the size of the gradient over the word's tokens, one a start."""
    return gradients[list(word.positions)].square().sum(0).sqrt()


def _summed(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(standard_error(values[:, None]))


def _rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    if len(set(first)) < 2 or len(set(second)) < 2:
        return float("nan")
    return float(spearmanr(first, second).statistic)
