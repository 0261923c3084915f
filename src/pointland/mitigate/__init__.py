"""Acting on a pipeline: steering it while it samples, mitigations, the guard."""

from pointland.mitigate.clipping import ClippedGuidance, norm_of
from pointland.mitigate.cross_attention import ScaledAttention
from pointland.mitigate.embedding import OptimizedEmbedding
from pointland.mitigate.freedom import GuidedFreedom, HeldFreedom
from pointland.mitigate.guard import Guard, Judged, default_signal
from pointland.mitigate.guidance_schedule import GuidanceAfterMinimum, LateGuidance
from pointland.mitigate.initial_noise import HanPerImage, HanSteps, Sail
from pointland.mitigate.mitigation import Callback, Decision, Generated, Mitigation
from pointland.mitigate.nearest import AwayFromNearest, usual_margin
from pointland.mitigate.normal_level import NormalLevel, normal_level
from pointland.mitigate.opening import Opening, opening
from pointland.mitigate.perturbation import AddedWords, EmbeddingNoise
from pointland.mitigate.plain import Plain
from pointland.mitigate.signal import Signal, Trigger, calibrated, signals
from pointland.mitigate.steering import Counter, Rule, Step, counting, steered
from pointland.mitigate.trigger_words import DroppedWords, Rewritten

__all__ = [
    "AddedWords",
    "AwayFromNearest",
    "Callback",
    "ClippedGuidance",
    "Counter",
    "Decision",
    "DroppedWords",
    "EmbeddingNoise",
    "Generated",
    "Guard",
    "GuidanceAfterMinimum",
    "GuidedFreedom",
    "HanPerImage",
    "HanSteps",
    "HeldFreedom",
    "Judged",
    "LateGuidance",
    "Mitigation",
    "NormalLevel",
    "Opening",
    "OptimizedEmbedding",
    "Plain",
    "Rewritten",
    "Rule",
    "Sail",
    "ScaledAttention",
    "Signal",
    "Step",
    "Trigger",
    "calibrated",
    "counting",
    "default_signal",
    "norm_of",
    "normal_level",
    "opening",
    "signals",
    "steered",
    "usual_margin",
]
