import numpy as np
import pytest
from scipy.spatial.distance import cdist

from lid_data.pieces import ball, covered, everyone, plane
from pointland.lid.data import CalibratedMle, DataLid, Ess, calibrated, disagreement, mle, nearest
from pointland.lid.data.calibration import Shape, calibration_curve, distribution


@pytest.mark.parametrize("dim", [2, 8, 32, 128])
@pytest.mark.parametrize("shape", ["gaussian", "ball"])
def test_undoes_the_bias_and_covers(shape: Shape, dim: int) -> None:
    n = 4000
    x = (plane if shape == "gaussian" else ball)(n, dim, max(dim, 40)).astype(np.float32)
    near = nearest(x[:1000], x, 20, exclude=everyone(1000))
    raw = mle(near)
    found = calibrated(raw, n=n - 1, k=20, d=784)
    assert 0.9 <= covered(found, dim) <= 0.99
    assert np.median(found.value) == pytest.approx(dim, rel=0.15)  # the two shapes differ by that at 128
    if dim >= 32:
        assert covered(raw, dim) < 0.8


@pytest.mark.parametrize("shape", ["gaussian", "ball"])
@pytest.mark.parametrize("dim", [1, 2, 7])
def test_distances_in_a_piece_are_distributed_as_stated(shape: Shape, dim: int) -> None:
    x = (plane if shape == "gaussian" else ball)(20_000, dim, dim, seed=3)
    for query in x[:3]:
        distances = cdist(query[None], x[3:])[0]
        r = np.quantile(distances, [0.01, 0.2, 0.5, 0.9])
        rho = np.full(4, np.linalg.norm(query))
        np.testing.assert_allclose(distribution(shape, r, rho, float(dim)), [0.01, 0.2, 0.5, 0.9], atol=0.02)


def test_curves_rise_are_cached_and_seeded() -> None:
    curve = calibration_curve(500, 10, 100)
    assert calibration_curve(500, 10, 100) is curve
    assert curve.dimensions[-1] == 100
    for part in curve[1:]:
        assert (np.diff(part, axis=1) >= 0).all()
    assert (curve.low < curve.mean).all()
    assert (curve.mean < curve.high).all()
    other = calibration_curve(500, 10, 100, seed=1)
    np.testing.assert_allclose(curve.mean, other.mean, rtol=0.05)  # 2,304 draws of relative deviation 0.35
    assert calibration_curve(10**9, 20, 1).mean.shape == (2, 1)


def test_nothing_exceeds_the_ambient_dimension_and_zero_stays_zero() -> None:
    values = np.array([0.0, 0.01, 3.0, 1e9, np.inf])
    found = calibrated(DataLid(values, values, values), n=1000, k=20, d=12)
    assert found.value[0] == found.low[0] == found.high[0] == 0
    assert np.isfinite(np.stack(found)).all()
    assert found.value[-2:].tolist() == [12, 12]
    assert ((found.low <= found.value) & (found.value <= found.high)).all()


def test_disagreement_with_ess_flags_mixed_pieces_and_not_planes() -> None:
    clean = plane(3000, 60, 80)
    near_origin = 0.1 * plane(1000, 3, 80, seed=5)  # nearer to every point of the large piece than its own neighbours
    flagged = []
    for x in (clean, np.concatenate([clean, near_origin])):
        queries, own = x[:300], everyone(300)
        flags = disagreement(CalibratedMle(k=100)(queries, x, own), Ess(k=100)(queries, x, own))
        flagged.append(float(flags.mean()))
    assert flagged[0] < 0.2  # single queries scatter by 10 %, the shapes differ by as much
    assert flagged[1] > 0.9
    skewness = DataLid(np.array([0.0, 10.0, 10.0]), np.zeros(3), np.zeros(3))
    estimate = DataLid(np.array([0.0, 14.0, 12.0]), np.zeros(3), np.zeros(3))
    assert disagreement(estimate, skewness).tolist() == [False, True, False]


def test_bad_input_is_refused() -> None:
    for n, k, d in ((10, 2, 5), (10, 11, 5), (10, 5, 0)):
        with pytest.raises(ValueError, match="calibration needs"):
            calibration_curve(n, k, d)


def test_a_set_that_fills_its_space_is_covered() -> None:
    """The upper end is all dimensions, and once fell short of them by a rounding."""
    x = plane(2000, 8, 8).astype(np.float32)
    found = CalibratedMle(20)(x[:200], x, everyone(200))
    assert found.high.max() == 8
    assert 0.9 <= covered(found, 8) <= 0.99
