"""Loading a diffusers model with care: safetensors only, none of its code, weights complete, or a clear error."""

import inspect
import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import torch
from torch import nn

from pointland.model import PromptedModel
from pointland.models.diffusers import FAMILIES, Family, from_pipeline
from pointland.models.diffusers.dit import DiT
from pointland.models.diffusers.families import unsupported
from pointland.models.lora import fuse

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

Dtype = Literal["float32", "bfloat16", "float16"]

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")


def load(
    model: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: Dtype | torch.dtype = "float32",
    lora: str | Path | None = None,
    lora_scale: float = 1.0,
    variant: str | None = None,
    size: tuple[int, int] | None = None,
) -> Family:
    """Load a diffusers model for auditing.

    Args:
        model: A diffusers directory (``model_index.json`` and its subfolders), or a hub id such as ``owner/name``,
            which may download.
        device: ``"cuda"``, ``"mps"``, ``"cpu"``, ...; chosen by what is there when ``None``.
        dtype: The networks', by name or as ``torch.float16``. LID is a small difference of large numbers: in bfloat16
            expect errors of several dimensions in a thousand. Autoencoders that overflow in float16
            (``force_upcast``) stay in float32.
        lora: LoRA weights to add to the model: a ``.safetensors`` file, a directory with one, or a hub id. They are
            merged into the networks' own weights, in the networks' dtype; needs ``pip install peft``.
        lora_scale: By how much.
        variant: Of the weights' files, such as ``"fp16"``.
        size: Height and width in pixels of the pictures to look at, for FLUX, which has no native size.

    Raises:
        FileNotFoundError: If the directory, its index or its weights are missing.
        ImportError: If LoRA weights are given and peft is not installed.
        ValueError: If the model is of an unsupported class, brings its own code, keeps its weights as pickles, or has
            missing or non-finite weights. The message says what to do.
    """
    pipe, name = _checked(model, device, dtype, lora, lora_scale, variant)
    made = from_pipeline(pipe, name=name, size=size)
    made.origin.check_finite()
    return made


def load_pipeline(
    model: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: Dtype | torch.dtype = "float32",
    lora: str | Path | None = None,
    lora_scale: float = 1.0,
    variant: str | None = None,
) -> "tuple[DiffusionPipeline, PromptedModel]":
    """Load a whole text-to-image pipeline for sampling, with the same care, and the model of its modules.

    Its safety checker is left out: it looks for other things than copies. Arguments and errors are those of
    :func:`load`.

    Raises:
        ValueError: Also if the pipeline takes no prompts.
    """
    pipe, name = _checked(model, device, dtype, lora, lora_scale, variant)
    made = from_pipeline(pipe, name=name)
    if not hasattr(made, "condition") or isinstance(made, DiT):
        raise ValueError(f"{model} takes no prompts: there is nothing to generate from")
    made.origin.check_finite()
    pipe.set_progress_bar_config(disable=True)
    return pipe, cast(PromptedModel, made)


def _checked(
    model: str | Path,
    device: str | torch.device | None,
    dtype: Dtype | torch.dtype,
    lora: str | Path | None,
    lora_scale: float,
    variant: str | None,
) -> "tuple[DiffusionPipeline, str]":
    """Return the pipeline of a directory or hub id, and its name."""
    source = str(model)
    place = Path(model)
    local = place.exists()
    if not local and not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", source):
        raise FileNotFoundError(f"{source} does not exist; give a diffusers directory or a hub id such as owner/name")
    index = _read_index(place) if local else _fetch_index(source)
    if index["_class_name"] not in FAMILIES:
        raise ValueError(unsupported(str(index["_class_name"]), source))
    if local:
        _refuse_code(place, index)
    precision, target = _precision(dtype), _device(device)
    pipe = _assemble(source, index, precision, target, variant)
    if lora is not None:
        fuse(pipe, lora, lora_scale)
    return pipe, place.resolve().name if local else source


def _assemble(
    source: str, index: dict[str, object], dtype: torch.dtype, device: torch.device, variant: str | None
) -> "DiffusionPipeline":
    """Load the pipeline's parts with care, and put them together as its class does."""
    import diffusers

    made = getattr(diffusers, str(index["_class_name"]))
    parts: dict[str, Any] = {}
    for part, needed in inspect.signature(made.__init__).parameters.items():
        entry = index.get(part)
        if part == "requires_safety_checker":
            parts[part] = False
        elif part in UNUSED or entry == [None, None]:
            parts[part] = None
        elif isinstance(entry, list) or (part != "self" and needed.default is inspect.Parameter.empty):
            parts[part] = _component(source, part, index, dtype, variant)
        elif entry is not None:
            parts[part] = entry
        if isinstance(parts.get(part), nn.Module):
            parts[part] = parts[part].to(device).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of samplers' settings, which are not used
        return made(**parts)


