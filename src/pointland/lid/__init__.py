"""Estimators of local intrinsic dimension."""

from pointland.lid.denoising_loss import DenoisingLoss, denoising_loss
from pointland.lid.estimate import LidEstimate
from pointland.lid.flipd import Flipd, flipd, flipd_exact
from pointland.lid.scale import Sweep, sweep

__all__ = ["DenoisingLoss", "Flipd", "LidEstimate", "Sweep", "denoising_loss", "flipd", "flipd_exact", "sweep"]
