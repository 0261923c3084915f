import io
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from archives import captions, faults, keys, png, read
from pointland.data import Tars, decode_picture, spooled
from pointland.data.spool import SHARD, write_tar

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def pixels(data: bytes | str, size: tuple[int, int] = (6, 5)) -> np.ndarray:
    assert isinstance(data, bytes)
    return decode_picture(data, size).pixels.transpose(1, 2, 0)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_pictures_of_every_kind_come_back(tmp_path: Path) -> None:
    (tmp_path / "file.png").write_bytes(png(3))
    items = [
        ("array", PIXELS, "an array"),
        {"key": "channels first", "image": PIXELS.transpose(2, 0, 1), "text": "t"},
        {"image": Image.fromarray(PIXELS), "caption": "c\nd"},
        {"image": png(1), "key": "sub/x.png"},
        {"image": tmp_path / "file.png", "key": 7},
        {"image": {"bytes": png(2), "path": None}},
        ("gray", PIXELS[:, :, 0], None),
        ("cmyk", Image.fromarray(PIXELS).convert("CMYK"), None),
    ]
    source = spooled(iter(items), tmp_path / "shards")
    found = source.items()
    assert keys(found) == [
        f"00000.tar/{name}.png"
        for name in ("array", "channels first", "000000002", "sub/x", "7", "000000005", "gray", "cmyk")
    ]
    assert captions(found)[:4] == ["an array", "t", "c\nd", None]
    opened = read(source)
    for picture in opened[:3]:
        np.testing.assert_array_equal(pixels(picture), PIXELS)
    assert opened[3:6] == [png(1), png(3), png(2)]
    np.testing.assert_array_equal(pixels(opened[6]), np.repeat(PIXELS[:, :, :1], 3, 2))


def test_what_is_no_picture_is_an_item_with_a_reason(tmp_path: Path) -> None:
    bad: list[object] = [
        None,
        ("two", PIXELS),
        ("none", None, None),
        ("float", PIXELS / 255, None),
        ("shape", np.zeros((2, 3, 4, 5), np.uint8), None),
        ("missing", tmp_path / "nowhere.png", None),
        {"picture": PIXELS},
        {"image": PIXELS, "caption": 3},
        {"image": PIXELS, "caption": "a", "text": "b"},
        {"image": PIXELS, "key": b"k"},
    ]
    items = spooled([*bad, ("good", PIXELS, None)], tmp_path / "shards").items()
    assert len(items) == len(bad) + 1
    assert list(faults(items)) == keys(items)[:-1]
    assert "expected (key, image, caption)" in faults(items)["00000.tar/000000000.png"]
    assert "float64" in faults(items)["00000.tar/float.png"]
    assert "no such file" in faults(items)["00000.tar/missing.png"]


@given(
    st.lists(st.text(st.characters(exclude_categories=()), min_size=1, max_size=8), unique=True, min_size=1, max_size=5)
)
def test_different_keys_are_different_members_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("spool") / "shards"
    items = spooled([(name, png(i), f"c{i}") for i, name in enumerate(names)], folder).items()
    assert len(items) == len(names)
    for i, item in enumerate(items):  # "a" and "a.png" are one name of a member, which is said
        assert item.caption == f"c{i}" or item.fault is not None
    if not any("." in name for name in names):
        assert faults(items) == {}


def rows(n: int = SHARD + 2, broken: int | None = None) -> Iterator[tuple[str, bytes, str]]:
    for i in range(n):
        if i == broken:
            raise RuntimeError("the generator failed")
        yield f"{i}", png(i % 3), f"caption {i}"


def test_the_same_items_give_the_same_bytes_and_are_recognised(tmp_path: Path) -> None:
    source = spooled(rows(), tmp_path / "one")
    spooled(rows(), tmp_path / "two")
    kept = bytes_of(tmp_path / "one")
    assert list(kept) == ["00000.tar", "00001.tar"]
    assert kept == bytes_of(tmp_path / "two")
    assert keys(spooled(rows(), tmp_path / "one").items()) == keys(source.items())
    assert bytes_of(tmp_path / "one") == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_shard_is_never_in_memory(tmp_path: Path) -> None:
    arrays: list[weakref.ref[np.ndarray]] = []
    most = 0

    def produced() -> Iterator[tuple[str, np.ndarray, None]]:
        nonlocal most
        for i in range(30):
            array = PIXELS + i
            arrays.append(weakref.ref(array))
            most = max(most, sum(known() is not None for known in arrays))
            yield f"{i}", array, None
            del array

    assert len(spooled(produced(), tmp_path / "shards").items()) == 30
    assert most <= 3  # the first of the shard, the one being written, the next


def test_an_interrupted_spool_leaves_no_folder_and_is_continued(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the generator failed"):
        spooled(rows(broken=SHARD + 1), tmp_path / "shards")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shards.part"]
    first = (tmp_path / "shards.part/00000.tar").stat()
    (tmp_path / "shards.part/.00001.tar.77.part").write_bytes(b"of a process that was killed")
    spooled(rows(), tmp_path / "shards")
    assert (tmp_path / "shards/00000.tar").stat().st_ino == first.st_ino  # not written again
    spooled(rows(), tmp_path / "whole")
    assert bytes_of(tmp_path / "shards") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("other", [rows(SHARD), rows(SHARD + 3), [*rows(SHARD + 1), ("x", png(), None)]])
def test_other_items_are_refused_and_change_nothing(tmp_path: Path, other: Iterator[object]) -> None:
    spooled(rows(), tmp_path / "shards")
    kept = bytes_of(tmp_path / "shards")
    with pytest.raises(ValueError, match=r"holds something else than these items .*00001\.tar"):
        spooled(other, tmp_path / "shards")
    assert bytes_of(tmp_path / "shards") == kept


def test_a_folder_with_other_things_is_refused_and_an_empty_one_is_used(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else"):
        spooled(rows(1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    assert len(spooled(rows(1), tmp_path / "empty").items()) == 1
    with pytest.raises(ValueError, match="no item to write"):
        spooled([], tmp_path / "nothing")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "notes.txt"]


def test_write_tar_is_whole_or_not_at_all(tmp_path: Path) -> None:
    def members() -> Iterator[tuple[str, bytes]]:
        yield "a.png", png()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_tar(tmp_path / "a.tar", members())
    assert list(tmp_path.iterdir()) == []
    write_tar(tmp_path / "a.tar", [("a.png", png())])
    assert read(Tars((tmp_path / "a.tar",))) == [png()]
    assert Image.open(io.BytesIO(png())).size == (8, 8)
