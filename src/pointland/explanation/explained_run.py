"""Explain pages of an audit: one for each of its most suspicious pictures, where its report links to them.

Everything is at the audit's own scale, under the picture's own caption. What the run already knows is not measured
again: its verdict, copies, and the samples of an extraction. The nearest pictures are looked for among the audited
ones, the likeliest by their sketches in model space or else by their perceptual hashes, so that no more than a few
dozen files are read a page.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

from pointland.auditing.derived import vectors, without_overlap
from pointland.auditing.directory import Run, check_pictures, read_run, write_bytes, write_json
from pointland.data.picture import Picture, UnreadablePicture, picture_or_reason
from pointland.data.source import Source, contents
from pointland.data.sources import reopened
from pointland.duplicates import parse_hashes
from pointland.explanation.evidence import Generated, nearest_of
from pointland.explanation.explaining import measured
from pointland.explanation.explanation import Explanation, FromRun
from pointland.explanation.page import render
from pointland.explanation.record import record
from pointland.model import Model
from pointland.report import summarize
from pointland.report.explained import FOLDER, INDEX, explained
from pointland.report.extracted import ASKED
from pointland.report.schema import Row, Summary
from pointland.report.words import clean

REPORT = "../report.html"
LIKELY = 40  # pictures read in search of the nearest, by sketch or hash


class Asked(NamedTuple):
    """A picture of the run that gets a page.

    Attributes:
        key: Its key, as the rows have it.
        place: Its place among the run's rows.
        twins: Keys of audited pictures with the same bytes, itself included.
        row: What the summary says of it.
    """

    key: str
    place: int
    twins: tuple[str, ...]
    row: Row


def explain_run(
    run_folder: Path | str,
    model: Model,
    *,
    top: int = 20,
    n_draws: int = 32,
    n_directions: int = 8,
    again: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, str]:
    """Write explain pages for the most suspicious pictures of a run into its folder ``explain/``.

    Args:
        run_folder: A run of this model.
        model: The model that was audited.
        top: Pictures, from the most suspicious down, of one content once; where any are flagged, flagged ones alone.
        n_draws: Of the denoising loss and its map.
        n_directions: Tangent directions of spectrum and walk; 0 leaves both out.
        again: Make pages that are there anew; otherwise they are kept.
        progress: Called with pages done, pages in all, and the picture or part begun.

    Returns:
        The file in ``explain/`` of every key that has a page, as in ``explain/index.json``, which is written after
        every page, so that an interrupted call is continued by the same one.

    Raises:
        FileNotFoundError: If the folder is not a run.
        ValueError: If the run is of another model or has no sigma, or nothing in it can be read any more.

    Cost:
        A page as :func:`~pointland.explanation.explain`, without reference and search.
    """
    folder = Path(run_folder)
    run = read_run(folder)
    check_pictures(run)
    run, _ = without_overlap(run)
    sigma = _sigma(run, model)
    summary = summarize(run)
    asked = suspicious(run, summary, top)
    source = reopened(run.record["data"]["audited"], folder)
    to = folder / FOLDER
    to.mkdir(exist_ok=True)
    index = {} if again else explained(folder)
    tell = progress or (lambda *_: None)
    written, n_others = 0, run.rows["role"].to_pylist().count("audited") - 1
    for done, one in enumerate(asked):
        name = f"{hashlib.sha256(one.key.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}.html"
        if again or index.get(one.key) != name:
            tell(done, len(asked), clean(one.key, 60))
            picture = picture_or_reason(next(contents(source, [one.row["file"]])), model.codec.size)
            if isinstance(picture, UnreadablePicture):
                continue
            found = measured(
                model,
                picture,
                one.key,
                run.rows["caption"][one.place].as_py() if model.conditional else None,
                sigma=sigma,
                sigma_from="run",
                n_draws=n_draws,
                n_directions=n_directions,
                seed=run.record["seed"],
                verdict=from_run(one.row, summary),
                nearest=nearest_of(picture.pixels, _likely(run, source, one.place, model.codec.size), of=n_others),
                generated=_generated(folder, one.row),
                progress=lambda part, done=done: tell(done, len(asked), part),  # type: ignore[misc]  # bound at once
            )
            _write(found, to, name)
        written += 1
        index |= dict.fromkeys(one.twins, name)
        write_json(to / INDEX, _unicode(index))
    if asked and not written:
        raise ValueError(f"none of the pictures of {folder} can be read any more; put them back where they were")
    tell(len(asked), len(asked), "")
    return index


def suspicious(run: Run, summary: Summary, top: int) -> list[Asked]:
    """Return the ``top`` most suspicious pictures, one a content; flagged ones alone where any are."""
    keys, hashes, roles = (run.rows[name].to_pylist() for name in ("key", "sha256", "role"))
    mine = [i for i, role in enumerate(roles) if role == "audited"]
    places = {clean(keys[i]): i for i in mine}
    twins: dict[str, list[str]] = {}
    for i in mine:
        twins.setdefault(hashes[i], []).append(keys[i])
    rows = [row for row in summary["rows"] if row["flagged"] or not summary["verdict"]["n_flagged"]]
    found: dict[str, Asked] = {}
    for row in rows:
        place = places.get(row["key"])
        if place is not None and hashes[place] not in found:
            found[hashes[place]] = Asked(keys[place], place, tuple(twins[hashes[place]]), row)
    return list(found.values())[:top]


def from_run(row: Row, summary: Summary) -> FromRun:
    """Return what an audit says of one of its pictures."""
    verdict = summary["verdict"]
    return FromRun(
        state=verdict["state"],
        flagged=row["flagged"],
        rank=row["rank"],
        n=verdict["n_audited"],
        n_reference=verdict["n_reference"],
        fdr=verdict["fdr"],
        p=row["p"],
        q=row["q"],
        column=verdict["title"],
        value=row["values"].get(verdict["decide_by"]),
        unit=verdict["unit"],
        kind=row["kind"],
        evidence=tuple(row["evidence"]),
    )


def _sigma(run: Run, model: Model) -> float:
    recorded, loaded = run.record["model"].get("weights_sha256"), model.identity.get("weights_sha256")
    if recorded != loaded:
        raise ValueError(
            f"{run.folder} is a run of {run.record['model'].get('name')} with other weights than the model given "
            f"({model.identity.get('name')}); give the model that was audited, with its LoRA if it had one"
        )
    sigma = run.record["sigma"]["value"]
    if sigma is None:
        raise ValueError(f"{run.folder} has no sigma: none of its metrics is at one; audit again with a LID metric")
    return model.levels.nearest(float(sigma)).sigma


def _likely(
    run: Run, source: Source, place: int, size: tuple[int, int]
) -> Iterator[tuple[str, Picture | UnreadablePicture]]:
    """Open the audited pictures likeliest to be near one, without itself."""
    rows = run.rows
    mine = np.flatnonzero(np.array(rows["role"].to_pylist(), dtype=object) == "audited")
    mine = mine[mine != place]
    if not len(mine):
        return
    likely = mine[np.argsort(_apart(rows, mine, place), kind="stable")[:LIKELY]]
    chosen = rows.take(likely).to_pylist()
    for row, data in zip(chosen, contents(source, [row["file"] for row in chosen]), strict=True):
        yield row["key"], picture_or_reason(data, size)


def _apart(rows: Any, others: NDArray[np.int64], place: int) -> NDArray[np.float64]:
    """Return how far pictures of a run are from one of them: by sketches, or by bits of their hashes."""
    if "sketch" in rows.column_names:
        sketches = vectors(rows, "sketch")
        if np.isfinite(sketches[place]).all():
            apart = np.linalg.norm(sketches[others] - sketches[place], axis=1)
            return np.where(np.isfinite(apart), apart, np.inf)
    hashes = parse_hashes(rows["perceptual_hash"].to_pylist())
    return np.asarray(np.bitwise_count(hashes[others] ^ hashes[place]), dtype=np.float64)


def _generated(folder: Path, row: Row) -> list[Generated]:
    found = []
    for one in row["extracted"]:
        part = ", the part that its template repeats" if one["part"] == "template" else ""
        way = ASKED.get(one["way"], one["way"]) + part
        found.append(Generated(way, one["n"], one["k"], one["nearest"], _sample(folder / one["file"])))
    return found


def _sample(path: Path) -> UInt8[np.ndarray, "3 h w"] | None:
    try:
        with Image.open(path, formats=["PNG"]) as opened:
            pixels: NDArray[np.uint8] = np.array(opened.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return pixels.transpose(2, 0, 1).copy()


def _write(found: Explanation, to: Path, name: str) -> None:
    """Write the numbers first, so that a page that is there is complete."""
    write_json(to / Path(name).with_suffix(".json").name, record(found))
    write_bytes(to / name, render(found, back=REPORT).encode("utf-8"))


def _unicode(index: dict[str, str]) -> dict[str, str]:
    """Return an index that JSON can hold: a name that is not Unicode stays as JSON escapes it."""
    return {json.loads(json.dumps(key)): name for key, name in index.items()}
