"""Loading a diffusers model with care: safetensors only, none of its code, weights complete, or a clear error."""

import inspect
import math
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import torch
from torch import nn

from pointland.model import PromptedModel
from pointland.models.diffusers import FAMILIES, Family, from_pipeline
from pointland.models.diffusers.dit import DiT
from pointland.models.diffusers.families import unsupported
from pointland.models.execution import Execution, prepared
from pointland.models.lora import fuse
from pointland.models.trust import check_libraries, check_part, read_index

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

Dtype = Literal["float32", "bfloat16", "float16"]

NEEDED = ("unet", "transformer", "vae", "vqvae", "scheduler")
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
    compiled: bool = False,
    channels_last: bool = False,
    autocast: Dtype | torch.dtype | None = None,
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
        compiled: Compile the network with ``torch.compile``, for batches of any size and calls without gradients. The
            first ones take minutes; for long audits on a GPU. Same values up to rounding.
        channels_last: Keep convolutions' weights channels-last, which suits the half-precision kernels of GPUs. Same
            values up to rounding.
        autocast: Half precision in which the network runs under ``torch.autocast``, while its weights stay in
            ``dtype``; nearer to float32 than half-precision weights are.

    Raises:
        FileNotFoundError: If the directory, its index or its weights are missing.
        ImportError: If LoRA weights are given and peft is not installed.
        ValueError: If the model is of an unsupported class, brings its own code, keeps its weights as pickles, links
            out of its folder, has damaged, missing or non-finite weights, or an autoencoder of unknown scale; if
            ``compiled`` is asked for where nothing compiles. The message says what to do.
    """
    execution = Execution(None if autocast is None else _precision(autocast), compiled, channels_last)
    pipe, name = _checked(model, device, dtype, lora, lora_scale, variant)
    made = _fitted(pipe, name, size)
    made.origin.check_finite()
    if compiled and isinstance(made, DiT):
        raise ValueError(f"{name}: a DiT is told its class by hooks, which torch.compile does not see; leave it out")
    prepared(made.network, made.origin.modules.values(), execution)
    return replace(made, origin=replace(made.origin, execution=execution))


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
    made = _fitted(pipe, name, None)
    if not hasattr(made, "condition") or isinstance(made, DiT):
        raise ValueError(f"{model} takes no prompts: there is nothing to generate from")
    made.origin.check_finite()
    pipe.set_progress_bar_config(disable=True)
    return pipe, cast(PromptedModel, made)


def _fitted(pipe: "DiffusionPipeline", name: str, size: tuple[int, int] | None) -> Family:
    """Make the model; settings of the wrong kind are the folder's fault, not the program's."""
    try:
        return from_pipeline(pipe, name=name, size=size)
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f"{name}: its parts do not make a {type(pipe).__name__} ({error}); save the whole pipeline again"
        ) from error


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
    index = read_index(place) if local else _fetch_index(source)
    if index["_class_name"] not in FAMILIES:
        raise ValueError(unsupported(str(index["_class_name"]), source))
    check_libraries(source, index)
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
        elif part in UNUSED or (entry == [None, None] and part not in NEEDED):
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


def _fetch_index(source: str) -> dict[str, object]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return read_index(Path(hf_hub_download(source, "model_index.json")).parent)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"{source} is no local directory and could not be fetched from the hub: {_line(error)}"
        ) from None


def _component(source: str, part: str, index: dict[str, object], dtype: torch.dtype, variant: str | None) -> Any:
    import diffusers
    import transformers

    entry = index.get(part)
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], str):
        raise ValueError(f"{source}: model_index.json names no {part}; save the whole pipeline")
    made: Any = getattr(diffusers if entry[0] == "diffusers" else transformers, entry[1], None)
    if made is None:
        raise ValueError(f"{source}: {part} is a {entry[1]}, which the installed {entry[0]} does not have; update it")
    models = (diffusers.ModelMixin, transformers.PreTrainedModel)
    others = (diffusers.SchedulerMixin, transformers.PreTrainedTokenizerBase)
    known = isinstance(made, type) and issubclass(made, (*models, *others))
    if not known:  # an AutoModel would choose by itself what to load, and how
        raise ValueError(f"{source}: {part} is a {entry[1]}, which is no network, tokenizer or scheduler: refused")
    local = Path(source).exists()
    if local:
        check_part(Path(source), part)
    if not issubclass(made, models):
        try:
            return made.from_pretrained(source, subfolder=part, local_files_only=local)
        except Exception as error:  # settings of the wrong kind make the libraries raise anything
            raise ValueError(f"{source}: {part} cannot be loaded: {_line(error)}") from error
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
            local_files_only=local,
            variant=variant,
            **settings,
        )
    except Exception as error:  # settings of the wrong kind make the libraries raise anything
        files = ", ".join(sorted(path.name for path in (Path(source) / part).glob("*.safetensors"))) or "no file here"
        raise ValueError(f"{source}: the weights of {part} cannot be loaded ({files}): {_line(error)}") from error
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))
    if missing or info.get("mismatched_keys"):
        what = f"missing {', '.join(missing[:3])}" if missing else f"of another shape {info['mismatched_keys'][:3]}"
        raise ValueError(f"{source}: the weights of {part} are incomplete ({what}); save the pipeline again")
    if part in ("vae", "vqvae"):
        _check_scaling(source, part, module)
    return module.to(dtype) if upcast and not module.config.force_upcast else module


def _check_scaling(source: str, part: str, autoencoder: nn.Module) -> None:
    """Refuse an autoencoder whose latents would not have the scale that the network was trained on."""
    from diffusers import AutoencoderKL, VQModel

    if not isinstance(autoencoder, AutoencoderKL if part == "vae" else (AutoencoderKL, VQModel)):
        raise ValueError(f"{source}: {part} is a {type(autoencoder).__name__}, which is not supported")
    settings: Any = autoencoder.config
    scale, shift = settings.scaling_factor, settings.get("shift_factor") or 0.0
    if not _finite(scale) or scale <= 0 or not _finite(shift):
        raise ValueError(
            f"{source}: {part}/config.json has scaling_factor {scale!r} and shift_factor {shift!r}; give the numbers "
            "that the model was trained with"
        )
    if part == "vae" and "scaling_factor" in settings.get("_use_default_values", ()) and settings.latent_channels != 4:
        raise ValueError(
            f"{source}: vae/config.json has no scaling_factor, and the usual {scale} is that of Stable Diffusion's 4 "
            f"channels, not of {settings.latent_channels}; add the number that the model was trained with"
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


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
