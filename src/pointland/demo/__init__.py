"""The bundled miniature: a real Stable Diffusion pipeline of 6 MB with planted memorization, and its pictures."""

from pointland.demo.control import Check, checks
from pointland.demo.unpack import MINIATURE, Demo, unpack

__all__ = ["MINIATURE", "Check", "Demo", "checks", "unpack"]
