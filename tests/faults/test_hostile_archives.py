"""Rows I4, I5 and I8 of the matrix of faults: archives and tables that are damaged, hostile or empty."""

import json
import os
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from archives import Member, faults, header, joined, keys, png, read, samples, shard, table, tar_bytes
from pointland.data import ParquetFiles, Tars, open_source

pytestmark = pytest.mark.fault

N = 5  # pictures in an archive or a table
PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE)
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
GROWTH = 100  # MB that hostile data may cost
READ_ALL = """
import json, re, socket, sys
from pathlib import Path
from pointland.data import ParquetFiles, Tars, UnreadablePicture
from pointland.data.source import contents
def refuse(*a, **k): raise AssertionError("the network was asked")
socket.socket.connect = socket.getaddrinfo = refuse
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
kind, good, hostile = {"tar": Tars, "parquet": ParquetFiles}[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3])
def read(folder):
    source, n_read, reasons = kind((folder,)), 0, []
    items = source.items()
    for data in contents(source, [item.place for item in items if item.fault is None]):
        n_read += isinstance(data, bytes)
        reasons += [str(data)] if isinstance(data, UnreadablePicture) else []
    wrong = {item.key: item.fault for item in items if item.fault is not None}
    return {"items": len(items), "read": n_read, "reasons": reasons, "faults": wrong}
read(good)
before = peak()
print(json.dumps({**read(hostile), "growth": peak() - before}))
"""


class Outcome(NamedTuple):
    """What came of reading a folder.

    Attributes:
        items: How many were listed.
        read: How many gave bytes.
        reasons: Why others gave none.
        faults: What was wrong already when they were listed, by key.
        growth: MB of memory above what a good folder took.
    """

    items: int
    read: int
    reasons: list[str]
    faults: dict[str, str]
    growth: int


def read_all(kind: str, good: Path, hostile: Path) -> Outcome:
    """List and read a folder in a process of its own, without a network."""
    if not Path("/proc/self/status").exists():
        pytest.skip("ru_maxrss begins with the parent's size, so peak memory is measured where /proc tells it")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, kind, good, hostile],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcome = Outcome(**json.loads(done.stdout))
    assert outcome.items == outcome.read + len(outcome.reasons) + len(outcome.faults)
    return outcome


