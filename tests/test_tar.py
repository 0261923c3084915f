import gzip
import hashlib
import os
import pickle
import tarfile
from pathlib import Path

import pytest

from archives import Member, captions, faults, header, keys, note, png, read, samples, shard, tar_bytes
from pointland.data import Item, Source, Tars
from pointland.data.sources import reopened


def test_lists_pictures_with_captions_and_reads_them_in_place(tmp_path: Path) -> None:
    one = shard(tmp_path / "a/00000.tar", samples(3))
    two = shard(tmp_path / "b/00001.tar", samples(2, 3))
    source = Tars((one, two))
    items = source.items()
    assert isinstance(source, Source)
    assert keys(items) == [
        *(f"a/00000.tar/{i:05d}.png" for i in range(3)),
        "b/00001.tar/00003.png",
        "b/00001.tar/00004.png",
    ]
    assert captions(items) == [f"picture {i}" for i in range(5)]
    headers = hashlib.sha256(one.read_bytes()[:512]).hexdigest()
    assert items[0].place == f"a/00000.tar#0+512+{len(png(0))}+{headers[:8]}"
    assert read(source) == [png(i) for i in range(5)]
    backwards = [item.place for item in items][::-1]
    assert list(pickle.loads(pickle.dumps(source)).open(backwards)) == [png(i) for i in range(5)][::-1]


def test_a_run_finds_the_pictures_again_by_the_folder_alone(tmp_path: Path) -> None:
    source = Tars((shard(tmp_path / "data/x/00000.tar", samples(2)), shard(tmp_path / "data/y/00000.tar", samples(1))))
    record = source.record(tmp_path / "run")
    assert record == {"kind": "tar", "folder": "../data", "files": ["x/00000.tar", "y/00000.tar"]}
    found = reopened(record, tmp_path / "run")
    assert list(found.open([item.place for item in source.items()])) == [png(0), png(1), png(0)]
    assert keys(found.items()) == keys(source.items())


def test_one_archive_is_named_without_its_folder_also_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shard(tmp_path / "data/a.tar", [("x.png", png())])
    (tmp_path / "link.tar").symlink_to(path)
    monkeypatch.chdir(tmp_path / "data")
    for given in (path, Path("a.tar"), Path("../data/a.tar"), tmp_path / "data"):
        assert keys(Tars((given,)).items()) == ["a.tar/x.png"]
    assert keys(Tars((tmp_path / "link.tar",)).items()) == ["link.tar/x.png"]


@pytest.mark.parametrize(
    "name",
    [
        "../../x.png",
        "/etc/x.png",
        "./x.png",
        "a//b.png",
        "x\ny.PNG",
        "é.jpg",
        "e\u0301.jpg",
        "🙂.webp",
        "-rf.gif",
        "n" * 200 + ".bmp",
        "\udcff.tif",
    ],
)
def test_names_of_members_are_text(tmp_path: Path, name: str) -> None:
    source = Tars((shard(tmp_path / "a.tar", [(name, png())]),))
    assert keys(source.items()) == [f"a.tar/{name}"]
    assert read(source) == [png()]


