"""Rows M1, M2 and M4: models that would run code, that are damaged, and whose settings are not those of training."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import pipelines
from commands import pointland
from miniatures import cut
from pointland.auditing import audit
from pointland.demo import MINIATURE, Demo
from pointland.models import from_parts, from_pipeline, load

pytestmark = pytest.mark.fault

UNET, TEXT = "unet/diffusion_pytorch_model", "text_encoder/model"
SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")


class Touch:
    """Whoever unpickles this writes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.canary, "code has run")


def zipped(path: Path, canary: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "also": Touch(canary)}, path)


def legacy(path: Path, canary: Path) -> None:
    torch.save({"weight": Touch(canary)}, path, _use_new_zipfile_serialization=False)


def network(path: Path, canary: Path) -> None:
    """A plain pickle of whole networks, as StyleGAN's are."""
    path.write_bytes(pickle.dumps({"G": None, "D": None, "G_ema": Touch(canary)}))


def script(path: Path, canary: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))  # type: ignore[no-untyped-call]  # torch has no types here


WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "zip": zipped,
    "legacy": legacy,
    "network": network,
    "script": script,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    pipelines.stable_diffusion(folder).save_pretrained(folder / "sd")
    return folder / "sd"


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def edit(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = load_file(path)
    return weights


def write_weights(path: Path, weights: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(weights, path, {"format": "pt"})


def refusal(model: Path, **settings: Any) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load(model, device="cpu", **settings)
    return str(error.value)


@pytest.mark.parametrize("kind", ["zip", "legacy", "network"])
def test_the_canary_sings_when_a_file_is_unpickled(tmp_path: Path, canary: Path, kind: str) -> None:
    WRITERS[kind](tmp_path / "file", canary)
    if kind == "network":
        pickle.loads((tmp_path / "file").read_bytes())
    else:
        torch.load(tmp_path / "file", weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".safetensors", ""])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_checkpoint_as_the_model(tmp_path: Path, canary: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    WRITERS[kind](path, canary)
    assert "converts with StableDiffusionPipeline.from_single_file" in refusal(path)
    assert not canary.exists()


@pytest.mark.parametrize("name", [UNET, TEXT])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_network_kept_as_a_pickle(model: Path, canary: Path, kind: str, suffix: str, name: str) -> None:
    (model / f"{name}.safetensors").unlink()
    WRITERS[kind](model / f"{name}{suffix}", canary)
    reason = refusal(model)
    assert f"as a pickle ({Path(name).name}{suffix})" in reason
    assert "save_pretrained(folder, safe_serialization=True)" in reason
    assert not canary.exists()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_pickle_called_safetensors(model: Path, canary: Path, kind: str) -> None:
    WRITERS[kind](model / f"{UNET}.safetensors", canary)
    assert "diffusion_pytorch_model.safetensors is a pickle under another name" in refusal(model)
    assert not canary.exists()


def test_a_pickle_beside_the_weights_is_not_looked_at(model: Path, canary: Path) -> None:
    for name in (UNET, TEXT, "vae/diffusion_pytorch_model", "text_encoder/pytorch_model"):
        for kind, suffix in (("zip", ".bin"), ("legacy", ".ckpt"), ("network", ".pkl")):
            WRITERS[kind](model / f"{name}{suffix}", canary)
    load(model, device="cpu")
    assert not canary.exists()


def listed(model: Path, name: str, shard: str) -> Path:
    """Move a network's weights into one shard of a list, and return where it belongs."""
    whole = model / f"{name}.safetensors"
    weights = weights_of(whole)
    whole.unlink()
    entries = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(weights, shard)}
    whole.with_name(f"{whole.name}.index.json").write_text(json.dumps(entries))
    return whole.parent / shard


@pytest.mark.parametrize("name", [UNET, TEXT])
def test_a_list_of_shards_that_are_pickles(model: Path, canary: Path, name: str) -> None:
    weights = weights_of(model / f"{name}.safetensors")
    torch.save(weights, listed(model, name, "shard.bin"))  # harmless, and still no business of ours
    write_weights(model / Path(name).parent / "decoy.safetensors", weights)
    assert "names the shard 'shard.bin', which is no .safetensors file: refused" in refusal(model)
    zipped(model / Path(name).parent / "shard.bin", canary)
    assert "shard.bin" in refusal(model)
    assert not canary.exists()


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/tmp/outside.safetensors", "a\\b.safetensors"])
def test_a_list_of_shards_that_leads_elsewhere(model: Path, shard: str) -> None:
    listed(model, UNET, shard)
    assert f"{shard!r}, which is not beside it" in refusal(model)


def test_a_shard_that_is_missing_is_named_and_one_that_is_there_is_read(model: Path) -> None:
    weights = weights_of(model / f"{UNET}.safetensors")
    shard = listed(model, UNET, "diffusion_pytorch_model-00001-of-00001.safetensors")
    assert f"{shard} is missing" in refusal(model)
    write_weights(shard, weights)
    load(model, device="cpu")


def program(canary: Path) -> str:
    return f"import pathlib\npathlib.Path({str(canary)!r}).write_text('code has run')\nclass Evil: pass\n"


@pytest.mark.parametrize("entry", [["my_unet", "Evil"], ["unet", "Evil"], ["os", "system"], ["diffusers.utils", "x"]])
def test_a_component_of_its_own_code(model: Path, canary: Path, entry: list[str]) -> None:
    for place in (model, model / "unet"):
        (place / f"{entry[0]}.py").write_text(program(canary))
    edit(model / "model_index.json", unet=entry)
    assert "code of its own, not run" in refusal(model)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["Evil", ["pipeline", "Evil"], "../pipeline", "logging", None, 7])
