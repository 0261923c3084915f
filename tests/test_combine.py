import numpy as np
import pytest

from pointland.verdict import clopper_pearson, combine, conformal_p_values, decide, mirrored_p_values, shift_weights
from pointland.verdict.combine import Rule


@pytest.mark.parametrize("rule", ["fisher", "cauchy"])
def test_combined_p_values_are_uniform_however_the_columns_depend(rule: Rule) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        first, second = rng.normal(size=250), rng.normal(size=250)
        second = 0.8 * first + 0.6 * second
        audited, reference = combine([(first[:50], first[50:], "low"), (second[:50], second[50:], "low")], rule)
        found.append(conformal_p_values(audited, reference))
    p = np.concatenate(found)
    for level in (0.05, 0.2, 0.5):
        assert abs((p <= level).mean() - level) < 0.02


def test_two_half_hints_make_one_find() -> None:
    """Each column alone sees only half of the memorized pictures; combined, they see nearly all."""
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(2, 400))
    values = rng.normal(size=(2, 100))
    values[0, :20] -= 5
    values[1, 20:40] -= 5
    audited, known = combine([(values[0], reference[0], "low"), (-values[1], -reference[1], "high")])
    combined = decide(audited, known, memorized_when="low", fdr=0.1).flagged
    alone = decide(values[0], reference[0], memorized_when="low", fdr=0.1).flagged
    assert combined[:40].mean() > 0.85 > 0.6 > alone[:40].mean()
    assert combined[40:].mean() < 0.1


def test_no_value_stays_no_value() -> None:
    audited, _ = combine([(np.array([0.0, np.nan]), np.arange(9.0), "low"), (np.zeros(2), np.arange(9.0), "low")])
    assert np.isfinite(audited).tolist() == [True, False]


def test_nothing_to_combine_is_refused() -> None:
    with pytest.raises(ValueError, match="no columns"):
        combine([])
    with pytest.raises(ValueError, match="without reference"):
        combine([(np.zeros(2), np.full(3, np.nan), "low")])


def test_weights_mend_a_reference_of_other_complexity() -> None:
    """The reference holds more complex pictures, whose values are higher; unweighted, ordinary pictures look low."""
    rng = np.random.default_rng(2)
    complexity, other = rng.normal(size=2000), rng.normal(1.0, 1, size=2000)
    values, reference = complexity + rng.normal(size=2000), other + rng.normal(size=2000)
    mine, theirs = shift_weights(complexity[:, None], other[:, None])
    plain = conformal_p_values(values, reference)
    weighted = conformal_p_values(values, reference, mine, theirs)
    assert (plain <= 0.1).mean() > 0.2
    assert abs((weighted <= 0.1).mean() - 0.1) < 0.03
    np.testing.assert_allclose(conformal_p_values(values, reference, np.ones(2000), np.ones(2000)), plain)
    found = decide(values, reference, memorized_when="low", fdr=0.1, weights=(mine, theirs))
    np.testing.assert_array_equal(found.p, weighted)
    assert found.flagged.mean() < 0.01
    with pytest.raises(ValueError, match="one side"):
        conformal_p_values(values, reference, mine)


def test_the_mirror_keeps_the_rate_without_a_reference() -> None:
    rng = np.random.default_rng(3)
    shares, power = [], []
    for _ in range(200):
        values = np.concatenate([rng.normal(-5, 1, 40), rng.normal(0.7, 1, 360)])
        flagged = decide(values, np.empty(0), memorized_when="low", fdr=0.1, mirror=True).flagged
        shares.append(flagged[40:].sum() / max(1, flagged.sum()))
        power.append(flagged[:40].mean())
    assert np.mean(shares) < 0.1
    assert np.mean(power) > 0.9
    assert mirrored_p_values(np.array([-9.0, 0.0, 0.1, 0.2, 0.3])).tolist()[1:] == [3 / 6, 1.0, 1.0, 1.0]


def test_exact_intervals_of_a_share() -> None:
    assert clopper_pearson(0, 10)[1:] == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert clopper_pearson(5, 10) == pytest.approx((0.5, 0.1871, 0.8129), abs=1e-4)
    assert clopper_pearson(10, 10).high == 1.0
    with pytest.raises(ValueError, match="no share"):
        clopper_pearson(3, 2)
