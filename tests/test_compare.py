import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pointland.auditing import read_run
from pointland.cli.app import compare as command
from pointland.cli.compare import opened, run_compare
from pointland.report import summarize
from pointland.report.compare import Comparison, compare, print_comparison, render_comparison, write_comparison
from pointland.report.compare.differences import paired, rank_correlation, resampled_medians
from pointland.report.compare.settings import column_incomparable
from runs import COLUMNS, HOSTILE, build

LOSS = "denoising_loss_unconditional"


def between(a: Path, b: Path, **options: Any) -> Comparison:
    return compare(read_run(a), read_run(b), **options)


def rewrite(run: Path, **columns: Any) -> Path:
    """Replace columns of a run by a function of them."""
    part = next((run / "rows").glob("*.parquet"))
    table = pq.read_table(part)
    for name, change in columns.items():
        place = table.column_names.index(name)
        values = change(table[name].to_pylist())
        table = table.set_column(place, name, pa.array(values, table.schema.field(name).type, from_pandas=True))
    pq.write_table(table, part)
    return run


def record(run: Path, **fields: Any) -> Path:
    path = run / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return run


def kinds(comparison: Comparison) -> set[str]:
    return {one["kind"] for one in comparison["warnings"]}


def column(comparison: Comparison, name: str) -> Any:
    return next(one for one in comparison["columns"] if one["name"] == name)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose ten memorized pictures are too few to be flagged."""
    return build(tmp_path_factory.mktemp("before"), 200, memorized=10)


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with twenty, which are flagged."""
    return build(tmp_path_factory.mktemp("after"), 200, memorized=20)


def test_newly_and_no_longer_flagged_are_each_others_mirror(before: Path, after: Path) -> None:
    forth, back = between(before, after), between(after, before)
    n = summarize(read_run(after))["verdict"]["n_flagged"]
    assert summarize(read_run(before))["verdict"]["n_flagged"] == 0
    assert forth["flags"]["n_newly"] == back["flags"]["n_no_longer"] == n > 10
    assert forth["flags"]["n_no_longer"] == back["flags"]["n_newly"] == 0
    assert forth["headline"].startswith(f"{n} newly flagged, 0 no longer, 0 flagged in both, of 200 pictures")
    assert [one["key"] for one in forth["flags"]["newly"]] == [
        one["key"] for one in back["flags"]["no_longer"]
    ] or n > 2
    ours, theirs = column(forth, LOSS)["values"], column(back, LOSS)["values"]
    assert ours["n_down"] == theirs["n_up"] > 10
    assert ours["difference"]["value"] == -theirs["difference"]["value"]
    assert forth["movers"]["toward"][0]["key"] == back["movers"]["away"][0]["key"]
    assert forth["movers"]["toward"][0]["difference"] < 0  # type: ignore[operator]
    assert forth["movers"]["by"] == "value"


def test_a_uniform_shift_is_measured_and_is_no_change_net_of_the_reference(before: Path, tmp_path: Path) -> None:
    shutil.copytree(before, tmp_path / "b")
    lower = rewrite(tmp_path / "b", **{LOSS: lambda values: [value - 3 for value in values]})
    found = column(between(before, lower), LOSS)
    assert found["values"]["difference"]["value"] == pytest.approx(-3)
    assert found["reference"]["difference"]["value"] == pytest.approx(-3)
    assert found["net"]["value"] == pytest.approx(0)
    assert found["rank_correlation"]["value"] == pytest.approx(1)
    assert not between(before, lower)["flags"]["n_newly"]  # against a reference that moved alike


def test_a_copy_of_a_run_repeats_it(before: Path, tmp_path: Path) -> None:
    shutil.copytree(before, tmp_path / "copy")
    found = between(before, tmp_path / "copy")
    assert {"identical", "weights"} <= kinds(found)
    assert not found["settings"]
    assert not found["movers"]["toward"]
    with pytest.raises(ValueError, match="same run"):
        between(before, before)


