"""The paper's figures and theory, each claim at a small size, and what the command writes."""

import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch

from pointland import exact
from pointland.cli import reproduce
from pointland.experiments import figure_1, figure_3, mlp_diffusion, proposition_4_2, score_norm, theorem_4_1
from pointland.lid.flipd import flipd_exact


@pytest.fixture(scope="module")
def first() -> figure_1.Result:
    return figure_1.run(n_draws=256, n_samples=8000)


@pytest.fixture(scope="module")
def theorem() -> theorem_4_1.Result:
    return theorem_4_1.run(masses=(0.05, 0.3), sizes=(2, 8, 30, 100), trials=2000)


@pytest.fixture(scope="module")
def proposition() -> proposition_4_2.Result:
    return proposition_4_2.run(d=12, k=3, n=8, trials=60)


@pytest.fixture(scope="module")
def norm() -> score_norm.Result:
    return score_norm.run(dims=(0, 8, 32, 60, 64), sigmas=(0.05, 0.5), n=500)


@pytest.fixture(scope="module")
def third() -> figure_3.Result:
    return figure_3.run(steps=(60, 600), width=48, n_samples=200)


def well_formed(picture: str) -> None:
    root = ElementTree.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("viewBox")
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert "nan" not in picture.lower()
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")  # nothing is fetched


def test_figure_1_reads_0_1_and_2_by_every_estimator(first: figure_1.Result) -> None:
    assert {row.lid for row in first.rows} == {0, 1, 2}
    assert len(first.rows) == 18
    for row in first.rows:
        assert abs(row.least - row.lid) < 0.5, row
        assert abs(row.most - row.lid) < 0.5, row
    assert all(first.claims.values())
    well_formed(figure_1.draw(first))


def test_the_manifolds_of_figure_1_hold_the_training_points() -> None:
    corners = figure_1.lifted(torch.tensor(figure_1.CORNERS, dtype=torch.float64))
    for grid in figure_1.manifolds().values():
        assert float(torch.cdist(corners, grid).min(1).values.max()) < 0.015  # half the diagonal of a grid square
    on_curve = figure_1.curve(corners[:, 0])
    torch.testing.assert_close(on_curve, corners[:, :2], rtol=0, atol=1e-12)


def test_theorem_4_1_holds_and_its_bound_only_given_the_first_draw(theorem: theorem_4_1.Result) -> None:
    claims = dict(theorem.claims)
    printed = next(claim for claim in claims if claim.startswith("inequality (7)"))
    assert not claims.pop(printed)
    assert all(claims.values()), claims
    for row in theorem.rows:
        assert row.set_formula <= row.formula
        if row.n == 2:
            assert row.set_formula == pytest.approx(row.p**2)
            assert row.set_high < row.formula
    well_formed(theorem_4_1.draw(theorem))


def test_proposition_4_2_holds_for_planes_and_mixtures_and_not_for_nested_pieces(
    proposition: proposition_4_2.Result,
) -> None:
    claims = dict(proposition.claims)
    beyond = next(claim for claim in claims if claim.startswith("beyond"))
    assert not claims.pop(beyond)
    assert all(claims.values()), claims
    exactly = [row for row in proposition.rows if "exact" in row.condition]
    assert [row.given for row in exactly] == [3, 2, 1, 0, 0]
    well_formed(proposition_4_2.draw(proposition))


