"""An explanation as one page: a file that asks the network for nothing, and runs no script at all.

The style sheet is the report's, with a few lines more. All text is escaped by Jinja; a Content-Security-Policy forbids
all but the page's own style, named by its hash, and pictures inside the page.
"""

import base64
import io
import math
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from markupsafe import Markup
from PIL import Image

from pointland.auditing.directory import write_bytes, write_json
from pointland.explanation import sentences
from pointland.explanation.curve import spectrum_chart
from pointland.explanation.evidence import Against, Generated, Neighbor, as_png
from pointland.explanation.explanation import Explanation, FromRun, Side
from pointland.explanation.lid_map import LidMap, to_pixels
from pointland.explanation.map_picture import map_png
from pointland.explanation.record import record
from pointland.explanation.walk_picture import as_picture
from pointland.report.axes import path, scale
from pointland.report.html import asset, integrity
from pointland.report.words import clean, counted, level, number, percent, private, probability, upright

PAGE, RECORD = "index.html", "explanation.json"
SIDE = 256  # pixels of the picture and a map
SMALL = 128  # of a neighbor
HEAVY = 300_000  # bytes of a PNG above which the page holds a lossy copy
CEILING = 0.25  # of a cell's dimensions: the scale of maps ends there or beyond, so that frozen pictures look frozen
WHAT = {"unconditional": "without a caption", "conditional": "under the caption"}


def write_page(found: Explanation, folder: Path | str) -> Path:
    """Write a page with its pictures and numbers into a folder, each file whole or not at all.

    Args:
        found: What :func:`~pointland.explanation.explain` returned.
        folder: Made if it is not there; files of the same names are replaced.

    Returns:
        The path of ``index.html``; beside it ``explanation.json``, and the pictures as PNG files.

    Raises:
        NotADirectoryError: If the folder is a file.
    """
    to = Path(folder)
    if to.exists() and not to.is_dir():
        raise NotADirectoryError(f"{to} is a file; name a folder to write into")
    to.mkdir(parents=True, exist_ok=True)
    drawn = drawings(found)
    for name, data in drawn.items():
        write_bytes(to / f"{name}.png", data)
    write_json(to / RECORD, record(found))
    write_bytes(to / PAGE, render(found, drawn).encode("utf-8"))
    return to / PAGE


def drawings(found: Explanation) -> dict[str, bytes]:
    """Return the picture, its maps and its walks as PNG files by name."""
    drawn = {"picture": as_png(found.image.numpy())}
    most = highest(found)
    for name, side in found.sides.items():
        if side.map is not None:
            drawn[f"map-{name}"] = map_png(_by_cell(side.map, found), high=most, side=SIDE)
        if side.walk is not None:
            stream = io.BytesIO()
            title = f"{upright(clean(found.name, 60))}, {WHAT[name]}"
            as_picture(side.walk, title).save(stream, "PNG", optimize=True)
            drawn[f"walk-{name}"] = stream.getvalue()
    if found.frozen is not None:
        drawn["map-frozen"] = map_png(_by_cell(found.frozen, found), high=most, side=SIDE, signed=True)
    return drawn


def highest(found: Explanation) -> float:
    """Return where the scale of all maps ends, in dimensions a cell: the largest there is, or a quarter of a cell's."""
    maps = [side.map for side in found.sides.values()] + [found.frozen]
    shown = [one for one in maps if one is not None]
    if not shown:
        return 1.0
    places = shown[0].value[0].numel()
    return max(CEILING * found.d / places, *(float(np.abs(_by_cell(one, found)).max()) for one in shown))


def render(found: Explanation, drawn: dict[str, bytes] | None = None, *, back: str | None = None) -> str:
    """Render the page.

    Args:
        found: What :func:`~pointland.explanation.explain` returned.
        drawn: What :func:`drawings` returned; drawn if left out.
        back: A relative link to the report that the page belongs to.
    """
    environment = _environment()
    css = "\n".join(asset(environment, name) for name in ("report.css", "explain.css"))
    shown = {name: _embedded(data) for name, data in (drawings(found) if drawn is None else drawn).items()}
    return environment.get_template("explain.html.j2").render(
        css=Markup(css), css_hash=integrity(css), back=back, **_context(found, shown)
    )


