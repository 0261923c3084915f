"""An explanation as JSON, in the schema of ``docs/explain.md``: every number of the page, and no picture."""

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pointland.explanation.evidence import Against, Nearest, Neighbor
from pointland.explanation.explanation import Explanation, Side
from pointland.explanation.lid_map import LidMap
from pointland.explanation.walk import PictureWalk
from pointland.report.words import private

SCHEMA_VERSION = 1


def record(found: Explanation) -> dict[str, Any]:
    """Return an explanation as plain data that strict JSON can hold; a number that is not there is null.

    Args:
        found: What :func:`~pointland.explanation.explain` returned.
    """
    plain = {
        "schema_version": SCHEMA_VERSION,
        "name": found.name,
        "sha256": found.sha256,
        "caption": found.caption,
        "is_cut": found.is_cut,
        "model": {key: private(value) for key, value in found.model.items()},
        "size": list(found.image.shape[1:]),
        "d": found.d,
        "sigma": found.sigma,
        "sigma_from": found.sigma_from,
        "n_draws": found.n_draws,
        "seed": found.seed,
        "sides": {name: _side(side) for name, side in found.sides.items()},
        "frozen": _map(found.frozen),
        "no_map": found.no_map,
        "verdict": None
        if found.verdict is None
        else {"from": "reference" if isinstance(found.verdict, Against) else "audit", **asdict(found.verdict)},
        "nearest": _nearest(found.nearest),
        "generated": [{"way": one.way, "n": one.n, "k": one.k, "nearest": one.nearest} for one in found.generated],
        "words": None
        if found.words is None
        else {
            **found.words._asdict(),
            "words": [word._asdict() for word in found.words.words],
            "rewrites": [rewrite._asdict() for rewrite in found.words.rewrites],
        },
        "words_by": found.words_by,
        "no_words": found.no_words,
        "evaluations": found.evaluations,
        "environment": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("pointland", "torch")},
        },
    }
    jsonable: dict[str, Any] = _finite(plain)
    return jsonable


def _side(side: Side) -> dict[str, Any]:
    return {
        "denoising_loss": side.denoising_loss._asdict(),
        "flipd": side.flipd._asdict(),
        "map": _map(side.map),
        "walk": _walk(side.walk),
        "curve": side.curve.record(),
    }


def _map(found: LidMap | None) -> dict[str, Any] | None:
    return None if found is None else {name: part[0].tolist() for name, part in found._asdict().items()}


def _walk(found: PictureWalk | None) -> dict[str, Any] | None:
    if found is None:
        return None
    tangent = found.tangent
    return {
        "eigenvalues": tangent.values[0].tolist(),
        "residuals": tangent.residuals[0].tolist(),
        "singular_values": tangent.singular_values[0].tolist(),
        "steps": list(found.steps),
        "change": found.change.tolist(),
        "stepped": found.stepped.tolist(),
        "kept": None if math.isnan(found.kept) else found.kept,
        "drift": found.drift,
        "free": found.free,
    }


def _nearest(found: Nearest | None) -> dict[str, Any] | None:
    if found is None:
        return None
    counts = {name: getattr(found, name) for name in ("of", "searched", "unreadable", "n_exact", "n_near", "n_alike")}
    listed = {name: [_neighbor(one) for one in getattr(found, name)] for name in ("pictures", "alike")}
    return {**counts, **listed, "copies": list(found.copies)}


def _neighbor(one: Neighbor) -> dict[str, Any]:
    return {"key": one.key, "distance": one.distance, "share": one.share, "exact": one.exact, "near": one.near}


def _finite(value: Any) -> Any:
    """Return numbers that strict JSON can hold, and text that is Unicode."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        case Mapping():
            return {name: _finite(part) for name, part in value.items()}
        case Sequence():
            return [_finite(part) for part in value]
        case float():
            return value if math.isfinite(value) else None
    return value


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
