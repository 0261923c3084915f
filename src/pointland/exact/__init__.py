"""Closed-form denoisers and manifolds with known local intrinsic dimension: the ground truth of every test."""

from pointland.exact.circle import Circle, circle
from pointland.exact.funnel import Funnel, Funnels, funnel, funnels
from pointland.exact.gaussian import Gaussian, gaussian
from pointland.exact.mixture import Mixture, mixture
from pointland.exact.points import Points, points
from pointland.exact.sphere import Sphere, sphere
from pointland.exact.subspace import subspace

__all__ = [
    "Circle",
    "Funnel",
    "Funnels",
    "Gaussian",
    "Mixture",
    "Points",
    "Sphere",
    "circle",
    "funnel",
    "funnels",
    "gaussian",
    "mixture",
    "points",
    "sphere",
    "subspace",
]
