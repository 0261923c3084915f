"""What a model is, for a run's record: name, class, dtype, space, and hashes of its weights and of its settings.

Hashing reads every weight once, which takes about a second for each half gigabyte; wrapping a pipeline must cost
nothing. So the record is made when it is first read, and kept: the one place where something is kept on an object.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from pointland.models.execution import PLAIN, Execution
from pointland.noise import Levels


@dataclass(frozen=True, eq=False)
class Origin:
    """What identifies a model.

    Attributes:
        name: Its directory's name or hub id.
        kind: The class of its pipeline.
        space: What its points are.
        network: The denoising network, whose dtype is recorded.
        modules: Every module that decides a value, by name.
        levels: Its trained noise levels.
        settings: What else decides a value, in a form whose ``repr`` says it all.
        tokenizers: Whose vocabularies are hashed with the settings.
        execution: How its network is called.
    """

    name: str
    kind: str
    space: str
    network: nn.Module
    modules: Mapping[str, nn.Module]
    levels: Levels
    settings: Sequence[object] = ()
    tokenizers: Sequence[Any] = ()
    execution: Execution = PLAIN

    @cached_property
    def record(self) -> dict[str, str]:
        """The record; weights that change after its first reading do not change it."""
        digest = hashlib.sha256()
        for part, module in sorted(self.modules.items()):
            for key, tensor in sorted(module.state_dict().items()):
                digest.update(f"{part}.{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        vocabularies = [sorted(tokenizer.get_vocab().items()) for tokenizer in self.tokenizers]
        settings = repr([*self.settings, *vocabularies]).encode()
        first = next(self.network.parameters(), None)
        return {
            "name": self.name,
            "class": self.kind,
            "dtype": "none" if first is None else str(first.dtype).removeprefix("torch."),
            "space": self.space,
            "weights_sha256": digest.hexdigest(),
            "settings_sha256": hashlib.sha256(self.levels.sigmas.numpy().tobytes() + settings).hexdigest(),
            **self.execution.record,
        }

    def check_finite(self) -> None:
        """Raise ``ValueError`` if a weight is not finite."""
        for part, module in sorted(self.modules.items()):
            for key, tensor in sorted(module.state_dict().items()):
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    raise ValueError(
                        f"{self.name}: {part} weight {key} has values that are not finite; the checkpoint is damaged "
                        "or overflowed in half precision, save it again in float32"
                    )
