import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runs
from pointland.auditing.directory import read_run
from pointland.report import evidence, summarize
from pointland.report.density import density
from pointland.report.evidence import in_order, roc
from pointland.report.items import saved_labels
from pointland.report.words import clean, number, percent, private, probability, upright
from pointland.verdict import auroc


def strict(summary: object) -> str:
    return json.dumps(summary, allow_nan=False, ensure_ascii=False)


@pytest.mark.parametrize(
    ("options", "state", "headline"),
    [
        ({"n": 200, "memorized": 20, "n_reference": 399}, "flagged", ""),
        ({"n": 60, "memorized": 0, "n_reference": 100}, "none", "Nothing flagged"),
        ({"n": 60, "n_reference": 0}, "ranked", "Ranked only"),
        ({"n": 60, "n_reference": 10, "memorized": 5}, "ranked", "Ranked only"),
        ({"n": 0, "n_reference": 0}, "empty", "No picture"),
        ({"n": 1, "n_reference": 50, "memorized": 1}, "flagged", "1 of 1 picture is flagged"),
    ],
)
def test_headline(tmp_path: Path, options: dict[str, int], state: str, headline: str) -> None:
    summary = summarize(read_run(runs.build(tmp_path, curve=False, **options)))  # type: ignore[arg-type]  # counts
    assert summary["verdict"]["state"] == state
    assert summary["verdict"]["headline"].startswith(headline)
    assert f"{summary['verdict']['n_flagged']} of" in summary["verdict"]["headline"] or state != "flagged"
    strict(summary)


def test_flagged_come_first_then_the_most_suspicious(tmp_path: Path) -> None:
    summary = summarize(read_run(runs.build(tmp_path, 200, n_reference=399, null_every=10)))
    rows = summary["rows"]
    assert [row["flagged"] for row in rows] == sorted((row["flagged"] for row in rows), reverse=True)
    rest = [row["rank"] or 10**9 for row in rows if not row["flagged"]]
    assert rest == sorted(rest)
    assert summary["verdict"]["n_valued"] == 180
    assert rows[-1]["values"]["denoising_loss_unconditional"] is None
    assert rows[-1]["reasons"]["denoising_loss_unconditional"] == "the model gave no finite value"
    assert rows[-1]["reasons"]["lid_excess"] == "the model gave no finite value"  # derived from it
    assert any(one["kind"] == "missing" and one["level"] == "warning" for one in summary["warnings"])


def test_another_rate_changes_the_decision_and_nothing_else(tmp_path: Path) -> None:
    run = read_run(runs.build(tmp_path, 200, n_reference=399, memorized=40))
    usual, strict_one = summarize(run), summarize(run, fdr=1e-4)
    assert usual["verdict"]["n_flagged"] > strict_one["verdict"]["n_flagged"] == 0
    assert usual["columns"] == strict_one["columns"]
    with pytest.raises(ValueError, match="not a rate"):
        summarize(run, fdr=0.0)


def test_columns_are_never_hard_coded(tmp_path: Path) -> None:
    column = dict(runs.COLUMNS[0], name="denoising_loss_unconditional", title="My own", stderr=None, unit="nats")
    summary = summarize(read_run(runs.build(tmp_path, columns=[column], n_reference=399)))
    assert [found["title"] for found in summary["columns"]] == ["My own"]
    assert summary["scatter"] is None  # no PNG size
    assert summary["verdict"]["unit"] == "nats"


