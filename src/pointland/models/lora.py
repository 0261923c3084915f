r"""LoRA: low-rank weights merged into a pipeline's own, :math:`W + s\,\tfrac{\alpha}{r} B A` (Hu et al. 2021).

Merging leaves plain networks, which cost nothing more to call or to differentiate, and whose hash is that of what
they compute.
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from pointland.models.trust import HOW, check_links, check_weights

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def fuse(pipe: "DiffusionPipeline", lora: str | Path, scale: float) -> None:
    """Merge LoRA weights into a pipeline's networks, in place.

    Args:
        pipe: A pipeline of which nothing else holds the networks.
        lora: A ``.safetensors`` file, a directory with one, or a hub id.
        scale: By how much.

    Raises:
        ImportError: If peft is not installed.
        FileNotFoundError: If there is no such file.
        ValueError: If the pipeline takes no LoRA, the weights are not of this model, or the file is damaged or no
            safetensors.
    """
    if importlib.util.find_spec("peft") is None:
        raise ImportError("LoRA weights are read by peft: pip install peft")
    from diffusers.loaders.lora_base import LoraBaseMixin

    if not isinstance(pipe, LoraBaseMixin):
        raise ValueError(f"diffusers has no LoRA for a {type(pipe).__name__}; merge the weights before saving it")
    folder, weights = _place(lora)
    try:
        pipe.load_lora_weights(folder, weight_name=weights, use_safetensors=True, local_files_only=weights is not None)
    except Exception as error:  # damaged weights and a missing network make the libraries raise anything
        why = " ".join(str(error).split())
        raise ValueError(f"the LoRA {lora} cannot be loaded into a {type(pipe).__name__}: {why}") from error
    changed = [part for part, adapters in pipe.get_list_adapters().items() if adapters]
    if not changed:
        raise ValueError(f"the LoRA {lora} has no weights for a {type(pipe).__name__}; it belongs to another model")
    pipe.fuse_lora(components=changed, lora_scale=scale)
    pipe.unload_lora_weights()


def _place(lora: str | Path) -> tuple[str, str | None]:
    """Return the directory and the file of local weights, or a hub id and ``None``."""
    path = Path(lora)
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise FileNotFoundError(f"{path} has {len(found)} .safetensors files; give the one with the LoRA's weights")
        check_links(path, path)
        check_weights(found[0], "the LoRA")
        return str(path), found[0].name
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ValueError(f"{path} is no .safetensors file; others can run code when loaded: refused; {HOW}")
        check_weights(path, "the LoRA")
        return str(path.parent), path.name
    if path.is_absolute() or path.suffix or len(path.parts) != 2:
        raise FileNotFoundError(f"{lora} does not exist; give a .safetensors file, its directory or a hub id")
    return str(lora), None
