"""A training that is over, read from the checkpoints that it left."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pointland.model import Model
from pointland.models.loading import load
from pointland.monitoring.watched import with_network

NETWORKS = ("unet_ema", "transformer_ema", "unet", "transformer")
LORA = "pytorch_lora_weights.safetensors"
NUMBER = re.compile(r"(\d+)$")


class Checkpoint(NamedTuple):
    """One checkpoint.

    Attributes:
        step: The number at the end of its name.
        folder: Where it is.
    """

    step: int
    folder: Path


def checkpoints(given: Sequence[Path]) -> list[Checkpoint]:
    """Find checkpoints, by step.

    Args:
        given: Folders whose names end in a number (``checkpoint-500``, as the training scripts of diffusers write
            them), or a folder that holds such folders. One that is both, as ``run-2`` with the final pipeline beside
            its checkpoints, is the folder that holds them.

    Raises:
        FileNotFoundError: If one is not there, or holds none.
        ValueError: If two are of one step.
    """
    found: list[Checkpoint] = []
    for folder in given:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder; give checkpoints, or the folder that holds them")
        made = _numbered(sorted(folder.iterdir())) or _numbered([folder])
        if not made:
            raise FileNotFoundError(
                f"{folder} holds no checkpoint: a folder such as checkpoint-500 with a whole pipeline, one of "
                f"{', '.join(NETWORKS)}, or {LORA}"
            )
        found += made
    found.sort()
    twice = next((b for a, b in pairwise(found) if a.step == b.step), None)
    if twice:
        raise ValueError(f"two checkpoints are of step {twice.step}; give those of one training")
    return found


def models(found: Sequence[Checkpoint], base: str | None = None, **loading: Any) -> Iterator[tuple[int, Model]]:
    """Load one checkpoint after another.

    Args:
        found: From :func:`checkpoints`.
        base: The model that was trained from, for checkpoints of a network or of LoRA weights alone.
        loading: ``device`` and ``dtype``, as for :func:`pointland.load`.

    Raises:
        ValueError: If a base is needed and not given; and whatever loading raises.
    """
    for step, folder in found:
        if (folder / "model_index.json").exists():
            yield step, load(folder, **loading)
            continue
        if base is None:
            raise ValueError(f"{folder.name} is no whole pipeline; say what it was trained from, with --model")
        if (folder / LORA).exists():
            yield step, load(base, lora=folder / LORA, **loading)
            continue
        model = load(base, **loading)
        own: Any = model.network
        part = next(folder / name for name in NETWORKS if (folder / name / "config.json").exists())
        network = type(own).from_pretrained(part, use_safetensors=True, local_files_only=True, torch_dtype=own.dtype)
        yield step, with_network(model, network.to(own.device).eval())


def _numbered(folders: Sequence[Path]) -> list[Checkpoint]:
    found = [(NUMBER.search(one.name), one) for one in folders if one.is_dir() and _is_checkpoint(one)]
    return [Checkpoint(int(number[1]), one) for number, one in found if number]


def _is_checkpoint(folder: Path) -> bool:
    whole = (folder / "model_index.json").exists() or (folder / LORA).exists()
    return whole or any((folder / name / "config.json").exists() for name in NETWORKS)
