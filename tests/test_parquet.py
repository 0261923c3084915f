import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archives import captions, faults, keys, png, read, table
from pointland.data import Item, ParquetFiles, Source
from pointland.data.source import contents, in_order
from pointland.data.sources import reopened

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def column(kind: pa.DataType, n: int = 3) -> pa.Array:
    """Pictures in a column of a type."""
    data: list[object] = [png(i) for i in range(n)]
    if pa.types.is_struct(kind):
        data = [{"bytes": picture, "path": f"{i}.png"} for i, picture in enumerate(data)]
    if pa.types.is_dictionary(kind):
        return pa.array(data, kind.value_type).dictionary_encode()
    return pa.array(data, kind)


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), STRUCT, pa.dictionary(pa.int32(), pa.binary())], ids=str
)
def test_reads_bytes_as_people_write_them(tmp_path: Path, kind: pa.DataType) -> None:
    path = table(
        tmp_path / "t.parquet", {"image": column(kind), "text": ["a", None, " "], "label": [1, 2, 3]}, row_group_size=2
    )
    source = ParquetFiles((path,))
    items = source.items()
    assert isinstance(source, Source)
    assert list(items) == [Item(f"t.parquet/{i}", f"t.parquet#{i}", "a" if i == 0 else None) for i in range(3)]
    assert read(source) == [png(i) for i in range(3)]


def test_places_may_be_asked_for_in_any_order_and_by_copies(tmp_path: Path) -> None:
    for name, size in (("a/0.parquet", 3), ("b/1.parquet", 100)):
        table(tmp_path / name, {"image": column(STRUCT, 10)}, row_group_size=size)
    source = ParquetFiles((tmp_path / "a", tmp_path / "b/1.parquet"))
    items = source.items()
    assert keys(items)[0] == "a/0.parquet/0"
    order = [13, 3, 3, 19, 0, 9, 2, 10, 11, 4, 1]
    opened = pickle.loads(pickle.dumps(source)).open([items[i].place for i in order])
    assert list(opened) == [png(i % 10) for i in order]


def test_a_run_finds_the_pictures_again_by_the_folder_and_the_column(tmp_path: Path) -> None:
    path = table(tmp_path / "data/t.parquet", {"mine": column(pa.binary()), "image": ["a", "b", "c"]})
    source = ParquetFiles((path,), image="mine")
    record = source.record(tmp_path / "run")
    assert record == {"kind": "parquet", "folder": "../data", "files": ["t.parquet"], "image": "mine"}
    assert list(reopened(record, tmp_path / "run").open(["t.parquet#2", "t.parquet#0"])) == [png(2), png(0)]


def test_a_run_finds_keys_and_captions_again(tmp_path: Path) -> None:
    path = table(tmp_path / "data/t.parquet", {"image": column(pa.binary()), "of": ["x", "y", "z"], "name": [7, 8, 9]})
    source = ParquetFiles((path,), caption="of", key="name")
    again = reopened(source.record(tmp_path / "run"), tmp_path / "run")
    assert list(again.items()) == list(source.items())
    assert keys(again.items()) == ["7", "8", "9"]


def test_places_in_order_are_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a9", "a10"):
        table(tmp_path / f"{name}.parquet", {"image": column(pa.binary(), 30)}, row_group_size=12)
    begun: list[int] = []
    whole = pq.ParquetFile.iter_batches

    def counted(file: pq.ParquetFile, size: int, groups: list[int], *rest: object, **named: object) -> object:
        begun.extend(groups)
        return whole(file, size, groups, *rest, **named)

    source = ParquetFiles((tmp_path,))
    mixed = [item.place for item in source.items()][::-1]
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    places = sorted(mixed, key=in_order)
    for at in range(0, len(places), 7):  # asked for some at a time
        assert all(isinstance(data, bytes) for data in contents(source, places[at : at + 7]))
    assert begun == [0, 1, 2] * 2
    begun.clear()
    list(contents(source, mixed))
    assert len(begun) == 60  # each time from the beginning


