"""What an audit is going to do: items, shards, metrics, sigma, the record of it all, and what it will cost."""

import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pointland.auditing import tasks
from pointland.auditing.derived import COLUMNS, MINIMUM, derivable
from pointland.auditing.directory import SCHEMA_VERSION
from pointland.lid import scale
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.flipd import Flipd
from pointland.metrics.guidance_norm import EulerGuidanceNorm, GuidanceNorm
from pointland.metrics.loss_map import LossMap
from pointland.metrics.metric import Column, Metric
from pointland.metrics.model_gap import ModelGap
from pointland.metrics.model_lid import DenoisingLossColumns, FlipdColumns
from pointland.metrics.png_size import PngSize
from pointland.metrics.sketch import Sketch
from pointland.model import Model

Choice = Literal["auto", "paper"]
BESIDE = 2  # folders up from the run
LONGEST = 50  # of lists in the record; longer ones are recorded by their hash


@dataclass(frozen=True)
class Cost:
    """What an audit takes.

    Attributes:
        n_items: Pictures, reference included.
        forwards: Network forward passes for one captioned picture, a Jacobian product counted as one more.
    """

    n_items: int
    forwards: int


def default_metrics(
    model: Model,
    sigma: float,
    *,
    n_draws: int = 8,
    n_probes: int = 4,
    seed: int = 0,
    reference_model: Model | None = None,
) -> list[Metric]:
    """Return the metrics of an audit at one sigma: denoising loss and its map, FLIPD, guidance norm, ..."""
    metrics: list[Metric] = [
        DenoisingLossColumns(DenoisingLoss(sigma, n_draws, seed)),
        FlipdColumns(Flipd(sigma, n_probes, seed)),
    ]
    if model.conditional:
        metrics.append(GuidanceNorm(sigma, n_draws))
    if reference_model is not None:
        metrics.append(ModelGap(DenoisingLoss(sigma, n_draws, seed), reference_model))
    return [*metrics, LossMap(DenoisingLoss(sigma, n_draws, seed)), PngSize(), Sketch()]


def paper_metrics(model: Model, *, seed: int = 0) -> list[Metric]:
    """Return the paper's own settings: FLIPD from one probe at time 0.1, the guidance norm after Euler steps, PNG size.

    The denoising loss at the same sigma stands beside them, for the verdict.
    """
    sigma = model.levels.nearest(scale.PAPER_SIGMA).sigma
    low = float(model.levels.sigmas[0])
    metrics: list[Metric] = [DenoisingLossColumns(DenoisingLoss(sigma, 8, seed)), FlipdColumns(Flipd(sigma, 1, seed))]
    if model.conditional:
        end = model.levels.nearest(max(scale.PAPER_EULER_SIGMA, 2 * low)).sigma
        metrics.append(EulerGuidanceNorm(end, low))
    return [*metrics, LossMap(DenoisingLoss(sigma, 8, seed)), PngSize(), Sketch()]


def columns_of(model: Model, metrics: Sequence[Metric]) -> list[Column]:
    """Return the columns that the metrics fill for this model: without captions, those that need one are left out."""
    columns = [column for metric in metrics for column in metric.columns]
    return [column for column in columns if model.conditional or column.needs != "caption"]


def cost(model: Model, metrics: Sequence[Metric], n_items: int) -> Cost:
    """Count network evaluations from the metrics' settings; shared ones count once."""
    conditions = 2 if model.conditional else 1
    forwards = 0
    for metric in metrics:
        match metric:
            case DenoisingLossColumns():
                forwards += metric.estimator.n_draws * conditions
            case FlipdColumns() if metric.estimator.n_probes != "exact":
                forwards += (1 + metric.estimator.n_probes) * conditions
            case ModelGap():
                forwards += metric.estimator.n_draws
            case EulerGuidanceNorm():
                forwards += (metric.n_steps + 1) * conditions
            case GuidanceNorm() | LossMap() | PngSize() | Sketch():
                pass  # no call of their own
            case _:
                forwards += round(metric.forwards(conditions)) if hasattr(metric, "forwards") else 0
    return Cost(n_items, forwards)


def seen_from(out: Path, source: str | None) -> str | None:
    """Return where a model is: a hub id as it is, a folder seen from the run if it is beside it.

    One that is further away is not told, since its path would tell of the machine.
    """
    if source is None or not Path(source).exists():
        return source
    seen = Path(os.path.relpath(Path(source).resolve(), out.resolve()))
    return seen.as_posix() if seen.parts.count("..") <= BESIDE else None


def record(
    model: Model,
    metrics: Sequence[Metric],
    *,
    data: dict[str, object],
    sigma: dict[str, object],
    seed: int,
    fdr: float,
    screen: dict[str, object] | None,
    decide_by: str,
    batch_size: int | Literal["auto"],
    source: str | None,
    command: str,
    device: str,
) -> dict[str, object]:
    """Return the contents of ``run.json`` at the start of a run."""
    columns = columns_of(model, metrics)
    reference = data["reference"]
    check_deciding(decide_by, columns, n_reference=reference["n"] if isinstance(reference, dict) else 0)
    audited = data["audited"]
    needing = [
        *(c.name for c in columns if c.needs == "caption"),
        *(n for n, c in COLUMNS.items() if c.needs == "caption"),
    ]
    if decide_by in needing and isinstance(audited, dict) and not audited["captions"]:
        raise ValueError(
            f"{decide_by!r} needs captions, and no audited picture has one; give --captions, or decide by another"
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "model": dict(model.identity),
        "data": data,
        "metrics": [{"name": type(metric).__name__, **_settings(metric)} for metric in metrics],
        "sigma": sigma,
        "seed": seed,
        "fdr": fdr,
        "screen": screen,
        "decide_by": decide_by,
        "columns": [asdict(column) for column in columns],
        "batch_size": batch_size,
        "shard_size": tasks.SHARD,
        "model_source": source,
        "command": command,
        "environment": {**environment(), "device": device},
        "created": now(),
        "finished": None,
    }


def check_deciding(decide_by: str, columns: Sequence[Column], *, n_reference: int) -> None:
    """Raise ``ValueError`` unless a verdict can rest on that column, measured or derived."""
    with_reference = n_reference >= MINIMUM
    fit = [column.name for column in columns if column.memorized_when != "neither"]
    derived = derivable([column.name for column in columns], with_reference=with_reference)
    if decide_by not in [*fit, *derived]:
        hint = "" if with_reference else f"; more can be derived with a --reference of at least {MINIMUM} pictures"
        raise ValueError(f"cannot decide by {decide_by!r}; choose one of {', '.join([*fit, *derived])}{hint}")


def _settings(metric: Metric) -> dict[str, object]:
    settings: object = metric
    if not is_dataclass(settings) or isinstance(settings, type):
        raise TypeError(f"{metric!r} is not a dataclass, so its settings cannot be recorded; make it a frozen one")
    return {field.name: _recorded(getattr(settings, field.name)) for field in fields(settings)}


def _recorded(value: object) -> object:
    if isinstance(value, Model):
        return dict(value.identity)
    if isinstance(value, tuple) and len(value) > LONGEST:
        joined = "\0".join(map(str, value)).encode("utf-8", "surrogatepass")
        return {"n": len(value), "sha256": hashlib.sha256(joined).hexdigest()}
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def environment() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for package in ("pointland", "torch", "diffusers", "transformers", "numpy", "pillow", "pyarrow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
