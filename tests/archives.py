"""Tar archives and Parquet tables of small pictures, good and bad, and what a source says of them."""

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pointland.data import Items, Source, UnreadablePicture

Member = tuple[str, bytes] | tarfile.TarInfo


def png(seed: int = 0, side: int = 8) -> bytes:
    """A small picture of noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def tar_bytes(members: Iterable[Member], kind: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of files, and of headers without contents."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            header = tarfile.TarInfo(member[0])
            header.size = len(member[1])
            archive.addfile(header, io.BytesIO(member[1]))
    return stream.getvalue()


def shard(path: Path, members: Iterable[Member]) -> Path:
    """Write an archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members))
    return path


def samples(n: int, first: int = 0) -> list[Member]:
    """Pictures with captions as WebDataset has them."""
    members: list[Member] = []
    for i in range(first, first + n):
        members += [(f"{i:05d}.png", png(i)), (f"{i:05d}.txt", f"picture {i}".encode())]
    return members


def table(path: Path, columns: dict[str, object], schema: pa.Schema | None = None, **options: object) -> Path:
    """Write a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), path, **options)
    return path


def read(source: Source, items: Items | None = None) -> list[bytes | str]:
    """Return every picture, or why there is none."""
    listed = source.items() if items is None else items
    opened = source.open([item.place for item in listed if item.fault is None])
    found: list[bytes | str] = []
    for item in listed:
        data = UnreadablePicture(item.fault) if item.fault is not None else next(opened)
        found.append(data if isinstance(data, bytes) else str(data))
    return found


def keys(items: Items) -> list[str]:
    """Return the names."""
    return list(items.keys())


def captions(items: Items) -> list[str | None]:
    """Return the captions."""
    return [item.caption for item in items]


def faults(items: Items) -> dict[str, str]:
    """Return what is wrong with what is not to be opened."""
    return {item.key: item.fault for item in items if item.fault is not None}


def note(**fields: object) -> bytes:
    """A JSON sidecar."""
    return json.dumps(fields).encode()


def header(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    """A member that is no ordinary file."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member


def joined(parts: Sequence[bytes]) -> bytes:
    """Blocks of an archive after one another, each padded, with the end mark."""
    return b"".join(part + bytes(-len(part) % 512) for part in parts) + bytes(1024)
