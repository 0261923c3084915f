import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from models import ExactModel
from pointland.auditing import read_run
from pointland.auditing.merging import merge
from pointland.cli.merge import merge as command
from shares import N_SHARDS, made, model_of, parts_of


@pytest.fixture(autouse=True)
def _short_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointland.auditing.tasks.SHARD", 8)


@pytest.fixture
def model(tmp_path: Path) -> ExactModel:
    return model_of(tmp_path)


@pytest.fixture
def shares(model: ExactModel, tmp_path: Path) -> list[Path]:
    """Two shares in directories at different depths."""
    return [made(model, tmp_path, out, f"{n}/2").folder for n, out in enumerate(("zero", "deep/er/one"))]


def everything(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}


def test_the_merged_run_is_the_whole_one_to_the_byte(model: ExactModel, tmp_path: Path, shares: list[Path]) -> None:
    whole = made(model, tmp_path, "whole")
    found = merge(shares, tmp_path / "out")
    assert found.missing == []
    assert found.run.finished
    assert parts_of(tmp_path / "out") == parts_of(whole.folder)
    assert found.run.record["data"] == whole.record["data"]
    again = made(model, tmp_path, "out")  # and the audit's own command takes it for its run
    assert again.finished
    assert parts_of(tmp_path / "out") == parts_of(whole.folder)


def test_merging_again_changes_nothing_and_shares_are_left_alone(tmp_path: Path, shares: list[Path]) -> None:
    before = [everything(share) for share in shares]
    merge(shares, tmp_path / "out")
    once = everything(tmp_path / "out")
    merge([*reversed(shares), tmp_path / "out"], tmp_path / "out")
    assert everything(tmp_path / "out") == once
    assert [everything(share) for share in shares] == before


def test_a_run_can_take_up_the_others(model: ExactModel, tmp_path: Path, shares: list[Path]) -> None:
    wanted = parts_of(made(model, tmp_path, "whole").folder)
    assert merge(shares, shares[0]).run.finished
    assert parts_of(shares[0]) == wanted


def test_what_is_missing_is_told_with_its_share(model: ExactModel, tmp_path: Path, shares: list[Path]) -> None:
    (shares[1] / "rows" / "part-000003.parquet").unlink()
    found = merge(shares, tmp_path / "out")
    assert found.missing == [3]
    assert found.shares == [(1, 2)]
    assert not found.run.finished
    made(model, tmp_path, "deep/er/one", "1/2")
    assert merge(shares, tmp_path / "out").run.finished
    assert merge(shares[:1], tmp_path / "half").missing == [1, 3, 5]


def test_an_interrupted_merge_goes_on(
    model: ExactModel, tmp_path: Path, shares: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = parts_of(made(model, tmp_path, "whole").folder)

    class Killed(BaseException):
        pass

    real = shutil.copyfile
    copies = 0

    def fail(source: Path, target: Path) -> None:
        nonlocal copies
        copies += 1
        if copies in (2, 4, 7):
            target.write_bytes(b"half")
            raise Killed
        real(source, target)

    monkeypatch.setattr("pointland.auditing.merging.shutil.copyfile", fail)
    for _ in range(3):
        with pytest.raises(Killed):
            merge(shares, tmp_path / "out")
        assert wanted.items() >= parts_of(tmp_path / "out").items()  # whole or not at all
    assert merge(shares, tmp_path / "out").run.finished
    assert parts_of(tmp_path / "out") == wanted
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_runs_of_other_audits_are_refused_by_name(model: ExactModel, tmp_path: Path, shares: list[Path]) -> None:
    made(model, tmp_path, "other", "1/2", seed=1)
    with pytest.raises(ValueError, match=r"zero and .*other are not of one audit: they differ in .*seed"):
        merge([shares[0], tmp_path / "other"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    made(model, tmp_path, "level", "1/2", sigma=0.4)
    with pytest.raises(ValueError, match=r"sigma.*the same --sigma"):
        merge([shares[0], tmp_path / "level"], tmp_path / "out")
    with pytest.raises(ValueError, match="holds a run that differs in"):
        merge(shares, tmp_path / "other")
    with pytest.raises(FileNotFoundError, match="is not a run"):
        merge([tmp_path / "images"], tmp_path / "out")
    with pytest.raises(ValueError, match="inside the pictures"):
        merge(shares, tmp_path / "images" / "out")


def test_two_different_parts_of_one_number_are_refused(model: ExactModel, tmp_path: Path, shares: list[Path]) -> None:
    made(model, tmp_path, "all")
    part = tmp_path / "all" / "rows" / "part-000002.parquet"
    shutil.copy(tmp_path / "all" / "rows" / "part-000004.parquet", part)
    with pytest.raises(ValueError, match=r"different parts part-000002\.parquet"):
        merge([shares[0], tmp_path / "all"], tmp_path / "out")


def test_a_damaged_part_is_not_taken(tmp_path: Path, shares: list[Path]) -> None:
    part = shares[1] / "rows" / "part-000005.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"one/rows/part-000005\.parquet cannot be read.*delete it there"):
        merge(shares, tmp_path / "out")
    assert merge(shares[:1], tmp_path / "out").missing == [5]  # what was copied before stays


def test_versions_of_all_are_kept_and_labels_too(model: ExactModel, tmp_path: Path, shares: list[Path]) -> None:
    (tmp_path / "labels.csv").write_text("key,label\n0000.png,memorized\n")
    made(model, tmp_path, "zero", "0/2", labels=tmp_path / "labels.csv")
    record = json.loads((shares[1] / "run.json").read_text())
    other = {**record["environment"], "torch": "1.0"}
    (shares[1] / "run.json").write_text(json.dumps({**record, "environment": other}))
    merge(shares, tmp_path / "out")
    assert read_run(tmp_path / "out").record["continued"] == [other]
    assert "0000.png,memorized" in (tmp_path / "out" / "labels.csv").read_text()
    (shares[1] / "labels.csv").write_text("key,label\n0000.png,clean\n")
    with pytest.raises(ValueError, match="the labels differ"):
        merge(shares, tmp_path / "out")


def test_the_command_says_what_to_do(model: ExactModel, tmp_path: Path, shares: list[Path]) -> None:
    app = typer.Typer()
    app.command()(command)
    half = CliRunner().invoke(app, [str(shares[0]), "-o", str(tmp_path / "out")])
    assert half.exit_code == 1
    assert f"3 of {N_SHARDS} parts are missing: 1, 3, 5." in half.stderr
    assert "Run --shard 1/2" in half.stderr
    whole = CliRunner().invoke(app, [*map(str, shares), "-o", str(tmp_path / "out")])
    assert whole.exit_code in (0, 10), whole.output
    assert (tmp_path / "out" / "report.html").exists()
