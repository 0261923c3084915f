"""What stands beside a picture: the nearest pictures of a set, its copies, and what a reference says of its dimension.

Nearness is Euclidean distance of portraits (:mod:`pointland.duplicates.portrait`): what a picture looks like at 32 x 32
in gray, whatever its brightness and contrast. It is 0 for a copy, within 0.08 for a JPEG or a shade, and about 1.4 for
pictures that have nothing to do with each other. Pictures that share a part, place for place, are found beside it: a
template with another foreground may be far away as a whole.
"""

import heapq
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from pointland.auditing.sampling import encode, sample_at_random
from pointland.auditing.tasks import tasks_of
from pointland.data.picture import Picture, UnreadablePicture
from pointland.data.source import Images, Source, pictures
from pointland.duplicates import flat, portraits, shared_share, thumbnails
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.metrics.png_size import png_bytes
from pointland.model import Model
from pointland.models.codec import encoded
from pointland.verdict import conformal_p_values

NEAR = 0.08  # portraits of near copies, as in pointland.duplicates
SHARED = 0.5  # of the cells with anything in them
NAMED = 50  # copies named, at most
BLOCK, BATCH = 256, 16
REFERENCE_DRAWS = 8  # of an audit


@dataclass(frozen=True, eq=False)
class Neighbor:
    """One picture of the set.

    Attributes:
        key: Its name there.
        distance: Of portraits; ``None`` if either picture is flat.
        share: Of the thumbnails' cells that agree, in [0, 1].
        exact: Whether its pixels, fitted to the model's size, are the same.
        image: Fitted to the model's size, shape ``(3, h, w)``.
    """

    key: str
    distance: float | None
    share: float
    exact: bool
    image: UInt8[np.ndarray, "3 h w"]

    @property
    def near(self) -> bool:
        """Whether it is a copy: exact, or within 0.08."""
        return self.exact or (self.distance is not None and self.distance <= NEAR)


@dataclass(frozen=True, eq=False)
class Nearest:
    """What a set of pictures holds near one picture, which itself counts if it is in the set.

    Attributes:
        of: Pictures in the set.
        searched: Of them compared: all, or the likeliest of a large set.
        unreadable: Pictures that could not be read.
        pictures: The nearest, nearest first.
        alike: Of the others those that share most of their cells with it, at least half.
        n_exact: Exact copies.
        n_near: Near copies, exact ones included.
        n_alike: Pictures that share at least half of their cells with it, copies included.
        copies: Names of the copies, at most 50.
    """

    of: int
    searched: int
    unreadable: int
    pictures: tuple[Neighbor, ...]
    alike: tuple[Neighbor, ...]
    n_exact: int
    n_near: int
    n_alike: int
    copies: tuple[str, ...]


@dataclass(frozen=True)
class Against:
    """One picture's dimension beside that of pictures which the model never saw.

    Attributes:
        value: Denoising loss without a caption, in dimensions, from 8 draws as the reference's.
        n: Pictures of the reference, exact copies of this one left out.
        n_lower: Of them as low or lower.
        p: Conformal p-value of the dimension.
        low: Lower quartile of the reference, in dimensions.
        median: Its median.
        high: Its upper quartile.
        png_bytes: Size of the picture as PNG.
        png_p: Conformal p-value of that size: small for a picture that is simpler than nearly all of them.
    """

    value: float
    n: int
    n_lower: int
    p: float
    low: float
    median: float
    high: float
    png_bytes: int
    png_p: float


@dataclass(frozen=True, eq=False)
class Generated:
    """The nearest sample that an extraction got in one way of asking.

    Attributes:
        way: How it was asked, for people.
        n: Samples.
        k: Of them given back; ``None`` without enough reference pictures.
        nearest: Calibrated distance of the nearest.
        image: That sample, shape ``(3, h, w)``; ``None`` if its file is gone.
    """

    way: str
    n: int
    k: int | None
    nearest: float
    image: UInt8[np.ndarray, "3 h w"] | None


