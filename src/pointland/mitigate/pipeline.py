"""A whole pipeline for sampling, loaded with the same care as a model for auditing."""

from pathlib import Path
from typing import Any

import torch

from pointland.model import PromptedModel
from pointland.models.diffusers import from_pipeline
from pointland.models.loading import Dtype, load


def load_pipeline(
    source: str | Path, *, device: str | None = None, dtype: Dtype = "float32"
) -> tuple[Any, PromptedModel]:
    """Return the pipeline in a diffusers directory and the model of its modules.

    The safety checker and everything else it was saved with stay as they are.

    Raises:
        FileNotFoundError: If there is no such directory, or its weights are missing.
        ValueError: If it is not safe to load or not supported, as :func:`pointland.models.load` says, or takes no
            prompts.
    """
    from diffusers import DiffusionPipeline

    checked = load(source, device=device, dtype=dtype)
    if not checked.conditional:
        raise ValueError(f"{source} takes no prompts: there is nothing to generate from")
    pipe = DiffusionPipeline.from_pretrained(
        str(source), use_safetensors=True, torch_dtype=getattr(torch, dtype), low_cpu_mem_usage=False
    )
    pipe = pipe.to(checked.network.device)
    pipe.set_progress_bar_config(disable=True)
    model = from_pipeline(pipe)
    if not isinstance(model, PromptedModel):
        raise ValueError(f"{source} takes classes, not prompts")
    return pipe, model
