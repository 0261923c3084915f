"""Half precision: overflow stays with its picture, float32 copies undo it, options change rounding alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pipelines
from models import ExactModel
from pointland.demo import MINIATURE
from pointland.lid import DenoisingLoss, Flipd
from pointland.models import StableDiffusion, from_module, from_pipeline, load
from pointland.models.codec import check_encoded, encoded
from pointland.models.diffusers.binding import remembering
from pointland.models.precision import in_float32

SIGMA = torch.tensor([1.0])


def half(folder: Path, *, overflowing: bool = True) -> StableDiffusion:
    """Return a tiny float16 model whose autoencoder overflows on bright pictures and not on grey ones."""
    pipe = pipelines.stable_diffusion(folder)
    if overflowing:
        pipe.vae.encoder.conv_in.weight.data *= 1e5  # times 27 numbers near 1, against 65504
    for part in (pipe.vae, pipe.unet, pipe.text_encoder):
        part.half().eval()
    made = from_pipeline(pipe)
    assert isinstance(made, StableDiffusion)
    return made


def pictures() -> Tensor:
    """Return three grey pictures with a bright one among them."""
    grey = torch.randint(126, 130, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return torch.cat([grey[:1], torch.full((1, 3, 16, 16), 255, dtype=torch.uint8), grey[1:]])


def test_an_overflowing_picture_is_nan_and_no_other(tmp_path: Path) -> None:
    codec = half(tmp_path).codec
    x = codec.encode(pictures())
    assert x.dtype == torch.float32
    assert encoded(x).tolist() == [True, False, True, True]
    assert bool(x[1].isnan().all())
    for i in (0, 2, 3):
        torch.testing.assert_close(x[i], codec.encode(pictures()[i : i + 1])[0], rtol=1e-2, atol=1e-2)  # float16
    with pytest.raises(ValueError, match=r"1 of 4 pictures.*float32"):
        check_encoded(x)
    assert torch.equal(check_encoded(x[2:]), x[2:])


def test_a_float32_copy_undoes_the_overflow_and_leaves_the_original(tmp_path: Path) -> None:
    model = remembering(half(tmp_path))
    model.given(["a boot"])
    before = {name: (id(value), value.dtype) for name, value in model.codec.vae.named_parameters()}
    full = in_float32(model)
    assert isinstance(full, StableDiffusion)
    x, mine = full.codec.encode(pictures()), model.codec.encode(pictures())
    assert bool(x.isfinite().all())
    fine = [0, 2, 3]
    torch.testing.assert_close(x[fine], mine[fine], rtol=0.05, atol=0.05)  # float16 through ten layers
    assert {name: (id(value), value.dtype) for name, value in model.codec.vae.named_parameters()} == before
    assert (full.unet.dtype, full.text_encoder.dtype, full.codec.vae.dtype) == (torch.float32,) * 3
    assert full.tokenizer is model.tokenizer
    assert full.kept is not None
    assert "a boot" not in full.kept.kept
    assert (full.identity["dtype"], model.identity["dtype"]) == ("float32", "float16")
    with torch.no_grad():
        denoised = full.given(["a boot"])(x[:1], SIGMA)
        torch.testing.assert_close(denoised, model.given(["a boot"])(x[:1], SIGMA), rtol=0.05, atol=0.05)
    assert in_float32(full) is None


def test_only_what_is_half_is_copied(tmp_path: Path) -> None:
    model = half(tmp_path)
    model.codec.vae.float()
    full = in_float32(model)
    assert isinstance(full, StableDiffusion)
    assert full.codec.vae is model.codec.vae
    assert full.unet is not model.unet


class Overflowing(nn.Module):
    """The identity, by numbers that float16 cannot hold where the points are large."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(3e4))

    def forward(self, point: Tensor, time: Tensor) -> Tensor:
        return point * self.factor / self.factor


def test_a_network_that_overflows_gives_its_values_in_float32() -> None:
    network = Overflowing().half()
    sigmas = torch.logspace(-2, 1, 50)
    model = from_module(network, prediction="sample", convention="edm", sigmas=sigmas, size=(8, 8))
    x = torch.tensor([1.0, 5.0]).reshape(2, 1, 1, 1).expand(2, 3, 8, 8)
    full = in_float32(model)
    assert full is not None
    with torch.no_grad():
        assert model.unconditional(x, SIGMA).flatten(1).isfinite().all(1).tolist() == [True, False]
        torch.testing.assert_close(full.unconditional(x, SIGMA), x)
    assert network.factor.dtype == torch.float16


