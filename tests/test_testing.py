import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from pointland import exact, testing
from pointland.denoiser import Denoiser, per_item
from pointland.model import Model
from pointland.noise import Levels
from pointland.testing import NotConformant, check_denoiser, check_model

Exact = exact.Circle | exact.Gaussian | exact.Mixture | exact.Points
PLANE = exact.subspace(d=6, k=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [[0.3], [0.1, 0.3, 0.1, 0.6]])
def test_exact_models_conform(exact_model: Exact, dtype: torch.dtype, sigma: list[float]) -> None:
    x = exact_model.sample(4, dtype=dtype)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-11}[dtype]  # rounding of the dtype, sums in another order
    check_denoiser(exact_model, x, torch.tensor(sigma), tolerance=tolerance, vanishing=1e-3)


def test_a_square_batch_conforms() -> None:
    check_denoiser(PLANE, PLANE.sample(6), torch.tensor([0.3]))


def batch_norm(x: Tensor, sigma: Tensor) -> Tensor:
    return PLANE(x, sigma) - 0.01 * x.mean(0)


def neighbors(x: Tensor, sigma: Tensor) -> Tensor:
    return PLANE(x, sigma) + 0.01 * x.roll(1, 0)


def order(x: Tensor, sigma: Tensor) -> Tensor:
    return PLANE(x, sigma) + 0.01 * torch.arange(len(x)).to(x)[:, None]


def noisy(x: Tensor, sigma: Tensor) -> Tensor:
    return PLANE(x, sigma) + 1e-6 * torch.randn_like(x)


def other_dtype(x: Tensor, sigma: Tensor) -> Tensor:
    return PLANE(x, sigma).to(torch.float64)


def rounded(x: Tensor, sigma: Tensor) -> Tensor:
    return PLANE(x, sigma).to(torch.bfloat16)


def in_place(x: Tensor, sigma: Tensor) -> Tensor:
    denoised = PLANE(x, sigma)
    x.mul_(0.5)
    return denoised


def sigma_in_place(x: Tensor, sigma: Tensor) -> Tensor:
    denoised = PLANE(x, sigma)
    sigma.clamp_(max=0.2)
    return denoised


def first_sigma(x: Tensor, sigma: Tensor) -> Tensor:
    return PLANE(x, sigma[:1])


def mean_sigma(x: Tensor, sigma: Tensor) -> Tensor:
    return PLANE(x, sigma.mean()[None])


def sigma_on_the_last_axis(x: Tensor, sigma: Tensor) -> Tensor:
    return x / (1 + sigma**2)


def one_sigma_only(x: Tensor, sigma: Tensor) -> Tensor:
    return PLANE(x, torch.full_like(sigma, sigma.item()))


def sigma_per_item_only(x: Tensor, sigma: Tensor) -> Tensor:
    return PLANE(x, torch.stack([sigma[i] for i in range(len(x))]))


def more_channels(x: Tensor, sigma: Tensor) -> Tensor:
    return torch.cat([PLANE(x, sigma), x], dim=1)


def dropped_axis(x: Tensor, sigma: Tensor) -> Tensor:
    return PLANE(x, sigma)[:, 0]


def overflows(x: Tensor, sigma: Tensor) -> Tensor:
    return PLANE(x, sigma) * torch.where(x == x.max(), torch.inf, 1.0)


def grad_mode(x: Tensor, sigma: Tensor) -> Tensor:
    torch.set_grad_enabled(False)
    return PLANE(x, sigma)


def grad_on(x: Tensor, sigma: Tensor) -> Tensor:
    torch.set_grad_enabled(True)
    return PLANE(x, sigma)


def attention_flag(x: Tensor, sigma: Tensor) -> Tensor:
    torch.backends.cuda.enable_flash_sdp(False)
    return PLANE(x, sigma)


def predicts_noise(x: Tensor, sigma: Tensor) -> Tensor:
    return (x - PLANE(x, sigma)) / per_item(sigma, x)


def wrong_sign(x: Tensor, sigma: Tensor) -> Tensor:
    return 2 * x - PLANE(x, sigma)


def identity(x: Tensor, sigma: Tensor) -> Tensor:
    return x.clone()


def raises(x: Tensor, sigma: Tensor) -> Tensor:
    raise RuntimeError("no kernel")


