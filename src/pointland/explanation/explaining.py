"""Everything about one picture that this package can say: one function, one record.

Each part is a measurement of its own module; here they are made of one picture, at one scale, with and without its
caption, so that they can be read together. A part that cannot be had says why.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pointland import draws
from pointland.auditing.measure import choose_sigma
from pointland.data.picture import Picture, UnreadablePicture, read_picture
from pointland.data.source import Images
from pointland.data.sources import open_source
from pointland.denoiser import Denoiser, per_item
from pointland.duplicates import content_hash
from pointland.explanation.curve import PictureCurve, levels_for
from pointland.explanation.evidence import Against, Generated, Nearest, against, nearest_in
from pointland.explanation.explanation import Explanation, FromRun, Number, Side, SigmaFrom
from pointland.explanation.lid_map import averaged
from pointland.explanation.walk import Walking
from pointland.lid.denoising_loss import from_losses
from pointland.lid.estimate import LidEstimate
from pointland.lid.flipd import Flipd
from pointland.lid.places import check_grid, residual_by_place
from pointland.lid.plateau import LidCurve
from pointland.lid.scale import PAPER_SIGMA
from pointland.model import Model, PromptedModel
from pointland.models.codec import check_encoded
from pointland.prompts import Attribution, Freedom, attribute, guidance_norm, words_of
from pointland.prompts.attribution import text_encoders

N_PROBES, CURVE_DRAWS, WORD_DRAWS = 4, 8, 4
TOGETHER = 8  # draws in one call of the network


def explain(
    model: Model,
    image: Path | str | UInt8[Tensor, "3 h w"],
    *,
    caption: str | None = None,
    train: Images | None = None,
    reference: Images | None = None,
    sigma: float | Literal["auto", "paper"] = "auto",
    n_draws: int = 32,
    n_directions: int = 8,
    n_reference: int = 199,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Explanation:
    """Say everything about one picture: LIDs, map, walk, spectrum, curve, nearest pictures, words of the caption.

    Args:
        model: The model.
        image: A picture file, or pixels of the model's size.
        caption: Measure under this caption as well as without one.
        train: Pictures that the model was trained on, a folder or another source: the nearest are shown, and copies.
        reference: Pictures of the same kind that it never saw: without them there is no verdict.
        sigma: The scale, in model-space units; ``auto`` is an audit's choice on a sample of ``train``, else of
            ``reference``, else the paper's.
        n_draws: Of the denoising loss and its map.
        n_directions: Tangent directions of spectrum and walk; 0 leaves both out.
        n_reference: Reference pictures measured, at most.
        seed: Of every draw.
        progress: Called with the name of each part as it begins.

    Raises:
        FileNotFoundError: If there is no such file, or nothing at ``train`` or ``reference``.
        ValueError: If the picture cannot be decoded or encoded, the model takes no captions and one is given, sigma is
            outside the trained levels, or a setting is out of range.

    Cost:
        A condition: ``n_draws + 5`` evaluations, 104 for the curve, ``6 (n + 4) + 84 n`` for ``n`` directions; with a
        reference ``8 (n_reference + 1)``, and 4 passes at 9 levels of 64 pictures to choose sigma. Words: about ``20
        + 8 w`` for ``w`` words. ``train`` is decoded once.
    """
    _check(model, caption, n_draws, n_directions)
    name, found = _opened(model, image)
    tell = progress or (lambda _: None)
    pictures = None if train is None else open_source(train)
    tell("sigma")
    level, chosen = _scale(model, sigma, pictures if pictures is not None else reference, seed)
    verdict = None
    if reference is not None:
        tell("reference")
        pixels = torch.from_numpy(found.pixels)
        verdict = against(model, pixels, found.sha256, reference, level, n=n_reference, seed=seed)
    nearest = None
    if pictures is not None:
        tell("nearest pictures")
        nearest = nearest_in(found.pixels, pictures)
    return measured(
        model,
        found,
        name,
        caption,
        sigma=level,
        sigma_from=chosen,
        n_draws=n_draws,
        n_directions=n_directions,
        seed=seed,
        verdict=verdict,
        nearest=nearest,
        progress=progress,
    )


def measured(
    model: Model,
    picture: Picture,
    name: str,
    caption: str | None,
    *,
    sigma: float,
    sigma_from: SigmaFrom,
    n_draws: int = 32,
    n_directions: int = 8,
    seed: int = 0,
    verdict: Against | FromRun | None = None,
    nearest: Nearest | None = None,
    generated: Sequence[Generated] = (),
    progress: Callable[[str], None] | None = None,
) -> Explanation:
    """Measure a picture and join what is known of it already; arguments, errors and cost as :func:`explain`.

    Args:
        model: The model.
        picture: Fitted to its size.
        name: For people.
        caption: As there.
        sigma: A trained level.
        sigma_from: Who chose it.
        n_draws: As there.
        n_directions: As there.
        seed: As there.
        verdict: What a reference or an audit says.
        nearest: What the training pictures hold near it.
        generated: What an extraction gave.
        progress: As there.
    """
    tell = progress or (lambda _: None)
    image = torch.from_numpy(picture.pixels)
    x = check_encoded(model.codec.encode(image[None]))
    grid = x.ndim == 4
    losses: dict[str, Tensor] = {}
    sides: dict[str, Side] = {}
    spent = 0
    for what, text in (("without a caption", None), ("under the caption", caption))[: 1 if caption is None else 2]:
        tell(f"dimensions {what}")
        losses[what] = _losses(model, x, picture.sha256, text, sigma, n_draws, seed)
        bound = model.given([text])
        tell(f"curve {what}")
        curve = _curve(model, x, picture.sha256, text, sigma, seed)
        went, cost = None, 0
        if n_directions:
            tell(f"walk {what}")
            n = min(n_directions, x[0].numel())
            went = Walking(sigma, n, seed=seed)(model, image, picture.sha256, text)
            cost = went.evaluations
        sides[what] = Side(
            _number(from_losses(losses[what].reshape(n_draws, -1).sum(1, keepdim=True))),
            _number(Flipd(sigma, N_PROBES, seed)(bound, x, [picture.sha256])),
            averaged(losses[what][:, None]) if grid else None,
            went,
            curve,
        )
        spent += n_draws + 1 + N_PROBES + CURVE_DRAWS * len(curve.loss.sigmas) + cost
    pair = list(losses.values())
    if caption is not None:
        tell("words of the caption")
    words, no_words = _words(model, caption, seed)
    return Explanation(
        name=name,
        sha256=picture.sha256,
        image=image,
        caption=caption,
        is_cut=caption is not None and model.is_cut(caption),
        model=dict(model.identity),
        d=x[0].numel(),
        sigma=sigma,
        sigma_from=sigma_from,
        n_draws=n_draws,
        seed=seed,
        without=sides["without a caption"],
        under=sides.get("under the caption"),
        frozen=averaged((pair[0] - pair[1])[:, None]) if grid and len(pair) == 2 else None,
        no_map=None if grid else _no_map(x),
        verdict=verdict,
        nearest=nearest,
        generated=tuple(generated),
        words=words,
        words_by="freedom" if getattr(model, "distilled", False) else "guidance",
        no_words=no_words,
        evaluations=spent,
    )


def _check(model: Model, caption: str | None, n_draws: int, n_directions: int) -> None:
    if caption is not None and not model.conditional:
        raise ValueError(f"{model.identity['name']} takes no captions; leave the caption out")
    if n_draws < 1 or n_directions < 0:
        raise ValueError(f"got {n_draws} draws and {n_directions} directions; expected at least 1 and 0")


def _opened(model: Model, image: Path | str | Tensor) -> tuple[str, Picture]:
    size = model.codec.size
    if isinstance(image, Tensor):
        if tuple(image.shape) != (3, *size) or image.dtype != torch.uint8:
            raise ValueError(f"pixels of shape {tuple(image.shape)} were given; expected uint8 of {(3, *size)}")
        pixels = image.cpu().numpy()
        return "picture", Picture(pixels, content_hash(pixels), size[1], size[0])
    path = Path(image)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; give one picture to explain")
    try:
        return path.name, read_picture(path, size)
    except UnreadablePicture as error:
        raise ValueError(f"{path}: {error}") from error


def _scale(
    model: Model, sigma: float | Literal["auto", "paper"], like: Images | None, seed: int
) -> tuple[float, SigmaFrom]:
    if isinstance(sigma, float | int):
        return model.levels.nearest(float(sigma)).sigma, "given"
    if sigma not in ("auto", "paper"):
        raise ValueError(f"sigma {sigma!r} is neither a number nor one of auto, paper")
    if sigma == "paper" or like is None:
        return model.levels.nearest(PAPER_SIGMA).sigma, "paper"
    return model.levels.nearest(choose_sigma(model, like, "resolution", seed=seed).sigma).sigma, "resolution"


def _losses(
    model: Model, x: Float[Tensor, "1 *event"], key: str, caption: str | None, sigma: float, n: int, seed: int
) -> Float[Tensor, "n *place"]:
    """Return the terms of the denoising loss: a draw and place on a grid, a draw elsewhere."""
    noises = draws.normal(x, [key], n, seed)[:, 0]
    level = x.new_tensor([sigma])
    found = []
    with torch.no_grad():
        for part in torch.split(noises, TOGETHER):
            denoise: Denoiser = model.given([caption] * len(part))
            denoised = denoise(x + per_item(level, x) * part, level)
            if x.ndim == 4:
                found.append(residual_by_place(denoised, x.expand_as(part), level))
            else:
                found.append(((denoised - x) / sigma).square().flatten(1).sum(1))
    return torch.cat(found).cpu()


def _curve(
    model: Model, x: Float[Tensor, "1 *event"], key: str, caption: str | None, sigma: float, seed: int
) -> PictureCurve:
    """Measure as :func:`~pointland.explanation.curve.lid_curve` does, all draws of a scale in one call."""
    sigmas = sorted({*levels_for(model.levels), sigma})
    found = [
        from_losses(_losses(model, x, key, caption, one, CURVE_DRAWS, seed).reshape(CURVE_DRAWS, -1).sum(1, True))
        for one in sigmas
    ]
    columns = (torch.stack(part) for part in list(zip(*found, strict=True))[:4])
    return PictureCurve(LidCurve(torch.tensor(sigmas), *columns), None, sigma, x[0].numel())


def _number(found: LidEstimate) -> Number:
    return Number(float(found.value), float(found.stderr))


def _no_map(x: Tensor) -> str:
    try:
        check_grid(x)
    except ValueError as error:
        return str(error)
    raise AssertionError("a grid has a map")


def _words(model: Model, caption: str | None, seed: int) -> tuple[Attribution | None, str | None]:
    """Score the words of the caption, or say why they have no score."""
    if caption is None:
        return None, "no caption was given"
    if not isinstance(model, PromptedModel):
        return None, f"{model.identity['class']} does not show what its captions become"
    if not dict(text_encoders(model)):
        return None, f"no text encoder was found in {model.identity['class']}"
    if not any(word.positions for word in words_of(model, caption)):
        return None, "the caption has no word that the model reads"
    if getattr(model, "distilled", False):  # no difference of two predictions there: what the words leave free
        return attribute(model, caption, Freedom(), memorized_when="low", n_draws=WORD_DRAWS, seed=seed), None
    return attribute(model, caption, guidance_norm, n_draws=WORD_DRAWS, seed=seed), None