def test_there_is_no_copy_where_none_helps_or_none_can_be_made(tmp_path: Path) -> None:
    assert in_float32(from_pipeline(pipelines.stable_diffusion(tmp_path / "a"))) is None
    assert in_float32(ExactModel(torch.zeros(1, 3, 4, 4))) is None
    patched = half(tmp_path / "b")
    patched.unet.mid_block.forward = patched.unet.mid_block.forward  # as accelerations set it, bound to the original
    assert in_float32(patched) is None
    quantized = half(tmp_path / "c")
    quantized.text_encoder.hf_quantizer = object()  # what transformers sets
    assert in_float32(quantized) is None
    uncopyable = half(tmp_path / "d")
    uncopyable.unet.register_buffer("made", torch.ones(1, requires_grad=True) * 2)  # torch copies no result
    assert in_float32(uncopyable) is None


@pytest.fixture(scope="module")
def plain() -> Any:
    return load(MINIATURE, device="cpu")


def points(model: Any) -> Tensor:
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return model.codec.encode(images)  # type: ignore[no-any-return]  # any family


def agree(model: Any, plain: Any, tolerance: float) -> None:
    """Compare encodings, denoised points with and without captions, and FLIPD, relative to the largest value."""
    x, wanted_x = points(model), points(plain)
    captions = ["a boot", None, "a coat", None]
    with torch.no_grad():
        pairs = [(x, wanted_x)]
        pairs += [(model.given(captions[:n])(x[:n], SIGMA), plain.given(captions[:n])(x[:n], SIGMA)) for n in (4, 1)]
        pairs += [(model.unconditional(x[:3], SIGMA), plain.unconditional(x[:3], SIGMA))]
    found, wanted = (
        Flipd(1.0, n_probes=2)(each.unconditional, wanted_x, list("abcd")).value for each in (model, plain)
    )
    for got, right in [*pairs, (found, wanted)]:
        assert got.dtype == torch.float32
        assert float((got - right).abs().max()) <= tolerance * float(right.abs().max())


def test_channels_last_changes_rounding_alone(plain: Any) -> None:
    model = load(MINIATURE, device="cpu", channels_last=True)
    assert model.network.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    agree(model, plain, 1e-4)
    assert {**plain.identity, "channels_last": "yes"} == model.identity


@pytest.mark.parametrize("autocast", ["bfloat16", torch.float16])
def test_autocast_keeps_float32_outside_and_rank_inside(plain: Any, autocast: Any) -> None:
    model = load(MINIATURE, device="cpu", autocast=autocast)
    agree(model, plain, 0.1)
    x, keys = points(plain), ["a", "b", "c", "d"]
    with torch.no_grad():
        assert not torch.equal(model.unconditional(x, SIGMA), plain.unconditional(x, SIGMA))
        cast, full = (DenoisingLoss(1.0)(each.unconditional, x, keys).value for each in (model, plain))
    assert torch.equal(cast.argsort(), full.argsort())
    assert model.identity == {**plain.identity, "autocast": str(autocast).removeprefix("torch.")}
    assert not torch.is_autocast_enabled("cpu")
    full_model = in_float32(model)
    assert full_model is not None
    agree(full_model, plain, 1e-4)
    assert full_model.identity == plain.identity


def test_options_that_cannot_be_had_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="bfloat16 or float16"):
        load(MINIATURE, device="cpu", autocast="float32")

    def missing(function: Any) -> Any:
        raise RuntimeError("no working C++ compiler\nand more")

    monkeypatch.setattr(torch, "compile", missing)
    with pytest.raises(ValueError, match=r"no working C\+\+ compiler\).*leave compile out"):
        load(MINIATURE, device="cpu", compiled=True)
    pipelines.dit().save_pretrained(tmp_path / "dit")
    with pytest.raises(ValueError, match="DiT"):
        load(tmp_path / "dit", device="cpu", compiled=True)


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_values(plain: Any) -> None:
    model = load(MINIATURE, device="cpu", compiled=True)
    agree(model, plain, 1e-4)
    assert model.identity == {**plain.identity, "compiled": "yes"}
    assert torch.compiler.is_compiling() is False