def _context(found: Explanation, shown: dict[str, str]) -> dict[str, Any]:
    name = upright(clean(found.name, 200))
    tiny = max(found.image.shape[1:]) <= 96
    walks = {what: side.walk for what, side in found.sides.items() if side.walk is not None}
    nearest = found.nearest
    return {
        "title": f"{name}: {sentences.headline(found)} Pointland",
        "name": name,
        "caption": None if found.caption is None else upright(clean(found.caption, 600)),
        "model_name": clean(private(found.model.get("name", "a model"))),
        "headline": sentences.headline(found),
        "suspicious": sentences.suspicious(found),
        "lede": sentences.lede(found),
        "notes": sentences.notes(found),
        "cards": _cards(found),
        "picture": shown["picture"],
        "tiny": tiny,
        "maps": _maps(found, shown),
        "map_how": sentences.map_how(found, highest(found)),
        "no_map": found.no_map,
        "walks": [
            {
                "picture": shown[f"walk-{what}"],
                "alt": f"Walk {WHAT[what]}: {counted(len(walk.pictures), 'direction')}, a row each, steps from "
                f"{min(walk.steps):g} to {max(walk.steps):g}; {sentences.kept_said(walk)} of the steps is left.",
                "title": WHAT[what].capitalize(),
                "words": sentences.walk_said(walk, WHAT[what]),
            }
            for what, walk in walks.items()
        ],
        "walk_how": sentences.walk_how(next(iter(walks.values()))) if walks else "",
        "charts": [
            (f"Spectrum {WHAT[what]}", spectrum_chart(walk.tangent), _spectrum_said(side))
            for what, side in found.sides.items()
            if (walk := side.walk) is not None
        ]
        + [(f"Dimension {WHAT[what]}", side.curve.chart(), "") for what, side in found.sides.items()],
        "nearest": None if nearest is None else [_neighbor(one) for one in nearest.pictures],
        "alike": [] if nearest is None else [_neighbor(one) for one in nearest.alike],
        "nearest_how": None if nearest is None else sentences.nearest_how(nearest),
        "copies": [] if nearest is None or nearest.n_near < 2 else [upright(clean(key, 120)) for key in nearest.copies],
        "n_copies": 0 if nearest is None else nearest.n_near,
        "whose": "audited" if isinstance(found.verdict, FromRun) else "training",
        "generated": [_generated(one) for one in found.generated],
        "words": _words(found),
        "words_how": sentences.words_how(found.words_by),
        "no_words": found.no_words,
        "facts": _facts(found),
        "limits": sentences.limits(found),
    }


def _cards(found: Explanation) -> list[dict[str, str]]:
    cards = []
    for what, side in found.sides.items():
        loss, flipd = side.denoising_loss, side.flipd
        cards.append(
            {
                "label": f"Dimensions {WHAT[what]}",
                "big": number(loss.value),
                "small": f"{_error(loss.stderr)}of {found.d:,} by denoising loss; {number(flipd.value)} by FLIPD",
            }
        )
    walk = found.without.walk
    if walk is not None:
        cards.append(
            {
                "label": "Free directions",
                "big": f"{walk.free} of {len(walk.pictures)}",
                "small": f"looked at have an eigenvalue above ½; {sentences.kept_said(walk)} of a step is left",
            }
        )
    if found.nearest is not None:
        copies = found.nearest.n_near
        cards.append(
            {
                "label": "Copies in the audit" if isinstance(found.verdict, FromRun) else "Copies in training",
                "big": f"{copies:,}",
                "small": f"near or exact, of {counted(found.nearest.of, 'picture')}",
            }
        )
    match found.verdict:
        case Against() as said:
            small = f"against {counted(said.n, 'picture')} never seen; {said.n_lower:,} as low"
            cards.append({"label": "p-value", "big": probability(said.p), "small": small})
        case FromRun(q=q) as said if q is not None:
            small = f"q; the audit asked for {percent(said.fdr)}"
            cards.append({"label": "False discovery rate", "big": probability(q), "small": small})
    return cards


def _error(stderr: float) -> str:
    return f"± {number(stderr)} " if math.isfinite(stderr) else ""


def _maps(found: Explanation, shown: dict[str, str]) -> list[dict[str, str]]:
    maps = []
    for what, side in found.sides.items():
        if side.map is not None:
            total = sentences.in_dimensions(side.denoising_loss)
            maps.append(
                {
                    "picture": shown[f"map-{what}"],
                    "title": WHAT[what].capitalize(),
                    "alt": f"Map of dimensions {WHAT[what]}; {_where(side.map)}",
                    "words": f"{total} dimensions in all.",
                }
            )
    if found.frozen is not None:
        change = float(found.frozen.value.sum())
        does = "takes away" if change >= 0 else "adds"
        maps.append(
            {
                "picture": shown["map-frozen"],
                "title": "What the caption froze",
                "alt": f"Map of the difference that the caption makes; {_where(found.frozen)}",
                "words": f"The caption {does} {number(abs(change))} dimensions in all.",
            }
        )
    return maps