def test_labels_give_separations_floors_and_dose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "RESAMPLES", 20)  # the intervals are wide, and fast
    run = read_run(runs.build(tmp_path, 240, n_reference=150, labels=True, memorized=100))
    summary = summarize(run)
    assert summary["groups"] == ["once", "template", "x2", "x5", "x10", "x20", "x50", "reference"]
    found = {(one["group"], one["column"]): one for one in summary["separations"]}
    best = found["x50", "denoising_loss_unconditional"]
    assert best["auroc"]["value"] > 0.99
    assert best["tpr"] is not None
    assert found["x50", "png_bytes"]["floor"]
    assert found["x50", "caption_words"]["floor"]
    assert best["roc"][0] == [0, 0]
    assert best["roc"][-1] == [1, 1]
    dose = next(one for one in summary["dose_response"] if one["column"] == "denoising_loss_unconditional")
    assert [one["copies"] for one in dose["doses"]] == [1, 2, 5, 10, 20, 50]
    medians = [one["median"]["value"] for one in dose["doses"]]
    assert medians == sorted(medians, reverse=True)
    assert not any(one["kind"] == "floor" for one in summary["warnings"])


def test_a_floor_as_good_as_the_metric_is_said_plainly(tmp_path: Path) -> None:
    shouting = [f"BUY NOW LOT {i} {i * 7 % 10}" for i in range(20)]
    run = read_run(runs.build(tmp_path, 60, n_reference=120, captions=shouting))
    labels = {row["key"]: "sold" for row in run.rows.slice(0, 20).to_pylist()}
    said = [one["text"] for one in summarize(run, labels=labels)["warnings"] if one["kind"] == "floor"]
    assert any("Capitals in the caption" in text for text in said)
    assert all("alone separates about as well" in text for text in said)


def test_labels_without_controls_and_labels_of_nothing(tmp_path: Path) -> None:
    run = read_run(runs.build(tmp_path, 30, n_reference=0))
    summary = summarize(run, labels={"000000.png": "x5", "elsewhere.png": "x2"})
    assert summary["separations"] == []
    texts = [one["text"] for one in summary["warnings"] if one["kind"] == "labels"]
    assert any("names no picture" in text for text in texts)
    assert any("without controls" in text for text in texts)


