"""Pointland: which images has a generative model memorized, why, and how do we know.

Names are loaded when first used, so that ``import pointland`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pointland.auditing import Progress, Run, audit, read_run
    from pointland.explanation import Explanation, explain, explain_run
    from pointland.extraction import extract
    from pointland.lid.denoising_loss import DenoisingLoss, denoising_loss
    from pointland.lid.estimate import LidEstimate
    from pointland.lid.flipd import Flipd, flipd, flipd_exact
    from pointland.mitigate import Guard
    from pointland.models import load
    from pointland.monitoring import Monitor
    from pointland.prompts import attribute, screen
    from pointland.report import summarize, write_report
    from pointland.report.compare import compare

_WHERE = {
    "DenoisingLoss": "lid",
    "Explanation": "explanation",
    "Flipd": "lid",
    "Guard": "mitigate",
    "LidEstimate": "lid",
    "Monitor": "monitoring",
    "Progress": "auditing",
    "Run": "auditing",
    "attribute": "prompts",
    "audit": "auditing",
    "compare": "report.compare",
    "denoising_loss": "lid",
    "explain": "explanation",
    "explain_run": "explanation",
    "extract": "extraction",
    "flipd": "lid",
    "flipd_exact": "lid",
    "load": "models",
    "read_run": "auditing",
    "screen": "prompts",
    "summarize": "report",
    "write_report": "report",
}

__all__ = [  # the names above
    "DenoisingLoss",
    "Explanation",
    "Flipd",
    "Guard",
    "LidEstimate",
    "Monitor",
    "Progress",
    "Run",
    "attribute",
    "audit",
    "compare",
    "denoising_loss",
    "explain",
    "explain_run",
    "extract",
    "flipd",
    "flipd_exact",
    "load",
    "read_run",
    "screen",
    "summarize",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"pointland has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"pointland.{_WHERE[name]}"), name)
