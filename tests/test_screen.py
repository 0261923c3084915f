import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from captioned_mixture import CaptionedMixture, batch_of, gauss, memorizer, normal_points, pictured
from pointland import exact
from pointland.lid import Flipd
from pointland.metrics import FlipdColumns, Metric, Screen
from pointland.metrics.screen import sample_size, suspicious, threshold

SIGMA = 0.3


def screened(model: CaptionedMixture, x: Tensor) -> Tensor:
    return Screen(SIGMA)(batch_of(model, x))["screen"]


def test_it_is_a_metric_of_one_call_and_one_row_a_picture() -> None:
    x = normal_points(5, 12)
    batch = batch_of(memorizer(x), x, pictured(5))  # captions, which other metrics would evaluate too
    metric = Screen(SIGMA)
    assert isinstance(metric, Metric)
    assert set(metric(batch)) == {column.name for column in metric.columns} == {"screen"}
    assert isinstance(batch.model, CaptionedMixture)
    assert batch.model.calls == [5]
    assert metric.forwards(1) == metric.forwards(2) == 1


def test_it_is_the_square_of_the_score_norm_that_an_audit_has_anyway() -> None:
    x = normal_points(4, 12)
    batch = batch_of(CaptionedMixture(exact.mixture(12, dims=(0, 1, 4))), x)
    norm = FlipdColumns(Flipd(SIGMA, 1))(batch)["score_norm_unconditional"]
    torch.testing.assert_close(Screen(SIGMA)(batch)["screen"], (norm * SIGMA) ** 2)


@pytest.mark.parametrize("variance", [0.02, 0.09, 1.0, 5.0])
def test_a_gaussian_has_what_the_module_says(variance: float) -> None:
    d, n = 40, 500
    x = variance**0.5 * normal_points(n, d)
    found = float(screened(CaptionedMixture(gauss(d, variance=variance)), x).mean())
    wanted = d * variance * SIGMA**2 / (variance + SIGMA**2) ** 2
    assert found == pytest.approx(wanted, rel=0.05)  # 20,000 squares scatter by 1 %


def test_a_copy_is_below_a_plane_and_a_plane_below_the_whole_space() -> None:
    d = 24
    models = [exact.subspace(d=d, k=k) for k in (0, 2, 8, 24)]
    medians = [float(screened(CaptionedMixture(model), model.sample(60)).median()) for model in models]
    assert medians[0] < 1e-6
    assert all(low < high / 2 for low, high in pairwise(medians))


def test_a_memorized_picture_in_a_free_model_is_below_all_others() -> None:
    d = 16
    free = exact.gaussian(torch.eye(d, dtype=torch.float64))
    copy = free.sample(1, seed=7)
    points = exact.points(copy)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        near = (x - copy).square().sum(-1, keepdim=True) < 9 * d * SIGMA**2
        return torch.where(near, points(x, sigma), free(x, sigma))

    values = screened(CaptionedMixture(denoise), torch.cat([copy, free.sample(200, seed=1)]))
    assert int(values.argmin()) == 0
    kept = suspicious(values, threshold(values, share=0.1))
    assert kept[0]
    assert int(kept.sum()) == 21  # ceil(0.1 * 202)


def test_neither_order_nor_batch_nor_names_nor_captions_matter() -> None:
    x = normal_points(6, 12)
    model = memorizer(x)
    whole = screened(model, x)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    torch.testing.assert_close(screened(model, x[order]), whole[order])
    torch.testing.assert_close(torch.cat([screened(model, part) for part in torch.split(x, 1)]), whole)
    renamed = batch_of(model, x, pictured(6), [f"other {i}" for i in range(6)])
    torch.testing.assert_close(Screen(SIGMA)(renamed)["screen"], whole)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.25])
@pytest.mark.parametrize("n", [64, 512])
def test_a_sample_s_threshold_keeps_the_share_of_the_whole(share: float, n: int) -> None:
    population = normal_points(20_000).exp()
    kept = []
    for seed in range(200):
        sample = population[torch.randperm(len(population), generator=torch.Generator().manual_seed(seed))[:n]]
        kept.append(float(suspicious(population, threshold(sample, share=share)).float().mean()))
    found = torch.tensor(kept)
    wanted, scatter = math.ceil(share * (n + 1)) / (n + 1), (share * (1 - share) / n) ** 0.5
    assert float(found.mean()) == pytest.approx(wanted, abs=4 * scatter / 200**0.5)
    assert float(found.std()) == pytest.approx(scatter, rel=0.25)  # of 200 samples: 5 %, and the formula is a limit


def test_values_that_are_missing_are_looked_at_and_shape_no_threshold() -> None:
    values = torch.tensor([float("nan"), 1.0, 2.0, float("inf"), 3.0])
    assert threshold(values, share=0.5) == 2
    assert suspicious(values, 2.0).tolist() == [True, True, True, False, False]


def test_copies_stand_or_fall_together() -> None:
    values = torch.tensor([0.5] * 30 + [5.0] * 70)
    assert int(suspicious(values, threshold(values, share=0.1)).sum()) == 30


def test_the_whole_set_can_be_kept() -> None:
    values = normal_points(10)
    assert bool(suspicious(values, threshold(values, share=1.0)).all())


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share to keep"):
        threshold(torch.ones(3), share=share)


def test_a_sample_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="finite value to screen by"):
        threshold(torch.full((3,), float("nan")))


@pytest.mark.parametrize(
    ("n", "wanted"), [(0, 0), (10, 10), (64, 64), (500, 64), (1300, 162), (4096, 512), (10**6, 512)]
)
def test_the_sample_costs_at_most_an_eighth_of_a_pass_but_for_small_sets(n: int, wanted: int) -> None:
    assert sample_size(n) == wanted
