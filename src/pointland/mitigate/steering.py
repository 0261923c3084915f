"""Steering: what a pipeline's network says at every step of sampling, seen and changed while the pipeline runs.

Nothing of the pipeline is replaced. Its arguments (prompt, embeddings, latents) and its own callback carry most
mitigations; what they cannot reach, the guidance of the first step and the prediction itself, is reached by one PyTorch
forward hook on the network, there for the duration of a ``with`` block. A rule that changes nothing leaves every image
as it was, to the byte.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from pointland.model import PromptedModel


@dataclass(frozen=True, eq=False)
class Step:
    """One call of the network by a sampler with classifier-free guidance, in the one coordinate.

    Attributes:
        index: 0 at the first call.
        sigma: Noise scale of every image, shape ``(b,)``.
        x: Noised points ``x0 + sigma * noise``, shape ``(b, *event)``, float32.
        conditional: Denoised under the prompts, same shape.
        unconditional: Denoised under the negative prompts, same shape.
        scale: The pipeline's guidance scale.
    """

    index: int
    sigma: Float[Tensor, " b"]
    x: Float[Tensor, "b *event"]
    conditional: Float[Tensor, "b *event"]
    unconditional: Float[Tensor, "b *event"]
    scale: float

    @property
    def guided(self) -> Float[Tensor, "b *event"]:
        """What the sampler uses, unconditional plus ``scale`` times the difference."""
        return self.unconditional + self.scale * (self.conditional - self.unconditional)


Rule = Callable[[Step], Float[Tensor, "b *event"] | None]
"""Given a step, the guided denoised points that the sampler shall use instead; ``None`` leaves the step as it is."""


@dataclass
class Counter:
    """Network evaluations, counted in rows: a batch of two is two."""

    rows: int = 0


@contextmanager
def counting(network: nn.Module) -> Iterator[Counter]:
    """Count the network's evaluations inside a ``with`` block."""
    counter = Counter()

    def count(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        counter.rows += len(_tensor(output))

    hook = network.register_forward_hook(count, with_kwargs=True)
    try:
        yield counter
    finally:
        hook.remove()


@contextmanager
def steered(pipe: Any, model: PromptedModel, rule: Rule, *, scale: float | None = None) -> Iterator[None]:
    """Ask ``rule`` at every step that ``pipe`` makes inside a ``with`` block.

    Network calls that the rule itself makes are its own: they are not steered.

    Args:
        pipe: A diffusers pipeline that puts both halves of classifier-free guidance into one network call.
        model: The model of its modules, from :func:`pointland.models.from_pipeline`.
        rule: Given each step, what the sampler shall use instead, or ``None``.
        scale: The guidance scale it is called with, for pipelines that do not tell theirs (DiT, PixArt).

    Raises:
        ValueError: If guidance is distilled into the network, or the scale is not known; while sampling, if the
            pipeline does so without classifier-free guidance.
    """
    name = type(pipe).__name__
    if getattr(model, "distilled", False):
        raise ValueError(
            f"{name}: guidance is distilled into the network, so its steps have no unconditional prediction to steer "
            "by; choose a mitigation of the prompt or the embedding"
        )
    if scale is None and not hasattr(type(pipe), "guidance_scale"):
        raise ValueError(f"{name} does not tell its guidance scale; pass steered(..., scale=) what you pass to it")
    calls, inside = 0, False

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        nonlocal calls, inside
        if inside:
            return None
        given = _tensor(output)
        strength = float(pipe.guidance_scale if scale is None else scale)
        if not getattr(pipe, "do_classifier_free_guidance", strength > 1):
            raise ValueError(
                f"{name} samples without classifier-free guidance (guidance scale {strength:g}): there is no "
                "unconditional prediction to steer by; pass a guidance_scale "
                "above 1, or choose a mitigation of the prompt or the embedding"
            )
        x, sigma = model.noised(args, kwargs)
        denoised = model.denoised(given, x, sigma)
        first, second = denoised.chunk(2)
        conditional_first = getattr(model, "conditional_first", False)
        conditional, unconditional = (first, second) if conditional_first else (second, first)
        b = len(conditional)
        step = Step(calls, sigma[:b], x[:b], conditional, unconditional, strength)
        calls += 1
        inside = True
        try:
            wanted = rule(step)
        finally:
            inside = False
        if wanted is None:
            return None
        changed = unconditional + (wanted - unconditional) / step.scale
        rows = (wanted != step.guided).flatten(1).any(1).nonzero().flatten()  # the others stay as they are, to the bit
        new = given.clone()
        mean = model.output(changed, step.x, step.sigma).to(given.dtype)
        half = rows if conditional_first else rows + b
        new[half, : mean.shape[1]] = mean[rows]  # a learned variance, in the channels that follow, stays
        return _with_tensor(output, new)

    handle = model.network.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _tensor(output: Any) -> Tensor:
    first: Tensor = output[0] if not isinstance(output, Tensor) else output
    return first


def _with_tensor(output: Any, new: Tensor) -> Any:
    if isinstance(output, Tensor):
        return new
    if isinstance(output, tuple):
        return (new, *output[1:])
    return type(output)(sample=new)
