"""Conformance checks for denoisers and models written elsewhere: the laws that every estimator relies on.

An estimator may put any points in one batch, ask twice, and give every item its own noise scale. So a denoiser must
treat items alone (no batch statistics), be a function (no randomness inside), keep shape and dtype, and leave its
input, the process's flags and the user's module as they were. The exception says which law was broken and by how much.
"""

import re
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from pointland import draws
from pointland.denoiser import Denoiser
from pointland.model import Codec, Model
from pointland.noise import Levels

FLAGS: dict[str, Callable[[], object]] = {
    "the grad mode": torch.is_grad_enabled,
    "the default dtype": torch.get_default_dtype,
    "the flash attention flag": torch.backends.cuda.flash_sdp_enabled,
    "the memory-efficient attention flag": torch.backends.cuda.mem_efficient_sdp_enabled,
    "the math attention flag": torch.backends.cuda.math_sdp_enabled,
}


class NotConformant(Exception):  # noqa: N818  # it names a state of the thing checked, not a failure of the check
    """A denoiser or model breaks a law; the message names the law, the figures and what to look at."""

    def __init__(self, law: str, found: str, look_at: str) -> None:
        super().__init__(f"law {law!r} is broken: {found}; look at {look_at}")
        self.law = law


def check_denoiser(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    sigma: Float[Tensor, "#b"],
    *,
    tolerance: float = 1e-4,
    vanishing: float | None = None,
) -> None:
    """Check that a denoiser keeps every law that the estimators rely on.

    Args:
        denoise: What to check.
        x: Clean points that it knows, at least two and different, shape ``(b, *event)``.
        sigma: Noise scales that it was trained at; one per item, at least two different. Given one value, every second
            item is tried at twice the scale.
        tolerance: Largest difference between two ways to ask the same thing, relative to the largest denoised value.
            ``1e-4`` suits float32 networks; half precision needs about ``1e-2``.
        vanishing: A scale far below the detail of the data, at which clean points must come back to within that scale
            (root mean square). Left out, this law is not checked.

    Raises:
        NotConformant: If a law is broken.
        ValueError: If there are fewer than two items.

    Cost:
        About ``10 + 2 b`` forward passes of up to ``b`` items.

    Example:
        >>> from pointland import exact
        >>> plane = exact.subspace(d=20, k=5)
        >>> check_denoiser(plane, plane.sample(4), torch.tensor([0.3]), vanishing=0.001)
    """
    scales = _two_scales(x, sigma)
    noised = x + _noise(x, scales)
    _check_contract(denoise, noised, scales, tolerance)
    left = (_ask(denoise, noised, scales, "denoises") - x).square().mean().sqrt().item()
    added = (noised - x).square().mean().sqrt().item()
    if not left < added:
        found = f"root mean square error {left:.4g} after denoising, {added:.4g} before"
        raise NotConformant(
            "denoises", found, "the prediction type, the sign of the noise and the map from sigma to time"
        )
    if vanishing is not None:
        moved = (_ask(denoise, x, x.new_full((1,), vanishing), "vanishing noise") - x).square().mean().sqrt().item()
        if not moved <= vanishing:
            found = f"at sigma {vanishing:.4g} clean points move by {moved:.4g} (root mean square)"
            raise NotConformant(
                "vanishing noise", found, "the scaling of input and output, and whether x is clean data"
            )


def check_model(
    model: Model,
    images: UInt8[Tensor, "b 3 h w"],
    *,
    captions: Sequence[str] = ("a photograph of a cat", "two red chairs, oil on canvas"),
    tolerance: float = 1e-4,
) -> None:
    """Check that a model keeps the laws of :class:`~pointland.model.Model` and that its denoisers keep theirs.

    Whether it denoises well is not checked, so a network with random weights passes.

    Args:
        model: What to check.
        images: Pictures of the size that its codec takes, at least two and different.
        captions: Captions it understands, at least two and different.
        tolerance: As in :func:`check_denoiser`.

    Raises:
        NotConformant: If a law is broken.
        ValueError: If there are fewer than two images, or captions for a model that takes them.

    Cost:
        About ``30 + 4 b`` forward passes.
    """
    _check_members(model, Model, "model")
    if len(images) < 2:
        raise ValueError(f"checking takes at least two images, got {len(images)}")
    before = _state(model)
    x = _check_codec(model.codec, images, tolerance)
    scales = _check_levels(model.levels, x)
    _check_contract(model.unconditional, x + _noise(x, scales), scales, tolerance)
    _check_captions(model, x + _noise(x, scales), scales, captions, tolerance)
    _check_identity(model)
    changed = [name for name, was in before.items() if _state(model).get(name) != was]
    if changed:
        look_at = "calls of train(), eval(), requires_grad_() and to(); the model belongs to the user"
        raise NotConformant("state", f"{len(changed)} modules or parameters changed, first {changed[0]}", look_at)