BROKEN: list[tuple[Callable[[Tensor, Tensor], Tensor], str]] = [
    (batch_norm, "batch independence"),
    (neighbors, "batch independence"),
    (order, "batch independence"),
    (noisy, "determinism"),
    (other_dtype, "dtype"),
    (rounded, "dtype"),
    (in_place, "input"),
    (sigma_in_place, "input"),
    (first_sigma, "batch independence"),
    (mean_sigma, "batch independence"),
    (sigma_on_the_last_axis, "batch independence"),
    (one_sigma_only, "call"),
    (sigma_per_item_only, "sigma"),
    (more_channels, "shape"),
    (dropped_axis, "shape"),
    (overflows, "finite"),
    (grad_mode, "process"),
    (grad_on, "process"),
    (attention_flag, "process"),
    (predicts_noise, "denoises"),
    (wrong_sign, "denoises"),
    (identity, "denoises"),
    (raises, "call"),
]


@pytest.fixture
def flags() -> Iterator[None]:
    """Give the process its flags back."""
    flash, grad = torch.backends.cuda.flash_sdp_enabled(), torch.is_grad_enabled()  # type: ignore[no-untyped-call]
    yield
    torch.backends.cuda.enable_flash_sdp(flash)
    torch.set_grad_enabled(grad)


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize(("denoise", "law"), BROKEN, ids=[denoise.__name__ for denoise, _ in BROKEN])
def test_each_broken_denoiser_fails_with_its_law(denoise: Denoiser, law: str) -> None:
    with pytest.raises(NotConformant) as caught:
        check_denoiser(denoise, PLANE.sample(6), torch.tensor([0.3]))  # as many items as coordinates
    assert caught.value.law == law, caught.value
    assert f"law '{law}' is broken: " in str(caught.value)
    assert "; look at " in str(caught.value)


def test_batch_norm_in_train_mode_is_found() -> None:
    norm = nn.BatchNorm1d(6)
    with pytest.raises(NotConformant, match=r"batch independence|determinism|raised ValueError"):
        check_denoiser(lambda x, sigma: norm(PLANE(x, sigma)).detach(), PLANE.sample(6), torch.tensor([0.3]))


def test_a_model_blind_to_vanishing_noise_is_found() -> None:
    def shrinks(x: Tensor, sigma: Tensor) -> Tensor:
        return 0.9 * PLANE(x, sigma)

    x = PLANE.sample(4)
    check_denoiser(shrinks, x, torch.tensor([0.5]))
    with pytest.raises(NotConformant, match=r"vanishing noise.*0\.001"):
        check_denoiser(shrinks, x, torch.tensor([0.5]), vanishing=1e-3)


def test_one_item_cannot_be_checked() -> None:
    with pytest.raises(ValueError, match="at least two items"):
        check_denoiser(PLANE, PLANE.sample(1), torch.tensor([0.5]))


@dataclass(frozen=True)
class Pixels:
    """Pixels from -1 to 1."""

    size: tuple[int, int] = (4, 4)
    space: str = "pixels 3 x 4 x 4"

    def encode(self, images: Tensor) -> Tensor:
        return images.float() / 127.5 - 1

    def decode(self, x: Tensor) -> Tensor:
        return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


