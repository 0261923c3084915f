import xml.etree.ElementTree as ElementTree

import pytest
import torch

from pointland import exact
from pointland.experiments.soft_count import DATA, GENERATOR, LOSS, VAE, Result, draw, overlay, run


@pytest.fixture(scope="module")
def small() -> Result:
    return run(d=12, k=5, n=2500, n_points=400, sigmas=(0.02, 0.1, 0.3, 1.0, 3.0), miniature=False)


def test_four_families_are_one_curve_on_a_linear_model(small: Result) -> None:
    assert small.claims == dict.fromkeys(small.claims, True)
    assert {row.source for row in small.rows} == {DATA, GENERATOR, VAE, LOSS}
    for sigma in (0.1, 1.0):
        exactly = [row.value for row in small.rows if row.sigma == sigma and row.source in (GENERATOR, VAE)]
        assert exactly[0] == pytest.approx(exactly[1], rel=1e-9)


def test_a_source_that_differs_breaks_the_claim(small: Result) -> None:
    bad = tuple(row._replace(value=row.value + 1) if row.source == DATA else row for row in small.rows)
    assert not all(Result(small.d, small.k, bad).claims.values())


def test_the_overlay_takes_what_there_is() -> None:
    rows = overlay((0.5,), variances={DATA: torch.tensor([[0.25, 0.0], [0.75, 0.25]])})
    assert [row.source for row in rows] == [DATA]
    assert rows[0].value == pytest.approx((0.5 + 0.75 + 0.5) / 2)
    point = exact.subspace(d=4, k=0)
    rows = overlay((0.1, 0.2), variances={}, denoise=point, x=point.sample(3))
    assert [(row.source, row.value) for row in rows] == [(LOSS, 0.0), (LOSS, 0.0)]


def test_the_picture_is_an_svg_with_every_source(small: Result) -> None:
    picture = draw(small)
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    for source in ("local PCA of data", "denoising loss"):
        assert source in picture


@pytest.mark.slow
def test_the_miniature_has_both_of_its_curves() -> None:
    found = run(n=2000, n_points=50, n_pictures=8)
    sources = {row.source for row in found.rows if row.model == "miniature"}
    assert sources == {DATA, LOSS}
    assert draw(found).count("Miniature") == 1
