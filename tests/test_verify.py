import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from models import ExactModel
from pointland.auditing.directory import write_table
from pointland.auditing.listing import LISTED, SAME
from pointland.auditing.locks import locked
from pointland.auditing.parts import DamagedPart, Shape, read_part
from pointland.auditing.verifying import CLEAN, COMPLETE, COUNTS, RECORD, UNIQUE, VALUES, WHOLE, Check, verify
from pointland.cli.verify import verify as command
from shares import made, model_of, parts_of

PART = "part-000002.parquet"
AUDITED, REFERENCE = LISTED.format("audited"), LISTED.format("reference")


@pytest.fixture(autouse=True)
def _short_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointland.auditing.tasks.SHARD", 8)


@pytest.fixture
def model(tmp_path: Path) -> ExactModel:
    return model_of(tmp_path)


@pytest.fixture
def run(model: ExactModel, tmp_path: Path) -> Path:
    return made(model, tmp_path, "run").folder


def wrong(run: Path, **settings: Any) -> dict[str, Check]:
    """Return the checks that found something, by name; nothing may be changed by looking."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    checks = verify(run, **settings)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    return {check.name: check for check in checks if not check.passed}


def changed(run: Path, change: Callable[[pa.Table], pa.Table], name: str = f"rows/{PART}") -> None:
    write_table(run / name, change(pq.read_table(run / name)))


def with_value(column: str, value: object, row: int = 1) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        field = table.schema.field(column)
        return table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))

    return change


def test_a_good_run_passes_whole_and_deep(run: Path) -> None:
    checks = verify(run, deep=True)
    assert [check.findings for check in checks] == [()] * len(checks)
    assert not any(check.skipped for check in checks)
    names = [check.name for check in checks]
    assert {RECORD, WHOLE, COUNTS, UNIQUE, VALUES, COMPLETE, CLEAN, AUDITED, SAME.format("reference")} < {*names}
    looked_at = {check.name: check.looked_at for check in checks}
    assert looked_at[COUNTS] == "51 pictures, 50 rows"  # and one failure
    assert looked_at[SAME.format("audited")] == "29 read again"


def test_flipped_bits_are_found_or_change_nothing(run: Path) -> None:
    """Parquet's checksums leave out its headers, which say nothing of values that their pages do not."""
    shape = Shape.of(json.loads((run / "run.json").read_text()))
    good, path = read_part(run, PART, shape.columns), run / "rows" / PART
    data, chance, said = path.read_bytes(), random.Random(0), list[str]()
    for _ in range(400):
        place = chance.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])
        try:
            got = read_part(run, PART, shape.columns)
        except DamagedPart as damage:
            said.append(str(damage))
        else:
            assert got == good
    assert len(said) > 200
    assert all(PART in text and str(run) not in text for text in said)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_part_that_is_cut_short_is_named_and_made_again(
    model: ExactModel, run: Path, tmp_path: Path, share: float
) -> None:
    wanted, path = parts_of(run), run / "rows" / PART
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    (finding,) = wrong(run)[WHOLE].findings
    assert finding.what.startswith(f"rows/{PART} cannot be read")
    assert finding.todo.startswith(f"delete rows/{PART} and repeat the command of the audit")
    path.unlink()
    assert [*wrong(run)] == [COMPLETE]
    made(model, tmp_path, "run")
    assert not wrong(run)
    assert parts_of(run) == wanted


def test_a_damaged_failure_part_goes_with_its_rows(run: Path) -> None:
    (run / "failed" / "part-000000.parquet").write_bytes(b"")
    (finding,) = wrong(run)[WHOLE].findings
    assert "failed/part-000000.parquet cannot be read" in finding.what
    assert "delete rows/part-000000.parquet and failed/part-000000.parquet" in finding.todo


def test_lost_and_doubled_rows_are_counted(run: Path) -> None:
    changed(run, lambda table: table.slice(1))
    assert wrong(run)[COUNTS].findings[0].what == f"rows/{PART} has 7 rows and 0 failures, of 8 pictures"
    assert "'0016.png' is listed, and has neither" in wrong(run)[AUDITED].findings[0].what
    shutil.copy(run / "rows" / "part-000001.parquet", run / "rows" / PART)
    assert "audited '0008.png' again, which is in rows/part-000001.parquet" in wrong(run)[UNIQUE].findings[0].what
    (run / "failed" / "part-000000.parquet").unlink()
    assert wrong(run)[COUNTS].findings[0].what == "rows/part-000000.parquet has 7 rows and 0 failures, of 8 pictures"


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("flipd_unconditional", float("nan"), "flipd_unconditional of '0017.png' that is not finite"),
        ("flipd_unconditional_stderr", float("inf"), "flipd_unconditional_stderr of '0017.png' that is not finite"),
        ("flipd_unconditional", None, "neither value nor reason for flipd_unconditional of '0017.png'"),
        ("reasons", '{"flipd_unconditional": "x"}', "a reason and a value for flipd_unconditional of '0017.png'"),
        ("reasons", "{", "a row of '0017.png' whose role, sha256 or reasons are none"),
        ("reasons", "[]", "a row of '0017.png' whose role, sha256 or reasons are none"),
        ("sha256", "ABC", "a row of '0017.png' whose role, sha256 or reasons are none"),
        ("role", "other", "a row of '0017.png' whose role, sha256 or reasons are none"),
    ],
)
def test_values_that_cannot_be_are_found(run: Path, column: str, value: object, what: str) -> None:
    changed(run, with_value(column, value))
    found = wrong(run)[VALUES].findings
    assert [finding.what for finding in found] == [f"rows/{PART} has {what}"] or what in found[0].what
    assert f"delete rows/{PART}" in found[0].todo