def test_a_pipeline_of_its_own_code(model: Path, canary: Path, name: object) -> None:
    (model / "pipeline.py").write_text(program(canary))
    edit(model / "model_index.json", _class_name=name)
    assert "supported are" in (reason := refusal(model)) or "does not name its _class_name" in reason
    assert not canary.exists()


@pytest.mark.parametrize(
    ("part", "entry"),
    [
        ("text_encoder", ["transformers", "AutoModel"]),
        ("tokenizer", ["transformers", "AutoTokenizer"]),
        ("unet", ["diffusers", "AutoModel"]),
        ("unet", ["diffusers", "DiffusionPipeline"]),
        ("unet", ["diffusers", "logging"]),
        ("scheduler", ["diffusers", "__name__"]),
        ("text_encoder", ["transformers", "pipeline"]),
    ],
)
def test_a_component_that_would_choose_by_itself_what_to_run(
    model: Path, canary: Path, part: str, entry: list[str]
) -> None:
    edit(model / "model_index.json", **{part: entry})
    (model / part / "evil.py").write_text(program(canary))
    for name in ("config.json", "tokenizer_config.json"):
        if (path := model / part / name).exists():
            edit(path, auto_map=dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), "evil.Evil"))
    assert "is no network, tokenizer or scheduler: refused" in refusal(model)
    assert not canary.exists()


def test_a_program_named_in_the_settings_is_not_run(model: Path, canary: Path) -> None:
    for path in [*model.glob("*/config.json"), model / "tokenizer" / "tokenizer_config.json"]:
        (path.parent / "evil.py").write_text(program(canary))
        edit(path, auto_map=dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), "evil.Evil"))
    load(model, device="cpu")
    assert not canary.exists()


def test_an_adapter_that_names_a_model_to_fetch(model: Path) -> None:
    adapter = model / "text_encoder" / "adapter_config.json"
    adapter.write_text(json.dumps({"base_model_name_or_path": "someone/else", "peft_type": "LORA"}))
    assert f"{adapter} names a model to fetch" in refusal(model)


@pytest.mark.parametrize("name", [f"{UNET}.safetensors", f"{TEXT}.safetensors", "vae/config.json", "tokenizer", "unet"])
def test_a_link_out_of_the_folder(model: Path, tmp_path: Path, name: str) -> None:
    shutil.move(model / name, tmp_path / "elsewhere")
    (model / name).symlink_to(tmp_path / "elsewhere")
    reason = refusal(model)
    assert f"{model / name} is a link out of the model's folder, to {tmp_path / 'elsewhere'}" in reason
    assert "put a copy there" in reason


def test_links_within_the_folder_and_those_of_the_hubs_cache_are_followed(model: Path, tmp_path: Path) -> None:
    (model / UNET).with_name("kept").mkdir()
    shutil.move(model / f"{UNET}.safetensors", model / "unet" / "kept" / "weights")
    (model / f"{UNET}.safetensors").symlink_to("kept/weights")
    load(model, device="cpu")
    cache = tmp_path / "models--owner--name"
    (cache / "blobs").mkdir(parents=True)
    for number, path in enumerate(path for path in model.rglob("*") if path.is_file() and "kept" not in path.parts):
        (cache / "blobs" / str(number)).write_bytes(path.read_bytes())
        link = cache / "snapshots" / "0123abcd" / path.relative_to(model)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(cache / "blobs" / str(number), link.parent))
    load(cache / "snapshots" / "0123abcd", device="cpu")


