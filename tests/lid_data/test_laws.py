"""What no estimator may depend on, and what each must be."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from lid_data.pieces import ball, everyone, plane, rotation
from pointland.lid import data
from pointland.lid.data import CalibratedMle, CensoredHill, Ess, Gride, Kernel, LocalPca, Mle, Moment, TwoNn

Estimator = Callable[..., tuple[object, ...]]
K = 30
ESTIMATORS: dict[str, Estimator] = {
    "mle": Mle(K),
    "censored_hill": CensoredHill(1e-6, K),
    "moment": Moment(K),
    "local_pca": LocalPca(K),
    "ess": Ess(K),
    "gride": Gride((1, 4, 15)),
    "kernel": Kernel(0.8),
    "calibrated": CalibratedMle(K),
}
SET = {"two_nn": TwoNn()}


def values(estimator: Estimator, x: NDArray[np.float64], own: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    own = everyone(len(x)) if own is None else own
    return np.asarray(estimator(x[own], x, own)[0])


@pytest.fixture(params=[*ESTIMATORS, *SET])
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return (ESTIMATORS | SET)[request.param]


@pytest.mark.parametrize("d", [8, 30])
def test_moving_turning_and_padding_change_nothing(estimator: Estimator, d: int) -> None:
    x = plane(250, 4, d)
    before = values(estimator, x)
    moved = {
        "rotated": x @ rotation(d, 7),
        "translated": x + 5,
        "padded": np.concatenate([x, np.full((250, 20), 0.3)], 1) if not isinstance(estimator, CalibratedMle) else x,
    }
    for name, y in moved.items():
        np.testing.assert_allclose(values(estimator, y), before, rtol=1e-7, err_msg=name)  # differences of float64


def test_scale_changes_nothing_but_the_unit_of_sigma_and_floor(estimator: Estimator) -> None:
    x = plane(250, 4, 20)
    scaled = Kernel(0.8 * 64) if isinstance(estimator, Kernel) else estimator
    scaled = CensoredHill(1e-6 * 64, K) if isinstance(estimator, CensoredHill) else scaled
    np.testing.assert_allclose(values(scaled, x * 64), values(estimator, x), rtol=1e-10)


def test_order_and_batch_change_nothing(estimator: Estimator) -> None:
    x = plane(250, 4, 20)
    before = values(estimator, x)
    order = np.random.default_rng(0).permutation(250)
    after = values(estimator, x[order])
    np.testing.assert_allclose(after, before if isinstance(estimator, TwoNn) else before[order], rtol=1e-10)
    if not isinstance(estimator, TwoNn):
        np.testing.assert_allclose(values(estimator, x, np.array([17, 3])), before[[17, 3]], rtol=1e-10)


@pytest.mark.parametrize("dim", [1, 3, 6])
@pytest.mark.parametrize("shape", [plane, ball])
@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "kernel"])
def test_planes_and_balls_have_their_dimension(name: str, shape: Callable[..., NDArray[np.float64]], dim: int) -> None:
    found = values(ESTIMATORS[name], shape(2000, dim, 25), np.arange(300))
    # medians of 300 queries; edges and the density cost up to a tenth at 6 dimensions
    assert np.median(found if found.ndim == 1 else found[:, -1]) == pytest.approx(dim, rel=0.15)


def test_the_kernel_has_the_dimension_of_a_plane() -> None:
    found = Kernel(0.15)(np.zeros((1, 20)), plane(4000, 2, 20))
    assert found.value[0] == pytest.approx(2, rel=0.25)
    assert 30 < found.n_eff[0] < 1000


def test_twonn_of_a_plane() -> None:
    found = SET["two_nn"](plane(2000, 3, 20), plane(2000, 3, 20), everyone(2000))
    assert found[0] == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("copies", [1, 10, 60])
def test_nothing_is_nan_with_copies(estimator: Estimator, copies: int) -> None:
    x = plane(200, 4, 20)
    x = np.concatenate([x, np.repeat(x[:1], copies, axis=0)])
    found = values(estimator, x)
    assert not np.isnan(found).any()
    if not isinstance(estimator, Mle | Moment | Gride):  # infinite beside a group larger than k, as documented
        assert np.isfinite(found).all()


def test_constant_data_are_a_point(estimator: Estimator) -> None:
    assert (values(estimator, np.full((80, 12), 0.1)) == 0).all()


def test_exported_names_are_sorted() -> None:
    assert sorted(data.__all__) == data.__all__
