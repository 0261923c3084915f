import json
import re
from xml.etree import ElementTree

import pytest
import torch

from pointland import exact
from pointland.explanation.curve import levels_for, lid_curve, spectrum_chart
from pointland.explanation.tangent import TangentDirections
from pointland.noise import Levels


def test_the_curve_of_a_plane_is_its_soft_count() -> None:
    plane = exact.subspace(d=20, k=5)
    x = plane.sample(1, seed=0, dtype=torch.float64)
    sigmas = [0.05, 0.2, 1.0]
    found = lid_curve(plane, x, "a", sigmas, sigma=0.1, n_draws=150, n_probes=10)
    assert found.loss.sigmas.tolist() == [0.05, 0.1, 0.2, 1.0]
    assert found.d == 20
    true = 5 / (1 + found.loss.sigmas**2)
    assert ((found.loss.values[:3, 0] - true[:3]).abs() < 5 * found.loss.stderrs[:3, 0]).all()
    assert found.flipd is not None
    record = json.loads(json.dumps(found.record()))
    assert record["sigma"] == 0.1
    assert record["denoising_loss"]["value"] == found.loss.values[:, 0].tolist()
    assert all(low <= high for low, high in zip(record["flipd"]["low"], record["flipd"]["high"], strict=True))
    assert "flipd" not in lid_curve(plane, x, "a", sigmas, sigma=0.2).record()


@pytest.mark.parametrize("n_probes", [0, 2])
def test_the_chart_shows_the_curve_and_marks_the_scale(n_probes: int) -> None:
    plane = exact.subspace(d=20, k=5)
    found = lid_curve(plane, plane.sample(1, seed=0), "a", [0.05, 0.2, 1.0], sigma=0.2, n_probes=n_probes)
    chart = found.chart()
    root = ElementTree.fromstring(chart)
    assert "σ 0.2" in chart
    assert ("FLIPD" in str(root.findtext("title"))) == bool(n_probes)
    assert root.findtext("desc") == f"{float(found.loss.values[1, 0]):.3g} of 20 dimensions at sigma 0.2"
    line = next(element for element in root if element.get("class") == "line c0")
    places = [float(x) for x in re.findall(r"[ML]([\d.]+) ", line.attrib["d"])]
    mark = next(element for element in root if element.get("class") == "threshold")
    assert len(places) == 3
    assert float(mark.attrib["x1"]) == places[1]


def test_levels_are_the_models_own_and_spread_evenly() -> None:
    levels = Levels(torch.logspace(-2, 1, 500, dtype=torch.float64))
    found = levels_for(levels)
    assert len(found) == 13
    assert all(float((levels.sigmas - sigma).abs().min()) == 0 for sigma in found)
    assert 0.04 < found[0] < 0.06
    assert 3.5 < found[-1] < 4.5


def test_the_spectrum_chart_has_a_mark_a_direction() -> None:
    plane = exact.subspace(d=20, k=3)
    tangent = TangentDirections(0.1, n=6)(plane, plane.sample(1, seed=0), ["a"])
    root = ElementTree.fromstring(spectrum_chart(tangent))
    marks = [float(element.attrib["cy"]) for element in root if element.get("class") == "mark c0"]
    assert len(marks) == 6
    assert max(marks[:3]) < min(marks[3:])  # upwards is smaller: three are free, three are fixed
    assert str(root.findtext("desc")).startswith("0.99, 0.99, 0.99, 0.00")
