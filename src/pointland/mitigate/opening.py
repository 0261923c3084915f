"""The opening: what a pipeline is about to do with its arguments, known before its network is called at all.

Whatever acts before sampling needs the point from which it starts, its noise scale and the conditions. The pipeline
itself is asked: it is run until it would call its network for the first time, and stopped there, which costs no
evaluation. Its generators are put back and drawn from once, as the pipeline would, so that what follows starts from the
same noise, to the byte.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from pointland.mitigate.mitigation import Callback, Decision, Generated
from pointland.mitigate.peek import first_call, random_numbers_kept
from pointland.mitigate.steering import Rule, counting, steered
from pointland.model import Condition, PromptedModel

NAMES = (  # of the network's arguments in the families, and of the pipelines' for the same
    (("pooled_projections", "text_embeds"), "pooled_prompt_embeds"),
    (("encoder_attention_mask",), "prompt_attention_mask"),
)
EACH = ("prompt_2", "prompt_3", "negative_prompt", "negative_prompt_2", "negative_prompt_3")
REFUSED = {
    "num_images_per_prompt": "repeat the prompt, with a generator for each image",
    "return_dict": "images are returned as Generated.images",
    "prompt": "prompts are the second argument",
    "generator": "generators are the third argument",
}


@dataclass(frozen=True, eq=False)
class Opening:
    """A pipeline about to sample.

    Attributes:
        pipe: The pipeline.
        model: The model of its modules.
        prompts: One an image.
        condition: What the prompts become, or the embeddings that were given instead.
        base: What the negative prompts become.
        latents: Starting noise as the pipeline takes it, shape ``(b, *event)``.
        x: Where sampling starts in the one coordinate, same shape, float32.
        sigma: Noise scale there, shape ``(b,)``.
        scale: The pipeline's guidance scale.
        callback: The user's own.
        arguments: What else the pipeline is called with.
        spent: Evaluations so far, one number an image; grows.
        generators: One an image, for samplers that draw more noise on the way; already past the starting noise.
    """

    pipe: Any
    model: PromptedModel
    prompts: tuple[str, ...]
    condition: Condition
    base: Condition
    latents: Float[Tensor, "b *event"]
    x: Float[Tensor, "b *event"]
    sigma: Float[Tensor, " b"]
    scale: float
    callback: Callback | None
    arguments: Mapping[str, Any]
    spent: list[float]
    generators: Sequence[torch.Generator] | None = None

    @property
    def embedded(self) -> bool:
        """Whether embeddings were given, so that the prompts' words do not matter."""
        return "prompt_embeds" in self.arguments

    @property
    def stretch(self) -> Float[Tensor, " b"]:
        """How much longer ``x`` is than ``latents``, which point the same way."""
        x, latents = self.x.flatten(1), self.latents.float().flatten(1)
        return (x * latents).sum(-1) / latents.square().sum(-1)

    def taken(self, latents: Float[Tensor, "b *event"]) -> Tensor:
        """Return latents as the pipeline takes them: FLUX packs them."""
        pack = getattr(self.model, "taken", None)
        return latents if pack is None else pack(latents)

    @contextmanager
    def charging(self, rows: Sequence[int], *, backward: bool = False) -> Iterator[None]:
        """Charge what is evaluated inside a ``with`` block to these images evenly, a backward pass as two more."""
        with counting(self.model.network) as counter:
            yield
        for row in rows:
            self.spent[row] += counter.rows * (3 if backward else 1) / len(rows)

    def sample(
        self,
        decisions: Sequence[Decision],
        *,
        condition: Condition | None = None,
        latents: Float[Tensor, "b *event"] | None = None,
        rule: Rule | None = None,
    ) -> Generated:
        """Let the pipeline sample, from another condition or noise or under a rule where given.

        ``decisions`` are read after sampling, so that a rule may still write into the list.
        """
        arguments = dict(self.arguments)
        if condition is not None:
            arguments = {name: value for name, value in arguments.items() if not name.startswith("negative_prompt")}
            arguments |= embedded(condition, "") | embedded(self.base, "negative_") | {"negative_prompt": None}
        elif not self.embedded:
            arguments["prompt"] = list(self.prompts)
        if self.callback is not None:
            arguments["callback_on_step_end"] = self.callback
        if self.generators is not None:
            arguments["generator"] = list(self.generators)
        start = self.latents if latents is None else latents
        under = nullcontext() if rule is None else steered(self.pipe, self.model, rule, scale=self.scale)
        with self.charging(range(len(self.prompts))), under:
            images = self.pipe(**arguments, latents=self.taken(start)).images
        return Generated(list(images), list(self.spent), list(decisions))


def opening(
    pipe: Any,
    prompts: Sequence[str],
    generators: Sequence[torch.Generator],
    callback: Callback | None,
    model: PromptedModel | None,
    arguments: Mapping[str, Any],
) -> Opening:
    """Ask a pipeline what it is about to do.

    Args:
        pipe: The pipeline.
        prompts: One an image.
        generators: One a prompt; put back and drawn from once, as the pipeline would.
        callback: The user's own, called as the pipeline would.
        model: Of the pipeline's modules; made if ``None``.
        arguments: The pipeline's other arguments.

    Raises:
        ValueError: If there is not one generator a prompt, an argument is not the pipeline's to get, or the pipeline
            starts from something else than noise of its generators.
    """
    _check(prompts, generators, callback, arguments)
    arguments = for_each(arguments, len(prompts))
    given = {**arguments} if "prompt_embeds" in arguments else {**arguments, "prompt": list(prompts)}
    made = opened(pipe, model_of(pipe) if model is None else model, prompts, {**given, "generator": list(generators)})
    if "latents" not in arguments:
        drawn_noise(made.latents, list(generators))  # what follows draws on from there
    return replace(made, callback=callback, generators=list(generators))


