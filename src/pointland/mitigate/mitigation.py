"""What a mitigation is, and what it gives: images, what they cost, and what was decided for each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from pointland.model import PromptedModel

Callback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]
"""A pipeline's ``callback_on_step_end(pipe, step, timestep, tensors)``, as diffusers defines it."""


@dataclass(frozen=True)
class Decision:
    """What was done for one image.

    Attributes:
        acted: Whether anything was changed; without, the image is the pipeline's own.
        words: What was done, for people.
        signal: The trigger's signal of the prompt as it came, high for memorized; ``None`` where none was asked.
        after: The same signal of what was sampled from in the end; ``None`` where it was not measured, as without the
            prompt.
        prompt: The prompt sampled from in the end; ``None`` if it is no longer text.
    """

    acted: bool
    words: str
    signal: float | None = None
    after: float | None = None
    prompt: str | None = None


@dataclass(frozen=True, eq=False)
class Generated:
    """Images and how they came about, one of each an image.

    Attributes:
        images: What the pipeline returns: PIL images unless another ``output_type`` was asked for.
        evaluations: Network evaluations spent on each, rows of a batch counted singly, a backward pass as two.
        decisions: What was done for each.
    """

    images: list[Any]
    evaluations: list[float]
    decisions: list[Decision]


@runtime_checkable
class Mitigation(Protocol):
    """Anything that samples from a pipeline without showing what was memorized.

    Every image depends on its own prompt and generator alone, not on its batch.
    """

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
        """Sample one image a prompt.

        Args:
            pipe: A loaded diffusers pipeline; nothing of it is changed.
            prompts: One an image; repeat a prompt to have more of it.
            generators: One an image.
            callback: Called at the end of every step, as the pipeline alone would call it.
            model: The model of the pipeline's modules; made from ``pipe`` if left out, which hashes all weights.
            arguments: The pipeline's own: ``num_inference_steps``, ``guidance_scale``, ``negative_prompt``,
                ``prompt_embeds``, ``latents``, ...

        Raises:
            ValueError: If there is not one generator a prompt, or an argument asks for what cannot be mitigated.
        """
        ...