@pytest.mark.parametrize("noise", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("r", [1, 2, 5])
def test_a_measured_gaussian_has_the_textbook_mean_and_covariance(r: int, noise: float) -> None:
    plane = exact.subspace(6, 3, variances=[0.5, 1.0, 2.0])
    a = torch.randn(r, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x0 = plane.sample(1, 5, torch.float64)[0]
    given = proposition_4_2.measured(plane, a, x0, noise)
    whole = plane.axes * plane.variances @ plane.axes.T
    gain = whole @ a.T @ torch.linalg.pinv(a @ whole @ a.T + noise**2 * torch.eye(r).double(), rtol=1e-10)
    covariance = given.axes * given.variances @ given.axes.T
    torch.testing.assert_close(covariance, whole - gain @ a @ whole, rtol=0, atol=1e-9)
    torch.testing.assert_close(given.mean, plane.mean + gain @ a @ (x0 - plane.mean), rtol=0, atol=1e-9)


def test_the_score_norm_is_the_ambient_dimension_less_the_soft_count(norm: score_norm.Result) -> None:
    assert all(norm.claims.values()), norm.claims
    for row in norm.rows:
        plane = exact.subspace(64, row.lid, variances=score_norm.variances(row.lid).tolist())
        soft = float(plane.soft_count(torch.tensor([row.sigma], dtype=torch.float64)))
        assert row.sigma**2 * row.formula == pytest.approx(64 - soft)
        if row.lid < 60:  # at clean points the score says nothing of the kind
            assert row.clean < row.simulated / 2
    well_formed(score_norm.draw(norm))


def test_figure_3_is_possible_and_its_references_frame_it(third: figure_3.Result) -> None:
    references = {(row.version, row.model): row for row in third.rows if row.steps == 0}
    for version in ("arXiv", "ICLR"):
        memorizer, circle = references[version, "memorizer"], references[version, "circle"]
        assert abs(memorizer.lid_isolated) < 0.01
        assert memorizer.share_one > 0.8
        assert circle.lid_isolated == pytest.approx(1, abs=0.1)
        assert circle.share_one == 1
    mass = references["ICLR", "memorizer"]
    assert mass.at_mass > 0.1
    assert mass.lid_mass == pytest.approx(0, abs=1e-6)


def test_figure_3_trains_and_measures_every_length(third: figure_3.Result) -> None:
    trained = [row for row in third.rows if row.model == "trained"]
    assert [(row.version, row.steps) for row in trained] == [(v, s) for v in ("arXiv", "ICLR") for s in (60, 600)]
    for short, long in ((trained[0], trained[1]), (trained[2], trained[3])):
        assert long.loss < short.loss < 1.2
    assert len(third.claims) == 18
    assert not any(row.claim for row in trained)  # it takes tens of thousands of steps, if it happens at all
    well_formed(figure_3.draw(third))


def test_the_isolated_point_is_alone() -> None:
    for seed in range(3):
        x0 = figure_3.training_set(seed, gap=0.5, copies=7)
        assert x0.shape == (107, 2)
        distance = (x0[:99] - x0[99]).norm(dim=1)
        assert float(distance.min()) > 2 * math.sin(0.25) - 1e-6
        assert not x0[100:].any()


def test_the_toy_diffusion_keeps_its_clock_and_touches_no_global_seed() -> None:
    t = torch.linspace(0.01, 1, 20, dtype=torch.float64)
    torch.testing.assert_close(mlp_diffusion.time_at(mlp_diffusion.sigma_at(t)), t)
    before = torch.random.get_rng_state()
    x0 = figure_3.training_set(0)
    first, again = (list(mlp_diffusion.train(x0, (3, 6), width=8, seed=4)) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [model.loss for model in first] == [model.loss for model in again]
    sigma = torch.tensor([0.5])
    assert not torch.equal(first[0].denoise(x0, sigma), first[1].denoise(x0, sigma))  # the earlier one is kept
    for steps in ((), (5, 5), (9, 3), (0, 2)):
        with pytest.raises(ValueError, match="ascending"):
            next(mlp_diffusion.train(x0, steps))


def test_the_sampler_draws_from_the_model_that_it_is_given() -> None:
    ring = exact.Circle(2.0, torch.eye(2, dtype=torch.float64))
    made = mlp_diffusion.sample(ring, 400, 2, n_steps=100)
    torch.testing.assert_close(made.norm(dim=1), torch.ones(400), rtol=0, atol=0.01)
    # the mean resultant length of concentration 2 is 0.698; 400 draws err by 0.024
    assert float(made[:, 0].mean()) == pytest.approx(0.698, abs=0.1)
    lids = flipd_exact(ring, made, torch.tensor([0.05])).value
    assert float((lids - 1).abs().max()) < 0.1


def test_the_command_writes_a_picture_and_strict_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce.run_reproduce("proposition-4.2", tmp_path / "out")
    well_formed((tmp_path / "out" / "proposition-4.2.svg").read_text())
    text = (tmp_path / "out" / "proposition-4.2.json").read_text()
    numbers = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert numbers["claims"]["conditioning never raises the exact LID"] is True
    assert numbers["rows"][0]["lid"] == 6
    printed = capsys.readouterr().out
    assert "holds" in printed
    assert "does not hold" in printed
    with pytest.raises(ValueError, match=r"figure-9.*figure-1"):
        reproduce.run_reproduce("figure-9", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="folder"):
        reproduce.run_reproduce("figure-1", tmp_path / "file")


def test_every_result_is_strict_json(
    first: figure_1.Result,
    third: figure_3.Result,
    theorem: theorem_4_1.Result,
    norm: score_norm.Result,
    tmp_path: Path,
) -> None:
    results: list[reproduce.Result] = [first, third, theorem, norm]
    for i, result in enumerate(results):
        reproduce.save(str(i), result, "<svg/>", tmp_path)
        read = json.loads((tmp_path / f"{i}.json").read_text(), parse_constant=pytest.fail)
        assert read == reproduce.jsonable(result)
