r"""Walks on the model's manifold: the pictures that a model lets one turn into, and those that it does not.

From a point ``x`` a step of length :math:`s \sigma \sqrt d` is taken along a tangent direction ``v``, and the denoiser
of scale :math:`\sigma` is applied ``n`` times:

.. math:: y(s) = D^n(x + s \sigma \sqrt d \, v; \sigma), \qquad \|v\| = 1 .

A step of ``s = 1`` is as long as the noise of that scale, :math:`\mathbb{E} \|\sigma n\|^2 = \sigma^2 d`: it changes a
coordinate by :math:`\sigma` in root mean square, whatever the picture and the number of dimensions. To first order
:math:`y(s) - y(0) = s \sigma \sqrt d \, J^n v`, so what is left of a step along an eigenvector is its eigenvalue to the
``n``: along the manifold, near 1, the walk goes somewhere; a memorized point takes every step back.

What a walk did is measured against :math:`y(0)`, the same denoising without a step, and not against the picture:
denoising alone moves a point of a wide manifold towards the middle of what is likely there.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pointland.denoiser import Denoiser, per_item
from pointland.explanation.tangent import Tangent, TangentDirections
from pointland.lid.flipd import check_sigma
from pointland.lid.spectrum import Sides
from pointland.model import Model
from pointland.models.codec import check_encoded

REACH = 1.0
N_DENOISE = 12


class Walk(NamedTuple):
    """Walks from points along directions.

    Attributes:
        still: The points denoised without a step, shape ``(b, *event)``.
        points: After each step, denoised, shape ``(n, s, b, *event)``.
    """

    still: Float[Tensor, "b *event"]
    points: Float[Tensor, "n s b *event"]


def walk(
    denoise: Denoiser,
    x: Float[Tensor, "b *event"],
    directions: Float[Tensor, "n b *event"],
    steps: Float[Tensor, " s"],
    sigma: Float[Tensor, "#b"],
    *,
    n_denoise: int = N_DENOISE,
) -> Walk:
    """Step along every direction, and denoise; see the module's head.

    Args:
        denoise: The model, already conditioned.
        x: Points in model space, shape ``(b, *event)``, not noised.
        directions: Unit vectors, shape ``(n, b, *event)``.
        steps: Lengths in units of ``sigma sqrt(d)``, of either sign, shape ``(s,)``.
        sigma: Noise scale in model-space units, positive; one value or one per item.
        n_denoise: How often the denoiser is applied.

    Raises:
        ValueError: If ``sigma`` or ``n_denoise`` is not positive.

    Cost:
        ``n_denoise (1 + n s)`` forward passes of the batch.
    """
    check_sigma(sigma)
    if n_denoise < 1:
        raise ValueError(f"a walk denoises at least once, got n_denoise {n_denoise}")
    unit = per_item(sigma, x) * x[0].numel() ** 0.5

    def denoised(point: Float[Tensor, "b *event"]) -> Float[Tensor, "b *event"]:
        for _ in range(n_denoise):
            point = denoise(point, sigma)
        return point

    with torch.no_grad():
        rows = [torch.stack([denoised(x + step * unit * v) for step in steps.to(x)]) for v in directions]
        return Walk(denoised(x), torch.stack(rows))


def steps_of(n: int, reach: float = REACH) -> tuple[float, ...]:
    """Return ``n - 1`` even steps from ``-reach`` to ``reach``, without the 0 in their middle.

    Raises:
        ValueError: If ``n`` is even or below 3, or ``reach`` is not positive and finite.

    Example:
        >>> steps_of(5)
        (-1.0, -0.5, 0.5, 1.0)
    """
    if n < 3 or n % 2 == 0:
        raise ValueError(f"a walk takes an odd number of steps, 3 or more, with no step in the middle; got {n}")
    if not 0 < reach < math.inf:
        raise ValueError(f"the reach of a walk must be positive and finite, got {reach}")
    half = n // 2
    return tuple(reach * i / half for i in range(-half, half + 1) if i)


@dataclass(frozen=True, eq=False)
class PictureWalk:
    """The walk of one picture, decoded.

    Attributes:
        image: The picture, shape ``(3, h, w)``.
        still: It after denoising without a step.
        pictures: After each step, shape ``(n, s, 3, h, w)``.
        stepped: The mean difference of a pixel that the steps alone make, decoded and not denoised, shape ``(n, s)``.
        steps: Lengths in units of ``sigma sqrt(d)``, without 0.
        sigma: The scale.
        tangent: The directions with their eigenvalues, of one item.
        evaluations: Forward passes, a vjp counted as one.
    """

    image: UInt8[Tensor, "3 h w"]
    still: UInt8[Tensor, "3 h w"]
    pictures: UInt8[Tensor, "n s 3 h w"]
    stepped: Float[Tensor, "n s"]
    steps: tuple[float, ...]
    sigma: float
    tangent: Tangent
    evaluations: int

    @property
    def change(self) -> Float[Tensor, "n s"]:
        """Mean difference of a pixel from ``still``, in gray levels of 255, a direction and step."""
        return _difference(self.pictures, self.still)

    @property
    def kept(self) -> float:
        """Share of the steps' own change that denoising leaves: near 0 at a memorized point.

        NaN where the steps are too short to change a pixel.
        """
        return float(self.change.mean() / self.stepped.mean())

    @property
    def drift(self) -> float:
        """Mean difference of a pixel between ``still`` and the picture: what denoising alone does."""
        return float(_difference(self.still, self.image))

    @property
    def free(self) -> int:
        """How many of the directions looked at have an eigenvalue above 1/2."""
        return int((self.tangent.values > 0.5).sum())


@dataclass(frozen=True)
class Walking:
    """Walks of pictures with their settings.

    Attributes:
        sigma: Noise scale in model-space units, at or above the model's lowest trained level.
        n_directions: Leading tangent directions.
        n_steps: Pictures a direction, an odd number; the one in the middle takes no step.
        reach: The longest step, in units of ``sigma sqrt(d)``.
        n_denoise: How often the denoiser is applied.
        n_blocks: Lanczos blocks of the tangent directions.
        seed: Of their first block.
        sides: Which Jacobian products.
    """

    sigma: float
    n_directions: int = 8
    n_steps: int = 7
    reach: float = REACH
    n_denoise: int = N_DENOISE
    n_blocks: int = 6
    seed: int = 0
    sides: Sides = "one"

    def __call__(
        self, model: Model, image: UInt8[Tensor, "3 h w"], key: str, caption: str | None = None
    ) -> PictureWalk:
        """Walk from one picture.

        Args:
            model: The model.
            image: Of the size that the model takes.
            key: Its stable identifier, on which the random block depends.
            caption: The caption to walk under; none by default.

        Raises:
            ValueError: If the picture cannot be encoded, sigma is outside the model's levels, the model takes no
                captions and one is given, or a setting is out of range.

        Cost:
            With ``n`` directions ``n_blocks (n + 4)`` vjps and ``n n_denoise n_steps`` forward passes, in batches of
            ``n``; decoding beside them. By default 72 and 672.
        """
        steps = steps_of(self.n_steps, self.reach)
        sigma = model.levels.nearest(self.sigma).sigma
        x = check_encoded(model.codec.encode(image[None]))
        find = TangentDirections(sigma, self.n_directions, n_steps=self.n_blocks, seed=self.seed, sides=self.sides)
        found = find(model.given([caption]), x, [key])
        n = self.n_directions
        # every direction is an item of one batch, from the same point
        level, lengths = torch.tensor([sigma], dtype=x.dtype, device=x.device), torch.tensor(steps)
        origins, along = x.expand(n, *x.shape[1:]), found.directions.transpose(0, 1)
        went = walk(model.given([caption] * n), origins, along, lengths, level, n_denoise=self.n_denoise)
        decode = model.codec.decode
        pictures = torch.stack([decode(points) for points in went.points[0]], dim=1)
        unit = sigma * x[0].numel() ** 0.5
        plain = decode(x)[0]
        stepped = torch.stack([_difference(decode(origins + s * unit * along[0]), plain) for s in steps], dim=1)
        still = decode(went.still[:1])[0]
        vjps = found.products * (2 if self.sides == "both" else 1)
        cost = vjps + self.n_denoise * n * (1 + len(steps))
        return PictureWalk(image.cpu(), still.cpu(), pictures.cpu(), stepped.cpu(), steps, sigma, found, cost)


def _difference(images: UInt8[Tensor, "*n 3 h w"], other: UInt8[Tensor, "3 h w"]) -> Float[Tensor, "*n"]:
    return (images.float() - other.float()).abs().mean((-3, -2, -1))