def test_paths_are_relative_to_their_table_and_stay_below_it(tmp_path: Path) -> None:
    inside = tmp_path / "data/pictures"
    inside.mkdir(parents=True)
    (inside / "a.png").write_bytes(png())
    (tmp_path / "out.png").write_bytes(png(1))
    bad = {
        "../out.png": "out of the folder",
        str(tmp_path / "out.png"): "out of the folder",
        "pictures\\..\\..\\out.png": "out of the folder",
        "https://example.com/a.png": "an address",
        "file:///etc/passwd": "an address",
        "pictures/none.png": "no such file",
        "pictures": "not a regular file",
        "nul\0.png": "no such file",
        "": "no such file",
    }
    path = table(
        tmp_path / "data/t.parquet", {"file_name": ["pictures/a.png", None, *bad], "caption": ["c"] * (2 + len(bad))}
    )
    found = read(ParquetFiles((path,)))
    assert found[:2] == [png(), "null in the column of pictures"]
    for (name, reason), said in zip(bad.items(), found[2:], strict=True):
        assert isinstance(said, str), name
        assert reason in said, name


def test_a_struct_without_bytes_names_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    rows = [{"bytes": None, "path": "a.png"}, {"bytes": None, "path": None}, None, {"bytes": png(1), "path": "a.png"}]
    path = table(tmp_path / "t.parquet", {"image": pa.array(rows, STRUCT)})
    null = "null in the column of pictures"
    assert read(ParquetFiles((path,))) == [png(), null, null, png(1)]


def test_keys_of_a_column(tmp_path: Path) -> None:
    columns = {"image": column(pa.binary(), 5), "name": ["a", "b", None, "a", ""], "number": [7, 8, 9, 10, 11]}
    path = table(tmp_path / "t.parquet", columns)
    items = ParquetFiles((path,), key="name").items()
    assert keys(items) == ["a", "b", "t.parquet/2", "a (2)", "t.parquet/4"]
    assert list(faults(items)) == ["t.parquet/2", "a (2)", "t.parquet/4"]
    assert keys(ParquetFiles((path,), key="number").items()) == ["7", "8", "9", "10", "11"]


@pytest.mark.parametrize(
    ("columns", "image"),
    [
        ({"image": column(pa.binary()), "path": ["a", "b", "c"]}, "image"),
        ({"jpg": column(pa.binary()), "file_name": ["a", "b", "c"]}, "jpg"),
        ({"picture of it": column(STRUCT), "text": ["a", "b", "c"]}, "picture of it"),
        ({"image": ["a", "b", "c"], "caption": ["a", "b", "c"]}, "image"),
    ],
)
def test_guesses_the_usual_columns(tmp_path: Path, columns: dict[str, object], image: str) -> None:
    path = table(tmp_path / "t.parquet", columns)
    assert read(ParquetFiles((path,))) == read(ParquetFiles((path,), image=image))


@pytest.mark.parametrize(
    ("options", "columns", "message"),
    [
        ({}, {"a": [1]}, r"t\.parquet: no column .*columns are 'a' \(int64\).*--image"),
        ({}, {"image": [b"x"], "jpg": [b"x"]}, "more than one column may hold the pictures.*--image"),
        ({}, {"one": [{"bytes": b"x"}], "two": [{"bytes": b"x"}]}, "more than one column"),
        ({"image": "b"}, {"image": [b"x"]}, r"is no column 'b'; the columns are 'image' \(binary\); correct --image"),
        ({"image": "a"}, {"a": [1.5]}, "column 'a' holds double; expected bytes"),
        (
            {},
            {"image": [b"x"], "caption": ["a"], "text": ["b"]},
            "more than one column may hold the captions.*--caption",
        ),
        ({}, {"image": [b"x"], "text": [["a", "b"]]}, "'text' holds no text.*--caption"),
        ({"caption": "a"}, {"image": [b"x"], "a": [3]}, "column 'a' holds int64; expected text"),
        ({"key": "a"}, {"image": [b"x"], "a": [0.5]}, "column 'a' holds double; expected text or whole numbers"),
        ({}, {}, "there are no columns|no column"),
    ],
)
def test_columns_that_cannot_be_told_are_an_error_that_lists_them(
    tmp_path: Path, options: dict[str, str], columns: dict[str, object], message: str
) -> None:
    path = table(tmp_path / "t.parquet", columns)
    with pytest.raises(ValueError, match=message):
        ParquetFiles((path,), **options).items()


