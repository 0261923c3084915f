import pytest
import torch

from pointland import exact
from pointland.lid.scale import PAPER_SIGMA, Sweep, candidates, sweep
from pointland.noise import Levels


def test_the_paper_clock() -> None:
    assert abs(PAPER_SIGMA - 0.3401) < 1e-3  # sqrt(exp(0.10950) - 1)


def test_a_sweep_finds_the_scale_at_which_things_differ() -> None:
    """Half the points are memorized exactly, the others vary at scale 0.3: far below or above it all look alike."""
    plane = exact.subspace(d=32, k=16)
    spread = 0.3 * plane.sample(24, seed=0)
    keys = [str(i) for i in range(24)]
    memorized = torch.arange(24) % 2 == 0

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        varying = 0.3 * plane(x / 0.3, sigma / 0.3)
        return torch.where(memorized[:, None], spread, varying)

    found = sweep(denoise, spread, keys, torch.tensor([0.02, 0.1, 0.3, 1.0, 30.0]), n_draws=16)
    assert found.values.shape == (5, 24)
    assert found.best < 1.0
    assert (found.values.diff(dim=0)[:, ~memorized].mean(-1) <= 0).all()  # the soft count falls with sigma


def test_a_level_with_missing_values_is_never_chosen() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0, 9.0], [1.0, 90.0, 300.0, float("nan")]])
    found = Sweep(torch.tensor([0.3, 2.0]), values, torch.ones(2, 4))
    assert found.best == pytest.approx(0.3)
    assert found.resolution.isfinite().all()


def test_batches_change_nothing() -> None:
    plane = exact.subspace(d=8, k=3)
    x, keys = plane.sample(7, seed=0), [str(i) for i in range(7)]
    sigmas = torch.tensor([0.1, 1.0])
    whole, parts = sweep(plane, x, keys, sigmas), sweep(plane, x, keys, sigmas, batch_size=2)
    torch.testing.assert_close(whole.values, parts.values)


def test_candidates_are_trained_levels() -> None:
    levels = Levels(torch.linspace(0.03, 14, 1000, dtype=torch.float64))
    chosen = candidates(levels)
    assert set(chosen.tolist()) <= set(levels.sigmas.tolist())
    assert 0.08 < chosen[0] < 0.12
    assert 3.9 < chosen[-1] < 4.1
    assert len(candidates(Levels(torch.tensor([0.5], dtype=torch.float64)))) == 1
