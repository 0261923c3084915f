"""What an audit computes of every picture."""

from pointland.metrics.cosine_norm import CosineNorm
from pointland.metrics.critical_scale import CriticalScale
from pointland.metrics.crossing import ladder
from pointland.metrics.denoising_confidence import DenoisingConfidence
from pointland.metrics.evaluations import Evaluations
from pointland.metrics.freedom_start import FreedomStart
from pointland.metrics.guidance_jump import GuidanceNormJump
from pointland.metrics.guidance_norm import EulerGuidanceNorm, GuidanceNorm
from pointland.metrics.guidance_start import GuidanceNormStart
from pointland.metrics.loss_map import LossMap
from pointland.metrics.metric import Column, Metric
from pointland.metrics.model_gap import ModelGap
from pointland.metrics.model_lid import DenoisingLossColumns, FlipdColumns
from pointland.metrics.near_copies import NearCopies, copy_groups, perceptual_hash
from pointland.metrics.one_step_edges import OneStepEdges
from pointland.metrics.p_laplace import PLaplace
from pointland.metrics.png_size import PngSize
from pointland.metrics.recall import Recall, residual_map
from pointland.metrics.screen import Screen
from pointland.metrics.sharpness import Sharpness
from pointland.metrics.sketch import Sketch
from pointland.metrics.swapped_caption import SwappedCaption
from pointland.metrics.trajectory import Trajectory

__all__ = [
    "Column",
    "CosineNorm",
    "CriticalScale",
    "DenoisingConfidence",
    "DenoisingLossColumns",
    "EulerGuidanceNorm",
    "Evaluations",
    "FlipdColumns",
    "FreedomStart",
    "GuidanceNorm",
    "GuidanceNormJump",
    "GuidanceNormStart",
    "LossMap",
    "Metric",
    "ModelGap",
    "NearCopies",
    "OneStepEdges",
    "PLaplace",
    "PngSize",
    "Recall",
    "Screen",
    "Sharpness",
    "Sketch",
    "SwappedCaption",
    "Trajectory",
    "copy_groups",
    "ladder",
    "perceptual_hash",
    "residual_map",
]