def test_a_pipe_or_device_among_the_weights_is_not_waited_for(model: Path) -> None:
    os.mkfifo(model / "unet" / "more.safetensors")
    assert "more.safetensors is no regular file" in refusal(model)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".safetensors"])
@pytest.mark.parametrize("kind", WRITERS)
def test_lora_weights_that_are_a_pickle(saved: Path, tmp_path: Path, canary: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"lora{suffix}"
    WRITERS[kind](path, canary)
    assert "refused" in (reason := refusal(saved, lora=path))
    assert path.name in reason
    assert "save_pretrained" in reason
    assert not canary.exists()


def test_lora_weights_in_a_folder(saved: Path, tmp_path: Path, canary: Path) -> None:
    folder = tmp_path / "lora"
    folder.mkdir()
    zipped(folder / "pytorch_lora_weights.bin", canary)
    assert "has 0 .safetensors files" in refusal(saved, lora=folder)
    (folder / "pytorch_lora_weights.safetensors").symlink_to(saved / f"{UNET}.safetensors")
    assert "is a link out" in refusal(saved, lora=folder)
    assert not canary.exists()


def test_the_command_line_refuses_in_one_message(saved: Path, tmp_path: Path, canary: Path) -> None:
    path, images, out = tmp_path / "model.ckpt", cut(tmp_path, 2, 2).images, tmp_path / "run"
    zipped(path, canary)
    for done in pointland(
        ["audit", path, images, "-o", out],
        ["audit", saved, images, "-o", out, "--reference-model", path],
        ["audit", saved, images, "-o", out, "--lora", path],
    ):
        assert done.code == 2, done.err
        assert done.err.strip().splitlines()[-1].startswith("Error: ")
        assert "save_pretrained" in done.err
    assert not canary.exists()
    assert not (tmp_path / "run").exists()


def headed(header: bytes | str, length: int | None = None, data: bytes = b"") -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(**fields: object) -> str:
    return json.dumps({"weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **fields}})


DAMAGES: dict[str, bytes] = {
    "nothing": b"",
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "a header of 2**63 bytes": headed("{}", 2**63),
    "a header of 2**64 - 1 bytes": headed("{}", 2**64 - 1),
    "a header of 200 MB": headed("{}", 200_000_000),
    "a header beyond the end": headed("{}", 1000),
    "no JSON": headed("{" * 64),
    "deep JSON": headed("[" * 100_000),
    "not UTF-8": headed(b'{"\xff\xfe": 1}'),
    "a shape of 10**18": headed(entry(shape=[10**18]), data=bytes(8)),
    "a shape that overflows": headed(entry(shape=[2**32, 2**32, 2**32]), data=bytes(8)),
    "a negative shape": headed(entry(shape=[-2]), data=bytes(8)),
    "offsets beyond the end": headed(entry(data_offsets=[0, 2**40]), data=bytes(8)),
    "offsets the wrong way": headed(entry(data_offsets=[8, 0]), data=bytes(8)),
    "an unknown dtype": headed(entry(dtype="F33"), data=bytes(8)),
    "the name of a tensor twice": headed('{"a":' + entry()[11:-1] + ',"a":' + entry()[11:-1] + "}", data=bytes(16)),
    "a web page": b"<!doctype html><title>404</title>" + b" " * 1000,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [UNET, TEXT])
def test_damaged_weights_are_refused_by_name(model: Path, name: str, damage: str) -> None:
    path = model / f"{name}.safetensors"
    path.write_bytes(DAMAGES[damage])
    assert str(path) in refusal(model)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_lora_weights_are_refused_by_name(saved: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "lora.safetensors"
    path.write_bytes(DAMAGES[damage])
    assert str(path) in refusal(saved, lora=path)


@pytest.mark.parametrize("name", [UNET, TEXT, "vae/diffusion_pytorch_model"])
def test_weights_truncated_anywhere_are_refused_by_name(model: Path, name: str) -> None:
    path = model / f"{name}.safetensors"
    data = path.read_bytes()
    for percent in range(0, 100, 10):
        path.write_bytes(data[: len(data) * percent // 100])
        assert str(path) in refusal(model), f"cut at {percent} %"


@pytest.mark.parametrize("name", [UNET, TEXT])
def test_weights_of_another_shape_or_dtype(model: Path, name: str) -> None:
    path = model / f"{name}.safetensors"
    weights = weights_of(path)
    first = sorted(weights)[0]
    for changed in (torch.zeros(3, 3), torch.zeros(0), torch.zeros(2, *weights[first].shape)):
        write_weights(path, weights | {first: changed})
        reason = refusal(model)
        assert path.name in reason
        assert Path(name).parent.name in reason


@pytest.mark.parametrize("text", ["", "[]", "7", "null", "[" * 100_000, '{"a": ', "\x00"])
@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "text_encoder/config.json"])
def test_damaged_settings_are_refused_by_name(model: Path, name: str, text: str) -> None:
    (model / name).write_text(text)
    assert str(model / name) in refusal(model)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("unet/config.json", {"block_out_channels": "many"}),
        ("unet/config.json", {"sample_size": "large"}),
        ("unet/config.json", {"down_block_types": ["Evil"]}),
        ("unet/config.json", {"quantization_config": {"quant_method": "no such method"}}),
        ("text_encoder/config.json", {"hidden_size": -1}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": "all"}),
        ("scheduler/scheduler_config.json", {"beta_schedule": "unknown"}),
        ("model_index.json", {"vae": [None, None]}),
        ("model_index.json", {"scheduler": [None, None]}),
        ("model_index.json", {"unet": ["diffusers", "UNet2DModel"]}),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderTiny"]}),
        ("model_index.json", {"text_encoder": ["transformers", 7]}),
    ],
)
def test_settings_that_make_no_model_are_one_message(model: Path, name: str, settings: dict[str, Any]) -> None:
    edit(model / name, **settings)
    assert "model" in refusal(model)


@pytest.mark.parametrize("prediction", ["flow_prediction", "nonsense", None, 3])
def test_an_unknown_prediction_type(model: Path, prediction: object) -> None:
    edit(model / "scheduler" / "scheduler_config.json", prediction_type=prediction)
    assert "fix scheduler_config.json" in refusal(model)


def test_the_schedule_of_the_other_kind(tmp_path: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    pipe = pipelines.stable_diffusion(tmp_path)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ValueError, match="not variance-preserving; give the scheduler that the model was trained with"):
        from_pipeline(pipe)
    flow = pipelines.stable_diffusion_3(tmp_path, long=False)
    flow.scheduler = pipelines.ddim()
    with pytest.raises(ValueError, match="no scheduler of a rectified flow; give FlowMatchEulerDiscreteScheduler"):
        from_pipeline(flow)


def test_eight_latent_channels_where_four_are_meant(tmp_path: Path) -> None:
    pipe = pipelines.stable_diffusion(tmp_path)
    parts = (pipe.text_encoder, pipe.tokenizer, pipe.scheduler)
    with pytest.raises(ValueError, match="the network takes 4 channels, the autoencoder has 8"):
        from_parts(pipe.unet, pipelines.autoencoder(8), *parts, name="tiny")


@pytest.mark.parametrize("scale", [None, 0, -0.2, "0.18215", float("nan"), float("inf")])
def test_a_scaling_factor_that_is_none(model: Path, scale: object) -> None:
    edit(model / "vae" / "config.json", scaling_factor=scale)
    assert "give the numbers that the model was trained with" in refusal(model)


def test_a_missing_scaling_factor_is_the_usual_one_for_four_channels_alone(model: Path, tmp_path: Path) -> None:
    """Stable Diffusion 1.4 does not state it; for another autoencoder the usual one is wrong."""
    path = model / "vae" / "config.json"
    settings = {name: value for name, value in json.loads(path.read_text()).items() if name != "scaling_factor"}
    path.write_text(json.dumps(settings))
    load(model, device="cpu")
    shutil.copytree(MINIATURE, tmp_path / "miniature")
    path = tmp_path / "miniature" / "vae" / "config.json"
    settings = {name: value for name, value in json.loads(path.read_text()).items() if name != "scaling_factor"}
    path.write_text(json.dumps(settings))
    assert "vae/config.json has no scaling_factor" in refusal(tmp_path / "miniature")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return cut(tmp_path_factory.mktemp("demo"), 8, 2)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}),
        ("vae/config.json", {"scaling_factor": 4.8}),
    ],
)
def test_a_trained_network_under_wrong_settings_does_not_denoise(
    demo: Demo, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    shutil.copytree(MINIATURE, tmp_path / "model")
    quick: dict[str, Any] = {"sigma": 0.3, "n_draws": 1, "n_probes": 1}
    audit(load(tmp_path / "model", device="cpu"), demo.images, out=tmp_path / "right", **quick)
    edit(tmp_path / "model" / name, **settings)
    with pytest.raises(ValueError, match="the model does not denoise"):
        audit(load(tmp_path / "model", device="cpu"), demo.images, out=tmp_path / "wrong", **quick)
    assert not (tmp_path / "wrong").exists()