def _check_contract(denoise: Denoiser, x: Tensor, scales: Tensor, tolerance: float) -> None:
    """Check the laws that hold for any denoiser, trained or not."""
    given, given_scales = x.clone(), scales.clone()
    denoised = _ask(denoise, x, scales, "call")
    if not (torch.equal(x, given) and torch.equal(scales, given_scales)):
        raise NotConformant(
            "input", "x or sigma was modified in place", "operations that end in _ and slices assigned to"
        )
    _ask(denoise, x, scales, "call", grad=True)
    if denoised.shape != x.shape:
        found = f"x has shape {tuple(x.shape)} and denoised {tuple(denoised.shape)}"
        raise NotConformant("shape", found, "learned variance channels, and padding that is not cut off")
    if denoised.dtype != x.dtype:
        found = f"x is {x.dtype} and denoised {denoised.dtype}"
        raise NotConformant("dtype", found, "the cast of the network's output; denoised_from does it")
    if denoised.device != x.device:
        raise NotConformant(
            "device", f"x is on {x.device} and denoised on {denoised.device}", "where constants are made"
        )
    if not bool(denoised.isfinite().all()):
        bad = int((~denoised.isfinite()).sum())
        raise NotConformant(
            "finite", f"{bad} of {denoised.numel()} values are not finite", "overflow in half precision"
        )

    def agree(law: str, way: str, other: Tensor, wanted: Tensor, look_at: str, limit: float = tolerance) -> None:
        gap = _gap(other, wanted, float(denoised.detach().abs().max()))
        if not gap <= limit:
            raise NotConformant(law, f"{way} differs by {gap:.3g} of the largest value, {limit:.3g} allowed", look_at)

    again = _ask(denoise, x, scales, "determinism")
    agree("determinism", "the same call again", again, denoised, "randomness inside, dropout, train mode", 0.0)
    batch = "batch statistics (BatchNorm in train mode), reductions over axis 0, and attention across items"
    for i in range(len(x)):
        alone = _ask(denoise, x[i : i + 1], scales[i : i + 1], "batch independence")
        agree("batch independence", f"item {i} alone", alone, denoised[i : i + 1], batch)
    turned = _ask(denoise, x.flip(0), scales.flip(0), "batch independence").flip(0)
    agree("batch independence", "the batch in reverse order", turned, denoised, batch)
    broadcast = "how sigma broadcasts: it belongs to axis 0, per_item() gives it the other axes"
    for scale in sorted(set(scales.tolist())):
        one = _ask(denoise, x, x.new_full((1,), scale), "sigma")
        every = _ask(denoise, x, x.new_full((len(x),), scale), "sigma")
        agree("sigma", f"one value {scale:.4g}, rather than that value for every item,", one, every, broadcast)
        mine = scales == scale
        agree("sigma", f"sigma {scale:.4g} beside other scales", denoised[mine], every[mine], broadcast)


def _check_members(thing: object, protocol: type, word: str) -> None:
    missing = [name for name in dir(protocol) if not name.startswith("_") and name not in dir(thing)]
    if missing:
        raise NotConformant("protocol", f"the {word} lacks {', '.join(missing)}", f"{protocol.__module__}")


def _check_codec(codec: Codec, images: Tensor, tolerance: float) -> Tensor:
    _check_members(codec, Codec, "codec")
    if tuple(codec.size) != tuple(images.shape[2:]):
        raise ValueError(f"the codec takes {codec.size} pixels, got images of {tuple(images.shape[2:])}; resize them")
    given = images.clone()
    x = codec.encode(images)
    if not torch.equal(images, given):
        raise NotConformant("codec", "encode modified the images in place", "operations that end in _")
    if x.dtype != torch.float32 or len(x) != len(images) or not bool(x.isfinite().all()):
        found = f"encode gave {x.dtype} of shape {tuple(x.shape)} for {len(images)} images, or values not finite"
        raise NotConformant("codec", found, "the cast after the encoder: points are finite float32, one an image")
    if not torch.equal(x, codec.encode(images)):
        raise NotConformant("codec", "encoding twice gave two answers", "sampling of the posterior; take its mode")
    for i in range(len(images)):
        gap = _gap(codec.encode(images[i : i + 1]), x[i : i + 1], float(x.abs().max()))
        if not gap <= tolerance:
            raise NotConformant("codec", f"image {i} alone differs by {gap:.3g}", "batch statistics in the encoder")
    back = codec.decode(x)
    if back.dtype != torch.uint8 or back.shape != images.shape:
        found = f"decode gave {back.dtype} of shape {tuple(back.shape)} for images of {tuple(images.shape)}"
        raise NotConformant("codec", found, "the last step of decode: rounded, clamped, uint8, three channels")
    return x


