"""Descriptors that images are compared by."""

from pointland.samples.descriptors.descriptor import Descriptor
from pointland.samples.descriptors.dinov2 import Dinov2, load_dinov2
from pointland.samples.descriptors.perceptual import Perceptual
from pointland.samples.descriptors.pixels import Pixels
from pointland.samples.descriptors.sscd import Sscd, load_sscd

__all__ = ["Descriptor", "Dinov2", "Perceptual", "Pixels", "Sscd", "load_dinov2", "load_sscd"]
