r"""Sampling for extraction, along the probability flow :math:`dx / d\sigma = (x - D(x; \sigma)) / \sigma`.

Where a sample starts is the *way* in which a picture is asked for:

=============  =====================================================================================================
way            start
=============  =====================================================================================================
``caption``    pure noise, guided by the picture's caption
``free``       pure noise, no caption: the same samples for every picture
``partial``    the picture under so much noise that little of it is left, no caption
``cyclic``     the same, and then noised and denoised again a few times, towards where the model is drawn
=============  =====================================================================================================

Sources: Carlini et al. 2023 (captions, and none), Wen et al. 2024 (guidance), Verma et al. 2026 (cycles). Steps are
Euler's on trained levels evenly spaced in ratio, the deterministic DDIM of Song et al. 2021.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from pointland import draws
from pointland.denoiser import Denoiser, guided
from pointland.metrics.crossing import ladder
from pointland.model import Model

Way = Literal["caption", "free", "partial", "cyclic"]
"""Where the samples start that ask a model for a picture; see :func:`sample`."""
WAYS: tuple[Way, ...] = get_args(Way)
"""All of :data:`Way`."""


def sample(
    model: Model,
    x: Float[Tensor, "b *event"],
    captions: Sequence[str | None],
    keys: Sequence[str],
    way: Way,
    draw: int,
    *,
    sigma: float,
    guidance: float = 7.5,
    steps: int = 25,
    cycles: int = 4,
    seed: int = 0,
) -> Float[Tensor, "b *event"]:
    """Return one sample for every picture, in model space.

    Args:
        model: The model.
        x: The pictures in model space; ``caption`` and ``free`` take only their shape.
        captions: One a picture, for ``caption``.
        keys: What the draws are keyed by.
        way: How it is asked for, see above.
        draw: Number of the draw: another one is another seed.
        sigma: Noise of ``partial`` and ``cyclic``.
        guidance: Scale of classifier-free guidance under a caption; 1 is none.
        steps: Steps of a sample.
        cycles: Noisings of ``cyclic``.
        seed: Of all draws.

    Cost:
        ``steps`` network calls; twice as many under guidance, ``cycles`` times for ``cyclic``.
    """
    noise = draws.normal(x, keys, 1, seed, start=draw)[0]
    top = float(model.levels.sigmas[-1])
    if way == "caption":
        conditional = model.given(captions)
        denoise = conditional if guidance == 1 else guided(conditional, model.unconditional, guidance)
        return denoised_along(denoise, top * noise, path(model, top, steps))
    if way == "free":
        return denoised_along(model.unconditional, top * noise, path(model, top, steps))
    for cycle in range(cycles if way == "cyclic" else 1):
        fresh = noise if not cycle else draws.normal(x, keys, 1, seed, start=1000 * cycle + draw)[0]
        x = denoised_along(model.unconditional, x + sigma * fresh, path(model, sigma, steps))
    return x


def path(model: Model, sigma: float, steps: int) -> list[float]:
    """Return the levels of a sample from ``sigma`` down, and 0 after the lowest."""
    low = float(model.levels.sigmas[0])
    if sigma <= low:
        raise ValueError(
            f"sigma {sigma:.4g} is not above the model's lowest trained level {low:.4g}; pass a higher one"
        )
    return [*ladder(model.levels, low, sigma, max(2, steps))[::-1], 0.0]


def denoised_along(
    denoise: Denoiser, x: Float[Tensor, "b *event"], levels: Sequence[float]
) -> Float[Tensor, "b *event"]:
    """Follow the probability flow from the first level to the last, by Euler steps."""
    with torch.no_grad():
        for now, then in pairwise(levels):
            x = x + (then - now) / now * (x - denoise(x, x.new_tensor([now])))
    return x
