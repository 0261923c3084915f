import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pointland.verdict import auroc, benjamini_hochberg, conformal_p_values, decide, separations, tpr_at_fpr


def test_p_values_are_uniform_when_nothing_is_memorized() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([conformal_p_values(rng.normal(size=50), rng.normal(size=99)) for _ in range(400)])
    for level in (0.01, 0.05, 0.1, 0.5):  # exactly level at multiples of 1 / 100; 20,000 dependent draws
        assert abs((p <= level).mean() - level) < 0.02


def test_the_false_discovery_rate_is_kept() -> None:
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(300):
        values = np.concatenate([rng.normal(-4, 1, 60), rng.normal(size=240)])
        flagged = decide(values, rng.normal(size=300), memorized_when="low", fdr=0.1).flagged
        shares.append(flagged[60:].sum() / max(1, flagged.sum()))
        assert flagged[:60].mean() > 0.5
    assert np.mean(shares) < 0.1  # Benjamini-Hochberg keeps 0.1 x 240 / 300 = 0.08


@pytest.mark.parametrize(("n", "m", "copies"), [(299, 180, 12), (599, 180, 6), (399, 1300, 65)])
def test_exactly_as_many_as_are_needed_are_flagged(n: int, m: int, copies: int) -> None:
    """As many values below every reference as the report says are needed, to the last: rounding must not lose them."""
    values = np.concatenate([np.full(copies, -10.0), np.linspace(1, 2, m - copies)])
    found = decide(values, np.linspace(0, 3, n), memorized_when="low", fdr=0.05)
    assert found.needed == copies
    assert found.flagged.sum() == copies


def test_nothing_known_is_no_verdict() -> None:
    assert (
        "no audited picture has a value"
        in decide(np.full(3, np.nan), np.arange(50.0), memorized_when="low", fdr=0.05).undecided
    )


def test_directions_mirror_each_other() -> None:
    rng = np.random.default_rng(2)
    values, reference = rng.normal(size=40), rng.normal(size=80)
    low = decide(values, reference, memorized_when="low", fdr=0.2)
    high = decide(-values, -reference, memorized_when="high", fdr=0.2)
    np.testing.assert_array_equal(low.p, high.p)
    np.testing.assert_array_equal(low.rank, high.rank)


def test_ties_are_conservative() -> None:
    assert conformal_p_values(np.zeros(3), np.zeros(9)).tolist() == [1.0, 1.0, 1.0]


def test_q_values_are_those_of_the_textbook() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.02, np.nan, 0.04, 0.04, 0.02])


def test_missing_values_are_neither_ranked_nor_flagged() -> None:
    found = decide(np.array([np.nan, 1.0, 2.0]), np.arange(50.0), memorized_when="low", fdr=0.5)
    assert found.rank.tolist() == [0, 1, 2]
    assert not found.flagged[0]
    assert np.isnan(found.p[0])


def test_without_a_reference_it_only_ranks() -> None:
    found = decide(np.array([3.0, 1.0]), np.empty(0), memorized_when="low", fdr=0.05)
    assert found.rank.tolist() == [2, 1]
    assert not found.flagged.any()
    assert "no reference" in found.undecided


def test_a_reference_too_small_says_so() -> None:
    found = decide(np.zeros(5), np.arange(1.0, 11.0), memorized_when="low", fdr=0.05)
    assert "too small" in found.undecided
    assert decide(np.zeros(5), np.arange(1.0, 20.0), memorized_when="low", fdr=0.05).undecided == ""


def test_too_few_differences_without_a_reference_say_so() -> None:
    found = decide(np.arange(10.0), np.empty(0), memorized_when="low", fdr=0.05, mirror=True)
    assert "too few pictures to decide without a reference: among 10" in found.undecided
    assert decide(np.arange(20.0), np.empty(0), memorized_when="low", fdr=0.05, mirror=True).undecided == ""


def test_strata_compare_like_with_like() -> None:
    """A value that grows with complexity: pooled, every simple picture looks memorized; within strata none does."""
    rng = np.random.default_rng(3)
    simple, reference_size = np.full(300, 1.0), np.repeat([1.0, 9.0], [100, 900])
    values, reference = simple + 0.1 * rng.normal(size=300), reference_size + 0.1 * rng.normal(size=1000)
    pooled = decide(values, reference, memorized_when="low", fdr=0.2)
    reference_size = np.repeat([1.0, 9.0], 500)
    reference = reference_size + 0.1 * rng.normal(size=1000)
    strata = decide(
        values,
        reference,
        memorized_when="low",
        fdr=0.2,
        complexity=simple,
        reference_complexity=reference_size,
    )
    assert np.median(pooled.p) < 0.1
    assert strata.n_strata >= 2
    assert np.median(strata.p) > 0.3
    assert not strata.flagged.any()


def test_auroc_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    positive, negative = rng.integers(0, 9, 30).astype(float), rng.integers(-2, 7, 50).astype(float)
    wanted = roc_auc_score(np.repeat([1, 0], [30, 50]), np.concatenate([positive, negative]))
    assert auroc(positive, negative) == pytest.approx(wanted)


def test_tpr_never_exceeds_the_false_positives_allowed() -> None:
    negative = np.arange(200.0)
    assert tpr_at_fpr(np.array([197.5, 198.5, 10.0]), negative) == pytest.approx(
        2 / 3
    )  # 2 of 200 may exceed: 198 and 199
    assert tpr_at_fpr(np.zeros(3), np.zeros(200)) == 0.0


def test_separations_cover_groups_and_refuse_small_controls() -> None:
    rng = np.random.default_rng(5)
    labels = ["x50"] * 20 + ["held_out"] * 120 + [None]
    values = np.concatenate([rng.normal(-5, 1, 20), rng.normal(size=120), [0.0]])
    (found,) = separations({"lid": (values, "low")}, labels, n_bootstrap=50)
    assert found.group == "x50"
    assert found.auroc.low <= found.auroc.value <= found.auroc.high
    assert found.tpr is not None
    assert separations({"lid": (values[:60], "low")}, labels[:60], n_bootstrap=50)[0].tpr is None
    with pytest.raises(ValueError, match="controls"):
        separations({"lid": (values, "low")}, ["x50"] * 141)


def test_a_rate_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(ValueError, match="not a rate"):
        decide(np.zeros(1), np.zeros(1), memorized_when="low", fdr=5.0)