def _read_index(folder: Path) -> dict[str, object]:
    if folder.is_file():
        raise ValueError(
            f"{folder} is a file; give a diffusers directory. A single checkpoint converts with "
            "StableDiffusionPipeline.from_single_file(...).save_pretrained(folder), where you trust it"
        )
    path = folder / "model_index.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no model_index.json; give the directory that save_pretrained wrote")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); save the pipeline again") from None
    if not isinstance(index, dict) or "_class_name" not in index:
        raise ValueError(f"{path} does not name its _class_name; save the pipeline again")
    return index


def _fetch_index(source: str) -> dict[str, object]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return _read_index(Path(hf_hub_download(source, "model_index.json")).parent)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"{source} is no local directory and could not be fetched from the hub: {error}"
        ) from None


def _refuse_code(folder: Path, index: dict[str, object]) -> None:
    for part, entry in index.items():
        if (
            isinstance(entry, list)
            and entry
            and entry[0] not in (None, "diffusers", "transformers", "stable_diffusion")
        ):
            raise ValueError(
                f"{folder}: component {part!r} comes from {entry[0]!r}, code of its own, not run; only parts of "
                "diffusers and transformers are loaded"
            )


def _component(source: str, part: str, index: dict[str, object], dtype: torch.dtype, variant: str | None) -> Any:
    import diffusers
    import transformers

    entry = index.get(part)
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], str):
        raise ValueError(f"{source}: model_index.json names no {part}; save the whole pipeline")
    made = getattr(diffusers if entry[0] == "diffusers" else transformers, entry[1], None)
    if made is None:
        raise ValueError(f"{source}: {part} is a {entry[1]}, which the installed {entry[0]} does not have; update it")
    if Path(source).exists():
        _refuse_pickles(Path(source) / part)
    if not issubclass(made, nn.Module):
        try:
            return made.from_pretrained(source, subfolder=part, local_files_only=Path(source).exists())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{source}: {part} cannot be loaded: {error}") from error
    upcast = dtype == torch.float16 and issubclass(made, diffusers.AutoencoderKL)
    precision = torch.float32 if upcast else dtype
    # diffusers warns of a missing accelerate unless told; transformers names the argument dtype
    named = {"torch_dtype": precision, "low_cpu_mem_usage": False}
    settings = named if entry[0] == "diffusers" else {"dtype": precision}
    try:
        module, info = made.from_pretrained(
            source,
            subfolder=part,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=Path(source).exists(),
            variant=variant,
            **settings,
        )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ValueError(f"{source}: the weights of {part} cannot be loaded: {error}") from error
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))
    if missing or info.get("mismatched_keys"):
        what = f"missing {', '.join(missing[:3])}" if missing else f"of another shape {info['mismatched_keys'][:3]}"
        raise ValueError(f"{source}: the weights of {part} are incomplete ({what}); save the pipeline again")
    return module.to(dtype) if upcast and not module.config.force_upcast else module


def _refuse_pickles(folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing; save the whole pipeline with save_pretrained")
    if (folder / "config.json").is_file() and not list(folder.glob("*.safetensors")):
        pickles = [path.name for path in folder.iterdir() if path.suffix in PICKLES]
        if pickles:
            raise ValueError(
                f"{folder} keeps its weights as a pickle ({pickles[0]}), which can run code when loaded: refused; "
                "convert it where you trust it: load the pipeline and save_pretrained(folder, safe_serialization=True)"
            )
        raise FileNotFoundError(f"{folder} has no weights: no .safetensors file; save the pipeline again")


def _precision(dtype: Dtype | torch.dtype) -> torch.dtype:
    name = str(dtype).removeprefix("torch.")
    if name not in get_args(Dtype):
        raise ValueError(f"dtype {name!r} is not one of {', '.join(get_args(Dtype))}")
    found: torch.dtype = getattr(torch, name)
    return found


def _device(wanted: str | torch.device | None) -> torch.device:
    if wanted is None:
        mps = "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device("cuda" if torch.cuda.is_available() else mps)
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {wanted!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device
