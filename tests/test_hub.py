import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from archives import captions, faults, keys, png, read
from pointland.data import Source, open_source, spooled
from pointland.data.hub import ELSEWHERE, DatasetRows
from pointland.data.sources import reopened

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path) -> None:
    datasets.disable_progress_bars()
    (tmp_path / "run").mkdir()


def pictures(n: int = 4) -> Any:
    features = datasets.Features(
        {"image": datasets.Image(), "text": datasets.Value("string"), "name": datasets.Value("string")}
    )
    rows = {
        "image": [{"bytes": png(i), "path": None} for i in range(n)],
        "text": ["a", None, " ", "d", "e", "f"][:n],
        "name": [f"n{i}" for i in range(n)],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_reads_the_bytes_of_an_object_undecoded(tmp_path: Path) -> None:
    source = open_source(pictures())
    assert isinstance(source, Source)
    items = source.items()
    assert keys(items) == ["0", "1", "2", "3"]
    assert captions(items) == ["a", None, None, "d"]
    assert read(source) == [png(i) for i in range(4)]
    assert list(pickle.loads(pickle.dumps(source)).open(["#3", "#0"])) == [png(3), png(0)]
    assert keys(open_source(pictures(), key="name").items()) == ["n0", "n1", "n2", "n3"]


def test_selections_and_transforms_of_an_object() -> None:
    def boom(rows: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("a transform ran")

    chosen = pictures(6).select([5, 2, 0]).with_transform(boom)
    assert read(open_source(chosen)) == [png(5), png(2), png(0)]


def test_an_object_in_memory_is_gone_afterwards(tmp_path: Path) -> None:
    record = open_source(pictures()).record(tmp_path)
    assert record["kind"] == "memory"
    (reason,) = reopened(record, tmp_path).open(["#0"])
    assert "save_to_disk" in str(reason)
    with pytest.raises(ValueError, match="save_to_disk"):
        reopened(record, tmp_path).items()


def test_a_saved_folder_is_found_again(tmp_path: Path) -> None:
    pictures().save_to_disk(tmp_path / "data")
    source = open_source(tmp_path / "data", caption="name")
    assert captions(source.items()) == ["n0", "n1", "n2", "n3"]
    record = source.record(tmp_path / "run")
    assert record == {"kind": "dataset", "folder": "../data", "caption": "name"}
    assert read(reopened(record, tmp_path / "run")) == [png(i) for i in range(4)]
    (tmp_path / "data/state.json").write_text("{")
    (reason,) = reopened(record, tmp_path / "run").open(["#0"])
    assert "cannot be opened again" in str(reason)


def test_several_splits_want_one_named(tmp_path: Path) -> None:
    both = datasets.DatasetDict({"train": pictures(3), "test": pictures(2)})
    both.save_to_disk(tmp_path / "data")
    for given in (both, tmp_path / "data"):
        with pytest.raises(ValueError, match="has the splits train, test; name one with --split"):
            open_source(given)
        with pytest.raises(ValueError, match="has the splits"):
            open_source(given, split="validation")
        assert len(open_source(given, split="test").items()) == 2
    record = open_source(tmp_path / "data", split="test").record(tmp_path / "run")
    assert read(reopened(record, tmp_path / "run")) == [png(0), png(1)]
    with pytest.raises(ValueError, match="one split by itself"):
        open_source(pictures(), split="train")
    assert len(open_source(datasets.DatasetDict({"train": pictures(3)})).items()) == 3


def test_a_stream_must_be_spooled_and_can_be(tmp_path: Path) -> None:
    stream = pictures().to_iterable_dataset().remove_columns("name")
    with pytest.raises(TypeError, match=r"pointland\.data\.spooled"):
        open_source(stream)
    items = spooled(stream, tmp_path / "shards").items()
    assert captions(items) == ["a", None, None, "d"]
    assert faults(items) == {}


def naming(*paths: Path | str) -> Any:
    """A data set that names files; it does not say that they are pictures, or else saving would embed them."""
    rows = [{"bytes": None, "path": str(path)} for path in paths]
    struct = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    return datasets.Dataset.from_dict({"image": rows}, features=datasets.Features({"image": struct}))


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where datasets downloads to."""
    folder = tmp_path / "caches"
    folder.mkdir()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", folder / "datasets/downloads")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    return folder


def test_a_data_set_shows_no_files_but_its_own(tmp_path: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, own = tmp_path / "private.png", caches / "hub/datasets--a--b/snapshots/0/a.png"
    own.parent.mkdir(parents=True)
    private.write_bytes(png(1))
    (own.parent / "blob").write_bytes(png(2))
    own.symlink_to("blob")
    monkeypatch.chdir(tmp_path)
    named = naming(private, "private.png", own, f"{own.parent}/../../../../../private.png")
    found = read(open_source(named))
    assert found[2] == png(2)
    assert found[0] == found[3] == ELSEWHERE
    assert found[1] != png(1)
    named.save_to_disk(tmp_path / "saved")
    saved = read(open_source("saved"))
    assert saved[0] == saved[2] == saved[3] == ELSEWHERE
    assert str(saved[1]).startswith("no such file")


def test_pictures_that_save_to_disk_embeds_are_read(tmp_path: Path, caches: Path) -> None:
    (tmp_path / "mine.png").write_bytes(png(3))
    mine = naming(tmp_path / "mine.png").cast_column("image", datasets.Image())
    assert read(open_source(mine)) == [ELSEWHERE]
    mine.save_to_disk(tmp_path / "saved")
    assert read(open_source(tmp_path / "saved")) == [png(3)]


def test_a_saved_folder_may_name_files_below_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/a.png").write_bytes(png(2))
    (tmp_path / "private.png").write_bytes(png(1))
    (tmp_path / "a.png").write_bytes(png(1))
    monkeypatch.chdir(tmp_path)
    naming(tmp_path / "saved/a.png", "a.png", tmp_path / "saved/../private.png").save_to_disk(tmp_path / "saved")
    (tmp_path / "link").symlink_to(tmp_path / "saved")
    for folder in (tmp_path / "saved", tmp_path / "link"):
        assert read(open_source(folder)) == [png(2), png(2), ELSEWHERE]


def test_a_foreign_record_opens_no_files_but_those_of_the_cache(tmp_path: Path, caches: Path) -> None:
    pictures().save_to_disk(tmp_path / "private")
    (arrow,) = (tmp_path / "private").glob("*.arrow")
    record = {"kind": "hub", "folder": "", "name": "a/b", "rows": 4, "files": [f"../../private/{arrow.name}"]}
    (reason,) = reopened(record, tmp_path).open(["#0"])
    assert "not in the cache" in str(reason)


def test_rows_without_a_picture_have_a_reason(tmp_path: Path, caches: Path) -> None:
    (caches / "hub").mkdir()
    (caches / "hub/a.png").write_bytes(png())
    rows = [
        {"bytes": None, "path": str(caches / "hub/a.png")},
        {"bytes": None, "path": str(caches / "hub/b.png")},
        {"bytes": None, "path": "https://example.com/a.png"},
        {"bytes": None, "path": "zip://a.png::/tmp/a.zip"},
        None,
        {"bytes": b"", "path": None},
    ]
    found = read(
        open_source(
            datasets.Dataset.from_dict({"image": rows}, features=datasets.Features({"image": datasets.Image()}))
        )
    )
    assert found[0] == png()
    assert [str(why).split(",")[0] for why in found[1:5]] == [
        "no such file",
        "an address",
        "an address",
        "null in the column of pictures",
    ]
    assert found[5] == b""
    assert [str(why) for why in open_source(pictures(1)).open(["#1", "", "#-1"])] == [
        "the data set has no such row any more"
    ] * 3


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"a": [1]}, {}, r"no column .*the columns are 'a' \(int64\)"),
        ({"image": [b"x"], "a": [1]}, {"caption": "a"}, "column 'a' holds int64; expected text"),
        ({"image": [b"x"], "a": [1]}, {"image": "b"}, "is no column 'b'"),
        ({"image": [b"x"], "text": ["a"], "caption": ["a"]}, {}, "more than one column may hold the captions"),
        ({"image": []}, {"image": "image"}, "holds null|has no rows"),
    ],
)
def test_columns_that_cannot_be_told(columns: dict[str, list[object]], options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_source(datasets.Dataset.from_dict(columns), **options).items()


def test_a_name_of_the_hub_is_loaded_by_the_package_and_found_again_in_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    pictures().to_parquet(tmp_path / "data.parquet")
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "data.parquet"), split="train", cache_dir=str(cache)
    )
    asked: list[object] = []

    def load(name: str, **options: object) -> Any:
        asked.append((name, options))
        return loaded

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.chdir(tmp_path)
    source = open_source("hf:owner/na-me@v1.0", split="train")
    assert asked == [("owner/na-me", {"revision": "v1.0", "split": "train"})]
    record = source.record(tmp_path / "run")
    assert {name: record[name] for name in ("kind", "name", "rows")} == {
        "kind": "hub",
        "name": "owner/na-me@v1.0",
        "rows": 4,
    }
    assert str(tmp_path) not in str(record)
    assert read(reopened(record, tmp_path / "run")) == [png(i) for i in range(4)]
    part = DatasetRows(loaded.select(range(2)), name="owner/na-me").record(tmp_path)
    assert part["kind"] == "memory" or "part of a split" in str(next(iter(reopened(part, tmp_path).open(["#0"]))))
    (tmp_path / "owner/na-me").mkdir(parents=True)
    with pytest.raises(ValueError, match="there is a folder owner/na-me here"):
        open_source("hf:owner/na-me")


def test_offline_nothing_is_asked_and_the_error_is_of_one_line() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): print('socket'); raise OSError('no')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from pointland.data import open_source\n"
        "try: open_source('hf:owner/name', split='train')\n"
        "except ValueError as error: print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": os.devnull, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "socket" not in done.stdout
    assert done.stdout.startswith("hf:owner/name cannot be loaded")
    assert len(done.stdout.splitlines()) == 1


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'pointland\[datasets\]'"):
        open_source("hf:owner/name")