def everything_below(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def pax(records: dict[str, str], kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header with its records, as it lies in an archive."""
    body = b""
    for name, value in records.items():
        rest = f" {name}={value}\n".encode()
        length = len(rest)
        while length != len(rest) + len(str(length)):
            length = len(rest) + len(str(length))
        body += str(length).encode() + rest
    return header("pax", kind, size=len(body)).tobuf() + body + bytes(-len(body) % 512)


def block(name: str = "x.png", kind: bytes = tarfile.REGTYPE, size: bytes | None = None, link: str = "") -> bytes:
    """A header, perhaps with a size that is none, and a checksum that fits."""
    data = bytearray(header(name, kind, link).tobuf(tarfile.GNU_FORMAT))
    if size is not None:
        data[124:136] = size.ljust(12, b"\0")
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def damaged_tars() -> Iterator[tuple[str, bytes]]:
    """Archives of N pictures that were damaged on their way."""
    for name, kind in FORMATS.items():
        whole = tar_bytes(samples(N), kind)
        used = len(whole.rstrip(b"\0"))
        for tenth in range(10):
            yield f"{name} cut to {tenth} tenths", whole[: used * tenth // 10]
        rng = np.random.default_rng(len(name))
        for at in rng.integers(0, used, 20):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << int(rng.integers(8))
            yield f"{name} flipped at {at}", bytes(flipped)


def hostile_tars() -> Iterator[tuple[str, bytes]]:
    """Archives that somebody made on purpose: each has a good picture first."""
    good = tar_bytes([("good.png", png())])[:1024]
    for letter in "1234567SxgLKMVADNZ\0":
        yield f"kind {letter!r}", joined([good, block(kind=letter.encode(), link="good.png")])
    for size in (
        b"\xff" * 12,
        b"\x80" + b"\xff" * 11,
        b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7,
        b"77777777777",
        b"-1",
        b"x",
        b"1 2",
    ):
        yield f"size {size!r}", joined([good, block(size=size), png()])
        for kind in (*PAX, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE):
            yield f"size {size!r} of kind {kind!r}", joined([good, block(kind=kind, size=size), png(), block()])
    for records in (
        {"size": "1" * 30},
        {"size": "-512"},
        {"size": "-100000"},
        {"size": "none"},
        {"path": "x" * 2_000_000 + ".png"},
        {"path": "../" * 50 + "etc/x.png"},
        {"path": "nul\0.png"},
        {"linkpath": "/etc/passwd"},
        {"GNU.sparse.map": "0,1" + ",2" * 100_000},
        {"GNU.sparse.map": "a,b", "GNU.sparse.size": "x"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 15},
        {"GNU.sparse.size": "9" * 15, "GNU.sparse.numblocks": "9" * 9},
        {"mtime": "nan", "uid": "-1", "gid": "x"},
        {"hdrcharset": "BINARY"},
        {"": ""},
    ):
        for kind in PAX:
            yield f"pax {records!s:.60} {kind!r}", joined([good, pax(records, kind), block(), png()])
    yield (
        "pax records of no length",
        joined([good, header("pax", tarfile.XHDTYPE, size=20).tobuf(), b"0 size=1\n99 a=b\n\0\0\0", block()]),
    )
    yield "pax headers nested", joined([good, *[pax({"comment": "x"})] * 3000, block()])
    yield "long names nested", joined([good, *[block(kind=tarfile.GNUTYPE_LONGNAME)] * 3000, block()])
    yield "sparse for ever", joined([good, sparse(), *[b"\0" * 504 + b"\1" + bytes(7)] * 4000])
    for name in (
        "/etc/x.png",
        "../../x.png",
        "..",
        "",
        ".",
        "/",
        "C:\\x.png",
        "a/../../x.png",
        "\udcff.png",
        "x" * 90 + ".png",
    ):
        yield f"name {name!r}", joined([good, block(name), block(name)])


def sparse() -> bytes:
    """A header of GNU's old sparse format that says that it goes on."""
    data = bytearray(block(kind=tarfile.GNUTYPE_SPARSE))
    data[482] = 1
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def test_damaged_archives_lose_no_picture_silently(tmp_path: Path) -> None:
    cases = dict(damaged_tars())
    assert len(cases) >= 80
    for name, data in cases.items():
        folder = tmp_path / name
        for good in ("0.tar", "2.tar"):
            shard(folder / good, samples(1))
        (folder / "1.tar").write_bytes(data)
        items = Tars((folder,)).items()
        listed = [item for item in items if item.key.startswith("1.tar/")]
        assert len(listed) == N or "1.tar" in faults(items), name
        found = read(Tars((folder,)), items)
        assert found[0] == found[-1] == png(0), name
        unchanged = sum(picture in [png(i) for i in range(N)] for picture in found[1:-1])
        assert unchanged == N or unchanged + len(faults(items)) > 0, name
        if "cut" in name:
            assert "1.tar" in faults(items), name


def test_hostile_archives_are_read_or_refused_and_write_nothing(tmp_path: Path) -> None:
    cases = dict(hostile_tars())
    assert len(cases) >= 70
    hostile = tmp_path / "in" / "hostile"
    hostile.mkdir(parents=True)
    for number, data in enumerate(cases.values()):
        (hostile / f"{number:03d}.tar").write_bytes(data)
    with (hostile / "headers of 8 GB.tar").open("wb") as stream:  # that really are so long: a file with a hole
        stream.write(tar_bytes([("good.png", png())])[:1024] + block(kind=tarfile.XHDTYPE, size=b"77777777777"))
        stream.truncate(8 * 2**30 + 4096)
    shard(tmp_path / "good" / "good.tar", samples(N))
    before = everything_below(tmp_path)
    found = read_all("tar", tmp_path / "good", hostile)
    assert everything_below(tmp_path) == before
    assert found.growth < GROWTH
    assert found.read >= len(cases) + 1  # the good one of each at least
    assert "headers larger than 1 MiB" in found.faults["headers of 8 GB.tar"]


def test_a_hundred_thousand_members_cost_no_memory(tmp_path: Path) -> None:
    with (tmp_path / "big.tar").open("wb") as stream:
        for i in range(100_000):
            stream.write(tarfile.TarInfo(f"folder/{i:012d}.png").tobuf())
        stream.write(bytes(1024))
    shard(tmp_path / "good" / "good.tar", samples(N))
    (tmp_path / "in").mkdir()
    (tmp_path / "big.tar").rename(tmp_path / "in" / "big.tar")
    found = read_all("tar", tmp_path / "good", tmp_path / "in")
    assert found.items == found.read == 100_000
    assert found.growth < GROWTH


def damaged_tables(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Tables of N pictures that were damaged on their way."""
    for compression in ("none", "zstd"):
        rows = {"image": [{"bytes": png(i), "path": f"{i}.png"} for i in range(N)], "text": [f"c{i}" for i in range(N)]}
        whole = table(folder / "whole", rows, compression=compression, row_group_size=2).read_bytes()
        for tenth in range(10):
            yield f"{compression} cut to {tenth} tenths", whole[: len(whole) * tenth // 10]
        rng = np.random.default_rng(len(compression))
        for at in rng.integers(0, len(whole), 60):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << int(rng.integers(8))
            yield f"{compression} flipped at {at}", bytes(flipped)
        for missing in (4, 8, 20):
            yield f"{compression} without the last {missing}", whole[:-missing]
    for size in (0, 1, 2**31 - 1, 2**32 - 1):
        yield f"a footer of {size}", b"PAR1" + bytes(40) + size.to_bytes(4, "little") + b"PAR1"


def hostile_tables(folder: Path) -> Iterator[Path]:
    """Tables that fit no reader."""
    for kind in (
        pa.int8(),
        pa.float64(),
        pa.bool_(),
        pa.list_(pa.binary()),
        pa.date32(),
        pa.timestamp("us"),
        pa.decimal128(5, 1),
        pa.struct([("x", pa.binary())]),
        pa.struct([("bytes", pa.int64())]),
        pa.map_(pa.string(), pa.binary()),
        pa.null(),
    ):
        yield table(folder / f"image is {str(kind)[:12].replace('/', '')}.parquet", {"image": pa.nulls(3, kind)})
    odd = [b"", b"\0" * 100, b"\0PNG", None, b"<html>", b"x" * 1000]
    yield table(folder / "odd bytes.parquet", {"image": pa.array(odd, pa.binary())})
    paths = [
        "/etc/passwd",
        "../x.png",
        "pipe:touch canary",
        "http://127.0.0.1/x.png",
        "nul\0.png",
        "x" * 5000,
        "",
        None,
    ]
    yield table(folder / "odd paths.parquet", {"path": paths})
    yield table(folder / "no columns.parquet", {})
    yield table(folder / "no rows.parquet", {"image": pa.array([], pa.binary())})
    yield table(folder / "more rows than bytes.parquet", {"image": pa.nulls(5_000_000, pa.binary())})
    yield table(folder / "captions are lists.parquet", {"image": [b"x"], "caption": [["a"]]})
    yield table(folder / "name\nwith a line.parquet", {"image\0": [b"x"], "<b>": ["x"]})


def test_damaged_and_hostile_tables_are_read_or_refused(tmp_path: Path) -> None:
    hostile = tmp_path / "hostile"
    n = len(list(hostile_tables(hostile)))
    for number, data in enumerate(dict(damaged_tables(tmp_path)).values()):
        (hostile / f"{number:03d}.parquet").write_bytes(data)
        n += 1
    assert n >= 150
    rows = {"image": pa.array([png(i) for i in range(N)], pa.binary()), "text": ["a"] * N}
    table(tmp_path / "good" / "good.parquet", rows)
    table(hostile / "zzz good.parquet", rows)
    before = everything_below(tmp_path)
    found = read_all("parquet", tmp_path / "good", hostile)
    assert everything_below(tmp_path) == before
    assert not (Path.cwd() / "canary").exists()
    assert found.growth < GROWTH
    said = found.faults
    assert not any(key.startswith("zzz good") for key in said)
    assert "it says that it has 5,000,000 rows" in said["more rows than bytes.parquet"]
    assert "(int8)" in said["image is int8.parquet"]
    assert str(tmp_path) not in json.dumps(found)


@pytest.mark.parametrize("kind", ["one row group", "one value a million times"])
def test_the_memory_for_a_table_is_that_of_a_row(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    if kind == "one row group":
        data = pa.array([rng.bytes(4000) for _ in range(60_000)], pa.binary())  # 240 MB
    else:
        data = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, np.int32)), pa.array([rng.bytes(10**6)]))  # 1 GB
    table(tmp_path / "in" / "big.parquet", {"image": data}, row_group_size=10**7)
    table(tmp_path / "good" / "good.parquet", {"image": pa.array([png()], pa.binary())})
    size = (tmp_path / "in" / "big.parquet").stat().st_size
    assert (size > 200 * 10**6) == (kind == "one row group")
    found = read_all("parquet", tmp_path / "good", tmp_path / "in")
    assert found.items == found.read == len(data)
    assert found.growth < GROWTH


def test_duplicate_keys_are_said_and_empty_sets_are_an_error(tmp_path: Path) -> None:
    members: list[Member] = [("same.png", png(0)), ("same.png", png(1)), ("other.png", png(2))]
    items = Tars((shard(tmp_path / "a.tar", members), shard(tmp_path / "b.tar", members))).items()
    assert len(set(keys(items))) == 6
    assert list(faults(items)) == ["a.tar/same.png (2)", "b.tar/same.png (2)"]
    rows = {"image": pa.array([png()] * 3, pa.binary()), "id": ["a", "a", "b"]}
    path = table(tmp_path / "t.parquet", rows)
    assert list(faults(ParquetFiles((path, path), key="id").items())) == ["a (2)"]
    one = ParquetFiles((table(tmp_path / "one.parquet", {"image": pa.array([png()], pa.binary())}),))
    assert read(one) == [png()]
    shard(tmp_path / "empty.tar", [])
    with pytest.raises(ValueError, match=r"no pictures in empty\.tar"):
        Tars((tmp_path / "empty.tar",)).items()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no pictures in"):
        open_source(tmp_path / "empty").items()


@pytest.mark.parametrize("scheme", ["pipe:", "http://127.0.0.1:1/", "https://127.0.0.1:1/", "s3://", "gs://", "ftp://"])
def test_addresses_and_commands_are_never_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for text in (
        f"{scheme}touch canary",
        f"{scheme}touch canary;a.tar",
        f"{scheme}x{{0..2}}.tar",
        f"{{{scheme}touch canary,a}}.tar",
    ):
        with pytest.raises((ValueError, FileNotFoundError)):
            open_source(text).items()
    assert list(tmp_path.iterdir()) == []