def _where(found: LidMap) -> str:
    """Say in words where a map is high, for who cannot see it."""
    value = found.value[0]
    h, w = value.shape
    rows, columns = value.sum(1), value.sum(0)
    at = int((rows.clamp_min(0) * torch.arange(h)).sum() / rows.clamp_min(0).sum().clamp_min(1e-9) * 3 / h)
    across = int((columns.clamp_min(0) * torch.arange(w)).sum() / columns.clamp_min(0).sum().clamp_min(1e-9) * 3 / w)
    place = f"{('upper', 'middle', 'lower')[min(at, 2)]} {('left', 'center', 'right')[min(across, 2)]}"
    share = float(value.flatten().topk(max(1, value.numel() // 4)).values.sum() / value.sum().clamp_min(1e-9))
    return f"its weight lies in the {place}, and the highest quarter of its places holds {percent(min(share, 1.0))}"


def _by_cell(found: LidMap, shown: Explanation) -> Float[np.ndarray, "h w"]:
    """Return a map over the picture's pixels in dimensions a cell, smooth where whole cells fit the picture."""
    h, w = found.value.shape[1:]
    height, width = shown.image.shape[1:]
    if height % h or width % w:
        return found.value[0].cpu().numpy()
    pixels = to_pixels(found, (height, width)).value[0] * (height * width / (h * w))
    return pixels.cpu().numpy()


def _neighbor(one: Neighbor) -> dict[str, Any]:
    apart = "flat, cannot be compared" if one.distance is None else f"distance {one.distance:.2f}"
    return {
        "picture": _thumb(one.image),
        "name": upright(clean(one.key, 120)),
        "words": "exact copy" if one.exact else f"near copy, {apart}" if one.near else apart,
        "share": f"{percent(one.share)} the same, place for place",
        "near": one.near,
        "tiny": max(one.image.shape[1:]) <= 96,
    }


def _generated(one: Generated) -> dict[str, Any]:
    back = "too few reference pictures to count" if one.k is None else f"{one.k:,} of {one.n:,} given back"
    return {
        "picture": None if one.image is None else _thumb(one.image),
        "name": f"Asked {one.way}",
        "words": f"{back}; nearest {one.nearest:.2f} of a usual distance",
        "near": bool(one.k),
        "tiny": one.image is not None and max(one.image.shape[1:]) <= 96,
    }


def _words(found: Explanation) -> dict[str, Any] | None:
    words = found.words
    if words is None:
        return None
    most = max(word.gradient for word in words.words) or 1.0
    deepest = max(max(word.drop for word in words.words), 0.0) or 1.0
    return {
        "rows": [
            {
                "text": upright(clean(word.text, 60)),
                "gradient": number(word.gradient),
                "drop": number(word.drop),
                "bar": _bar(word.gradient / most, "c0"),
                "drop_bar": _bar(max(word.drop, 0.0) / deepest, "c2"),
            }
            for word in words.words
        ],
        "agree": words.agree,
        "spearman": number(words.spearman),
        "unread": upright(clean(words.unread, 200)) if words.unread else "",
    }


def _bar(share: float, css: str) -> Markup:
    x = scale(0, 1, 0, 100)
    corners = [(0.0, 2.0), (x(share), 2.0), (x(share), 12.0), (0.0, 12.0)]
    return Markup('<svg class="bar" viewBox="0 0 100 14" aria-hidden="true">{}</svg>').format(
        path(corners, f"band {css}", closed=True) + path(corners, f"outline {css}", closed=True)
    )


def _spectrum_said(side: Side) -> str:
    if side.walk is None:
        return ""
    return (
        f"{side.walk.free} of {len(side.walk.pictures)} leading directions are free (above ½, dashed). Thin: singular "
        "values. Whiskers: how far an eigenvalue may be off."
    )


def _facts(found: Explanation) -> list[tuple[str, str]]:
    chosen = {"given": "given", "paper": "the paper's", "resolution": "chosen on a sample", "run": "the audit's"}
    model = {key: clean(private(value)) for key, value in found.model.items()}
    return [
        ("Picture", f"{upright(clean(found.name, 200))}, SHA-256 {found.sha256}"),
        ("Model", ", ".join(model[key] for key in ("name", "class", "dtype") if key in model)),
        ("Weights", model.get("weights_sha256", "not known")),
        ("Space", f"{model.get('space', 'points')}, {found.d:,} dimensions"),
        ("Sigma", f"{level(found.sigma)}, {chosen[found.sigma_from]}"),
        ("Draws", f"{found.n_draws} of the denoising loss, seed {found.seed}"),
        ("Cost", f"{found.evaluations:,} network evaluations of this picture, words and reference apart"),
        ("Made with", f"Pointland {record(found)['environment']['pointland'] or ''}".strip()),
    ]


def _thumb(image: UInt8[np.ndarray, "3 h w"]) -> str:
    small = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    small.thumbnail((SMALL, SMALL))
    stream = io.BytesIO()
    small.save(stream, "PNG", optimize=True) if max(small.size) <= 64 else small.save(stream, "WEBP", quality=80)
    return _uri(stream.getvalue())


def _embedded(data: bytes) -> str:
    """Return a drawing as a data URI, lossy where the PNG is large."""
    if len(data) <= HEAVY:
        return _uri(data)
    stream = io.BytesIO()
    with Image.open(io.BytesIO(data)) as opened:
        opened.save(stream, "WEBP", quality=82, method=4)
    return _uri(stream.getvalue())


def _uri(data: bytes) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader("pointland.explanation"), jinja2.PackageLoader("pointland.report")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
