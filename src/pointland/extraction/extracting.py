"""Extraction: for the most suspicious pictures of a run, does the model give them back?

Every picture is asked for in several ways and with several seeds (:mod:`pointland.extraction.sampling`), and so are
pictures that the model never saw, the run's reference: how near samples come to *those* says what chance and likeness
do. A picture counts as given back by a sample that is nearer to it than any but the share asked for (``rate``) of
reference pictures ever comes to its own. Without a reference there are distances and no counts.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image

from pointland.auditing import directory
from pointland.auditing.derived import without_overlap
from pointland.auditing.directory import Run
from pointland.data.folder import Folder
from pointland.data.picture import Picture, picture_or_reason
from pointland.data.source import in_order
from pointland.data.sources import reopened
from pointland.extraction.comparing import calibrated_distances, conformal_p, smallest_by_chance
from pointland.extraction.masks import template_masks
from pointland.extraction.sampling import WAYS, Way, sample
from pointland.model import Model
from pointland.models.codec import check_encoded
from pointland.report import summarize
from pointland.report.extracted import TABLE
from pointland.samples.descriptors import Descriptor, Pixels
from pointland.verdict import clopper_pearson

FOLDER = "extraction"
BATCH, POOL = 32, 2000
LARGEST = 64  # side in pixels that pictures are compared at unless a descriptor is given
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "way", "part", "reason")),
        *((name, pa.int64()) for name in ("n", "k")),
        *((name, pa.float64()) for name in ("share", "low", "high", "nearest", "threshold", "p", "compared")),
        ("file", pa.string()),
    ]
)


class Pictures(NamedTuple):
    """Pictures of a run as they are needed here."""

    keys: list[str]
    captions: list[str | None]
    hashes: list[str]
    pixels: NDArray[np.uint8]
    vectors: NDArray[np.float32]


def extract(
    run_folder: Path | str,
    model: Model,
    *,
    top: int = 50,
    seeds: int = 16,
    ways: Sequence[str] = ("caption", "partial"),
    guidance: float = 7.5,
    steps: int = 25,
    cycles: int = 4,
    sigma: float | None = None,
    rate: float = 0.01,
    controls: int = 200,
    descriptor: Descriptor | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Ask the model for the most suspicious pictures of a run, and write what it gives into the run's directory.

    Args:
        run_folder: A run of this model.
        model: The model that was audited.
        top: Pictures, from the most suspicious down; copies of one picture count once.
        seeds: Samples a picture and way.
        ways: See :mod:`pointland.extraction.sampling`; ``caption`` only where there is one.
        guidance: Scale of classifier-free guidance under the caption.
        steps: Steps of a sample.
        cycles: Of the way ``cyclic``.
        sigma: Noise of ``partial`` and ``cyclic``; by default twice the pictures' standard deviation in model space.
        rate: Share of pictures never seen that may count as given back.
        controls: Reference pictures that are asked for too, at most; counting needs at least ``1 / rate - 1``.
        descriptor: What samples are compared by; by default pixels, at most 64 a side. Pixels alone can compare parts.
        seed: Of all draws.
        progress: Called with samples made and in all.

    Returns:
        One row a picture, way and part (``whole``, or ``template`` where the picture belongs to a group that shares
        most of its pixels): ``k`` of ``n`` samples with an exact 95 % interval, the nearest calibrated distance, the
        threshold, a conformal p-value, and the file of the nearest sample. Also in ``extraction.parquet``.

    Raises:
        ValueError: If the run is of another model, ``ways`` names an unknown one, or nothing can be compared.

    Cost:
        ``(top + controls) * seeds * steps`` network evaluations a way, twice as many under guidance; ``free`` samples
        ``top * seeds`` times and compares all with every picture.
    """
    folder = Path(run_folder)
    run = directory.read_run(folder)
    directory.check_pictures(run)
    run, _ = without_overlap(run)
    asked = _check(run, model, ways, seeds)
    made = Pixels(min(max(model.codec.size), LARGEST)) if descriptor is None else descriptor
    chosen = read(run, _suspicious(run, top), "audited", model, made)
    never_seen = read(run, _first(run, "reference", controls), "reference", model, made)
    pool = read(run, _first(run, "audited", POOL), "audited", model, made)
    if not chosen.keys:
        raise ValueError(f"none of the pictures of {folder} can be read any more; put them back where they were")
    others = np.concatenate([those.vectors for those in (pool, never_seen) if those.keys])
    hashes = [*pool.hashes, *never_seen.hashes]
    masks = _masks(chosen, pool, made.side) if isinstance(made, Pixels) else None
    n = len(chosen.keys)
    total, done = seeds * sum(n if way == "free" else n + len(never_seen.keys) for way in asked), 0
    (folder / FOLDER).mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = []

    def tick(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(done, total)

    for way in asked:
        settings: dict[str, Any] = {"guidance": guidance, "steps": steps, "cycles": cycles, "seed": seed}
        settings["sigma"] = _partial_sigma(model, chosen) if sigma is None else sigma
        given = _samples(model, chosen, way, seeds, settings, tick)
        vectors = _described(made, given)
        if way == "free":  # one set of samples, compared with every picture
            shared, flat = given.reshape(1, -1, *given.shape[2:]), vectors.reshape(1, -1, vectors.shape[2])
            given = np.broadcast_to(shared, (n, *shared.shape[1:]))
            vectors = np.broadcast_to(flat, (n, *flat.shape[1:]))
            chance = np.broadcast_to(flat, (len(never_seen.keys), *flat.shape[1:]))
        else:
            chance = _described(made, _samples(model, never_seen, way, seeds, settings, tick))
        nulls: dict[bytes, NDArray[np.float64]] = {}
        for i, key in enumerate(chosen.keys):
            if way == "caption" and chosen.captions[i] is None:
                rows.append(_row(key, way, "whole", reason="it has no caption"))
                continue
            for part, mask in _parts(masks, i):
                name = b"" if mask is None else mask.tobytes()
                if name not in nulls:
                    nulls[name] = _by_chance(chance, never_seen, others, hashes, way, mask)
                apart = others[[other != chosen.hashes[i] for other in hashes]]
                distances = calibrated_distances(vectors[i], chosen.vectors[i], apart, mask=mask)
                file = _save(folder, given[i][int(distances.argmin())], key, way, part)
                share = 1.0 if mask is None else float(mask.mean())
                rows.append(_counted(key, way, part, distances, nulls[name], rate, share, file))
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    directory.write_table(folder / TABLE, table)
    return table


def read(run: Run, places: Sequence[int], role: str, model: Model, descriptor: Descriptor) -> Pictures:
    """Read pictures of a run, fitted to the model's size; those that are gone are left out."""
    found: list[tuple[dict[str, Any], Picture, Picture]] = []
    rows = run.rows.take(pa.array(places, pa.int64())).to_pylist()
    source = reopened(run.record["data"][role], run.folder) if rows else Folder(run.folder)
    asked = sorted(range(len(rows)), key=lambda i: in_order(rows[i]["file"]))
    opened = dict(zip(asked, source.open([rows[i]["file"] for i in asked]), strict=True))
    for i, row in enumerate(rows):
        fitted, described = (picture_or_reason(opened[i], size) for size in (model.codec.size, descriptor.size))
        if isinstance(fitted, Picture) and isinstance(described, Picture):
            found.append((row, fitted, described))
    if not found:
        nothing: NDArray[np.uint8] = np.empty((0, 3, *model.codec.size), np.uint8)
        return Pictures([], [], [], nothing, np.empty((0, 0), np.float32))
    return Pictures(
        [row["key"] for row, _, _ in found],
        [row["caption"] for row, _, _ in found],
        [row["sha256"] for row, _, _ in found],
        np.stack([fitted.pixels for _, fitted, _ in found]),
        np.asarray(descriptor(np.stack([described.pixels for _, _, described in found]))),
    )


def _check(run: Run, model: Model, ways: Sequence[str], seeds: int) -> tuple[Way, ...]:
    recorded, loaded = run.record["model"].get("weights_sha256"), model.identity.get("weights_sha256")
    if recorded != loaded:
        raise ValueError(
            f"{run.folder} is a run of {run.record['model'].get('name')} with other weights than the model given "
            f"({model.identity.get('name')}); give the model that was audited, with its LoRA if it had one"
        )
    known = tuple(way for way in WAYS if way in ways)
    if len(known) != len(set(ways)) or not ways:
        raise ValueError(f"ways {list(ways)}: expected some of {', '.join(WAYS)}")
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}, expected at least 1")
    if list(ways) == ["caption"] and not model.conditional:
        raise ValueError(f"{model.identity.get('name')} takes no captions; ask in another way: {', '.join(WAYS[1:])}")
    return known