def _check_levels(levels: Levels, x: Tensor) -> Tensor:
    """Check that levels ascend, and return two trained ones, in turn for every item."""
    sigmas = levels.sigmas
    if len(sigmas) == 0 or not bool((sigmas > 0).all()) or not bool((sigmas.diff() > 0).all()):
        raise NotConformant("levels", "noise levels do not ascend from above zero", "levels_from_alphas")
    two = sigmas[[len(sigmas) // 4, len(sigmas) // 2]].to(x)
    return two.repeat(len(x))[: len(x)]


def _check_captions(model: Model, x: Tensor, scales: Tensor, captions: Sequence[str], tolerance: float) -> None:
    b = len(x)
    without = _ask(model.unconditional, x, scales, "captions")
    size = float(without.detach().abs().max())

    def agree(way: str, other: Tensor, wanted: Tensor, look_at: str) -> None:
        gap = _gap(other, wanted, size)
        if not gap <= tolerance:
            raise NotConformant("captions", f"{way} differs by {gap:.3g} of the largest value", look_at)

    nothing = _ask(model.given([None] * b), x, scales, "captions")
    agree("given([None, ...]), rather than unconditional,", nothing, without, "what None is turned into")
    if model.is_cut(""):
        raise NotConformant(
            "captions", "an empty caption counts as cut", "is_cut, and the start and end tokens it counts"
        )
    if not model.conditional:
        try:
            model.given(["a caption"] * b)
        except ValueError:
            return
        raise NotConformant("captions", "a model without captions accepted one", "given(), which must raise ValueError")
    if len(set(captions)) < 2:
        raise ValueError(f"checking takes at least two different captions, got {list(captions)}")
    bound = [captions[i % len(captions)] for i in range(b)]
    together = _ask(model.given(bound), x, scales, "captions")
    if torch.equal(together, without):
        raise NotConformant("captions", "captions change nothing", "whether the network is given them")
    padding = "padding and attention masks of the text, and the order of captions"
    for i in range(b):
        alone = _ask(model.given(bound[i : i + 1]), x[i : i + 1], scales[i : i + 1], "captions")
        agree(f"caption {i} alone", alone, together[i : i + 1], padding)
    mixed = _ask(model.given([c if i % 2 else None for i, c in enumerate(bound)]), x, scales, "captions")
    agree("a caption beside None", mixed[1::2], together[1::2], padding)
    agree("None beside a caption", mixed[0::2], without[0::2], "what None is turned into")


def _check_identity(model: Model) -> None:
    identity = dict(model.identity)
    if not any(re.fullmatch("(sha256:)?[0-9a-f]{64}", value) for value in identity.values()):
        raise NotConformant(
            "identity", f"no SHA-256 among {identity}", "identity: 64 lower-case hex digits over the weights"
        )
    if dict(model.identity) != identity:
        raise NotConformant(
            "identity", "it changed between two readings", "times, paths and object ids; leave them out"
        )


def _two_scales(x: Tensor, sigma: Tensor) -> Tensor:
    if len(x) < 2:
        raise ValueError(f"checking takes at least two items, got {len(x)}")
    if len(sigma) == len(x):
        return sigma.to(x)
    return sigma.to(x) * torch.tensor([1.0, 2.0]).to(x).repeat(len(x))[: len(x)]


def _noise(x: Tensor, scales: Tensor) -> Tensor:
    unit = draws.normal(x, [f"check {i}" for i in range(len(x))], n=1, seed=0)[0]
    return unit * scales.reshape(-1, *(1,) * (x.ndim - 1))


def _ask(denoise: Denoiser, x: Tensor, sigma: Tensor, law: str, *, grad: bool = False) -> Tensor:
    with torch.set_grad_enabled(grad):
        before = {name: read() for name, read in FLAGS.items()}
        try:
            denoised = denoise(x, sigma)
        except Exception as error:
            found = f"x {tuple(x.shape)}, sigma {tuple(sigma.shape)} raised {type(error).__name__}: {error}"
            raise NotConformant(law, found, "shapes it assumes; sigma has one value or one per item") from error
        changed = ", ".join(name for name, read in FLAGS.items() if read() != before[name])
    if changed:
        raise NotConformant("process", f"the call changed {changed}", "process-wide setters; scope them by a context")
    return denoised


def _gap(other: Tensor, wanted: Tensor, size: float) -> float:
    if other.shape != wanted.shape:
        return float("inf")
    return float((other - wanted).detach().abs().max()) / max(size, 1e-30)


def _state(model: object) -> dict[str, object]:
    """Return mode, gradient flag, dtype and device of every module reachable through attributes, two steps deep."""
    found: dict[str, object] = {}
    for module_name, module in _modules(model, "model", steps=2):
        for name, part in module.named_modules():
            found[f"{module_name}.{name} mode"] = part.training
        for name, value in module.named_parameters():
            found[f"{module_name}.{name}"] = (value.requires_grad, value.dtype, value.device)
    return found


def _modules(thing: object, name: str, steps: int) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(thing, nn.Module):
        yield name, thing
    elif steps:
        for key, value in getattr(thing, "__dict__", {}).items():
            yield from _modules(value, f"{name}.{key}", steps - 1)