def test_combined_errors_are_of_both_runs(before: Path, after: Path) -> None:
    one = between(before, after)["flags"]["newly"][3]
    assert one["stderr_a"] is not None
    assert one["stderr_b"] is not None
    assert one["difference"] is not None
    assert one["z"] == pytest.approx(one["difference"] / np.hypot(one["stderr_a"], one["stderr_b"]))


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"sigma": {"value": 0.8, "chosen": "fixed", "curve": None}}, "wider than sigma 0.4"),
        ({"model": {"name": "other", "space": "latents 4 x 16 x 16", "weights_sha256": "ee" * 32}}, "dimensions of"),
    ],
)
def test_other_space_or_sigma_leaves_ranks_and_says_so(
    before: Path, tmp_path: Path, fields: dict[str, Any], what: str
) -> None:
    found = between(before, build(tmp_path, 200, memorized=20, **fields))
    assert not found["comparable"]
    assert what in found["why_not"][0]
    assert found["warnings"][0]["kind"] == "incomparable"
    assert column(found, LOSS)["values"] is None
    assert column(found, LOSS)["rank_correlation"]["value"] > 0.8
    assert found["movers"]["by"] == "rank"
    assert all(one["difference"] is None and one["z"] is None for one in found["flags"]["newly"])
    assert found["flags"]["n_newly"] > 10  # by q-values, each within its run
    bytes_known = column(found, "png_bytes")["values"] is not None
    assert bytes_known == ("sigma" in fields)
    assert "Dimensions are not comparable" in render_comparison(found)


def test_levels_of_two_schedules_that_nearly_agree_are_comparable() -> None:
    ours = {"unit": "dimensions", "memorized_when": "low", "description": "LID at sigma 0.34, 3 steps."}
    for text, same in (
        ("LID at sigma 0.3421, 3 steps.", True),
        ("LID at sigma 0.36, 3 steps.", False),
        ("LID at sigma 0.34, 4 steps.", False),
        ("Another at sigma 0.34, 3 steps.", False),
    ):
        assert (column_incomparable(ours, {**ours, "description": text}, [], True) == "") == same
    assert "unit" in column_incomparable(ours, {**ours, "unit": "bytes"}, [], True)


def test_pictures_are_matched_by_content_then_by_name_and_looks(before: Path, tmp_path: Path) -> None:
    shutil.copytree(before, tmp_path / "b")

    def renamed(keys: list[str]) -> list[str]:
        return [f"moved/{key}" if i == 20 else key for i, key in enumerate(keys)]

    def saved_again(hashes: list[str]) -> list[str]:
        return [f"{i:064x}" if i in (30, 31) else text for i, text in enumerate(hashes)]

    def repainted(looks: list[str]) -> list[str]:
        return [f"{int(text, 16) ^ (2**64 - 1):016x}" if i == 31 else text for i, text in enumerate(looks)]

    b = rewrite(tmp_path / "b", key=renamed, sha256=saved_again, perceptual_hash=repainted)
    found = between(before, b)
    p = found["pictures"]
    assert (p["n_paired"], p["n_by_content"], p["n_by_name"], p["n_replaced"]) == (199, 198, 1, 1)
    assert p["replaced"] == p["only_a"] == p["only_b"] == ["000031.png"]
    assert {"by_name", "replaced"} <= kinds(found)


def test_removed_copies_are_told_from_removed_pictures(before: Path, tmp_path: Path) -> None:
    shutil.copytree(before, tmp_path / "b")  # its first eight pictures are four pairs of copies
    part = next((tmp_path / "b" / "rows").glob("*.parquet"))
    table = pq.read_table(part)
    pq.write_table(table.filter(pa.array([i not in (1, 3, 100) for i in range(len(table))])), part)
    p = between(before, tmp_path / "b")["pictures"]
    assert (p["n_only_a"], p["n_only_a_copies"], p["n_only_b"]) == (3, 2, 0)