def _suspicious(run: Run, top: int) -> list[int]:
    """Return the rows of the ``top`` most suspicious pictures, one a content."""
    order = [row["key"] for row in summarize(run)["rows"]]
    keys, hashes, roles = (run.rows[name].to_pylist() for name in ("key", "sha256", "role"))
    place = {key: i for i, key in enumerate(keys) if roles[i] == "audited"}
    once = {hashes[place[key]]: place[key] for key in reversed(order) if key in place}
    return [place[key] for key in order if key in place and once[hashes[place[key]]] == place[key]][:top]


def _first(run: Run, role: str, n: int) -> list[int]:
    """Return the first rows of a role, one a content."""
    hashes, roles = (run.rows[name].to_pylist() for name in ("sha256", "role"))
    mine = [i for i, its in enumerate(roles) if its == role]
    return list({hashes[i]: i for i in reversed(mine)}.values())[::-1][:n]


def _masks(chosen: Pictures, pool: Pictures, side: int) -> NDArray[np.bool_]:
    """Return where every chosen picture agrees with its template group, among all that were read, a row a picture."""
    images = (np.concatenate([chosen.vectors, pool.vectors]) * 255).round().astype(np.uint8)
    masks = template_masks(images.reshape(-1, 3, side, side))[: len(chosen.keys)]
    return np.repeat(masks[:, None], 3, axis=1).reshape(len(masks), -1)