@pytest.mark.parametrize(
    ("sidecars", "caption"),
    [
        ({"a.txt": b" two\nlines \n"}, "two lines"),
        ({"a.txt": b"\xef\xbb\xbfmark"}, "mark"),
        ({"a.TXT": b"upper"}, "upper"),
        ({"a.caption": b"c"}, "c"),
        ({"a.json": note(caption=" c\nd ", width=3)}, "c\nd"),
        ({"a.json": note(text="t", prompt="t ")}, "t"),
        ({"a.json": note(caption=None, url="x")}, None),
        ({"a.txt": b"", "a.json": note(caption="c")}, "c"),
        ({"a.txt": b"same  words", "a.json": note(caption="same words")}, "same  words"),
        ({"b.txt": b"another"}, None),
        ({"a.cls": b"3", "a.npy": b"\x93NUMPY"}, None),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_captions_lie_beside(tmp_path: Path, sidecars: dict[str, bytes], caption: str | None, before: bool) -> None:
    beside = list(sidecars.items())
    members = [*beside, ("a.png", png())] if before else [("a.png", png()), *beside]
    items = Tars((shard(tmp_path / "a.tar", members),)).items()
    assert list(items) == [Item("a.tar/a.png", items[0].place, caption)]


def test_a_name_goes_to_its_last_dot_or_else_to_its_first(tmp_path: Path) -> None:
    members = [
        ("d.x/1.png", png()),
        ("d.x/1.mask.png", png(1)),
        ("d.x/1.txt", b"one"),
        ("v1.5.png", png(2)),
        ("v1.5.txt", b"exact"),
        ("v1.txt", b"v1"),
    ]
    items = Tars((shard(tmp_path / "a.tar", members),)).items()
    assert captions(items) == ["one", "one", "exact"]


@pytest.mark.parametrize(
    ("sidecars", "reason"),
    [
        ({"a.txt": b"one", "a.json": note(caption="two")}, "differ in 'a.txt' and 'a.json'"),
        ({"a.json": note(caption="one", text="two")}, "caption and text differ"),
        ({"a.json": note(caption=["one"])}, "caption is not text"),
        ({"a.json": b"{"}, "not JSON"),
        ({"a.json": b"[" * 100_000}, "not JSON"),
        ({"a.json": b"[]"}, "not an object"),
        ({"a.json": b'{"caption": "\\ud800"}'}, "half of a pair"),
        ({"a.txt": b"\xff\xfe"}, "not UTF-8"),
        ({"a.txt": b"x" * (4 * 2**20 + 1)}, "larger than 4 MiB"),
    ],
)
def test_a_caption_that_is_not_sure_keeps_its_picture_from_being_audited_without(
    tmp_path: Path, sidecars: dict[str, bytes], reason: str
) -> None:
    items = Tars((shard(tmp_path / "a.tar", [("a.png", png()), *sidecars.items(), ("b.png", png(1))]),)).items()
    assert keys(items) == ["a.tar/a.png", "a.tar/b.png"]
    assert list(faults(items)) == ["a.tar/a.png"]
    assert reason in faults(items)["a.tar/a.png"]


def test_a_table_of_captions_replaces_those_in_the_archive(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", [*samples(2), ("00000.json", b"{")])
    (tmp_path / "c.csv").write_text("key,caption\na.tar/00001.png,from the table\n")
    assert captions(Tars((path,), tmp_path / "c.csv").items()) == [None, "from the table"]
    (tmp_path / "c.csv").write_text("key,caption\nb.tar/00001.png,nowhere\n")
    with pytest.raises(ValueError, match=r"c\.csv, line 2: there is no picture 'b\.tar/00001\.png'"):
        Tars((path,), tmp_path / "c.csv").items()


def test_what_is_no_plain_file_is_an_item_with_its_reason(tmp_path: Path) -> None:
    odd = {
        "sym.png": header("sym.png", tarfile.SYMTYPE, "/etc/passwd"),
        "hard.png": header("hard.png", tarfile.LNKTYPE, "ok.png"),
        "char.png": header("char.png", tarfile.CHRTYPE),
        "fifo.png": header("fifo.png", tarfile.FIFOTYPE),
    }
    members: list[Member] = [
        ("ok.png", png()),
        *odd.values(),
        ("ok.png", png(1)),
        header("dir.png", tarfile.DIRTYPE),
        ("._ok.png", b""),
        ("notes.md", b""),
    ]
    source = Tars((shard(tmp_path / "a.tar", members),))
    items = source.items()
    assert keys(items) == ["a.tar/ok.png", *(f"a.tar/{name}" for name in odd), "a.tar/ok.png (2)"]
    assert {key: "link" in why for key, why in faults(items).items()} == {
        "a.tar/sym.png": True,
        "a.tar/hard.png": True,
        "a.tar/char.png": False,
        "a.tar/fifo.png": False,
        "a.tar/ok.png (2)": False,
    }
    assert read(source)[0] == png()


def test_one_bad_archive_stops_no_other_and_is_an_item(tmp_path: Path) -> None:
    whole = tar_bytes(samples(4))
    shard(tmp_path / "0.tar", samples(1))
    bad = {
        "1.tar": (whole[: 512 * 5 + 3], "cut off|unexpected end"),
        "2.tar": (whole[:700], "unexpected end|cut off"),
        "3.tar": (b"", "empty"),
        "4.tar": (b"garbage" * 1000, "no tar archive"),
        "5.tar": (gzip.compress(whole), "unpack it to a plain .tar"),
        "6.tar": (tar_bytes([("a.npy", b"")]), "no pictures in it; members are called like 'a.npy'"),
        "7.tar": (whole[:8192], "the end mark is missing"),
        "8.tar": (whole + whole, "archives are joined"),
    }
    for name, (data, _) in bad.items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "9.tar")
    shard(tmp_path / "a.tar", [])
    shard(tmp_path / "b.tar", samples(1))
    source = Tars((tmp_path,))
    items = source.items()
    found = faults(items)
    for name, (_, reason) in bad.items():
        assert any(part in found[name] for part in reason.split("|")), (name, found[name])
    assert "not a regular file" in found["9.tar"]
    assert "a.tar" not in found
    assert {"0.tar/00000.png", "1.tar/00000.png", "8.tar/00003.png", "b.tar/00000.png"} <= set(keys(items))
    assert str(tmp_path) not in "".join(found.values())
    assert read(source)[-1] == png(0)


def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    data = bytearray(tar_bytes([(f"{i}.png", png(i)) for i in range(3)]))
    data[512 + 512 + 3] ^= 1  # the second name
    (tmp_path / "a.tar").write_bytes(data)
    items = Tars((tmp_path / "a.tar",)).items()
    assert keys(items) == ["a.tar/0.png", "a.tar"]
    assert "damaged after 1,024 bytes" in faults(items)["a.tar"]


NO_PICTURES = {
    "empty": b"",
    "garbage": b"garbage",
    "compressed": gzip.compress(b"x"),
    "no members": tar_bytes([]),
    "a text": tar_bytes([("a.txt", b"")]),
}


@pytest.mark.parametrize("data", NO_PICTURES.values(), ids=NO_PICTURES)  # bytes as names would hold gzip's clock
def test_archives_without_any_picture_are_an_error(tmp_path: Path, data: bytes) -> None:
    for name in ("0.tar", "1.tar"):
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=r"0\.tar"):
        Tars((tmp_path,)).items()


def test_missing_archives_are_counted(tmp_path: Path) -> None:
    there = shard(tmp_path / "0.tar", samples(1))
    with pytest.raises(FileNotFoundError, match=r"there is no .*1\.tar, the first of 2 that are missing"):
        Tars((there, tmp_path / "1.tar", tmp_path / "2.tar")).items()


def test_an_archive_that_changed_gives_reasons_not_other_bytes(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", samples(3))
    source = Tars((path,))
    items = source.items()
    shard(path, [("new.md", b"x" * 700), *samples(3)])
    assert read(source, items) == ["the archive is no longer what was listed"] * 3
    path.write_bytes(path.read_bytes()[:600])
    assert read(source, items) == ["the archive is no longer what was listed"] * 3
    path.unlink()
    assert read(source, items) == ["no such file"] * 3


@pytest.mark.parametrize("long", ["", "x" * 150 + "/"])
def test_another_member_of_equal_size_does_not_pass_for_the_one_that_was_there(tmp_path: Path, long: str) -> None:
    """A name of more than 100 characters is in a header of its own, before the last one."""
    path = shard(tmp_path / "a.tar", [(f"{long}a.png", b"picture a"), (f"{long}b.png", b"picture b")])
    items = Tars((path,)).items()
    assert read(Tars((path,)), items) == [b"picture a", b"picture b"]
    shard(path, [(f"{long}a.png", b"picture a"), (f"{long}c.png", b"picture c")])
    assert read(Tars((path,)), items) == [b"picture a", "the archive is no longer what was listed"]


@pytest.mark.parametrize(
    "place",
    [
        "",
        "a",
        "a.tar",
        "a.tar#512",
        "a.tar#0+512+3",
        "a.tar#0+512+3+0123456x",
        "../a.tar#0+512+3+01234567",
        "/a.tar#0+512+3+01234567",
        f"a.tar#0+{10**12}+3+01234567",
        f"a.tar#0+512+{10**12}+01234567",
        "a.tar#-1+512+5+01234567",
    ],
)
def test_places_that_are_none_are_refused(tmp_path: Path, place: str) -> None:
    path = shard(tmp_path / "in/a.tar", samples(1))
    shard(tmp_path / "a.tar", samples(1))
    (reason,) = Tars((path,)).open([place])
    assert "no place" in str(reason) or "not inside" in str(reason)
