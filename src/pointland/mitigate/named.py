"""The mitigations by name, as the command line and the benchmark make them, calibrated on normal prompts if given."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pointland.mitigate.clipping import ClippedGuidance, Norm, norm_of
from pointland.mitigate.cross_attention import ScaledAttention
from pointland.mitigate.embedding import WEN, OptimizedEmbedding
from pointland.mitigate.freedom import GuidedFreedom, HeldFreedom
from pointland.mitigate.guidance_schedule import GuidanceAfterMinimum, LateGuidance
from pointland.mitigate.initial_noise import HanPerImage, HanSteps, Sail
from pointland.mitigate.mitigation import Mitigation
from pointland.mitigate.normal_level import normal_level
from pointland.mitigate.perturbation import AddedWords, EmbeddingNoise
from pointland.mitigate.plain import Plain
from pointland.mitigate.signal import Signal, Trigger, calibrated
from pointland.mitigate.trigger_words import DroppedWords
from pointland.model import PromptedModel
from pointland.prompts.objectives import Flipd, ScoreNorm, guidance_norm
from pointland.prompts.signals import JUMP_TO

TRIGGERED: dict[str, Callable[[Trigger], Mitigation]] = {
    "tokens": lambda trigger: AddedWords("tokens", trigger=trigger),
    "numbers": lambda trigger: AddedWords("numbers", trigger=trigger),
    "repeats": lambda trigger: AddedWords("repeats", trigger=trigger),
    "noise": lambda trigger: EmbeddingNoise(trigger=trigger),
    "late-guidance": lambda trigger: LateGuidance(trigger=trigger),
    "opposite-guidance": lambda trigger: LateGuidance(3.18, -2.0, trigger),
    "guidance-minimum": lambda trigger: GuidanceAfterMinimum(trigger=trigger),
    "attention": lambda trigger: ScaledAttention(trigger=trigger),
    "sail": lambda trigger: Sail(trigger),
    "han-steps": lambda trigger: HanSteps(trigger),
    "han": lambda trigger: HanPerImage(trigger, n_steps=50),
}
UNTIL_NORMAL: dict[str, Callable[[Trigger], Mitigation]] = {
    "drop-words": lambda trigger: DroppedWords(trigger),
    "embedding": lambda trigger: OptimizedEmbedding(trigger),
    "embedding-score": lambda trigger: OptimizedEmbedding(trigger, descend=at_jump(ScoreNorm())),
    "embedding-flipd": lambda trigger: OptimizedEmbedding(
        trigger, descend=Signal(Flipd(slope="finite-difference"), "low", JUMP_TO, 1)
    ),
}
STEPWISE = ("clip-guidance", "clip-score", "hold-freedom")
NAMES = ("none", *UNTIL_NORMAL, *TRIGGERED, *STEPWISE)


def at_jump(objective: Any = guidance_norm) -> Signal:
    """Return the signal of an objective after one jump from the start under the caption."""
    return Signal(objective, sigma=JUMP_TO, n_steps=1)


def mitigation(
    name: str,
    pipe: Any,
    model: PromptedModel,
    normal_prompts: Sequence[str] = (),
    *,
    rate: float = 0.05,
    seed: int = 0,
    trigger: Trigger | None = None,
    **arguments: Any,
) -> Mitigation:
    """Return the mitigation of that name.

    Args:
        name: One of ``NAMES``.
        pipe: The pipeline it is calibrated on.
        model: The model of its modules.
        normal_prompts: Unmemorized prompts; without them methods act on every prompt, as they were published.
        rate: Share of normal prompts that may be touched.
        seed: Of the normal prompts' starts.
        trigger: From an earlier calibration, instead of a new one.
        arguments: The pipeline's own, as they will be used.

    Raises:
        ValueError: If there is no such name, or the method needs normal prompts and there are none.
    """
    if name not in NAMES:
        raise ValueError(f"there is no mitigation {name!r}; choose among {', '.join(NAMES)}")
    if name == "none":
        return Plain()
    if not normal_prompts and trigger is None:
        return _as_published(name)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(normal_prompts))]
    if name in STEPWISE:
        measure = GuidedFreedom() if name == "hold-freedom" else norm_of(_norm(name))
        below = name == "hold-freedom"
        level = normal_level(
            measure,
            pipe,
            normal_prompts,
            generators,
            beyond="below" if below else "above",
            rate=rate,
            model=model,
            **arguments,
        )
        return HeldFreedom(level) if below else ClippedGuidance(level, _norm(name))
    if trigger is None:
        trigger = calibrated(at_jump(), pipe, normal_prompts, generators, rate=rate, model=model, **arguments)
    return (TRIGGERED | UNTIL_NORMAL)[name](trigger)


def _as_published(name: str) -> Mitigation:
    if name in TRIGGERED:
        return TRIGGERED[name](Trigger())
    if name == "embedding":
        return UNTIL_NORMAL[name](Trigger(WEN))
    raise ValueError(
        f"{name} needs to know what is normal: give prompts of your kind that are not memorized (--normal), "
        "19 for the default rate"
    )


def _norm(name: str) -> Norm:
    return "score" if name == "clip-score" else "guidance"
