"""What a training hands to its monitor: a pipeline, a network, a model; wrapped in this and that, in training mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from pointland.model import Model
from pointland.models.diffusers.families import from_pipeline
from pointland.models.origin import Origin

WRAPPERS = {  # by name, since not all are installed everywhere: where each has what it wraps
    "AveragedModel": "module",
    "DataParallel": "module",
    "DeepSpeedEngine": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
}


def model_of(given: Any, pipeline: Any = None) -> Model:
    """Make a model of what is trained; nothing is copied, so that it is always the training's present state.

    Args:
        given: A diffusers pipeline, a model, or a bare network, also inside wrappers.
        pipeline: The pipeline, or the model, that a bare network belongs to.

    Raises:
        TypeError: If it is none of these, or a bare network without a pipeline.
        ValueError: If the pipeline is of a class that is not supported.
    """
    if hasattr(type(given), "unconditional"):
        return cast(Model, given)
    if hasattr(given, "components") and hasattr(given, "scheduler"):
        return from_pipeline(given)
    if not isinstance(given, nn.Module):
        raise TypeError(
            f"a monitor is called with a diffusers pipeline, a network or a model, got {type(given).__name__}"
        )
    if pipeline is None:
        raise TypeError(
            f"{type(given).__name__} is a bare network: say what it belongs to, by Monitor(..., pipeline=pipe) or "
            "pointland.models.from_module(network, ...)"
        )
    return with_network(model_of(pipeline), unwrapped(given))


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside wrappers of parallel training and of ``torch.compile``."""
    inner = getattr(module, WRAPPERS.get(type(module).__name__, ""), None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else module


def with_network(model: Model, network: nn.Module) -> Model:
    """Return the model with another network in the place of its own."""
    whole, own = cast(Any, model), getattr(model, "network", None)
    names = [field.name for field in fields(whole) if getattr(model, field.name) is own] if is_dataclass(whole) else []
    if own is None or not names:
        raise TypeError(f"{type(model).__name__} has no network that could be exchanged; call the monitor with a model")
    return cast(Model, replace(whole, **{names[0]: network}))


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Put a model's modules into evaluation mode, and every part back as it was."""
    origin, network = getattr(model, "origin", None), getattr(model, "network", None)
    modules = list(origin.modules.values()) if isinstance(origin, Origin) else []
    parts = [part for module in [*modules, network] if isinstance(module, nn.Module) for part in module.modules()]
    modes = {part: part.training for part in parts}
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def device_of(model: Model, otherwise: torch.device) -> torch.device:
    """Return where the model's network is."""
    network = getattr(model, "network", None)
    first = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return otherwise if first is None else first.device
