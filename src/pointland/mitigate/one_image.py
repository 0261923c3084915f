"""One image of a call: its arguments, its opening, other noise for it, and what stands for it when it is refused."""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pointland import draws
from pointland.mitigate.opening import EACH, Opening


def rows_of(arguments: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Return the arguments for some of the images; what belongs to a prompt goes with each of its images."""
    per_prompt = int(arguments.get("num_images_per_prompt") or 1)
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        if name == "generator" and isinstance(value, list):
            found[name] = [value[row] for row in rows]
        elif name in EACH and isinstance(value, list):
            found[name] = [value[row // per_prompt] for row in rows]
        elif name.endswith("prompt_embeds") and isinstance(value, Tensor):
            found[name] = value[[row // per_prompt for row in rows]]
        elif name not in ("latents", "prompt"):
            found[name] = value
    return found


def draws_its_own(arguments: Mapping[str, Any]) -> bool:
    """Whether every image has a generator of its own, from which it can be sampled apart as in its batch."""
    return isinstance(arguments.get("generator"), list) and arguments.get("latents") is None


def of_one(start: Opening, row: int) -> Opening:
    """Return the opening of one image."""
    some = slice(row, row + 1)
    return replace(
        start,
        prompts=start.prompts[some],
        condition=start.condition.select([row]),
        base=start.base.select([row]),
        latents=start.latents[some],
        x=start.x[some],
        sigma=start.sigma[some],
        spent=[start.spent[row]],
    )


def started_from(start: Opening, noise: Tensor) -> Opening:
    """Return an opening from other noise."""
    return replace(start, latents=noise, x=noise.float() * start.stretch.reshape(-1, *(1,) * (noise.ndim - 1)))


def other_noise(latents: Tensor, row: int, attempt: int) -> Tensor:
    """Return noise that depends on the noise it replaces and on the attempt, so that a call can be repeated."""
    key = hashlib.sha256(latents.float().cpu().numpy().tobytes()).hexdigest()
    return draws.normal(latents.float(), [key], 1, row, start=attempt)[0].to(latents)


def black(start: Opening, arguments: Mapping[str, Any]) -> Any:
    """Return a black image in the form that was asked for."""
    height, width = (
        int(arguments.get(name) or side) for name, side in zip(("height", "width"), start.model.codec.size, strict=True)
    )
    match arguments.get("output_type", "pil"):
        case "latent":
            return torch.zeros_like(start.taken(start.latents)[0])
        case "pt":
            return torch.zeros(3, height, width, device=start.latents.device)
        case "np":
            import numpy as np

            return np.zeros((height, width, 3), dtype=np.float32)
        case _:
            from PIL import Image

            return Image.new("RGB", (width, height))


def n_steps(pipe: Any, arguments: Mapping[str, Any]) -> int:
    """Return the steps that the pipeline will take."""
    default = inspect.signature(pipe.__call__).parameters["num_inference_steps"].default
    return int(arguments.get("num_inference_steps") or default)