def test_a_column_that_is_there_twice_cannot_be_named(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([b"x"]), pa.array([b"y"])], names=["image", "image"])
    pq.write_table(twice, tmp_path / "t.parquet")
    for image in (None, "image"):
        with pytest.raises(ValueError, match="there are several columns 'image'"):
            ParquetFiles((tmp_path / "t.parquet",), image=image).items()


def test_one_bad_file_stops_no_other_and_is_an_item(tmp_path: Path) -> None:
    good = table(tmp_path / "0.parquet", {"image": column(STRUCT), "text": ["a", "b", "c"]}).read_bytes()
    table(tmp_path / "1.parquet", {"text": ["a"]})
    table(tmp_path / "2.parquet", {"image": [1], "text": ["a"]})
    (tmp_path / "3.parquet").write_bytes(good[:-20])
    (tmp_path / "4.parquet").write_bytes(b"")
    os.mkfifo(tmp_path / "5.parquet")
    (tmp_path / "6.parquet").write_bytes(good)
    source = ParquetFiles((tmp_path,))
    items = source.items()
    assert keys(items) == [
        *(f"0.parquet/{i}" for i in range(3)),
        *(f"{i}.parquet" for i in range(1, 6)),
        *(f"6.parquet/{i}" for i in range(3)),
    ]
    found = faults(items)
    assert "no column is named" in found["1.parquet"]
    assert "'image' (int64)" in found["2.parquet"]
    assert "no Parquet file, or damaged" in found["3.parquet"]
    assert "not a regular file" in found["5.parquet"]
    assert str(tmp_path) not in "".join(found.values())
    assert read(source)[-1] == png(2)


def test_text_that_is_none_is_a_fault_of_its_row(tmp_path: Path) -> None:
    wrong = pa.array([b"fine", b"\xff\xfe", b"x" * (4 * 2**20 + 1)], pa.binary()).view(pa.string())
    path = table(tmp_path / "t.parquet", {"image": column(pa.binary()), "text": wrong})
    items = ParquetFiles((path,)).items()
    assert captions(items) == ["fine", None, None]
    assert {key: "not UTF-8" in why for key, why in faults(items).items()} == {
        "t.parquet/1": True,
        "t.parquet/2": False,
    }


def test_a_damaged_page_leaves_other_row_groups(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.parquet",
        {"image": column(pa.binary(), 9)},
        row_group_size=3,
        use_dictionary=False,
        compression="none",
        write_page_checksum=True,
        write_statistics=False,
    )
    data = bytearray(path.read_bytes())
    data[data.index(png(4)) + 20] ^= 255
    path.write_bytes(data)
    found = read(ParquetFiles((path,)))
    assert [isinstance(picture, bytes) for picture in found] == [True] * 3 + [False] * 3 + [True] * 3
    assert "the file is damaged here" in str(found[4])


def test_a_file_that_changed_gives_reasons(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", {"image": column(pa.binary())})
    source = ParquetFiles((path,))
    items = source.items()
    assert read(source, items)[2] == png(2)
    table(path, {"image": column(pa.binary(), 1)})
    assert read(source, items) == [png(0), *["the file has no such row any more"] * 2]
    path.unlink()
    assert read(source, items) == ["no such file"] * 3
    reasons = [str(why) for why in source.open(["t.parquet", "x#1", "../t.parquet#0"])]
    assert ["no place" in reasons[0], "no such file" in reasons[1], "not inside" in reasons[2]] == [True] * 3


def test_names_of_files_are_text(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", {"image": column(pa.binary(), 1)})
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/# \xff\n.parquet"))
    path.rename(odd)
    source = ParquetFiles((odd,))
    assert keys(source.items()) == ["# \udcff\n.parquet/0"]
    assert read(source) == [png()]


def test_no_rows_at_all_is_an_error(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", {"image": pa.array([], pa.binary())})
    with pytest.raises(ValueError, match=r"no pictures in t\.parquet"):
        ParquetFiles((path,)).items()
    assert pq.read_metadata(path).num_rows == 0