def nearest_of(
    image: UInt8[np.ndarray, "3 h w"],
    opened: Iterable[tuple[str, Picture | UnreadablePicture]],
    *,
    n: int = 8,
    of: int | None = None,
) -> Nearest:
    """Compare a picture with others, one after another.

    Args:
        image: The picture, fitted to the model's size.
        opened: Names and pictures of that size.
        n: Pictures kept as nearest; half as many as alike.
        of: Pictures in the set, if these are only the likeliest of it.

    Cost:
        Decoding of every picture; memory of a few hundred.
    """
    mine = thumbnails(image[None])
    portrait = portraits(mine)
    near: list[Neighbor] = []
    alike: list[Neighbor] = []
    copies: list[str] = []
    counts = dict.fromkeys(("searched", "unreadable", "n_exact", "n_near", "n_alike"), 0)
    rows = iter(opened)
    while block := list(islice(rows, BLOCK)):
        named = [(key, found.pixels) for key, found in block if isinstance(found, Picture)]
        counts["searched"] += len(named)
        counts["unreadable"] += len(block) - len(named)
        if not named:
            continue
        found = list(_compared(image, mine, portrait, named))
        counts["n_exact"] += sum(one.exact for one in found)
        counts["n_near"] += sum(one.near for one in found)
        counts["n_alike"] += sum(one.near or one.share >= SHARED for one in found)
        copies += [one.key for one in found if one.near][: NAMED - len(copies)]
        near = heapq.nsmallest(n, [*near, *found], key=_far)
        alike = heapq.nlargest(n, [*alike, *(one for one in found if one.share >= SHARED)], key=lambda one: one.share)
    shown = {id(one) for one in near}
    others = [one for one in alike if id(one) not in shown and not one.near]
    return Nearest(
        of=counts["searched"] + counts["unreadable"] if of is None else of,
        pictures=tuple(near),
        alike=tuple(others[: max(1, n // 2)]),
        copies=tuple(copies),
        **counts,
    )


def nearest_in(image: UInt8[np.ndarray, "3 h w"], source: Source, *, n: int = 8) -> Nearest:
    """Compare a picture with all of a source; arguments and cost as :func:`nearest_of`."""
    opened = pictures(source, source.items(), (image.shape[1], image.shape[2]))
    return nearest_of(image, ((item.key, found) for item, found in opened), n=n)


def against(
    model: Model,
    image: UInt8[Tensor, "3 h w"],
    sha256: str,
    reference: Images,
    sigma: float,
    *,
    n: int = 199,
    seed: int = 0,
) -> Against:
    """Compare a picture's dimension with that of pictures never seen, as an audit does for one column.

    Args:
        model: The model.
        image: Of the size that it takes.
        sha256: Of its file, by which draws are keyed and copies are left out.
        reference: Pictures of the same kind that the model never saw.
        sigma: A trained level.
        n: Reference pictures, a random sample.
        seed: Of the sample and the draws.

    Raises:
        ValueError: If no reference picture can be used.

    Cost:
        ``8 (n + 1)`` forward passes.
    """
    found = sample_at_random(tasks_of(reference), model.codec.size, n, seed)
    found = [one for one in found if one.sha256 != sha256 and not np.array_equal(one.pixels, image.numpy())]
    if not found:
        raise ValueError("the reference holds no other picture than this one; give pictures that the model never saw")
    x, keys = encode(model.codec, found, BATCH), [one.sha256 for one in found]
    there = encoded(x).tolist()
    x, keys = x[torch.tensor(there)], [key for key, one in zip(keys, there, strict=True) if one]
    sizes = np.array([png_bytes(one.pixels) for one, usable in zip(found, there, strict=True) if usable], np.float64)
    measure = DenoisingLoss(sigma, REFERENCE_DRAWS, seed)
    parts = range(0, len(x), BATCH)
    values = torch.cat(
        [measure(model.unconditional, x[i : i + BATCH], keys[i : i + BATCH]).value.cpu().double() for i in parts]
    ).numpy()
    whole = np.isfinite(values)
    values, sizes = values[whole], sizes[whole]
    own = float(measure(model.unconditional, model.codec.encode(image[None]), [sha256]).value)
    if not len(values):
        raise ValueError("the model gives no finite value at any reference picture; run it in float32")
    size = png_bytes(image.numpy())
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return Against(
        value=own,
        n=len(values),
        n_lower=int((values <= own).sum()),
        p=float(conformal_p_values(np.array([own]), values)[0]),
        low=low,
        median=median,
        high=high,
        png_bytes=size,
        png_p=float(conformal_p_values(np.array([float(size)]), sizes)[0]),
    )


def as_png(image: UInt8[np.ndarray, "3 h w"]) -> bytes:
    """Return a picture as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _compared(
    image: UInt8[np.ndarray, "3 h w"],
    mine: UInt8[np.ndarray, "1 32 32"],
    portrait: np.ndarray,
    named: list[tuple[str, UInt8[np.ndarray, "3 h w"]]],
) -> Iterator[Neighbor]:
    thumbs = thumbnails(np.stack([pixels for _, pixels in named]))
    theirs = portraits(thumbs)
    distances = np.linalg.norm(theirs.astype(np.float64) - portrait, axis=1)
    plain = flat(theirs) | flat(portrait)
    shares = shared_share(np.repeat(mine, len(thumbs), axis=0), thumbs)
    for (key, pixels), distance, bare, share in zip(named, distances, plain, shares, strict=True):
        same = bool(np.array_equal(pixels, image))
        yield Neighbor(key, None if bare else float(distance), 1.0 if same else float(share), same, pixels)


def _far(one: Neighbor) -> float:
    return -1.0 if one.exact else 9.0 if one.distance is None else one.distance
