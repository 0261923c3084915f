"""Settling an audit: sigma and the metrics, from a sample of the pictures, before anything is scored."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from pointland import draws
from pointland.auditing import plan
from pointland.auditing.batches import BatchSize, is_out_of_memory
from pointland.auditing.extras import extra_metrics
from pointland.auditing.plan import Choice
from pointland.auditing.sampling import encode, sample_at_random
from pointland.auditing.scoring import score_batch
from pointland.auditing.tasks import Tasks
from pointland.data.picture import Picture
from pointland.lid import scale
from pointland.metrics.metric import Metric
from pointland.metrics.screen import Screen, sample_size, threshold
from pointland.model import Model
from pointland.models.codec import OVERFLOW, encoded

SAMPLE = 64
HIGH = 5.0  # times the points' own size: there nearly all is noise
KEPT = 0.8  # a denoiser of data of unit variance keeps at most 0.5, one read as the data itself about 1


class Settled(NamedTuple):
    """What is decided before scoring.

    Attributes:
        sigma: Its entry in the record: ``value``, ``chosen``, ``curve``.
        metrics: With their settings.
        device: Where the model's points are.
        batch_size: What was asked, or less where memory ran out.
        screen: The screen's entry in the record: ``share``, ``threshold``, ``n_sample``; ``None`` without one.
    """

    sigma: dict[str, Any]
    metrics: list[Metric]
    device: str
    batch_size: int
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
    readers: int | None = None,
) -> Settled:
    """Settle sigma, the metrics, and the threshold of the screen.

    A run that is continued keeps what it chose ``earlier``.

    Out of memory, all of it is done again with half the batch.

    Raises:
        ValueError: If no picture of a sample can be read, or the model does not denoise: then its scheduler is not the
            one it was trained with, or its prediction type is wrong.
    """
    found = sample_at_random(tasks, model.codec.size, SAMPLE, seed, readers=readers)
    among = len(tasks.items["audited"])
    sampled = None
    if screen is not None and not (screened_earlier is not None and screened_earlier["share"] == screen):
        sampled = sample_at_random(tasks, model.codec.size, sample_size(among), seed, among=among, readers=readers)
    batch = BatchSize(batch_size, "cpu")
    while True:
        try:
            level, entry, device = _scale(model, found, sigma, earlier, batch.size, seed)
            screened = screened_earlier
            if sampled is not None and screen is not None:
                screened = _screened(model, sampled, level, screen, batch.size, seed)
            break
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            failure = error.with_traceback(None)
        batch.ran_out(batch.size, failure)  # outside the handler, whose traceback holds the memory
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
    if also:
        made += extra_metrics(model, level, also, tasks.items["audited"].captions(), n_draws=n_draws)
    if screen is not None:
        made = [Screen(level), *made]
    return Settled(entry, made, device, batch.size, None if screen is None else screened)


def _scale(
    model: Model,
    found: Sequence[Picture],
    sigma: float | Choice,
    earlier: dict[str, Any] | None,
    batch_size: int,
    seed: int,
) -> tuple[float, dict[str, Any], str]:
    """Choose sigma where it is to be chosen, and check that the model denoises there; return it with its record."""
    x, keys = encode(model.codec, found, batch_size), [picture.sha256 for picture in found]
    fine = encoded(x)
    if not bool(fine.any()):
        raise ValueError(f"of no picture of a sample is there a point to start from: {OVERFLOW}")
    x, keys = x[fine], [key for key, good in zip(keys, fine.tolist(), strict=True) if good]
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
    how = sigma if isinstance(sigma, str) else "fixed"
    return level, {"value": level, "chosen": how, "curve": curve}, str(x.device)


def _screened(
    model: Model, found: Sequence[Picture], sigma: float, share: float, batch_size: int, seed: int
) -> dict[str, Any]:
    """Find the screen's threshold in a sample of the audited pictures."""
    captions: list[str | None] = [None] * batch_size
    values: list[float] = []
    for start in range(0, len(found), batch_size):
        part = found[start : start + batch_size]
        values += cast(list[float], score_batch(model, [Screen(sigma)], part, captions[: len(part)], seed)["screen"])
    return {
        "share": share,
        "threshold": float(f"{threshold(torch.tensor(values), share=share):.4g}"),
        "n_sample": len(found),
    }


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
    if share < -0.5 or share > max(KEPT, size):
        raise ValueError(
            f"the model does not denoise: at sigma {sigma:.4g} it keeps {share:.2g} of the noise, where a denoiser "
            "keeps nearly 0; check prediction_type and the betas in scheduler_config.json"
        )


def _numbers(values: Tensor) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]
