"""A half-precision model once more in float32, for the values that half precision could not hold."""

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from pointland.model import Model
from pointland.models.execution import Execution
from pointland.models.origin import Origin

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FULL = (torch.float32, torch.float64)


def in_float32(model: Model) -> Model | None:
    """Return the same model with float32 copies of its half-precision modules, on the same device.

    Modules that are float32 already are shared, the others copied; the user's are left as they are. Nothing of the copy
    is compiled or under autocast. Weights that were rounded to half precision stay rounded: what float32 undoes is
    overflow on the way.

    Args:
        model: One of ours: of a pipeline, or of :func:`~pointland.models.from_module`.

    Returns:
        The model, with the identity of its float32 weights; ``None`` if there is nothing to gain, because it runs in
        float32 already, or no way: it is another kind of model, or a module is quantized, offloaded, patched (a
        ``forward`` of its own, as offloading and some accelerations set it) or too large to have twice.
    """
    origin = getattr(model, "origin", None)
    if not isinstance(origin, Origin):
        return None
    modules = _modules(model, origin)
    halves = [module for module in modules if _is_half(module)]
    if not halves and origin.execution.autocast is None:
        return None
    if not all(map(_can_be_copied, halves)):
        return None
    shared = [*origin.tokenizers, *(module for module in modules if module not in halves)]
    try:
        copied = deepcopy(model, {id(thing): thing for thing in shared})
        copied_origin = cast(Origin, getattr(copied, "origin", None))
        for module in _modules(copied, copied_origin):
            module.float()
    except (RuntimeError, TypeError):  # out of memory, or something inside that Python cannot copy
        return None
    made = replace(copied_origin, execution=Execution(channels_last=origin.execution.channels_last))
    return cast(Model, replace(cast("DataclassInstance", copied), origin=made))


def _modules(model: Model, origin: Origin) -> list[nn.Module]:
    """Return every module that decides a value; a codec that somebody brought may have its own."""
    coding = [value for value in vars(model.codec).values() if isinstance(value, nn.Module)]
    return list(dict.fromkeys([*origin.modules.values(), *coding]))


def _is_half(module: nn.Module) -> bool:
    return any(value.is_floating_point() and value.dtype not in FULL for value in module.parameters())


def _can_be_copied(module: nn.Module) -> bool:
    weights = all(value.is_floating_point() and not value.is_meta for value in module.parameters())
    patched = any("forward" in vars(part) for part in module.modules())
    return weights and not patched and getattr(module, "hf_quantizer", None) is None