def test_flags_of_pictures_that_one_run_lacks_are_counted_apart(before: Path, after: Path, tmp_path: Path) -> None:
    shutil.copytree(before, tmp_path / "a")
    part = next((tmp_path / "a" / "rows").glob("*.parquet"))
    pq.write_table(pq.read_table(part).slice(5), part)
    flags = between(tmp_path / "a", after)["flags"]
    everything = between(before, after)["flags"]
    assert flags["n_only_b"] + flags["n_newly"] == everything["n_newly"]
    assert flags["n_only_b"] >= 1
    assert all(one["value_a"] is None for one in flags["only_b"])
    shutil.copytree(after, tmp_path / "b")
    rewrite(tmp_path / "b", **{LOSS: lambda values: [None if i < 2 else v for i, v in enumerate(values)]})
    assert between(after, tmp_path / "b")["flags"]["n_lost"] == 2


def test_settings_that_differ_are_listed_without_paths(before: Path, tmp_path: Path) -> None:
    other = build(
        tmp_path,
        200,
        seed=0,
        fdr=0.1,
        decide_by="flipd_unconditional",
        model={"name": "/home/alice/secret/model", "space": "latents 4 x 8 x 8", "weights_sha256": "ee" * 32},
        metrics=[{"name": "DenoisingLossColumns", "estimator": {"sigma": 0.4, "n_draws": 32, "seed": 0}}],
    )
    found = between(before, other)
    named = {one["name"]: (one["a"], one["b"]) for one in found["settings"]}
    assert named["model.name"] == ("demo/miniature", "model")
    assert named["metrics.DenoisingLossColumns.estimator.n_draws"] == ("8", "32")
    assert named["metrics.PngSize"] == ("as is", None)
    assert named["fdr"] == ("0.05", "0.1")
    assert {"fdr", "decide_by", "codec"} <= kinds(found)
    assert "alice" not in json.dumps(found)
    assert found["settings"][0]["group"] == "model"
    assert all(one["difference"] is None for one in found["flags"]["newly"])  # of two different columns
    alike = between(before, other, fdr=0.2)
    assert alike["a"]["fdr"] == alike["b"]["fdr"] == 0.2
    assert "fdr" not in kinds(alike)


def test_unfinished_undecided_and_changed_captions_are_said(before: Path, tmp_path: Path) -> None:
    b = record(shutil.copytree(before, tmp_path / "b"), finished=None)
    rewrite(b, caption=lambda texts: ["another caption", *texts[1:]])
    part = next((b / "rows").glob("*.parquet"))
    pq.write_table(pq.read_table(part).slice(0, 200), part)  # before the reference was scored
    found = between(before, b)
    assert {"unfinished", "undecided", "caption"} <= kinds(found)
    assert found["pictures"]["n_caption_changed"] == 1
    assert found["headline"].startswith("No decision in B")
    assert column(found, LOSS)["net"] is None
    assert not found["flags"]["n_newly"]


def test_nothing_in_common_is_an_error_that_says_so(before: Path, tmp_path: Path) -> None:
    strangers = build(tmp_path, 20, n_reference=20, model={"name": "other", "weights_sha256": "ee" * 32})
    rewrite(
        strangers,
        sha256=lambda hashes: [f"{i:064x}" for i in range(len(hashes))],
        perceptual_hash=lambda looks: [f"{int(text, 16) ^ (2**64 - 1):016x}" for text in looks],
    )
    with pytest.raises(ValueError, match=r"no picture in common; 20 names .* different models over different pictures"):
        between(before, strangers)


