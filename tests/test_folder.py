import json
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest

from pointland.data.folder import Folder, read_folder

FOUR = ["a.png", "b.JPG", "sub/c.webp", "sub/deep/d.jpeg"]


def fill(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def pictures(folder: Path, names: list[str] = FOUR) -> Path:
    return fill(folder, dict.fromkeys(names, b""))


def captions(folder: Path, file: Path | None = None) -> dict[str, str | None]:
    return {item.key: item.caption for item in read_folder(folder, file)}


def test_lists_every_picture_sorted_by_key(tmp_path: Path) -> None:
    names = [
        f"{stem}{suffix}" for stem in "zaM" for suffix in (".jpg", ".PNG", ".Tiff", ".tif", ".gif", ".bmp", ".webp")
    ]
    fill(pictures(tmp_path, names), {"notes.md": "", "a.npy": "", "noext": "", "x.png.part": ""})
    items = read_folder(tmp_path)
    assert [item.key for item in items] == sorted(names)
    assert all(item.place == item.key and item.caption is None for item in items)


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    pictures(tmp_path, [*FOUR, ".DS_Store", "._a.png", "sub/.x.png", ".cache/e.png", "._metadata.jsonl"])
    assert [item.key for item in read_folder(tmp_path)] == FOUR


def test_links_to_files_are_listed_even_out_of_the_folder_or_broken(tmp_path: Path) -> None:
    inside = pictures(tmp_path / "in")
    (inside / "link.png").symlink_to(inside / "a.png")
    (inside / "out.png").symlink_to(pictures(tmp_path / "out") / "a.png")
    (inside / "broken.png").symlink_to(tmp_path / "nowhere")
    assert {item.key for item in read_folder(inside)} == {*FOUR, "link.png", "out.png", "broken.png"}


def test_links_to_folders_are_not_followed_but_said(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    with pytest.warns(UserWarning, match="loop.* was not followed; audit that folder itself"):
        assert [item.key for item in read_folder(tmp_path)] == FOUR


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(pictures(tmp_path / "in"), target_is_directory=True)
    assert [item.key for item in read_folder(tmp_path / "link")] == FOUR


@pytest.mark.parametrize("column", ["text", "caption", "prompt"])
def test_metadata_jsonl_names_files_relative_to_itself(tmp_path: Path, column: str) -> None:
    top = "\n".join(json.dumps({"file_name": key, column: f" {key} é\n", "width": 3}) for key in FOUR[:2])
    fill(
        pictures(tmp_path),
        {"metadata.jsonl": top, "sub/metadata.jsonl": f'{{"file_name": "deep/d.jpeg", "{column}": "d"}}'},
    )
    assert captions(tmp_path) == {"a.png": "a.png é", "b.JPG": "b.JPG é", "sub/c.webp": None, "sub/deep/d.jpeg": "d"}


def test_a_table_in_a_folder_never_speaks_of_its_namesakes_above(tmp_path: Path) -> None:
    pictures(tmp_path, ["a.png", "sub/a.png"])
    fill(tmp_path, {"sub/captions.csv": "file,text\na.png,below\n"})
    assert captions(tmp_path) == {"a.png": None, "sub/a.png": "below"}


@pytest.mark.parametrize("name", ["metadata.csv", "captions.csv"])
@pytest.mark.parametrize("file_column", ["file_name", "file", "filename", "image", "path", "key"])
@pytest.mark.parametrize("column", ["text", "caption", "prompt"])
def test_a_table_beside_the_pictures(tmp_path: Path, name: str, file_column: str, column: str) -> None:
    text = (
        f'\ufeff{file_column},{column}\r\na.png,"a, ""quoted""\r\nline"\r\n.\\sub\\c.webp,c\r\n./sub/deep/d.jpeg,\r\n'
    )
    found = captions(fill(pictures(tmp_path), {name: text}))
    assert found == {"a.png": 'a, "quoted"\r\nline', "b.JPG": None, "sub/c.webp": "c", "sub/deep/d.jpeg": None}


def test_text_beside_the_picture(tmp_path: Path) -> None:
    notes = {"a.txt": "\ufeff one \r\n\r\n two\n", "sub/c.TXT": "c", "b.txt": " \n", "readme.txt": "not a caption"}
    assert captions(fill(pictures(tmp_path), notes)) == {
        "a.png": "one two",
        "b.JPG": None,
        "sub/c.webp": "c",
        "sub/deep/d.jpeg": None,
    }


def test_a_given_file_overrides_the_customs(tmp_path: Path) -> None:
    pictures(tmp_path / "in")
    fill(tmp_path, {"in/a.txt": "old", "in/metadata.jsonl": "not json", "new.csv": "key,text\na.png,new\n"})
    assert captions(tmp_path / "in", tmp_path / "new.csv")["a.png"] == "new"
    fill(tmp_path, {"new.JSONL": '\n{"key": "b.JPG", "text": null}\n{"key": "a.png", "text": "newer"}\n'})
    assert captions(tmp_path / "in", tmp_path / "new.JSONL") == {**dict.fromkeys(FOUR), "a.png": "newer"}


def test_customs_that_agree_are_fine_and_an_empty_one_says_nothing(tmp_path: Path) -> None:
    files = {"a.txt": "dog", "captions.csv": "file,text\na.png,dog\n", "metadata.csv": "file,text\na.png,\n"}
    assert captions(fill(pictures(tmp_path), files))["a.png"] == "dog"


def test_customs_that_differ_are_both_named(tmp_path: Path) -> None:
    fill(pictures(tmp_path), {"sub/c.txt": "dog", "captions.csv": "file,text\n\nsub/c.webp,cat\n"})
    with pytest.raises(
        ValueError, match=r"'sub/c.webp' .* 'cat' in captions.csv, line 3 and 'dog' in sub/c.txt; keep one"
    ):
        read_folder(tmp_path)


def test_a_name_with_a_backslash_is_itself(tmp_path: Path) -> None:
    pictures(tmp_path, ["a\\b.png", "a/b.png"])
    fill(tmp_path, {"captions.csv": "file,text\na\\b.png,one\na/b.png,two\n"})
    assert captions(tmp_path) == {"a\\b.png": "one", "a/b.png": "two"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.jsonl", '{"file_name": "a.png", "text": "x"}\n{"file_name": "b.JPG", "te', "line 2: not JSON"),
        ("metadata.jsonl", "[1]\n", "line 1: expected an object"),
        ("metadata.jsonl", "[" * 100_000, "line 1: not JSON"),
        (
            "metadata.jsonl",
            '{"file_name": "a.png"}',
            "line 1: the columns are 'file_name'; expected one of caption, text",
        ),
        ("metadata.jsonl", '{"text": "x"}', "line 1: the columns are 'text'; expected one of file_name"),
        ("metadata.jsonl", '{"file_name": 7, "text": "x"}', "line 1: file_name is '7'; expected text"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": ["x"]}', "line 1: text is .* expected text"),
        (
            "metadata.jsonl",
            '{"file_name": "a.png", "text": "x", "caption": "y"}',
            "more than one of the columns caption, text",
        ),
        (
            "metadata.jsonl",
            '{"file_name": "e.png", "text": "x"}',
            "line 1: there is no picture 'e.png'; remove the line",
        ),
        ("metadata.jsonl", '{"file_name": "/a.png", "text": "x"}', "line 1: there is no picture '/a.png'"),
        ("metadata.jsonl", b'\n\n{"file_name": "a.png", "text": "\xe9"}', "line 3: not UTF-8"),
        ("captions.csv", b"\xff\xfef\x00i\x00l\x00e\x00", "line 1: not UTF-8"),
        (
            "captions.csv",
            "file,text\na.png,a dog, running\n",
            "line 2: 3 fields under 2 columns; put texts with commas",
        ),
        (
            "captions.csv",
            "file,text\na.png,x\n\na.png,y\n",
            "'x' in captions.csv, line 2 and 'y' in captions.csv, line 4",
        ),
        ("captions.csv", 'file,text\na.png,"never closed\nb.JPG,x\n', "not CSV"),
        ("captions.csv", "", "captions.csv is empty; expected a header"),
        ("sub/c.txt", b"\n\xc3(", "sub/c.txt, line 2: not UTF-8"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    fill(pictures(tmp_path), {name: text})
    with pytest.raises(ValueError, match=message) as error:
        read_folder(tmp_path)
    assert name in str(error.value)
    assert len(str(error.value)) < 400


def test_a_name_that_differs_in_composition_is_pointed_out(tmp_path: Path) -> None:
    pictures(tmp_path, [unicodedata.normalize("NFD", "é.png")])
    fill(tmp_path, {"captions.csv": f"file,text\n{unicodedata.normalize('NFC', 'é.png')},x\n"})
    with pytest.raises(ValueError, match="differs only in how Unicode composes its letters"):
        read_folder(tmp_path)


def test_names_that_are_not_unicode_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    pictures(tmp_path, [name])
    fill(tmp_path, {"metadata.jsonl": json.dumps({"file_name": name, "text": "x"})})
    (item,) = read_folder(tmp_path)
    assert os.fsencode(item.key) == b"caf\xe9.png"
    assert (tmp_path / item.place).is_file()
    assert item.caption == "x"


@pytest.mark.parametrize("place", ["../private.png", "sub/../../private.png", "{}/private.png", "", ".."])
def test_places_of_another_run_stay_inside(tmp_path: Path, place: str) -> None:
    folder = pictures(tmp_path / "data")
    (tmp_path / "private.png").write_bytes(b"private")
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "link.png").symlink_to(tmp_path / "private.png")
    (reason,) = Folder(folder).open([place.format(tmp_path)])
    assert "is not inside the folder" in str(reason)
    assert list(Folder(folder).open(["link.png"])) == [b"private"]  # whoever owns the folder put it there


def test_no_pictures_no_folder_and_a_file(tmp_path: Path) -> None:
    fill(tmp_path, {"a.txt": ""})
    with pytest.raises(ValueError, match=r"no pictures in .*; expected files ending in \.bmp"):
        read_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="check the path"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="is a file; pass the folder"):
        read_folder(tmp_path / "a.txt")


def test_given_captions_that_are_absent_or_of_another_kind(tmp_path: Path) -> None:
    fill(pictures(tmp_path), {"captions.json": "{}"})
    with pytest.raises(FileNotFoundError, match="check the path"):
        read_folder(tmp_path, tmp_path / "new.csv")
    with pytest.raises(ValueError, match=r"ends in \.json; expected \.csv, or \.jsonl"):
        read_folder(tmp_path, tmp_path / "captions.json")
