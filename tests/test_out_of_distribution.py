"""The dual threshold: its rate by simulation, its measures, the density under the curve, and the paradox in numbers."""

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch

from pointland import draws, exact
from pointland.exact.gaussian import Gaussian
from pointland.exact.mixture import Mixture
from pointland.experiments import out_of_distribution
from pointland.experiments.dual_threshold import dual_auroc, dual_threshold, mean_log_density
from pointland.verdict import auroc


@pytest.fixture(scope="module")
def result() -> out_of_distribution.Result:
    return out_of_distribution.run(n=150)


@pytest.mark.parametrize("values", ["dependent", "opposed", "tied"])
def test_in_every_set_at_most_the_asked_share_is_flagged_when_each_is_tested_by_the_others(values: str) -> None:
    """The law behind the guarantee, without chance: of n + 1 pictures at most a share alpha has p <= alpha."""
    rng = np.random.default_rng(0)
    for n in (7, 24):
        first, second = rng.normal(size=(2, n + 1))
        second = {"dependent": first + 0.3 * second, "opposed": 0.3 * second - first, "tied": second}[values]
        if values == "tied":
            first, second = first.round(), second.round()
        rest = [np.arange(n + 1) != j for j in range(n + 1)]
        p = np.array([float(dual_threshold(first[~r], second[~r], first[r], second[r]).p[0]) for r in rest])
        for level in range(1, n + 2):
            assert (p * (n + 1) <= level + 1e-9).sum() <= level
            if values != "tied":  # two pictures can still swap their ranks, three cannot
                assert (p * (n + 1) <= level + 1e-9).sum() >= level - 1


def test_the_false_alarm_rate_holds_over_many_references() -> None:
    rng = np.random.default_rng(1)
    first = rng.normal(size=(1500, 20))
    second = 0.8 * first + 0.6 * rng.normal(size=(1500, 20))
    p = [float(dual_threshold(a[:1], b[:1], a[1:], b[1:]).p[0]) for a, b in zip(first, second, strict=True)]
    for level in (0.05, 0.25, 0.5):
        assert abs(np.mean(np.array(p) <= level) - level) <= 4 * math.sqrt(level * (1 - level) / 1500)


def test_p_values_are_those_of_ranking_every_picture_among_the_reference() -> None:
    rng = np.random.default_rng(2)
    likelihood, lid = rng.integers(0, 9, size=(2, 12)).astype(np.float64)
    reference = rng.integers(0, 9, size=(2, 15)).astype(np.float64)
    found = dual_threshold(likelihood, lid, *reference)
    for j in range(12):
        bag = np.column_stack([np.append(reference[0], likelihood[j]), np.append(reference[1], lid[j])])
        ranks = [[int((bag[:, c] <= bag[i, c]).sum()) for c in (0, 1)] for i in range(16)]
        scores = [(min(pair), max(pair)) for pair in ranks]
        assert found.p[j] == pytest.approx(sum(score <= scores[-1] for score in scores) / 16)
        assert found.by_lid[j] == (ranks[-1][1] < ranks[-1][0])


def test_either_number_alone_makes_a_discovery_and_says_which() -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(size=(2, 99))
    found = dual_threshold(np.array([-9.0, 9.0, 9.0]), np.array([9.0, -9.0, 9.0]), *reference)
    assert found.p.tolist() == [0.02, 0.02, 1.0]  # 2 of 100: one in the reference has the lowest other number
    assert found.by_lid.tolist()[:2] == [False, True]


def test_another_unit_or_offset_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    values, reference = rng.normal(size=(2, 30)), rng.normal(size=(2, 50))
    plain = dual_threshold(*values, *reference).p
    moved = dual_threshold(3 * values[0] - 700, np.exp(values[1]), 3 * reference[0] - 700, np.exp(reference[1])).p
    assert (plain == moved).all()


def test_wrong_input_is_refused() -> None:
    three, two = np.arange(3.0), np.arange(2.0)
    with pytest.raises(ValueError, match="one of each"):
        dual_threshold(three, two, three, three)
    with pytest.raises(ValueError, match="not finite"):
        dual_threshold(three, np.array([0.0, np.nan, 1.0]), three, three)
    with pytest.raises(ValueError, match="no reference"):
        dual_threshold(three, three, np.empty(0), np.empty(0))
    with pytest.raises(ValueError, match="not finite"):
        dual_auroc(three, three, three, np.array([0.0, np.inf, 1.0]))


def test_with_one_number_constant_the_dual_auroc_is_that_of_the_other() -> None:
    rng = np.random.default_rng(5)
    outside, inside = rng.normal(size=40), rng.normal(0.7, 1, size=55)
    flat = dual_auroc(outside, np.zeros(40), inside, np.zeros(55), n_resamples=1).value.value
    assert flat == pytest.approx(auroc(-outside, -inside))
    flat = dual_auroc(np.zeros(40), outside, np.zeros(55), inside, n_resamples=1).value.value
    assert flat == pytest.approx(auroc(-outside, -inside))


