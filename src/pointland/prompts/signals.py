"""Signals: what a screening computes of every prompt, as metrics at the start of a generation.

===========  =======================================================================  ==========================
name         column                                                                   evaluations, first signal
===========  =======================================================================  ==========================
jump         ``guidance_norm_jump``: guidance norm after one step under the caption    4 (of which 2 at the start)
guidance     ``guidance_norm_start`` (Wen)                                            2
confidence   ``denoising_confidence`` (Webster, white box)                            2
edges        ``one_step_edges`` (Webster, black box)                                  8
sharpness    ``sharpness`` (Jeon)                                                     6
cosine       ``cosine_norm``, ``cosine_start`` (Asthana and Belagiannis)              4
freedom      ``freedom_start``, ``freedom_gap_start``, ``flipd_start``                4
attention    ``attention_entropy_start`` (Ren); U-Nets with cross-attention only      1
trajectory   ``guidance_norm_steps`` (Wen), ``update_excess`` (Broken memories)       3 a step, 30
===========  =======================================================================  ==========================

Those at the start share its evaluations. A backward pass counts as an evaluation.
"""

from collections.abc import Sequence
from typing import Literal, get_args

from pointland.metrics import (
    CosineNorm,
    DenoisingConfidence,
    FreedomStart,
    GuidanceNormJump,
    GuidanceNormStart,
    Metric,
    OneStepEdges,
    Sharpness,
    Trajectory,
)
from pointland.model import PromptedModel
from pointland.noise import Levels
from pointland.prompts.attention import AttentionEntropyStart

SignalName = Literal[
    "jump", "guidance", "confidence", "edges", "sharpness", "cosine", "freedom", "attention", "trajectory"
]
"""A signal of a prompt, as ``--signal`` names it."""
DEFAULT: tuple[SignalName, ...] = ("jump", "guidance")
DECIDE_BY = "guidance_norm_jump"
JUMP_TO = 0.3  # see docs/prompts.md for the levels tried
COSINE_LOW = 0.21  # sigma of the third from last of 50 DDIM steps of Stable Diffusion
STEPS = 10


def signals(
    model: PromptedModel,
    names: Sequence[str] = DEFAULT,
    *,
    n_draws: int = 1,
    sigma: float | None = None,
    low: float = JUMP_TO,
) -> list[Metric]:
    """Return the metrics of those names.

    Args:
        model: The model.
        names: As in the table above.
        n_draws: Starts of every signal that takes more than one; ``edges`` keeps its four.
        sigma: Level of the pure noise; by default the model's highest, where its samplers start.
        low: Level that ``jump`` jumps to.

    Raises:
        ValueError: If there is no such signal, or a level is outside the model's.
    """
    unknown = [name for name in names if name not in get_args(SignalName)]
    if unknown or not names:
        raise ValueError(f"there is no signal {unknown[:1] or ''}; choose among {', '.join(get_args(SignalName))}")
    start = float(model.levels.sigmas[-1]) if sigma is None else model.levels.nearest(sigma).sigma
    return [_made(model, name, start, n_draws, low) for name in dict.fromkeys(names)]


def descent(levels: Levels, start: float, n: int = STEPS) -> tuple[float, ...]:
    """Return the trained levels of ``n`` steps down from ``start``, evenly spaced in the model's own clock."""
    top = levels.nearest(start).timestep
    if top < n:
        raise ValueError(f"{n} steps need as many trained levels below sigma {start:.4g}; the model has {top}")
    return tuple(float(levels.sigmas[round(top * (n - k) / n)]) for k in range(n + 1))


def _made(model: PromptedModel, name: str, start: float, n_draws: int, low: float) -> Metric:
    match name:
        case "jump":
            return GuidanceNormJump(start, model.levels.nearest(low).sigma, n_draws)
        case "guidance":
            return GuidanceNormStart(start, n_draws)
        case "confidence":
            return DenoisingConfidence(start, n_draws=n_draws)
        case "edges":
            return OneStepEdges(start)
        case "sharpness":
            return Sharpness(start, n_draws)
        case "cosine":
            return CosineNorm(start, model.levels.nearest(COSINE_LOW).sigma, n_draws=n_draws)
        case "freedom":
            return FreedomStart(start, n_probes=n_draws)
        case "attention":
            return AttentionEntropyStart(start)
        case _:
            return Trajectory(descent(model.levels, start))
