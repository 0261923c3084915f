"""The suites at small sizes: claims that can fail, laws of what they are built of, and what the command writes."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pointland import exact as models
from pointland.benchmarks.lid import exact, flipd, paper, skdim, yeats
from pointland.benchmarks.lid.chart import draw
from pointland.benchmarks.lid.estimators import concordance
from pointland.benchmarks.lid.network import Network
from pointland.benchmarks.lid.result import ERROR, Result, Row, Table, Target, jsonable, worst
from pointland.benchmarks.lid.suites import SUITES, NotInstalled, Settings, check, run_suite
from pointland.benchmarks.lid.training import Recipe, train
from pointland.benchmarks.lid.unions import UNIONS, disc
from pointland.cli.benchmark import command, file_name, run_lid
from pointland.denoiser import score


def quiet(_words: str) -> None:
    """Progress that nobody reads."""


def well_formed(picture: str) -> None:
    root = ElementTree.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "nan" not in picture.lower()
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")


# the parts


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-100, 100)), min_size=2, max_size=12))
def test_concordance_is_about_order_alone(pairs: list[tuple[int, float]]) -> None:
    truth, found = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    if len(set(truth.tolist())) == 1:
        with pytest.raises(ValueError, match="all are equal"):
            concordance(found, truth)
        return
    value = concordance(found, truth)
    assert concordance(truth, truth) == 1
    assert concordance(-truth, truth) == 0
    assert concordance(torch.zeros_like(found), truth) == 0.5
    assert concordance(found * 4, truth) == value  # exact in binary, so that ties stay ties
    assert concordance(-found, truth) == pytest.approx(1 - value)


def test_the_disc_is_filled_evenly() -> None:
    side = (torch.arange(200) + 0.5).double() / 200
    points = disc(torch.cartesian_prod(side, side)) - 3
    radius = points.norm(dim=1)
    assert radius.max() <= 1
    for r in (0.2, 0.5, 0.9):
        assert float((radius < r).double().mean()) == pytest.approx(r * r, abs=0.005)  # equal areas
    assert float(points[:, 0].gt(0).double().mean()) == pytest.approx(0.5, abs=0.005)
    anywhere = disc(torch.rand(300, 2, generator=torch.Generator().manual_seed(0)).double()) - 3
    assert float(torch.cdist(anywhere, points).min(1).values.max()) < 0.01  # no hole: cells are 0.01 wide


@pytest.mark.parametrize("name", list(UNIONS))
def test_a_finer_grid_is_the_same_denoiser(name: str) -> None:
    union = UNIONS[name]
    x, _ = union.sample(12, seed=1)
    sigma = torch.tensor([0.1], dtype=torch.float64)
    at = x.double() + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    # edges end half a cell apart; inside, the sum is the integral to rounding
    torch.testing.assert_close(union.model(0.1)(at, sigma), union.model(0.05)(at, sigma), rtol=0, atol=2e-3)
    x, lid = union.sample(4000, seed=3)
    assert float(x.std(0).max()) == pytest.approx(1, abs=0.05)
    for piece in union.pieces:
        assert float((lid == piece.lid).double().mean()) == pytest.approx(piece.share, abs=0.03)


@pytest.mark.parametrize("sigma", [0.1, 0.4, 2.0])
def test_circle_and_mass_has_the_score_of_its_density(sigma: float) -> None:
    model = paper.CircleAndMass(models.Circle(2.0, torch.eye(2, dtype=torch.float64)), 0.2)
    at = torch.tensor([sigma], dtype=torch.float64)
    x = (3 * torch.randn(20, 2, generator=torch.Generator().manual_seed(0))).double().requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_density(x, at).sum(), x)
    torch.testing.assert_close(score(model, x.detach(), at), gradient, rtol=1e-9, atol=1e-9 / sigma**2)
    # the same by a fine point set: 80 % on the circle, the rest in the middle
    angle = torch.linspace(0, 2 * torch.pi, 4001, dtype=torch.float64)[:-1]
    density = (2 * angle.cos()).exp()
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    both = models.points(
        torch.cat([ring, torch.zeros(1, 2).double()]),
        torch.cat([0.8 * density / density.sum(), torch.tensor([0.2], dtype=torch.float64)]),
    )
    torch.testing.assert_close(model(x.detach(), at), both(x.detach(), at), rtol=0, atol=1e-9)


# the suites


def test_exact_the_count_is_right_and_the_memorizer_has_none() -> None:
    chosen = {name: exact.closed_forms()[name] for name in ("circle, d=20", "memorizer, d=48", "point mass, d=20")}
    found = exact.at_one_scale(chosen | {"0+3, d=20": models.mixture(20, (0, 3))}, say=quiet, n=6)
    for row in found.error.rows:
        assert row.values["rank"] == row.values["bundle sketch"] == 0, row
        assert row.values["flipd exact"] < 0.02, row
        assert row.values["low rank"] < 0.02, row
        if row.lid == "0":
            assert max(row.values.values()) == 0, row
    assert min(found.stated.average.values()) > 0.8  # 95 % intervals, 24 points


def test_exact_the_plateau_beats_the_knee() -> None:
    table = exact.choice_of_scale({"5+12, d=24": models.mixture(24, (5, 12))}, say=quiet, n=3)
    assert table.average["plateau"] <= exact.SCALE_TARGET
    assert table.average["plateau"] < table.average["fixed"] < table.average["published knee"]


def test_exact_high_dimension_in_small() -> None:
    cases = [exact.HighCase(kind, (3, 9), 60) for kind in ("linear", "funnel")]
    table = exact.high_dimension(cases, say=quiet)
    assert worst(table, "rank") == 0
    assert worst(table, "flipd 32") < exact.HIGH_TARGET
    assert exact.HIGH[0].name in exact.OSADA["LHSD"]  # the table's names are the published ones
    assert {case for cases in exact.OSADA.values() for case in cases} <= {case.name for case in exact.HIGH}
    assert exact.widths(cases[0]) == []
    assert len(set(exact.widths(cases[1]))) == 4
    flat = exact.planes(((0, 64), (3, 512)), say=quiet)
    assert worst(flat, "rank") == 0
    assert flat.rows[0].values["loss 32"] == 0


def test_paper_every_estimator_reads_the_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paper, "models", partial(paper.models, n=4))
    run_lid("paper", Settings(), tmp_path)
    written = json.loads((tmp_path / "paper.json").read_text())
    assert written["schema"] == 1
    assert written["command"].endswith("benchmark lid --suite paper")
    assert len(written["tables"][0]["rows"]) == 9
    # 4 probes at a single point have an error of their own, up to 1 on a curve
    assert all(target["reached"] for target in written["targets"] if not target["what"].startswith("flipd 4"))
    assert written["tables"][0]["average"]["flipd exact"] < 0.05
    well_formed((tmp_path / "paper.svg").read_text())


def test_flipd_exact_scores_put_all_points_in_order() -> None:
    found = flipd.mixtures((((2, 4), 10), ((3,), 10)), say=quiet, each=3)
    assert [row.case for row in found.error.rows] == ["affine 2+4, d=10", "affine 3, d=10"]
    assert [row.case for row in found.order.rows] == ["affine 2+4, d=10"]  # one dimension has no order
    assert found.order.rows[0].values["flipd"] == found.order.rows[0].values["rank"] == 1
    assert worst(found.error, "flipd") < 0.05
    roll = flipd.grids(("swiss-roll",), say=quiet, n=8)
    assert worst(roll.error, "flipd") < 0.5


def test_flipd_trained_compares_the_choice_with_hindsight(tmp_path: Path) -> None:
    case = flipd.Learned("affine 2+4+8, d=10", flipd.of_planes(10, (2, 4, 8)), 60, 2)
    settings = Settings(trained=True, work=tmp_path)
    result = flipd.learn(settings, {"seed": 0}, say=quiet, cases=(case,), n_training=1000, measured=12)
    for row in result.tables[0].rows:
        for name in ("flipd exact", "spectrum", "loss 16"):
            assert row.values[f"{name} at plateau"] >= row.values[f"{name} in hindsight"]
    assert len(list(tmp_path.glob("*.pt"))) == 2
    assert len(result.targets) == 6
    jsonable(result)
    well_formed(draw(result))


def test_yeats_from_data() -> None:
    table = yeats.from_data_alone(0, say=quiet, manifolds=("ball",), n=400)
    assert table.average["ess"] < 1.5  # 16, k = 100 of 400
    assert table.average["mle k=100"] > table.average["ess"]


def test_yeats_trained_holds_the_named_estimator(tmp_path: Path) -> None:
    settings = Settings(trained=True, work=tmp_path, rotated=True)
    table, details = yeats.trained(settings, 0.005, say=quiet, manifolds=("ball",), n=200, measured=3)
    assert yeats.NAMED in table.average
    assert (tmp_path / "ball-covariance-256-0-0-rotated.pt").exists()
    json.dumps(details, allow_nan=False)


def test_skdim_measures_what_it_is_given_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = models.subspace(8, 3, shift=0.0).sample(300, dtype=torch.float64).numpy()
    table = skdim.errors_on({"plane": (3, plane)}, quiet)
    assert table.average["local pca"] == 0
    assert table.average["ess"] < 0.2
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(NotInstalled, match="pip install"):
        run_suite("skdim", Settings(), quiet)


def test_skdim_has_24_manifolds_of_the_stated_size() -> None:
    pytest.importorskip("pandas")
    found = skdim.manifolds(50, seed=0)
    assert len(found) == 24
    assert found["M10d_Cubic"][0] == 70
    assert found["M10d_Cubic"][1].shape == (50, 71)


# training


def test_training_goes_on_from_its_checkpoint_and_leaves_the_global_generator(tmp_path: Path) -> None:
    x = models.circle(d=3).sample(300)
    points, held_out = x[:250], x[250:]
    state = torch.get_rng_state()
    short = train(points, held_out, Recipe(steps=40, width=16), tmp_path / "a.pt", quiet)
    longer = train(points, held_out, Recipe(steps=300, width=16), tmp_path / "a.pt", quiet)
    again = train(points, held_out, Recipe(steps=300, width=16), tmp_path / "a.pt", quiet)
    assert torch.equal(torch.get_rng_state(), state)
    assert (short.history["steps"], longer.history["steps"], again.history["steps"]) == (40, 300, 300)
    for name, value in longer.denoiser.state_dict().items():
        assert torch.equal(value, again.denoiser.state_dict()[name])
    at = torch.tensor([0.1])
    assert not torch.equal(short.denoiser(points[:5], at), longer.denoiser(points[:5], at))
    assert list(tmp_path.iterdir()) == [tmp_path / "a.pt"]


def test_an_untrained_network_is_the_best_linear_denoiser() -> None:
    plane = models.subspace(6, 2, shift=0.5)
    x = plane.sample(20_000, seed=1)
    network, sigma = Network(x, 16, 0), torch.tensor([0.5])
    torch.testing.assert_close(network(x[:9], sigma), plane(x[:9], sigma), rtol=0, atol=0.05)  # of 20,000 points


def test_training_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="minutes or steps"):
        Recipe()


# the result and the command


def test_every_suite_is_a_module_with_run() -> None:
    for name in SUITES:
        assert callable(import_module(f"pointland.benchmarks.lid.{name}").run)
    assert {name for name, suite in SUITES.items() if suite.trains} == {"flipd", "yeats"}


def test_a_result_is_drawn_and_written_and_no_number_is_missing() -> None:
    rows = (Row("a", "2", 4, {"x": 0.0, "y": 3.0}), Row("b", "2", 4, {"x": 1.0}))
    table = Table("t", ERROR, rows, {"others": {"a": 2.0}}, averaged=True)
    targets = (Target("x", 0.5, "at most", 0.5), Target("x", 0.5, "at least", 0.6))
    written = jsonable(Result("exact", {}, (table,), targets))
    assert table.columns == ("x", "y")
    assert table.average == {"x": 0.5}  # y does not have all cases
    assert [target.reached for target in targets] == [True, False]
    assert not Target("x", float("nan"), "at most", 1.0).reached
    assert json.loads(json.dumps(written))["tables"][0]["rows"][1]["values"] == {"x": 1.0}
    well_formed(draw(Result("exact", {}, (table,), targets)))
    bad = Table("t", ERROR, (Row("a", "2", 4, {"x": float("nan")}),))
    with pytest.raises(ValueError, match="no number"):
        jsonable(Result("exact", {}, (bad,), ()))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lollipop", Settings(), "exact, paper, flipd, yeats, skdim"),
        ("exact", Settings(trained=True), "leave out --trained, or take flipd or yeats"),
        ("yeats", Settings(minutes=1.0), "with --trained"),
        ("yeats", Settings(trained=True, minutes=0.0, work=Path()), "positive"),
        ("flipd", Settings(rotated=True), "--rotated goes with yeats"),
        ("flipd", Settings(trained=True), "folder"),
    ],
)
def test_what_does_not_go_together_is_refused(name: str, settings: Settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(name, settings)


def test_the_command_refuses_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        run_lid("paper", Settings(), tmp_path / "file")
    with pytest.raises(ValueError, match="name it with --suite"):
        run_lid(None, Settings(trained=True, work=tmp_path), tmp_path)
    with pytest.raises(ValueError, match="is no suite"):
        run_lid("lollipop", Settings(), tmp_path)


def test_names_and_commands_tell_runs_apart() -> None:
    settings = Settings(trained=True, seed=1, minutes=2.5, rotated=True)
    assert file_name("yeats", settings) == "yeats-trained-rotated-seed-1"
    assert file_name("exact", Settings()) == "exact"
    assert command("yeats", settings).endswith("--suite yeats --trained --rotated --minutes 2.5 --seed 1")


def test_help_lists_the_suites() -> None:
    words = [str(Path(sys.executable).parent / "pointland"), "benchmark", "lid", "--help"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    for name in SUITES:
        assert name in shown