class Net(nn.Module):
    """A convolution that hears one number of the caption."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor, sigma: Tensor, words: Tensor) -> Tensor:
        s = per_item(sigma, x)
        heard: Tensor = self.conv(x) + per_item(words, x)
        return heard / (1 + s)


@dataclass(frozen=True)
class Small:
    """A model with random weights that takes captions."""

    codec: Pixels = Pixels()
    conditional: bool = True
    net: Net = field(default_factory=Net)
    levels: Levels = field(default_factory=lambda: Levels(torch.logspace(-2, 2, 40, dtype=torch.float64)))

    @property
    def identity(self) -> dict[str, str]:
        weights = b"".join(value.detach().numpy().tobytes() for value in self.net.parameters())
        return {"class": "Small", "weights": hashlib.sha256(weights).hexdigest()}

    @property
    def unconditional(self) -> Denoiser:
        return lambda x, sigma: self.net(x, sigma, x.new_zeros(1))

    def is_cut(self, caption: str) -> bool:
        return self.conditional and len(caption) > 77

    def given(self, captions: Sequence[str | None]) -> Denoiser:
        if not self.conditional and any(caption is not None for caption in captions):
            raise ValueError("this model takes no captions")
        words = torch.tensor([0.1 * len(caption or "") for caption in captions])
        return lambda x, sigma: self.net(x, sigma, words)


IMAGES = torch.randint(0, 256, (4, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_a_good_model_conforms_and_is_left_alone(conditional: bool, n: int) -> None:
    model = Small(conditional=conditional)
    dict(model.net.named_parameters())["conv.bias"].requires_grad_(False)
    model.net.conv.eval()
    check_model(model, IMAGES[:n])
    assert model.net.training
    assert not model.net.conv.training
    assert [value.requires_grad for value in model.net.parameters()] == [True, False]
    assert torch.equal(model.codec.decode(model.codec.encode(IMAGES)), IMAGES)


class RandomCodec(Pixels):
    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images) + 1e-3 * torch.randn(images.shape)


class DoubleCodec(Pixels):
    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images).double()


class BatchCodec(Pixels):
    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images) - super().encode(images).mean(0)


class FloatCodec(Pixels):
    def decode(self, x: Tensor) -> Tensor:
        return super().decode(x).float()


class CroppingCodec(Pixels):
    def decode(self, x: Tensor) -> Tensor:
        return super().decode(x)[..., :-1]


class WritingCodec(Pixels):
    def encode(self, images: Tensor) -> Tensor:
        images[:] = images // 2
        return super().encode(images)


class IgnoresNone(Small):
    def given(self, captions: Sequence[str | None]) -> Denoiser:
        return super().given([caption or "a picture" for caption in captions])


class PadsToTheLongest(Small):
    def given(self, captions: Sequence[str | None]) -> Denoiser:
        longest = max(len(caption or "") for caption in captions)
        return super().given([caption and caption.ljust(longest) for caption in captions])


class FirstCaptionForAll(Small):
    def given(self, captions: Sequence[str | None]) -> Denoiser:
        return super().given([captions[0]] * len(captions))


class TakesAnyCaption(Small):
    def given(self, captions: Sequence[str | None]) -> Denoiser:
        return super().given([None] * len(captions))


class Freezes(Small):
    def given(self, captions: Sequence[str | None]) -> Denoiser:
        self.net.requires_grad_(False)
        return super().given(captions)


class Evals(Small):
    @property
    def unconditional(self) -> Denoiser:
        plain = super().unconditional

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            self.net.eval()
            return plain(x, sigma)

        return denoise


class CutsNothing(Small):
    def is_cut(self, caption: str) -> bool:
        return caption == ""


class NoHash(Small):
    @property
    def identity(self) -> dict[str, str]:
        return {"class": "Small"}


def descending() -> Small:
    model = Small()
    object.__setattr__(model.levels, "sigmas", model.levels.sigmas.flip(0))
    return model


class Dropout(Small):
    @property
    def unconditional(self) -> Denoiser:
        plain = super().unconditional
        return lambda x, sigma: nn.functional.dropout(plain(x, sigma), 0.1)


BROKEN_MODELS: list[tuple[Small, str]] = [
    (replace(Small(), codec=RandomCodec()), "codec"),
    (replace(Small(), codec=DoubleCodec()), "codec"),
    (replace(Small(), codec=BatchCodec()), "codec"),
    (replace(Small(), codec=FloatCodec()), "codec"),
    (replace(Small(), codec=CroppingCodec()), "codec"),
    (replace(Small(), codec=WritingCodec()), "codec"),
    (IgnoresNone(), "captions"),
    (PadsToTheLongest(), "captions"),
    (FirstCaptionForAll(), "captions"),
    (TakesAnyCaption(), "captions"),
    (TakesAnyCaption(conditional=False), "captions"),
    (Freezes(), "state"),
    (Evals(), "state"),
    (CutsNothing(), "captions"),
    (NoHash(), "identity"),
    (descending(), "levels"),
    (Dropout(), "determinism"),
]


@pytest.mark.parametrize(
    ("model", "law"),
    BROKEN_MODELS,
    ids=[f"{type(model).__name__}-{type(model.codec).__name__}-{law}" for model, law in BROKEN_MODELS],
)
def test_each_broken_model_fails_with_its_law(model: Small, law: str) -> None:
    with pytest.raises(NotConformant) as caught:
        check_model(model, IMAGES.clone())
    assert caught.value.law == law, caught.value


def test_missing_members_are_named() -> None:
    @dataclass
    class Half:
        codec: Pixels
        conditional: bool = False

    # the run-time type check of the tests would stop check_model itself before its own message
    with pytest.raises(
        NotConformant, match=r"protocol.*the model lacks given, identity, is_cut, levels, unconditional"
    ):
        testing._check_members(Half(Pixels()), Model, "model")


def test_images_of_another_size_are_the_caller_s_mistake() -> None:
    with pytest.raises(ValueError, match="resize"):
        check_model(Small(), IMAGES[..., :2])
    with pytest.raises(ValueError, match="two images"):
        check_model(Small(), IMAGES[:1])
