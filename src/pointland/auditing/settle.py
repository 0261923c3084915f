"""Settling an audit: sigma and the metrics, from a sample of the pictures, before anything is scored."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from pointland import draws
from pointland.auditing import plan
from pointland.auditing.extras import extra_metrics
from pointland.auditing.plan import Choice
from pointland.auditing.scoring import score_batch
from pointland.auditing.tasks import Tasks
from pointland.data.picture import Picture
from pointland.data.source import pictures
from pointland.lid import scale
from pointland.metrics.metric import Metric
from pointland.metrics.screen import Screen, sample_size, threshold
from pointland.model import Model

SAMPLE = 64
HIGH = 5.0  # times the points' own size: there nearly all is noise


class Settled(NamedTuple):
    """What is decided before scoring.

    Attributes:
        sigma: Its entry in the record: ``value``, ``chosen``, ``curve``.
        metrics: With their settings.
        device: Where the model's points are.
        screen: The screen's entry in the record: ``share``, ``threshold``, ``n_sample``; ``None`` without one.
    """

    sigma: dict[str, Any]
    metrics: list[Metric]
    device: str
    screen: dict[str, Any] | None = None


def settle(
    model: Model,
    tasks: Tasks,
    sigma: float | Choice,
    metrics: Sequence[Metric] | None,
    *,
    n_draws: int,
    n_probes: int,
    batch_size: int,
    seed: int,
    earlier: dict[str, Any] | None = None,
    reference_model: Model | None = None,
    also: Sequence[str] = (),
    screen: float | None = None,
    screened_earlier: dict[str, Any] | None = None,
) -> Settled:
    """Settle sigma, the metrics, and the threshold of the screen.

    A run that is continued keeps what it chose ``earlier``.

    Raises:
        ValueError: If no picture of a sample can be read, or the model does not denoise: then its scheduler is not the
            one it was trained with, or its prediction type is wrong.
    """
    found = _sample(model, tasks, len(tasks), SAMPLE, seed)
    x, keys = _encoded(model, found, batch_size), [picture.sha256 for picture in found]
    curve: dict[str, object] | None = None
    value = scale.PAPER_SIGMA if sigma == "paper" else sigma
    if value == "auto" and earlier is not None and earlier["chosen"] == "auto":
        value, curve = earlier["value"], earlier["curve"]
    elif value == "auto":
        swept = scale.sweep(
            model.unconditional, x, keys, scale.candidates(model.levels), seed=seed, batch_size=batch_size
        )
        low, high = scale.quartiles(swept.values)
        curve = {
            "sigmas": swept.sigmas.tolist(),
            "median": _numbers(swept.values.nanmedian(-1).values),
            "low": _numbers(low),
            "high": _numbers(high),
            "resolution": _numbers(swept.resolution),
            "n_images": len(x),
        }
        value = swept.best
    level = model.levels.nearest(float(value)).sigma
    check = scale.sweep(
        model.unconditional, x[:16], keys[:16], torch.tensor([level]), n_draws=1, seed=seed, batch_size=batch_size
    )
    losses = check.values.where(check.values.isfinite(), torch.nan)
    if not bool(losses.isfinite().any()):
        raise ValueError(
            f"the model gives no finite value at sigma {level:.4g}; load it in float32, or check its weights"
        )
    d = x[0].numel()
    if float(losses.nanmedian()) >= d:
        raise ValueError(
            f"the model does not denoise: at sigma {level:.4g} its error is "
            f"{float(losses.nanmedian()):.4g} of the noise's "
            f"{d}; check prediction_type and the betas in scheduler_config.json"
        )
    if earlier is None:
        _check_reading(model, x[:16], keys[:16], seed=seed, batch_size=batch_size)
    if metrics is None:
        made = (
            plan.paper_metrics(model, seed=seed)
            if sigma == "paper"
            else plan.default_metrics(
                model, level, n_draws=n_draws, n_probes=n_probes, seed=seed, reference_model=reference_model
            )
        )
    else:
        made = list(metrics)
    captions = tasks.items["audited"].captions()
    made += extra_metrics(model, level, also, captions, n_draws=n_draws)
    how = sigma if isinstance(sigma, str) else "fixed"
    screened = None
    if screen is not None:
        made = [Screen(level), *made]
        if screened_earlier is not None and screened_earlier["share"] == screen:
            screened = screened_earlier
        else:
            screened = _screened(model, tasks, level, screen, batch_size, seed)
    return Settled({"value": level, "chosen": how, "curve": curve}, made, str(x.device), screened)


def _screened(
    model: Model, tasks: Tasks, sigma: float, share: float, batch_size: int, seed: int
) -> dict[str, float | int]:
    """Find the screen's threshold in a sample of the audited pictures."""
    audited = len(tasks.items["audited"])
    found = _sample(model, tasks, audited, sample_size(audited), seed)
    captions: list[str | None] = [None] * batch_size
    values: list[float] = []
    for start in range(0, len(found), batch_size):
        part = found[start : start + batch_size]
        values += cast(list[float], score_batch(model, [Screen(sigma)], part, captions[: len(part)], seed)["screen"])
    return {"share": share, "threshold": threshold(torch.tensor(values), share=share), "n_sample": len(found)}


