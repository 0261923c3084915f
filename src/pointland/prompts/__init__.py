"""Prompts: which of them call up something memorized, and which of their words do."""

from pointland.prompts.attention import AttentionEntropyStart
from pointland.prompts.attribution import Attribution, Rewrite, WordScore, at_start, attribute, landed
from pointland.prompts.objectives import Flipd, Freedom, Objective, ScoreNorm, guidance_norm, predictions
from pointland.prompts.reading import Prompt, read_prompts
from pointland.prompts.screening import Screening, screen
from pointland.prompts.signals import SignalName, signals
from pointland.prompts.words import Word, words_of

__all__ = [
    "AttentionEntropyStart",
    "Attribution",
    "Flipd",
    "Freedom",
    "Objective",
    "Prompt",
    "Rewrite",
    "ScoreNorm",
    "Screening",
    "SignalName",
    "Word",
    "WordScore",
    "at_start",
    "attribute",
    "guidance_norm",
    "landed",
    "predictions",
    "read_prompts",
    "screen",
    "signals",
    "words_of",
]