def test_labels_need_their_header(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,group\na,b\n")
    with pytest.raises(ValueError, match="it needs key,label"):
        saved_labels(tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbfkey,label\n\xff.png, x5 \nb,\n")
    assert saved_labels(tmp_path / "labels.csv") == {"\\xff.png": "x5"}


def test_a_reference_that_repeats_audited_pictures_is_a_warning(tmp_path: Path) -> None:
    run = read_run(runs.build(tmp_path, 3, n_reference=40))  # copies come in pairs among the first eight
    kinds = {one["kind"] for one in summarize(run)["warnings"]}
    assert "leak" in kinds
    clean_run = read_run(runs.build(tmp_path / "other", 4, n_reference=40))
    assert "leak" not in {one["kind"] for one in summarize(clean_run)["warnings"]}


def test_copies_name_each_other(tmp_path: Path) -> None:
    rows = {row["key"]: row for row in summarize(read_run(runs.build(tmp_path, 30)))["rows"]}
    assert [copy["key"] for copy in rows["000000.png"]["copies"]] == ["000001.png"]
    assert rows["000000.png"]["copies"][0]["exact"]
    assert rows["000000.png"]["n_exact"] == 2
    assert rows["000020.png"]["copies"] == []


def test_many_beyond_the_reference_without_a_flag_is_a_warning(tmp_path: Path) -> None:
    run = read_run(runs.build(tmp_path, 200, n_reference=60, memorized=30))
    summary = summarize(run, fdr=0.02)
    assert summary["verdict"]["n_flagged"] == 0
    assert "beyond" in {one["kind"] for one in summary["warnings"]}


def test_hostile_text_is_cut_and_cleaned_and_the_rest_is_private(tmp_path: Path) -> None:
    record: dict[str, Any] = {
        "command": "pointland audit /home/alice/secret/model /mnt/data --token hf_abcdefghijklmnop",
        "model": {"name": "/home/alice/models/mine", "class": "X", "weights_sha256": "0", "space": "pixels"},
    }
    run = runs.build(tmp_path, 40, captions=runs.HOSTILE, n_failed=150, **record)
    summary = summarize(read_run(run))
    text = strict(summary)
    text.encode("utf-8")
    for secret in ("/home", "alice", "hf_abcdefgh", str(tmp_path)):
        assert secret not in text
    assert "\x00" not in json.loads(text)["rows"][0]["caption"]
    captions = [row for row in summary["rows"] if row["caption_length"] == 1_000_000]
    assert len(captions[0]["caption"] or "") == 301
    assert len(summary["failed"]) == 100
    assert summary["n_failed"] == 150
    assert summary["failed"][0]["reason"] == "cannot identify image file 'broken.jpg'"


def test_size_does_not_grow_with_rows(tmp_path: Path) -> None:
    sizes = [len(strict(summarize(read_run(runs.build(tmp_path / str(n), n))))) for n in (600, 20_000)]
    assert sizes[1] < 1.2 * sizes[0]


def test_scatter_keeps_every_flagged_picture(tmp_path: Path) -> None:
    summary = summarize(read_run(runs.build(tmp_path, 3_000, n_reference=399, memorized=400)))
    scatter = summary["scatter"]
    assert scatter is not None
    assert len(scatter["points"]) == 2_000
    assert sum(point["group"] == "flagged" for point in scatter["points"]) == summary["verdict"]["n_flagged"] > 300


def test_density_has_area_one_and_copes_with_constants_and_strays() -> None:
    values = np.random.default_rng(0).normal(size=500)
    found = density("c", {"a": values}, np.empty(0), None, deciding=False)
    assert found is not None
    width = np.diff(found["edges"])
    inside = 1 - found["groups"][0]["outside"] / 500
    assert np.isclose((np.array(found["groups"][0]["density"]) * width).sum(), inside)
    stray = density("c", {"a": np.append(values, 1e9)}, np.empty(0), None, deciding=False)
    assert stray is not None
    assert stray["groups"][0]["outside"] >= 1
    assert stray["edges"][-1] < 100
    for constant in (np.zeros(5), np.full(5, 7.0), np.array([-3.0])):
        assert density("c", {"a": constant}, np.empty(0), None, deciding=False) is not None
    assert density("c", {"a": np.full(3, np.nan)}, np.empty(0), None, deciding=False) is None


def test_roc_has_the_area_of_auroc() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, 1, 300).round(1), rng.normal(0, 1, 400).round(1)  # with ties
    points = np.array(roc(positive, negative))
    area = np.trapezoid(points[:, 1], points[:, 0])
    assert np.isclose(area, auroc(positive, negative), atol=0.005)  # thinned to 101 points


def test_labels_are_in_the_order_of_people() -> None:
    assert in_order(["x10", "x2", "once", "x5", "²"]) == ["once", "x2", "x5", "x10", "²"]


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (number, 1234.4, "1,234"),
        (number, 12.34, "12.3"),
        (number, -0.04123, "−0.0412"),
        (number, 9.999, "10.0"),
        (number, 0.0, "0"),
        (number, 0.00001234, "1.23 × 10⁻⁵"),
        (number, float("nan"), "–"),
        (percent, 0.05, "5 %"),
        (percent, 0.029, "2.9 %"),
        (percent, 0.5, "50 %"),
        (probability, 0.0025, "0.0025"),
        (probability, 1.0, "1"),
    ],
)
def test_numbers_for_people(write: Callable[[float], str], value: float, text: str) -> None:
    assert write(value) == text


def test_text_is_made_safe() -> None:
    assert clean("a\x00b\ud800c\x1b[31m") == "a b\ufffdc [31m"
    assert clean("x" * 500) == "x" * 300 + "…"
    assert upright("\u202eevil\u2066") == "evil"
    assert private("cannot read '/home/a b/c d.png': no") == "cannot read 'c d.png': no"
    assert private("/home/alice/x/model") == "model"
    assert private("owner/name and ../images/a.png and https://host/a/b") == (
        "owner/name and ../images/a.png and https://host/a/b"
    )
    assert private(r"C:\Users\alice\model") == "model"