def _check_reading(model: Model, x: Tensor, keys: Sequence[str], *, seed: int, batch_size: int) -> None:
    r"""Refuse a network whose output is read by the wrong prediction type, which at low noise can pass as denoising.

    Of the noise :math:`n` in :math:`x_0 + \sigma n`, a denoised point keeps the share :math:`\langle D, n\rangle / d
    = \sigma \operatorname{tr} J_D / d`, which is at least 0 and small at high noise, whatever the pictures are. A
    network that predicts the noise, read as one that predicts the velocity, keeps about -1; the other mistakes keep
    about 1 or more.
    """
    size = float(x.square().mean().sqrt())
    lowest, highest = float(model.levels.sigmas[0]), float(model.levels.sigmas[-1])
    sigma = model.levels.nearest(min(max(HIGH * size, lowest), highest)).sigma
    at = torch.tensor([sigma], device=x.device)
    kept = []
    with torch.no_grad():
        for start in range(0, len(x), batch_size):
            some = x[start : start + batch_size]
            noise = draws.normal(some, keys[start : start + batch_size], 1, seed)[0]
            found = model.unconditional(some + sigma * noise, at) - some
            kept.append((found * noise).flatten(1).mean(1))
    share = float(torch.cat(kept).nanmedian())
    if share < -0.5 or share > max(0.5, size):
        raise ValueError(
            f"the model does not denoise: at sigma {sigma:.4g} it keeps {share:.2g} of the noise, where a denoiser "
            "keeps nearly 0; check prediction_type and the betas in scheduler_config.json"
        )


def _sample(model: Model, tasks: Tasks, among: int, n: int, seed: int) -> list[Picture]:
    """Read a random sample of the first ``among`` pictures, of which the reference's are the last."""
    order = np.random.default_rng(seed).permutation(among)
    found: list[Picture] = []
    why = ""
    for task in (tasks[index] for index in order.tolist()):
        ((item, opened),) = pictures(tasks.sources[task.role], [task.item], model.codec.size)
        if isinstance(opened, Picture):
            found.append(opened)
        else:
            why = f"{item.key}: {opened}"
        if len(found) == n:
            break
    if not found:
        raise ValueError(f"none of the {among} pictures can be read; the last reason was {why}")
    return found


def _encoded(model: Model, found: Sequence[Picture], batch_size: int) -> Tensor:
    images = torch.from_numpy(np.stack([picture.pixels for picture in found]))
    return torch.cat([model.codec.encode(part) for part in torch.split(images, batch_size)])


def _numbers(values: Tensor) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]
