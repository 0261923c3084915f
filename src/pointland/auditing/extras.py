"""Metrics that an audit takes on request: controls, recall, and the published signals for comparison.

============  ============================================================================================
name          what it adds
============  ============================================================================================
swapped       the loss under another picture's caption, and with it the control of the conditional verdict
recall        from how much noise the model leads back to the picture
guidance      the guidance norm at the first sampling step (Wen)
sharpness     Hessian difference times score difference there (Jeon)
confidence    one-step denoising confidence there (Webster)
cosine        cosine of the two predictions plus their difference there (Asthana and Belagiannis)
p-laplace     flux of the normalized score into the picture (Brokman)
critical      the largest scale at which the denoiser keeps the picture (Lopez Amado)
============  ============================================================================================
"""

from collections.abc import Sequence
from typing import Literal, get_args

from pointland.metrics import (
    CosineNorm,
    CriticalScale,
    DenoisingConfidence,
    GuidanceNormStart,
    Metric,
    PLaplace,
    Recall,
    Sharpness,
    SwappedCaption,
    ladder,
)
from pointland.model import Model

Extra = Literal["swapped", "recall", "guidance", "sharpness", "confidence", "cosine", "p-laplace", "critical"]
NEED_CAPTIONS = ("swapped", "guidance", "sharpness", "confidence", "cosine")
COSINE_LOW = 0.21  # sigma of the third from last of 50 DDIM steps of Stable Diffusion


def extra_metrics(
    model: Model, sigma: float, names: Sequence[str], captions: Sequence[str], *, n_draws: int = 8
) -> list[Metric]:
    """Return the metrics of those names at their published settings, where they have any, else at the audit's sigma.

    Args:
        model: The model.
        sigma: The audit's noise scale.
        names: As in the table above.
        captions: Of the audited pictures, for swapping.
        n_draws: The audit's noise draws.

    Raises:
        ValueError: If there is no such metric, or it needs captions that the model or the pictures do not have.
    """
    unknown = [name for name in names if name not in get_args(Extra)]
    if unknown:
        raise ValueError(f"there is no metric {unknown[0]!r} to add; choose among {', '.join(get_args(Extra))}")
    lacking = [name for name in names if name in NEED_CAPTIONS and not (model.conditional and captions)]
    if lacking:
        what = "the model takes none" if not model.conditional else "no audited picture has one"
        raise ValueError(f"{lacking[0]!r} needs captions, and {what}; leave it out")
    return [_made(model, sigma, name, captions, n_draws) for name in dict.fromkeys(names)]


def _made(model: Model, sigma: float, name: str, captions: Sequence[str], n_draws: int) -> Metric:
    start = float(model.levels.sigmas[-1])
    level = model.levels.nearest(2 * sigma).sigma
    match name:
        case "swapped":
            return SwappedCaption(tuple(sorted(set(captions))), sigma, n_draws)
        case "recall":
            rungs = ladder(model.levels, level / 8, 4 * level, 6)
            return Recall(rungs, min(rungs, key=lambda rung: abs(rung - level)), n_draws=1)
        case "guidance":
            return GuidanceNormStart(start)
        case "sharpness":
            return Sharpness(start)
        case "confidence":
            return DenoisingConfidence(start)
        case "cosine":
            return CosineNorm(start, model.levels.nearest(COSINE_LOW).sigma)
        case "p-laplace":
            return PLaplace(sigma, n_draws)
        case _:
            return CriticalScale(ladder(model.levels, level / 8, 4 * level, 12))
