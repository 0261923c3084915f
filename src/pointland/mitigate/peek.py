"""Looking ahead: what a pipeline is about to do, known without a network evaluation and without leaving a trace.

The pipeline is run until it would call its network for the first time, and left there. Its random numbers, and the
process's if it draws from those, are put back, so that the call that follows starts from the same noise to the byte.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pointland.model import PromptedModel


class _Stopped(Exception):  # noqa: N818  # no error: how the pipeline is left before its first network call
    def __init__(self, x: Tensor, sigma: Tensor) -> None:
        self.x, self.sigma = x, sigma


class BudgetUsed(Exception):  # noqa: N818  # no error: how sampling is left when it has cost too much
    """The network would be evaluated more often than allowed."""


def first_call(pipe: Any, model: PromptedModel, arguments: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return the noised points and noise scales of the first network call, conditional and unconditional rows.

    Raises:
        ValueError: If the pipeline returns without calling its network.
    """

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _Stopped(*model.noised(args, kwargs))

    hook = model.network.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with random_numbers_kept(arguments.get("generator")), _no_progress_bar(pipe):
            pipe(**arguments)
    except _Stopped as found:
        return found.x, found.sigma
    finally:
        hook.remove()
    raise ValueError(f"{type(pipe).__name__} returned without calling the network of the model it was given with")


@contextmanager
def random_numbers_kept(generator: torch.Generator | Sequence[torch.Generator] | None) -> Iterator[None]:
    """Put the state of generators, or of the process if there are none, back after a ``with`` block."""
    if generator is None:
        with torch.random.fork_rng():
            yield
        return
    generators = [generator] if isinstance(generator, torch.Generator) else list(generator)
    states = [one.get_state() for one in generators]
    try:
        yield
    finally:
        for one, state in zip(generators, states, strict=True):
            one.set_state(state)


@contextmanager
def limited(network: nn.Module, rows: int) -> Iterator[None]:
    """Leave a ``with`` block by :class:`BudgetUsed` before the network is evaluated in more than so many rows."""
    left = rows

    def charge(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal left
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.ndim > 1]
        left -= len(tensors[0]) if tensors else 1
        if left < 0:
            raise BudgetUsed

    hook = network.register_forward_pre_hook(charge, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _no_progress_bar(pipe: Any) -> Iterator[None]:
    """Keep the pipeline from showing a bar that would stop at its start."""
    if not hasattr(pipe, "set_progress_bar_config"):
        yield
        return
    settings = copy.copy(getattr(pipe, "_progress_bar_config", {}))
    pipe.set_progress_bar_config(**{**settings, "disable": True})
    try:
        yield
    finally:
        pipe.set_progress_bar_config(**settings)
