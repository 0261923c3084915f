"""What is refused of a model's folder before any library opens it: code, pickles, and links that lead elsewhere.

A model is JSON, vocabularies and safetensors, which hold data alone. The libraries that read them would also take
weights from a pickle, which can run code when it is loaded, follow a list of shards to one, ask for a program beside
the settings, or fetch the model that an adapter names. So the folder is looked through first, and what is damaged is
named by its file.
"""

import json
from collections.abc import Mapping
from pathlib import Path

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".th", ".joblib")
LIBRARIES = ("diffusers", "transformers", "stable_diffusion")  # the last is diffusers' name for its safety checker
HOW = "convert it where you trust it: load the pipeline and save_pretrained(folder, safe_serialization=True)"


def read_index(folder: Path) -> dict[str, object]:
    """Read a pipeline's ``model_index.json``.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the folder is a file, or the index names no class.
    """
    if folder.is_file():
        raise ValueError(
            f"{folder} is a file; give a diffusers directory. A single checkpoint converts with "
            "StableDiffusionPipeline.from_single_file(...).save_pretrained(folder), where you trust it"
        )
    path = folder / "model_index.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no model_index.json; give the directory that save_pretrained wrote")
    index = _read_json(path)
    if not isinstance(index.get("_class_name"), str):
        raise ValueError(f"{path} does not name its _class_name; save the pipeline again")
    return index


def check_libraries(source: str, index: Mapping[str, object]) -> None:
    """Raise ``ValueError`` if a component of a pipeline comes from anything but diffusers and transformers."""
    for part, entry in index.items():
        if isinstance(entry, list) and entry and entry[0] not in (None, *LIBRARIES):
            raise ValueError(
                f"{source}: component {part!r} comes from {entry[0]!r}, code of its own, not run; only parts of "
                "diffusers and transformers are loaded"
            )


def check_part(folder: Path, part: str) -> None:
    """Look through one component's folder; its files are listed, and their headers read, but no weights.

    Args:
        folder: The pipeline's.
        part: The component.

    Raises:
        FileNotFoundError: If it is missing, or keeps no weights.
        ValueError: If it keeps its weights as pickles; if a file is damaged, a shard is missing, a link leads out of
            the folder, or an adapter lies there. The message names the file.
    """
    place = folder / part
    if not place.is_dir():
        raise FileNotFoundError(f"{place} is missing; save the whole pipeline with save_pretrained")
    check_links(place, folder)
    adapter = place / "adapter_config.json"
    if adapter.exists():
        raise ValueError(f"{adapter} names a model to fetch and adapt: refused; give LoRA weights apart, as lora")
    settings, lists = place / "config.json", sorted(place.glob("*.safetensors.index.json"))
    if settings.is_file():
        _read_json(settings)
    for path in lists:
        _check_shards(path)
    weights = sorted(place.glob("*.safetensors"))
    if settings.is_file() and not weights:
        pickles = sorted(path.name for path in place.iterdir() if path.suffix in PICKLES)
        if pickles:
            raise ValueError(
                f"{place} keeps its weights as a pickle ({pickles[0]}), which can run code when loaded: refused; {HOW}"
            )
        raise FileNotFoundError(f"{place} has no weights: no .safetensors file; save the pipeline again")
    for path in weights:
        check_weights(path, f"the weights of {part}")


def check_links(place: Path, folder: Path) -> None:
    """Raise ``ValueError`` if a file of ``place`` is a link out of ``folder``, or a pipe or device.

    The hub's cache links its snapshots to blobs beside them: those are the folder's own.
    """
    top = folder.resolve()
    inside = [top, top.parent.parent / "blobs"] if top.parent.name == "snapshots" else [top]
    for path in [place, *place.iterdir()]:
        target = path.resolve()
        if not any(target.is_relative_to(one) for one in inside):
            raise ValueError(f"{path} is a link out of the model's folder, to {target}: refused; put a copy there")
        if target.exists() and not (target.is_file() or target.is_dir()):
            raise ValueError(f"{path} is no regular file: refused; save the model again")


def check_weights(path: Path, what: str) -> None:
    """Read the header of a safetensors file.

    Args:
        path: The file.
        what: What it holds, for messages.

    Raises:
        ValueError: If it is damaged, or a pickle under this name.
    """
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as stream:
        start = stream.read(2)
    if start in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise ValueError(f"{path} is a pickle under another name, which can run code when loaded: refused; {HOW}")
    try:
        with safe_open(path, "pt") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{what} cannot be loaded: {path} is damaged ({error}); get it again") from error


def _check_shards(path: Path) -> None:
    """Check the list of a network's shards: safetensors beside it, all there."""
    shards = _read_json(path).get("weight_map")
    if not isinstance(shards, dict):
        raise ValueError(f"{path} has no weight_map; save the pipeline again")
    for name in sorted(set(map(str, shards.values()))):
        if Path(name).name != name or "\\" in name:
            raise ValueError(f"{path} names the shard {name!r}, which is not beside it: refused")
        if not name.endswith(".safetensors"):
            raise ValueError(f"{path} names the shard {name!r}, which is no .safetensors file: refused; {HOW}")
        if not (path.parent / name).is_file():
            raise ValueError(f"{path.parent / name} is missing, a shard that {path.name} names; download it again")


def _read_json(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); save the pipeline again") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no JSON object; save the pipeline again")
    return found