def test_a_null_with_a_reason_is_right(run: Path) -> None:
    changed(run, with_value("flipd_unconditional", None))
    changed(run, with_value("reasons", '{"flipd_unconditional": "the model gave no finite value"}'))
    assert VALUES not in wrong(run)


def test_maps_are_looked_through(run: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        n = len(table["loss_map_unconditional"][1])
        return with_value("loss_map_unconditional", [*[0.0] * (n - 1), float("nan")])(table)

    changed(run, change)
    assert "loss_map_unconditional of '0017.png' that is not finite" in wrong(run)[VALUES].findings[0].what


def test_other_columns_than_the_records_are_found(run: Path) -> None:
    changed(run, lambda table: table.drop_columns(["png_bytes"]))
    assert "has other columns than the record says: png_bytes" in wrong(run)[WHOLE].findings[0].what


def test_parts_too_few_and_too_many_are_found(run: Path) -> None:
    (run / "rows" / PART).rename(run / "rows" / "part-000099.parquet")
    found = [finding.what for finding in wrong(run)[COMPLETE].findings]
    assert found == ["1 are missing: 2", "rows/part-000099.parquet is beyond the last part"]


def test_an_unfinished_run_is_not_complete(model: ExactModel, tmp_path: Path) -> None:
    found = wrong(made(model, tmp_path, "run", "0/2").folder)
    assert [*found] == [COMPLETE]
    assert found[COMPLETE].findings[0].what == "3 are missing: 1, 3, 5"


def test_leftovers_are_found_unless_somebody_works(run: Path) -> None:
    (run / "rows" / ".part-000003.parquet.ab.tmp").touch()
    assert "rows/.part-000003.parquet.ab.tmp was left" in wrong(run)[CLEAN].findings[0].what
    with locked(run):
        (run / "rows" / ".part-000003.parquet.ab.tmp").touch()
        assert CLEAN not in wrong(run)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema_version": 1}', '{"schema_version": "x"}', "\ud800", '{"schema_version": null}']
)
def test_a_damaged_record_is_one_finding(run: Path, text: str) -> None:
    (run / "run.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    (check,) = wrong(run).values()
    assert check.findings[0].what.startswith("run.json is damaged")


def test_a_newer_schema_and_no_run_are_refused(run: Path, tmp_path: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "schema_version": 99}))
    with pytest.raises(ValueError, match="schema 99"):
        verify(run)
    with pytest.raises(FileNotFoundError, match="is not a run"):
        verify(tmp_path)


def test_pictures_that_changed_since_are_found(run: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copy(images / "0000.png", images / "0001.png")
    assert not wrong(run)
    changed_ones = wrong(run, deep=True)[SAME.format("audited")].findings
    assert [finding.what for finding in changed_ones] == ["'0001.png' has other content than when it was scored"]
    (tmp_path / "reference" / "0005.png").unlink()
    os.mkfifo(tmp_path / "reference" / "0005.png")
    assert "'0005.png' can no longer be read" in wrong(run, deep=True)[SAME.format("reference")].findings[0].what
    (images / "captions.csv").write_text((images / "captions.csv").read_text().replace("word 3\n", "other\n"))
    assert "names or captions, or their order" in wrong(run)[AUDITED].findings[0].what
    shutil.copy(images / "0000.png", images / "new.png")
    assert "31 pictures are listed, 30 were" in wrong(run)[AUDITED].findings[0].what
    shutil.rmtree(images)
    checks = {check.name: check for check in verify(run, deep=True)}
    assert checks[AUDITED].skipped
    assert "cannot be listed" in checks[AUDITED].looked_at
    assert not checks[REFERENCE].skipped


def test_captions_from_a_table_elsewhere_are_taken_from_the_rows(model: ExactModel, tmp_path: Path) -> None:
    (tmp_path / "images" / "captions.csv").rename(tmp_path / "table.csv")
    (tmp_path / "images" / "0003.png").unlink()
    lines = (tmp_path / "table.csv").read_text().splitlines(keepends=True)
    (tmp_path / "table.csv").write_text("".join(line for line in lines if not line.startswith("0003")))
    run = made(model, tmp_path, "run", captions=tmp_path / "table.csv").folder
    assert not wrong(run)
    changed(run, with_value("caption", "another"))
    assert AUDITED in wrong(run)


def test_the_command_prints_a_table_and_json(run: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    good = CliRunner().invoke(app, [str(run)], env={"COLUMNS": "200"})
    assert good.exit_code == 0, good.output
    assert good.stdout.count(" ok ") == 9
    (run / "rows" / PART).write_bytes(b"")
    bad = CliRunner().invoke(app, [str(run), "--deep"], env={"COLUMNS": "200"})
    assert bad.exit_code == 1
    assert f"delete rows/{PART} and repeat" in bad.stdout
    told = json.loads(CliRunner().invoke(app, [str(run), "--json"]).stdout)
    assert told["passed"] is False
    assert len(told["checks"]) == 9
    assert sum(bool(check["findings"]) for check in told["checks"]) >= 1
