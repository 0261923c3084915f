"""What an audit computes of every picture."""

from pointland.metrics.evaluations import Evaluations
from pointland.metrics.guidance_norm import EulerGuidanceNorm, GuidanceNorm
from pointland.metrics.metric import Column, Metric
from pointland.metrics.model_lid import DenoisingLossColumns, FlipdColumns
from pointland.metrics.near_copies import NearCopies, copy_groups, perceptual_hash
from pointland.metrics.png_size import PngSize

__all__ = [
    "Column",
    "DenoisingLossColumns",
    "EulerGuidanceNorm",
    "Evaluations",
    "FlipdColumns",
    "GuidanceNorm",
    "Metric",
    "NearCopies",
    "PngSize",
    "copy_groups",
    "perceptual_hash",
]
