import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archives import keys, png, samples, shard, table
from pointland.data import Folder, ParquetFiles, Tars, UnreadablePicture, open_source
from pointland.data.files import are_all, given_again, recorded
from pointland.data.hub import Gone
from pointland.data.sources import expanded, reopened


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of each kind, and one of each two kinds."""
    for folder in ("pictures", "pictures and tars", "pictures and tables"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(png())
    for folder in ("tars", "pictures and tars", "img2dataset", "tars and tables"):
        for i in range(3):
            shard(tmp_path / folder / f"{i:05d}.tar", samples(1, i))
    for folder, name in (
        ("tables", "a"),
        ("pictures and tables", "metadata"),
        ("tars and tables", "other"),
        ("img2dataset", "00001"),
    ):
        table(tmp_path / folder / f"{name}.parquet", {"image": pa.array([png()], pa.binary()), "url": ["x"]})
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("images", "kind", "n"),
    [
        ("pictures", Folder, 1),
        ("tars", Tars, 3),
        ("tables", ParquetFiles, 1),
        ("img2dataset", Tars, 3),
        ("tars/00001.tar", Tars, 1),
        ("tables/a.parquet", ParquetFiles, 1),
        ("tars/{00000..00002}.tar", Tars, 3),
        ("tars/{00002,00000}.tar", Tars, 2),
        ("{tars,img2dataset}/0000{0..1}.tar", Tars, 4),
        ("tars/*.tar", Tars, 3),
        ("tars/0000[02].tar", Tars, 2),
        ("**/other.parquet", ParquetFiles, 1),
    ],
)
@pytest.mark.parametrize("absolute", [True, False])
def test_finds_what_is_meant(data: Path, images: str, kind: type, n: int, absolute: bool) -> None:
    ways: list[str | Path] = [str(data / images), data / images] if absolute else [images]
    for meant in ways:
        source = open_source(meant)
        assert isinstance(source, kind)
        assert len(source.items()) == n
        again = reopened(source.record(data / "run"), data / "run")
        assert [type(picture) for picture in again.open([item.place for item in source.items()])] == [bytes] * n


def test_the_order_is_that_of_the_braces(data: Path) -> None:
    assert keys(open_source("tars/{00002,00000}.tar").items()) == ["00002.tar/00002.png", "00000.tar/00000.png"]


def test_a_name_that_is_there_is_no_pattern(data: Path) -> None:
    shard(data / "odd/{1..2}*.tar", samples(1))
    assert keys(open_source("odd/{1..2}*.tar").items()) == ["{1..2}*.tar/00000.png"]


def test_a_source_is_taken_as_it_is(data: Path) -> None:
    source = Tars((data / "tars/00000.tar",))
    assert open_source(source) is source
    with pytest.raises(ValueError, match="captions is for a folder or tar archives; this is a source"):
        open_source(source, captions="c.csv")


def test_captions_go_to_folders_and_archives(data: Path) -> None:
    (data / "c.csv").write_text("key,caption\n00000.tar/00000.png,c\n")
    assert open_source("tars/00000.tar", captions="c.csv") == Tars((Path("tars/00000.tar"),), Path("c.csv"))
    assert open_source("pictures", captions=data / "c.csv") == Folder(Path("pictures"), data / "c.csv")


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ("tables", {"captions": "c.csv"}, "captions is for a folder or tar archives; this is Parquet files"),
        ("tables", {"split": "train"}, "split is for a data set of Hugging Face; this is Parquet files"),
        ("tars", {"image": "x"}, "image is for Parquet files or a data set of Hugging Face; this is tar archives"),
        ("pictures", {"key": "x"}, "key is for .*; this is a folder"),
        ("hf:a/b", {"captions": "c.csv"}, "this is a data set of Hugging Face"),
        ("pictures and tars", {}, r"holds both a\.png and 00000\.tar; keep them apart"),
        ("pictures and tables", {}, r"holds both a\.png and metadata\.parquet"),
        ("tars and tables", {}, r"holds both 00000\.tar and other\.parquet"),
        ("{tars/00000.tar,tables/a.parquet}", {}, "tar archives and Parquet files together"),
        ("{tars/00000.tar,tars/notes.md}", {}, "notes.md is neither"),
        ("pipe:cat tars/00000.tar", {}, "is a command, and commands are never run"),
        ("PIPE:touch canary", {}, "commands are never run"),
        ("https://example.com/{000..999}.tar", {}, "read from this machine only. Download"),
        ("s3://bucket/a.tar", {}, "read from this machine only"),
        ("gs://bucket/a.tar", {}, "read from this machine only"),
        ("file:///tmp/a.tar", {}, "read from this machine only"),
        ("a.tar.gz", {}, r"a\.tar\.gz is packed; unpack it"),
        ("a.tgz", {}, "is packed"),
        ("a.zip", {}, "is packed"),
        ("hf:justaname", {}, "is not hf:owner/name"),
        ("hf:a/b;c", {}, "is not hf:owner/name"),
        ("{0..2.tar", {}, "a brace in .* has no partner"),
        ("{a}.tar", {}, "neither a range"),
        ("{5..2}.tar", {}, "runs backwards"),
        ("{0..99999999999}.tar", {}, "more than a million"),
        ("{0..9999}{0..9999}.tar", {}, "more than a million"),
    ],
)
def test_refuses_what_it_cannot_mean(data: Path, images: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_source(images, **options)
    assert not (data / "canary").exists()


def test_says_what_is_missing(data: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no tars/00003\.tar, the first of 997 that are missing"):
        open_source("tars/{00000..00999}.tar").items()
    with pytest.raises(FileNotFoundError, match="nothing fits 'nowhere/\\*"):
        open_source("nowhere/*.tar")
    with pytest.raises(FileNotFoundError, match="there is no folder nowhere"):
        open_source("nowhere").items()
    (data / "file.txt").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        open_source("file.txt").items()


@pytest.mark.parametrize("images", [iter([]), [("a", png(), None)], {"a": png()}])
def test_what_can_be_iterated_over_must_be_spooled(images: Iterable[object]) -> None:
    with pytest.raises(TypeError, match=r"pointland\.data\.spooled"):
        open_source(images)


def test_runs_of_names_are_recorded_and_written_out(tmp_path: Path) -> None:
    names = [
        *(f"{i:05d}.tar" for i in range(8, 11)),
        "b9.tar",
        "b10.tar",
        "a-00001-of-2.tar",
        "a-00002-of-2.tar",
        "z.tar",
    ]
    record = recorded(tmp_path / name for name in names)
    assert record == {
        "files": [
            ["00008.tar", "00010.tar"],
            ["b9.tar", "b10.tar"],
            ["a-00001-of-2.tar", "a-00002-of-2.tar"],
            "z.tar",
        ]
    }
    assert given_again(record, tmp_path) == tuple(tmp_path / name for name in names)


@given(st.lists(st.text("a019", min_size=1, max_size=4), min_size=1, max_size=30, unique=True))
def test_every_list_of_names_comes_back(names: list[str]) -> None:
    folder = Path("/nowhere")
    record = recorded(folder / name for name in names)
    assert given_again(record, folder) == tuple(folder / name for name in names)


def test_folders_are_recorded_as_they_were_given(data: Path) -> None:
    assert recorded([data / "tars"]) == {}
    both = [data / "tars", data / "img2dataset"]
    assert recorded(both) == {"files": ["tars", "img2dataset"]}
    again = reopened(Tars(tuple(both)).record(data / "run"), data / "run")
    assert keys(again.items()) == keys(Tars(tuple(both)).items())


def test_records_stay_small(data: Path) -> None:
    paths = [shard(data / f"many/{'x' * i}.tar", samples(1)) for i in range(1, 53)]
    record = recorded(paths)
    assert set(record) == {"n_files", "files_sha256"}
    assert are_all(record, [data / "many"], ".tar")
    shard(data / "many/other.tar", samples(1))
    assert not are_all(record, [data / "many"], ".tar")
    assert set(recorded([data / os.fsdecode(b"\xff.tar")])) == {"n_files", "files_sha256"}  # run.json is UTF-8


@pytest.mark.parametrize(
    "files", [["../a.tar"], ["/a.tar"], [""], [], [["1.tar", "x.tar"]], [["2.tar", "1.tar"]], [["1.tar"]], 7, [7]]
)
def test_files_of_a_foreign_record_stay_inside(tmp_path: Path, files: object) -> None:
    shard(tmp_path / "a.tar", samples(1))
    (tmp_path / "in").mkdir()
    found = reopened({"kind": "tar", "folder": "../in", "files": files}, tmp_path / "run")
    assert isinstance(found, Gone)


@pytest.mark.parametrize("kind", ["floppy", None])
def test_a_source_of_another_kind_is_gone(tmp_path: Path, kind: str | None) -> None:
    found = reopened({"kind": kind, "folder": ""}, tmp_path)
    (reason,) = found.open(["#0"])
    assert isinstance(reason, UnreadablePicture)
    assert repr(kind) in str(reason)


@given(st.integers(0, 999), st.integers(0, 30), st.integers(1, 5))
def test_ranges_keep_their_zeros(first: int, more: int, width: int) -> None:
    names = expanded(f"s/{{{first:0{width}d}..{first + more}}}.tar")
    assert names == [f"s/{i:0{width}d}.tar" for i in range(first, first + more + 1)]