def _parts(masks: NDArray[np.bool_] | None, i: int) -> list[tuple[str, NDArray[np.bool_] | None]]:
    whole: list[tuple[str, NDArray[np.bool_] | None]] = [("whole", None)]
    return whole if masks is None or masks[i].all() else [*whole, ("template", masks[i])]


def _partial_sigma(model: Model, pictures: Pictures) -> float:
    """Return twice the pictures' standard deviation in model space, within the trained levels."""
    x = check_encoded(model.codec.encode(torch.from_numpy(pictures.pixels)))
    low, high = float(model.levels.sigmas[1]), float(model.levels.sigmas[-1])
    return model.levels.nearest(min(max(2 * float(x.std()), low), high)).sigma


def _samples(
    model: Model, asked: Pictures, way: Way, seeds: int, settings: dict[str, Any], tick: Callable[[int], None]
) -> NDArray[np.uint8]:
    """Return decoded samples, shape ``(n, seeds, 3, h, w)``."""
    decoded: NDArray[np.uint8] = np.zeros((len(asked.keys), seeds, *asked.pixels.shape[1:]), np.uint8)
    for start in range(0, len(asked.keys), BATCH):
        some = slice(start, start + BATCH)
        x = check_encoded(model.codec.encode(torch.from_numpy(asked.pixels[some])))
        for draw in range(seeds):
            end = sample(model, x, asked.captions[some], asked.hashes[some], way, draw, **settings)
            decoded[some, draw] = model.codec.decode(end).cpu().numpy()
            tick(len(x))
    return decoded


def _described(descriptor: Descriptor, samples: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return descriptors of samples, shape ``(n, seeds, p)``."""
    if not len(samples):
        return np.empty((0, samples.shape[1], 0), np.float32)
    found = []
    for one in samples:
        fitted = one
        if one.shape[2:] != descriptor.size:
            sized = [Image.fromarray(s.transpose(1, 2, 0)).resize(descriptor.size[::-1]) for s in one]
            fitted = np.stack([np.asarray(s).transpose(2, 0, 1) for s in sized])
        found.append(np.asarray(descriptor(fitted), dtype=np.float32))
    return np.stack(found)


def _by_chance(
    vectors: NDArray[np.float32],
    never_seen: Pictures,
    others: NDArray[np.float32],
    hashes: Sequence[str],
    way: Way,
    mask: NDArray[np.bool_] | None,
) -> NDArray[np.float64]:
    """Return the smallest distance that samples come to each picture never seen."""
    found = []
    for i, own in enumerate(never_seen.hashes):
        if way == "caption" and never_seen.captions[i] is None:
            continue
        apart = others[[other != own for other in hashes]]
        found.append(calibrated_distances(vectors[i], never_seen.vectors[i], apart, mask=mask).min())
    return np.array(found, dtype=np.float64)


def _counted(
    key: str,
    way: Way,
    part: str,
    distances: NDArray[np.float64],
    null: NDArray[np.float64],
    rate: float,
    compared: float,
    file: str,
) -> dict[str, Any]:
    threshold = smallest_by_chance(null, rate)
    nearest = float(distances.min())
    row = _row(key, way, part, n=len(distances), nearest=nearest, p=conformal_p(nearest, null), compared=compared)
    row["file"] = file
    if threshold is None:
        return {**row, "reason": f"{len(null)} pictures never seen are too few for a rate of {rate:g}"}
    k = int((distances < threshold).sum())
    interval = clopper_pearson(k, len(distances))
    return {**row, "k": k, "share": interval.value, "low": interval.low, "high": interval.high, "threshold": threshold}


def _row(key: str, way: Way, part: str, **values: Any) -> dict[str, Any]:
    return {**dict.fromkeys(SCHEMA.names), "key": key, "way": way, "part": part, **values}


def _save(folder: Path, pixels: NDArray[np.uint8], key: str, way: Way, part: str) -> str:
    """Write the nearest sample; return its path seen from the run."""
    name = f"{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}-{way}-{part}.png"
    target = folder / FOLDER / name
    directory.write_whole(
        target, lambda path: Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(path, "PNG")
    )
    return f"{FOLDER}/{name}"
