"""A census of a data set before any training: copies, data LID and complexity of every picture; no model is needed.

Copies are the common cause of memorization, and low dimension the other: a picture whose neighbourhood in the data has
few dimensions is *data-driven* in the paper's terms, whatever model is trained on it. Three kinds of groups are told
apart:

- *exact*: the same decoded pixels at the file's own size, whatever the file format;
- *near*: portraits (:mod:`pointland.duplicates.portrait`) within a radius, joined in chains; exact copies included;
- *template*: at least half of the picture is the same, place for place (:mod:`pointland.duplicates.templates`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image

from pointland.auditing.rows import portable
from pointland.data.item import Item
from pointland.data.picture import Picture
from pointland.data.source import Images, Source, pictures
from pointland.data.sources import open_source
from pointland.duplicates import content_hash, duplicate_groups, portraits, template_groups, thumbnails
from pointland.lid.data import CensoredLid, censored_hill, nearest, nearest_among, rounding_floor
from pointland.lid.data.neighbor_cells import import_faiss
from pointland.metrics.near_copies import perceptual_hash
from pointland.metrics.png_size import png_bytes
from pointland.model import Codec

SCHEMA_VERSION = 1
SIDE = 32  # pictures are 3 x 32 x 32 where they are compared
BATCH = 64
QUERIES = 2048
NOTHING = np.empty((3, 0, 0), np.uint8)
KINDS = ("exact", "near", "template")
Search = Literal["sample", "index"]
Points = NDArray[np.uint8] | NDArray[np.float32]


class Group(NamedTuple):
    """One group of copies.

    Attributes:
        kind: ``exact``, ``near`` or ``template``.
        number: As in the rows.
        keys: Its pictures.
    """

    kind: str
    number: int
    keys: list[str]


class Census(NamedTuple):
    """What is known of a data set.

    Attributes:
        rows: One row a picture, by key; those that could not be read have a ``reason`` and nothing else.
        groups: Every group, largest first within its kind.
        summary: Counts, quartiles and settings.
    """

    rows: pa.Table
    groups: list[Group]
    summary: dict[str, Any]


class Read(NamedTuple):
    """The pictures that could be read.

    Attributes:
        keys: Their names.
        content: A name of each one's decoded content.
        hashes: Perceptual hashes.
        small: RGB at 32 x 32.
        columns: What of each one goes into the rows as it is.
        latents: Points of the model's space, if a codec was given.
        failed: Reasons by key for the others.
    """

    keys: list[str]
    content: list[str]
    hashes: list[str]
    small: UInt8[np.ndarray, "n 3 32 32"]
    columns: list[dict[str, object]]
    latents: Float[np.ndarray, "n d"] | None
    failed: dict[str, str]


def census(
    images: Images,
    *,
    codec: Codec | None = None,
    size: int = 32,
    k: int = 20,
    radius: float = 0.08,
    share: float = 0.5,
    search: Search = "sample",
    neighbors_in: int = 20_000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Census:
    """Take the census of a folder of pictures.

    Args:
        images: The folder, searched recursively.
        codec: Measure data LID also in a model's space; pictures are then fitted to its size.
        size: Height and width that pictures are fitted to, for the PNG size and the hash.
        k: Neighbours of the data LID (censored Hill).
        radius: Of near copies; see :func:`~pointland.duplicates.groups.duplicate_groups`.
        share: Of the picture that members of a template group share.
        search: Where the neighbours of the data LID are looked for: in a random ``sample``, exactly, or in all pictures
            through an ``index`` (FAISS), whose recall is measured and in the summary. Groups are looked for in all.
        neighbors_in: Pictures in the sample at most, since the exact search costs a square.
        seed: Of the sample and the searches.
        progress: Called with pictures read and in all.

    Raises:
        ImportError: If ``search`` is ``index`` and FAISS is not installed.
        ValueError: If the folder cannot be read, no picture can, or there are not more than ``k`` pictures.

    Cost:
        Reading; ``n log n`` for groups; for data LID ``n`` times the sample, or less than ``n^2``, by how much depends
        on the dimension of the data (:func:`~pointland.lid.data.neighbor_shards.nearest_among`).
    """
    if search not in get_args(Search):
        raise ValueError(f"search is one of {', '.join(get_args(Search))}, got {search}")
    if search == "index":
        import_faiss()
    read = read_pictures(open_source(images), (size, size) if codec is None else codec.size, codec, progress)
    n = len(read.keys)
    if n <= k:
        raise ValueError(f"{n} pictures can be read, data LID needs more than its k = {k} neighbours; pass a lower k")
    thumbs = np.concatenate([thumbnails(read.small[s : s + 1024]) for s in range(0, n, 1024)])
    vectors = np.concatenate([portraits(thumbs[s : s + 1024]) for s in range(0, n, 1024)])
    found = duplicate_groups(read.content, read.hashes, vectors, radius=radius, seed=seed)
    numbers = {"exact": found.exact, "near": found.near, "template": template_groups(thumbs, share=share, seed=seed)}
    sizes = {kind: np.bincount(of[of >= 0], minlength=1) for kind, of in numbers.items()}
    lid_of = indexed_lid if search == "index" else partial(sampled_lid, neighbors_in=neighbors_in)
    measured = {"lid": lid_of(read.small.reshape(n, -1), k, seed, scale=255.0)}
    if read.latents is not None:
        measured["lid_latent"] = lid_of(read.latents, k, seed)
    lids = {name: one.lid for name, one in measured.items()}
    rows: list[dict[str, object]] = []
    for i, key in enumerate(read.keys):
        row: dict[str, object] = {"key": portable(key), **read.columns[i]}
        for kind, of in numbers.items():
            row[f"{kind}_group"] = int(of[i]) if of[i] >= 0 else None
            row[f"n_{kind}"] = int(sizes[kind][of[i]]) if of[i] >= 0 else 1
        row["flat"] = bool(found.flat[i])
        for name, lid in lids.items():
            row |= {name: float(lid.value[i]), f"{name}_low": float(lid.low[i]), f"{name}_high": float(lid.high[i])}
        rows.append(row)
    rows += [{"key": portable(key), "reason": reason} for key, reason in read.failed.items()]
    groups = [group for kind, of in numbers.items() for group in _groups(kind, of, read.keys)]
    settings: dict[str, object] = {
        "size": size,
        "k": k,
        "radius": radius,
        "share": share,
        "search": search,
        "neighbors_in": neighbors_in,
        "seed": seed,
    }
    neighbors = {name: one.search for name, one in measured.items()}
    spaces = {"lid": f"pixels 3 x {SIDE} x {SIDE}"} | ({} if codec is None else {"lid_latent": codec.space})
    table = _table(sorted(rows, key=lambda row: str(row["key"])), list(lids))
    return Census(table, groups, _summary(table, groups, int(found.crowded.sum()), spaces, neighbors, settings))


def read_pictures(
    source: Source,
    size: tuple[int, int],
    codec: Codec | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Read:
    """Read pictures one by one and keep what they are compared by.

    Args:
        source: The pictures.
        size: Height and width that they are fitted to for PNG size.
        codec: Of a model, to keep latents too.
        progress: Called with how many are done and how many there are.

    Raises:
        ValueError: If none can be read.
    """
    items = source.items()
    keys: list[str] = []
    opened: list[tuple[Item, Picture, str]] = []
    hashes, small, columns, failed = [], [], [], {}
    latents: list[NDArray[np.float32]] = []
    waiting: list[NDArray[np.uint8]] = []
    for done, (item, picture) in enumerate(pictures(source, items, size), 1):
        if not isinstance(picture, Picture):
            failed[item.key] = str(picture)
        else:
            pixels = picture.pixels
            keys.append(item.key)
            opened.append((item, picture._replace(pixels=NOTHING), content_hash(pixels)))
            hashes.append(perceptual_hash(pixels))
            small.append(shrunk(pixels))
            columns.append(
                {
                    "width": picture.width,
                    "height": picture.height,
                    "sha256": picture.sha256,
                    "perceptual_hash": hashes[-1],
                    "png_bytes": png_bytes(pixels),
                }
            )
            if codec is not None:
                waiting.append(pixels)
        if codec is not None and waiting and (len(waiting) == BATCH or done == len(items)):
            latents.append(_encoded(codec, waiting))
            waiting = []
        if progress is not None:
            progress(done, len(items))
    if codec is not None and waiting:
        latents.append(_encoded(codec, waiting))
    if not keys:
        raise ValueError(f"none of the {len(items)} pictures can be read; the last reason was {[*failed.values()][-1]}")
    return Read(
        keys,
        _contents(source, opened, size),
        hashes,
        np.stack(small),
        columns,
        np.concatenate(latents) if latents else None,
        failed,
    )


def shrunk(pixels: UInt8[np.ndarray, "3 h w"]) -> UInt8[np.ndarray, "3 32 32"]:
    """Return a picture at 32 x 32 (Lanczos).

    Args:
        pixels: RGB, shape ``(3, h, w)``.
    """
    if pixels.shape[1:] == (SIDE, SIDE):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return np.array(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)).transpose(2, 0, 1)


class DataLids(NamedTuple):
    """Data LID at every point.

    Attributes:
        lid: By censored Hill.
        search: How its neighbours were found: ``among`` so many points; through an index also ``recall``, the share of
            the true ones found, ``recall_stderr``, ``recall_n``, and how many ``shards`` and ``exact_shards``.
    """

    lid: CensoredLid
    search: dict[str, int | float]


def sampled_lid(points: Points, k: int, seed: int, *, neighbors_in: int, scale: float = 1.0) -> DataLids:
    """Estimate the data LID at every point from its neighbours in a random sample of the points.

    Args:
        points: One row a picture.
        k: Neighbours.
        seed: Of the sample.
        neighbors_in: Pictures in the sample, at most.
        scale: The points are divided by it; other than 1 it means whole numbers, whose rounding is the noise floor.
    """
    n, d = points.shape
    chosen = np.arange(n)
    if n > neighbors_in:
        chosen = np.sort(np.random.default_rng(seed).choice(n, neighbors_in, replace=False))
    reference = _scaled(points[chosen], scale)
    own = np.full(n, -1)
    own[chosen] = np.arange(len(chosen))
    parts = [
        censored_hill(
            nearest(_scaled(points[s : s + QUERIES], scale), reference, k, exclude=own[s : s + QUERIES]),
            _floor(d, scale),
        )
        for s in range(0, n, QUERIES)
    ]
    lid = CensoredLid(*(np.concatenate([part[i] for part in parts]) for i in range(len(CensoredLid._fields))))
    return DataLids(lid, {"among": len(chosen)})


def indexed_lid(points: Points, k: int, seed: int, *, scale: float = 1.0) -> DataLids:
    """Estimate the data LID at every point from its neighbours among all points, found through an index.

    Args:
        points: One row a picture.
        k: Neighbours.
        seed: Of the index.
        scale: The points are divided by it; other than 1 it means whole numbers, whose rounding is the noise floor.
    """
    n, d = points.shape
    found = nearest_among(lambda rows: _scaled(points[rows], scale), n, k, seed=seed)
    recall = {"recall": found.recall.value, "recall_stderr": found.recall.stderr, "recall_n": found.recall.n}
    search = {"among": n, "shards": found.n_shards, "exact_shards": found.n_exact, **recall}
    return DataLids(censored_hill(found.neighbors, _floor(d, scale)), search)


def _scaled(points: Points, scale: float) -> NDArray[np.float32]:
    return np.asarray(points.astype(np.float32) / np.float32(scale))


def _floor(d: int, scale: float) -> float:
    """Return the noise floor: that of rounding where whole numbers were scaled."""
    return rounding_floor(d) if scale != 1 else 0.0


def _groups(kind: str, of: NDArray[np.int64], keys: list[str]) -> list[Group]:
    """List the groups of one kind, largest first."""
    order = np.argsort(of, kind="stable")
    order = order[of[order] >= 0]
    if not len(order):
        return []
    parts = np.split(order, np.flatnonzero(np.diff(of[order])) + 1)
    found = [Group(kind, number, [portable(keys[i]) for i in part]) for number, part in enumerate(parts)]
    return sorted(found, key=lambda group: -len(group.keys))


def _encoded(codec: Codec, pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    import torch

    from pointland.models.codec import check_encoded

    points = check_encoded(codec.encode(torch.from_numpy(np.stack(pictures)))).flatten(1)
    return np.asarray(points.float().cpu().numpy(), dtype=np.float32)


def _contents(source: Source, opened: Sequence[tuple[Item, Picture, str]], size: tuple[int, int]) -> list[str]:
    """Name the content of every picture: fitted pixels first, all pixels where those of different files agree."""
    names = [f"{picture.width} x {picture.height} {fitted}" for _, picture, fitted in opened]
    first: dict[str, str] = {}
    several = set()
    for name, (_, picture, _) in zip(names, opened, strict=True):
        if first.setdefault(name, picture.sha256) != picture.sha256:
            several.add(name)
    for i, (item, picture, _) in enumerate(opened):
        if names[i] in several and (picture.height, picture.width) != size:
            _, whole = next(pictures(source, [item], (picture.height, picture.width)))
            names[i] = content_hash(whole.pixels) if isinstance(whole, Picture) else picture.sha256
    return names


def _table(rows: list[dict[str, object]], lids: list[str]) -> pa.Table:
    fields = [
        ("key", pa.string()),
        *((name, pa.int64()) for name in ("width", "height")),
        *((name, pa.string()) for name in ("sha256", "perceptual_hash")),
        ("png_bytes", pa.int64()),
        *((name, pa.int64()) for kind in KINDS for name in (f"{kind}_group", f"n_{kind}")),
        ("flat", pa.bool_()),
        *((f"{name}{end}", pa.float64()) for name in lids for end in ("", "_low", "_high")),
        ("reason", pa.string()),
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def _summary(
    table: pa.Table,
    groups: list[Group],
    crowded: int,
    spaces: dict[str, str],
    neighbors: dict[str, dict[str, int | float]],
    settings: dict[str, object],
) -> dict[str, Any]:
    failed = table["reason"].drop_null()
    kinds = {}
    for kind in KINDS:
        sizes = [len(group.keys) for group in groups if group.kind == kind]
        kinds[kind] = {"groups": len(sizes), "pictures": sum(sizes), "largest": max(sizes, default=0)}
    numbers = [name for name in ("png_bytes", *spaces) if name in table.column_names]
    quartiles = {}
    for name in numbers:
        values = np.array(table[name].drop_null().to_pylist(), dtype=np.float64)
        quartiles[name] = np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist()
    return {
        "schema_version": SCHEMA_VERSION,
        "n": table.num_rows,
        "n_failed": len(failed),
        **kinds,
        "flat": sum(table["flat"].drop_null().to_pylist()),
        "crowded": crowded,
        "quartiles": quartiles,
        "spaces": spaces,
        "neighbors": neighbors,
        "settings": settings,
    }