def test_what_is_no_run_or_another_schema_is_refused(before: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a run"):
        run_compare(before, tmp_path, out=None, fdr=None, top=3)
    for name, text, message in (
        ("damaged", "{", "damaged"),
        ("foreign", "{}", "not the record"),
        ("list", "[]", "not the record"),
        ("newer", '{"schema_version": 99}', "update pointland"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            opened(tmp_path / name)
    shutil.copytree(before, tmp_path / "poor")
    path = tmp_path / "poor" / "run.json"
    path.write_text(json.dumps({"schema_version": 1, "model": {}, "data": {}}))
    with pytest.raises(ValueError, match="lacks sigma, columns, fdr, decide_by, seed"):
        between(before, tmp_path / "poor")
    shutil.copytree(before, tmp_path / "empty")
    shutil.rmtree(tmp_path / "empty" / "rows")
    with pytest.raises(ValueError, match="no scored picture"):
        between(before, tmp_path / "empty")
    with pytest.raises(ValueError, match="not a rate"):
        between(before, record(shutil.copytree(before, tmp_path / "c"), seed=1), fdr=7.0)


def test_columns_of_one_run_alone_are_left_out(before: Path, tmp_path: Path) -> None:
    found = between(before, build(tmp_path, 200, columns=[one for one in COLUMNS if "flipd" not in one["name"]]))
    assert not any("flipd" in one["name"] for one in found["columns"])
    assert any(one["name"] == "columns.flipd_conditional" and one["b"] is None for one in found["settings"])


def test_the_command_exits_10_for_newly_flagged_and_writes_both_files(
    before: Path, after: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for a, b, code in ((before, after, 10), (after, before, 0)):
        with pytest.raises(typer.Exit) as end:
            command(a, b, out=tmp_path / "out", fdr=None, top=3)
        assert end.value.exit_code == code
    assert "no longer" in capsys.readouterr().out
    read = json.loads((tmp_path / "out" / "compare.json").read_text(), parse_constant=pytest.fail)
    assert read == json.loads(json.dumps(between(after, before)))
    assert (tmp_path / "out" / "compare.md").read_text().startswith("# What changed")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        write_comparison(between(after, before), tmp_path / "file")


def test_hostile_text_does_nothing(before: Path, tmp_path: Path) -> None:
    found = between(before, build(tmp_path, 200, captions=HOSTILE))
    page = render_comparison(found)
    assert "<script" not in page
    assert "](javascript" not in page
    assert "\x1b" not in page
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    print_comparison(found, 20, console)
    shown = console.export_text(styles=False)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    console.file.close()


def test_a_resampled_median_is_the_bootstraps() -> None:
    rng = np.random.default_rng(0)
    for n in (9, 10):
        values = rng.lognormal(size=n)
        fast = resampled_medians(values, np.random.default_rng(1), 20_000)
        slow = np.median(rng.choice(values, (20_000, n)), axis=1)
        for quantile in (0.025, 0.25, 0.5, 0.75, 0.975):
            share = (fast <= np.quantile(slow, quantile)).mean(), (slow <= np.quantile(slow, quantile)).mean()
            assert share[0] == pytest.approx(share[1], abs=0.02)  # 20,000 draws: standard error 0.004


def test_the_interval_of_a_median_difference_covers() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        a = rng.normal(size=40)
        found, _ = paired(a, a + rng.exponential(size=40), np.full(40, np.nan), trial)
        assert found is not None
        covered += found["difference"]["low"] <= np.log(2) <= found["difference"]["high"]
    assert covered / 300 >= 0.92


@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=40), st.integers(0, 5))
def test_differences_are_antisymmetric_and_ranks_symmetric(values: list[float], seed: int) -> None:
    a = np.array(values)
    b = np.random.default_rng(seed).permutation(a)
    nothing = np.full(len(a), np.nan)
    forth, back = paired(a, b, nothing, seed)[0], paired(b, a, nothing, seed)[0]
    assert forth is not None
    assert back is not None
    assert forth["difference"]["value"] == pytest.approx(-back["difference"]["value"])
    assert rank_correlation(a, b) == rank_correlation(b, a)
    assert rank_correlation(a[:5], b[:5]) is None
