"""Loading a diffusers model with care: safetensors only, none of its code, weights complete, or a clear error."""

import json
import re
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from pointland.models.diffusers import StableDiffusion, Unconditional, from_parts, from_unet

Dtype = Literal["float32", "bfloat16", "float16"]

TEXT_TO_IMAGE = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
UNCONDITIONAL = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline")
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


def load(
    model: str | Path, *, device: str | torch.device | None = None, dtype: Dtype = "float32"
) -> StableDiffusion | Unconditional:
    """Load a diffusers model for auditing.

    Args:
        model: A diffusers directory (``model_index.json`` and its subfolders), or a hub id such as ``owner/name``,
            which may download.
        device: ``"cuda"``, ``"mps"``, ``"cpu"``, ...; chosen by what is there when ``None``.
        dtype: The network's. LID is a small difference of large numbers: in bfloat16 expect errors of several
            dimensions in a thousand.

    Raises:
        FileNotFoundError: If the directory, its index or its weights are missing.
        ValueError: If the model is of an unsupported class, brings its own code, keeps its weights as pickles, or has
            missing or non-finite weights. The message says what to do.
    """
    source = str(model)
    place = Path(model)
    local = place.exists()
    if not local and not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", source):
        raise FileNotFoundError(f"{source} does not exist; give a diffusers directory or a hub id such as owner/name")
    index = _read_index(place) if local else _fetch_index(source)
    kind = index["_class_name"]
    if kind not in TEXT_TO_IMAGE + UNCONDITIONAL:
        raise ValueError(f"{source} is a {kind}; supported are {', '.join(TEXT_TO_IMAGE + UNCONDITIONAL)}")
    if local:
        _refuse_code(place, index)
    if dtype not in get_args(Dtype):
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(get_args(Dtype))}")
    target = _device(device)
    name = place.resolve().name if local else source
    precision: torch.dtype = getattr(torch, dtype)
    scheduler = _component(source, "scheduler", index, None)
    unet = _component(source, "unet", index, precision).to(target).eval()
    if kind in UNCONDITIONAL:
        return from_unet(unet, scheduler, name=name, kind=kind)
    vae = _component(source, "vae", index, precision).to(target).eval()
    text_encoder = _component(source, "text_encoder", index, precision).to(target).eval()
    tokenizer = _component(source, "tokenizer", index, None)
    return from_parts(unet, vae, text_encoder, tokenizer, scheduler, name=name, kind=kind)


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


def _component(source: str, part: str, index: dict[str, object], dtype: torch.dtype | None) -> Any:
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
    if dtype is None:
        try:
            return made.from_pretrained(source, subfolder=part, local_files_only=Path(source).exists())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{source}: {part} cannot be loaded: {error}") from error
    # diffusers warns of a missing accelerate unless told; transformers names the argument dtype
    settings = {"torch_dtype": dtype, "low_cpu_mem_usage": False} if entry[0] == "diffusers" else {"dtype": dtype}
    try:
        module, info = made.from_pretrained(
            source,
            subfolder=part,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=Path(source).exists(),
            **settings,
        )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ValueError(f"{source}: the weights of {part} cannot be loaded: {error}") from error
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))
    if missing or info.get("mismatched_keys"):
        what = f"missing {', '.join(missing[:3])}" if missing else f"of another shape {info['mismatched_keys'][:3]}"
        raise ValueError(f"{source}: the weights of {part} are incomplete ({what}); save the pipeline again")
    return module


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
