"""Runs of archives, tables and other sources against their pictures; those of folders are in test_verify.py."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest

from archives import png, shard, table
from models import ExactModel
from pointland.auditing.engine import audit
from pointland.auditing.listing import LISTED
from pointland.auditing.verifying import COMPLETE, verify
from pointland.data import Folder, Items, UnreadablePicture, open_source
from shares import SETTINGS, model_of

AUDITED = LISTED.format("audited")


@pytest.fixture(autouse=True)
def _short_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointland.auditing.tasks.SHARD", 8)


@pytest.fixture
def model(tmp_path: Path) -> ExactModel:
    return model_of(tmp_path)


def findings(run: Path) -> list[str]:
    """Return the checks that found something."""
    return [check.name for check in verify(run, deep=True) if not check.passed]


def packed(model: ExactModel, tmp_path: Path) -> list[Path]:
    """The audited pictures in three archives."""
    members = [(path.name, path.read_bytes()) for path in sorted((tmp_path / "images").glob("*.png"))]
    return [shard(tmp_path / f"tars/{name}.tar", members[at::3]) for at, name in enumerate("abc")]


@pytest.mark.parametrize("share", [None, "0/2"])
@pytest.mark.parametrize("names", ["{b,a}", "{a..b}", "{a,b}", "*"])
def test_some_archives_of_a_folder_in_any_order(
    model: ExactModel, tmp_path: Path, names: str, share: str | None
) -> None:
    packed(model, tmp_path)
    names = names.replace("{a..b}", "[ab]")
    run = audit(model, str(tmp_path / f"tars/{names}.tar"), out=tmp_path / "run", shard=share, **SETTINGS).folder
    assert findings(run) == ([] if share is None else [COMPLETE])
    assert not any(check.skipped for check in verify(run, deep=True))
    shard(tmp_path / "tars/a.tar", [("other.png", png())])
    assert AUDITED in findings(run)


def test_more_files_than_the_record_names_are_checked_where_they_are_the_folder(
    model: ExactModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointland.data.files.MOST_RUNS", 1)
    _, b, _ = packed(model, tmp_path)
    b.rename(b.with_name("x.tar"))
    run = audit(model, str(tmp_path / "tars/*.tar"), out=tmp_path / "run", **SETTINGS).folder
    assert findings(run) == []
    assert not any(check.skipped for check in verify(run))
    shard(tmp_path / "tars/y.tar", [("other.png", png())])
    checks = {check.name: check for check in verify(run)}
    assert checks[AUDITED].skipped
    assert "3 files" in checks[AUDITED].looked_at
    shutil.rmtree(tmp_path / "tars")
    assert {check.name: check for check in verify(run)}[AUDITED].skipped


def test_keys_and_captions_of_a_table(model: ExactModel, tmp_path: Path) -> None:
    data = [path.read_bytes() for path in sorted((tmp_path / "images").glob("*.png"))]
    names = [f"n{i}" for i in range(len(data))]
    table(tmp_path / "t.parquet", {"image": pa.array(data, pa.binary()), "name": names, "said": names})
    source = open_source(tmp_path / "t.parquet", key="name", caption="said")
    run = audit(model, source, out=tmp_path / "run", **SETTINGS).folder
    assert findings(run) == []
    assert not any(check.skipped for check in verify(run))


class Own(NamedTuple):
    """A source of a class of one's own."""

    folder: Path

    def items(self) -> Items:
        return Folder(self.folder).items()

    def open(self, places: Sequence[str]) -> Iterator[bytes | UnreadablePicture]:
        return Folder(self.folder).open(places)

    def record(self, seen_from: Path) -> dict[str, object]:
        return {"kind": "own", "folder": ""}


def test_a_source_of_ones_own_is_not_checked(model: ExactModel, tmp_path: Path) -> None:
    run = audit(model, Own(tmp_path / "images"), out=tmp_path / "run", **SETTINGS).folder
    assert findings(run) == []
    skipped = {check.name: check.looked_at for check in verify(run, deep=True) if check.skipped}
    assert "kind 'own'" in skipped[AUDITED]