def for_each(arguments: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Repeat texts that are given once for all ``n`` prompts, since prompts are passed as a list."""
    return {name: [v] * n if name in EACH and isinstance(v, str) else v for name, v in arguments.items()}


def opened(pipe: Any, model: PromptedModel, prompts: Sequence[str], arguments: Mapping[str, Any]) -> Opening:
    """Ask a pipeline what it is about to do, and leave every random number as it was.

    Args:
        pipe: The pipeline.
        model: The model of its modules.
        prompts: One an image.
        arguments: All that it is called with; where that is fewer prompts than images, they are repeated in turn.

    Raises:
        ValueError: If the pipeline starts from something else than noise of its generators.
    """
    x, sigma = first_call(pipe, model, arguments)
    n = len(prompts)
    x, sigma = x[:n], sigma[:n].to(x)
    with torch.no_grad():
        condition, base = model.condition(list(prompts)), model.condition(_negative(arguments, n))
        condition, base = _given(condition, arguments, ""), _given(base, arguments, "negative_")
    latents = arguments.get("latents")
    if latents is None:
        with random_numbers_kept(arguments.get("generator")):
            latents = drawn_noise(x.to(condition.states.dtype), arguments.get("generator"))
    rest = {name: value for name, value in arguments.items() if name not in ("latents", "prompt", "generator")}
    kept = (pipe, model, tuple(prompts), condition, base, latents, x, sigma, _scale(pipe, arguments), None, rest)
    made = Opening(*kept, spent=[0.0] * n)
    straight = made.stretch.reshape(-1, *(1,) * (x.ndim - 1)) * latents.float()
    if not torch.allclose(straight, x, rtol=1e-2, atol=1e-2 * float(x.abs().max())):  # half precision
        raise ValueError(
            f"{type(pipe).__name__} starts from something else than the noise of its generators; what acts before "
            "sampling is for text-to-image pipelines that start from pure noise"
        )
    return made


def _scale(pipe: Any, arguments: Mapping[str, Any]) -> float:
    told = getattr(pipe, "guidance_scale", None)  # PixArt does not tell its own
    default = inspect.signature(pipe.__call__).parameters["guidance_scale"].default
    return float(arguments.get("guidance_scale", default) if told is None else told)


def without_prompt(start: Opening) -> Condition:
    """Return the condition of no prompt, one row; the negative prompt is another thing."""
    with torch.no_grad():
        return start.model.condition([None])


def with_row(condition: Condition, row: int, other: Condition) -> Condition:
    """Return the condition with one row, that of ``other``, in the place of its own."""
    order = [len(condition) if i == row else i for i in range(len(condition))]
    return condition.joined(other).select(order)


def drawn_noise(
    like: Float[Tensor, "b *event"], generator: torch.Generator | list[torch.Generator] | None
) -> Float[Tensor, "b *event"]:
    """Draw noise as pipelines do."""
    from diffusers.utils.torch_utils import randn_tensor

    noise: Tensor = randn_tensor(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    return noise


def model_of(pipe: Any) -> PromptedModel:
    """Return the model of a pipeline's modules.

    Raises:
        ValueError: If the pipeline takes no prompts.
    """
    from pointland.models.diffusers import from_pipeline

    model = from_pipeline(pipe)
    if not hasattr(model, "condition"):  # isinstance would read every property, the hash of all weights among them
        raise ValueError(f"{type(pipe).__name__} takes no prompts: there is nothing that could be acted on")
    return cast(PromptedModel, model)


def embedded(condition: Condition, sign: str) -> dict[str, Tensor]:
    """Return a condition as the arguments by which pipelines take it; ``sign`` is ``negative_`` or nothing."""
    found = {f"{sign}prompt_embeds": condition.states}
    return found | {f"{sign}{_argument(key)}": value for key, value in condition.others.items() if _argument(key)}


def _negative(arguments: Mapping[str, Any], n: int) -> list[str | None]:
    negative = arguments.get("negative_prompt")
    if negative is None or isinstance(negative, str):
        return [negative] * n
    return [text for text in negative for _ in range(n // len(negative))]


def _given(condition: Condition, arguments: Mapping[str, Any], sign: str) -> Condition:
    """Return a condition with what of it was given as embeddings instead of text."""
    states = arguments.get(f"{sign}prompt_embeds")
    if states is None:
        return condition
    n, found = len(condition), {name: arguments.get(f"{sign}{name}") for _, name in NAMES}
    others = {
        key: _each(given, n) if (given := found.get(_argument(key))) is not None else value
        for key, value in condition.others.items()
    }
    return Condition(_each(states, n), others)


def _argument(key: str) -> str:
    """Return the name by which pipelines take what the network takes as ``key``; nothing if they do not."""
    return next((name for keys, name in NAMES if key in keys), "")


def _each(states: Tensor, n: int) -> Tensor:
    return states.repeat_interleave(n // len(states), 0)


def _check(
    prompts: Sequence[str],
    generators: Sequence[torch.Generator],
    callback: Callback | None,
    arguments: Mapping[str, Any],
) -> None:
    if isinstance(prompts, str) or len(prompts) == 0:
        raise ValueError(f"prompts must be a list of at least one prompt, got {prompts!r}")
    if len(generators) != len(prompts):
        raise ValueError(f"got {len(generators)} generators for {len(prompts)} prompts; pass one a prompt")
    for name, instead in REFUSED.items():
        if name in arguments:
            raise ValueError(f"{name} cannot be passed on: {instead}")
    if callback is not None and "callback_on_step_end" in arguments:
        raise ValueError("got both callback and callback_on_step_end; pass one of them")
