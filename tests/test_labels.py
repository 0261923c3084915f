from pathlib import Path

import pytest

from pointland.data.labels import read_labels

KEYS = ["a.png", "sub/b.png", "c.png"]


def write(folder: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("column", ["key", "file_name", "file", "filename", "image", "path", "Key", " key "])
def test_any_custom_of_naming_the_file(tmp_path: Path, column: str) -> None:
    path = write(tmp_path, f"{column},label\na.png,verbatim\nsub\\b.png, held out \n./c.png,\n")
    assert read_labels(path, KEYS) == {"a.png": "verbatim", "sub/b.png": "held out"}


def test_byte_order_mark_carriage_returns_quotes_and_other_columns(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbfn,label,key\r\n1,"one, ""two""",a.png\r\n\r\n2,x,c.png\r\n'
    assert read_labels(write(tmp_path, text), KEYS) == {"a.png": 'one, "two"', "c.png": "x"}


def test_said_twice_alike_is_fine(tmp_path: Path) -> None:
    assert read_labels(write(tmp_path, "key,label\na.png,x\na.png,x\na.png,\n"), KEYS) == {"a.png": "x"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "labels.csv is empty"),
        ("a.png,x\n", "line 1: the columns are 'a.png', 'x'; expected one of file_name"),
        ("key,kind\na.png,x\n", "line 2: the columns are 'key', 'kind'; expected one of label"),
        ("key,label\na.png,x\nd.png,y\n", "line 3: there is no picture 'd.png'"),
        ("key,label\na.png,x\nc.png,z\na.png,y\n", "'a.png' has two texts .* line 2 .* line 4; keep one"),
        ("key,label\na.png,x,y\n", "line 2: 3 fields under 2 columns"),
        ("key,label\na.png\n", "line 2: 1 fields under 2 columns"),
        ("key,file,label\na.png,a.png,x\n", "line 1: more than one of the columns file, key; keep one"),
        ('key,label\na.png,"x\n', "not CSV"),
        (b"key,label\nc.png,x\na.png,\xff\n", "line 3: not UTF-8 .* save the file as UTF-8"),
        ("key,label\na.png,x\n../a.png,x\n", "line 3: there is no picture '../a.png'"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_labels(write(tmp_path, text), KEYS)
    assert "labels.csv" in str(error.value)


def test_no_file_and_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="check the path"):
        read_labels(tmp_path / "labels.csv", KEYS)
    with pytest.raises(ValueError, match=r"expected \.csv"):
        read_labels(write(tmp_path, "key,label\n", "labels.xlsx"), KEYS)
