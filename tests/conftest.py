# ruff: noqa: E402  # the environment and the import hook come before the imports that they are for
"""Run-time shape checks, one thread, reproducible Hypothesis runs, and the list of exact models."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("pointland", "beartype.beartype")  # before anything of ours is imported

import pytest
import torch
from hypothesis import settings

from pointland import exact
from pointland.auditing import local

torch.set_num_threads(1)
local.READERS = 0  # processes cost more than these pictures; tests of them ask for some
settings.register_profile("pointland", deadline=None, derandomize=True, max_examples=15, database=None)
settings.load_profile("pointland")

Exact = exact.Circle | exact.Gaussian | exact.Mixture | exact.Points

EXACT: dict[str, Exact] = {
    "plane": exact.subspace(d=12, k=3, variances=[0.5, 1.0, 2.0]),
    "point": exact.subspace(d=6, k=0),
    "full-rank": exact.gaussian(torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.2]]).double()),
    "mixture": exact.mixture(10, dims=(0, 1, 4)),
    "pictures": exact.points(torch.randn(9, 2, 3, 2, generator=torch.Generator().manual_seed(1))),
    "circle": exact.circle(),
    "circle-in-space": exact.circle(concentration=0.5, d=5, seed=3),
}


@pytest.fixture(scope="session", params=list(EXACT))
def exact_model(request: pytest.FixtureRequest) -> Exact:
    """Every closed form in turn; items of one axis and of three."""
    return EXACT[request.param]