def test_the_dual_auroc_is_the_area_of_the_best_pairs() -> None:
    """Against every pair of thresholds tried one by one; never below either number alone."""
    rng = np.random.default_rng(6)
    outside, inside = rng.normal(size=(2, 12)), rng.normal(0.5, 1, size=(2, 9))
    found = dual_auroc(*outside, *inside, n_resamples=1).value.value
    ends = [[*sorted([*outside[c], *inside[c]]), np.inf] for c in (0, 1)]
    points = sorted(
        {
            tuple(float(((kind[0] >= a) & (kind[1] >= b)).mean()) for kind in (outside, inside))
            for a in ends[0]
            for b in ends[1]
        }
    )
    area, last = 0.0, (0.0, 0.0)
    for false, true in points:
        if true >= last[1]:
            area += (false - last[0]) * (true + last[1]) / 2
            last = (false, true)
    assert found == pytest.approx(area)
    assert found >= max(auroc(-outside[c], -inside[c]) for c in (0, 1))


def test_labels_dealt_at_random_make_a_dual_auroc_above_one_half() -> None:
    """The published measure chooses its thresholds by the labels: on noise it reads what ``chance`` says."""
    rng = np.random.default_rng(7)
    values = [dual_auroc(*rng.normal(size=(2, 40)), *rng.normal(size=(2, 40)), n_resamples=20) for _ in range(20)]
    mean = float(np.mean([value.value.value for value in values]))
    chance = float(np.mean([value.chance for value in values]))
    assert mean > 0.56
    assert abs(mean - chance) < 0.04  # 20 sets of standard deviation 0.06


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_area_under_the_loss_is_the_log_density(dtype: torch.dtype) -> None:
    """A Gaussian: the mean of log p(x + sigma n) over n is known at every x."""
    plane = exact.subspace(d=12, k=4, seed=0, variances=[0.5, 1.0, 2.0, 4.0])
    x = plane.sample(3, seed=1, dtype=dtype)
    sigmas = np.geomspace(0.05, 60, 24).tolist()
    noises = torch.randn(24, 60, 3, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = mean_log_density(plane, x, sigmas, noises=noises)
    along = (x.double() - plane.mean) @ plane.axes
    total = plane.variances + 0.05**2
    quadratic = ((along.square() + 0.05**2) / total).sum(1) + 8  # across the plane the noise alone, squared over itself
    known = -0.5 * (quadratic + total.log().sum() + 8 * math.log(0.05**2) + 12 * math.log(2 * math.pi))
    assert bool(((found.value - known).abs() < 4 * found.stderr + 0.05).all())  # 0.05 for trapezoids and the end
    assert float(found.stderr.max()) < 0.5


def test_the_density_does_not_depend_on_the_batch_and_one_draw_has_no_error() -> None:
    plane = exact.subspace(d=6, k=2)
    x = plane.sample(2, seed=0)
    noises = draws.normal(x, ["a", "b"], 5, 0)[:, None]
    both = mean_log_density(plane, x, [0.1, 0.3, 1.0, 3.0, 10.0], noises=noises)
    one = mean_log_density(plane, x[1:], [0.1, 0.3, 1.0, 3.0, 10.0], noises=noises[:, :, 1:])
    assert torch.allclose(both.value[1:], one.value, rtol=1e-5)
    assert bool(both.stderr.isnan().all())


@pytest.mark.parametrize("sigmas", [[0.1], [0.1, 1.0], [0.1, 0.05, 1.0]])
def test_scales_that_do_not_fit_are_refused(sigmas: list[float]) -> None:
    plane = exact.subspace(d=6, k=2)
    x = plane.sample(1, seed=0)
    with pytest.raises(ValueError, match="ascending"):
        mean_log_density(plane, x, sigmas, noises=draws.normal(x, ["a"], 3, 0)[:, None])


def test_the_paradox_and_its_solution_on_an_exact_model(result: out_of_distribution.Result) -> None:
    assert all(result.claims.values()), result.claims
    assert [row.points for row in result.rows] == ["samples", "peak", "off the plane"]


def test_medians_are_those_of_the_closed_forms(result: out_of_distribution.Result) -> None:
    """At a clean point of a k-plane log p is known but for half a chi-square of k; LID is its soft count and so k."""
    same, peak, _ = result.rows
    assert abs(peak.lid - 2) < 0.1
    assert abs(same.lid - 12) < 0.2
    across = 18 * math.log(0.05**2) + 20 * math.log(2 * math.pi)
    known = math.log(1e-6) - 0.5 * (2 * math.log(1 + 0.05**2) + across + 2 * math.log(2))  # median of chi-square 2
    assert abs(peak.log_density - known) < 0.25


def test_a_denser_peak_still_holds_no_samples() -> None:
    """At sigma 0.05 the peak is 2,000,000 times as dense as the plane, and a million samples hold about one of it."""
    body = exact.subspace(20, 12, 0)
    model = Mixture(
        (body, Gaussian(body.mean, exact.subspace(20, 2, 1).axes, torch.ones(2).double())), (1 - 1e-6, 1e-6)
    )
    x, scale = (
        torch.stack([body.mean + body.axes.sum(1), body.mean + model.pieces[1].axes.sum(1)]),
        torch.tensor([0.05]),
    )
    plane, peak = out_of_distribution.log_density(model, x, scale.double()).tolist()
    expected = math.log(1e-6) + 5 * math.log((1 + 0.05**2) / 0.05**2) + 5 / (1 + 0.05**2)
    assert peak - plane == pytest.approx(expected, abs=1e-3)
    assert set(model.component(model.sample(5000, seed=0)).tolist()) == {0}


def test_the_picture_is_drawn(result: out_of_distribution.Result) -> None:
    picture = out_of_distribution.draw(result)
    root = ElementTree.fromstring(picture)
    assert root.get("viewBox")
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) >= 450  # a dot a point, and the legend's
    assert "nan" not in picture
