"""The files of a source: named relative to the folder that they share, so that names tell nothing of the machine."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pointland.data.item import Item, Items

NUMBER = re.compile(r"([0-9]{1,18})")
MOST_RUNS = 50  # that a record has by name
MAX_FILES = 1_000_000


class DamagedFile(Exception):  # noqa: N818  # a finding about the data, not a fault of the program
    """A file of a source that cannot be read, or not to its end; the message is the reason, without a path."""


def shared_folder(paths: Iterable[Path]) -> Path:
    """Return the deepest folder that all of these files and folders lie in; a folder lies in itself."""
    plain = map(_plain, paths)
    return Path(os.path.commonpath([path if path.is_dir() else path.parent for path in plain]))


def named_files(paths: Iterable[Path], suffix: str) -> dict[str, Path]:
    """Name files relative to their :func:`shared_folder`, with ``/``, in the order given.

    Args:
        paths: Files, taken whatever they are called; and folders, of which every file with the suffix is taken, at any
            depth, sorted, none with a dot at its beginning.
        suffix: Such as ``.tar``, in either case.

    Raises:
        FileNotFoundError: If one is missing; the message names the first and says how many.
    """
    given = {_plain(path): path for path in paths}
    missing = [path for plain, path in given.items() if not plain.exists()]
    if missing:
        more = f", the first of {len(missing)} that are missing" if len(missing) > 1 else ""
        raise FileNotFoundError(f"there is no {missing[0]}{more}; check the path")
    folder = shared_folder(given)
    found = (file for path in given for file in (_below(path, suffix) if path.is_dir() else [path]))
    return {_plain(file).relative_to(folder).as_posix(): file for file in found}


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file in a folder and below it; names that begin with a dot, and links to folders, are passed over."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def listing(files: Mapping[str, Path], read: Callable[[str, Path], Iterator[Item]]) -> Items:
    """List the pictures in files one after another; a file that cannot be read to its end does not stop the others.

    Args:
        files: The files by name.
        read: Yields the items of one, and raises :class:`DamagedFile` or ``OSError`` where it cannot go on.

    Returns:
        All items; for each damaged file, behind its own, one of its name whose fault says what is wrong.

    Raises:
        ValueError: If there is no picture in any file; the message is the first reason.
    """
    faults: list[str] = []
    n_found = 0

    def rows() -> Iterator[Item]:
        nonlocal n_found
        for name, path in files.items():
            try:
                for item in read(name, path):
                    n_found += 1
                    yield item
            except (DamagedFile, OSError) as error:
                reason = str(error) if isinstance(error, DamagedFile) else f"cannot be read: {error.strerror or error}"
                faults.append(f"{name}: {reason}")
                yield Item(name, name, fault=reason)

    items = Items.of(rows())
    if n_found == 0:
        more = f" (and {len(faults) - 1} more files like it)" if len(faults) > 1 else ""
        raise ValueError(faults[0] + more if faults else f"no pictures in {', '.join(list(files)[:3])}")
    return items


def regular(path: Path) -> Path:
    """Return the path of a file that may be opened; opening a pipe would wait for ever."""
    if not path.is_file():
        raise DamagedFile("not a regular file" if path.exists() else "no such file")
    return path


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file by its name in a folder; :class:`DamagedFile` if it may not be opened.

    Names that lead out of the folder are refused, since they come from the data, or from the record of a run.
    """
    if leads_out(name):
        raise DamagedFile(f"{name!r:.200} is not inside the folder of the data")
    return regular(folder / name)


def leads_out(name: str) -> bool:
    """Tell whether a name with ``/`` is none of something below a folder; links inside the folder may lead anywhere."""
    return not name or name.startswith("/") or ".." in name.split("/")


def recorded(paths: Iterable[Path]) -> dict[str, object]:
    """Say which files of their :func:`shared_folder` a source was given, in their order, for the record of a run.

    Returns:
        Nothing for the folder as a whole. Else ``files``, where ``["00000.tar", "00499.tar"]`` stands for both and all
        numbers between; beyond 50 of these, and for names that are not UTF-8, ``n_files`` and ``files_sha256``.
    """
    plain = [*dict.fromkeys(map(_plain, paths))]
    folder = shared_folder(plain)
    names = [path.relative_to(folder).as_posix() for path in plain]
    if names == ["."]:
        return {}
    runs = _runs(names)
    if len(runs) <= MOST_RUNS and all(map(_is_unicode, names)):
        return {"files": runs}
    return {"n_files": len(names), "files_sha256": _digest(names)}


def given_again(record: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """Return the paths that :func:`recorded` told of; the folder itself where it told no names.

    Raises:
        DamagedFile: If a name leads out of the folder, or the record is damaged.
    """
    if "files" not in record:
        return (folder,)
    try:
        names = [name for run in record["files"] for name in _written_out(run)]
    except (TypeError, ValueError) as error:
        raise DamagedFile("the record does not tell which files the pictures are in") from error
    if not names or any(map(leads_out, names)):
        raise DamagedFile("the record names files that are not inside the folder of the data")
    return tuple(folder / name for name in names)


def are_all(record: Mapping[str, Any], paths: Iterable[Path], suffix: str) -> bool:
    """Tell whether files that were only counted are all that the folder now has, in the order of a listing."""
    names = [*named_files(paths, suffix)]
    return (len(names), _digest(names)) == (record["n_files"], record["files_sha256"])


def _runs(names: Iterable[str]) -> list[str | list[str]]:
    """Join names that count up by one."""
    runs: list[list[str]] = []
    n_last = 0
    for name in names:
        if runs and (step := _step(runs[-1][0], name)) is not None and step.n == n_last:
            runs[-1][1:] = [name]
            n_last += 1
        else:
            runs.append([name])
            n_last = 1
    return [run[0] if len(run) == 1 else run for run in runs]


def _written_out(run: str | list[str]) -> list[str]:
    """Return the names of a run; ``ValueError`` if it is none."""
    if isinstance(run, str):
        return [run]
    first, last = run
    step = _step(first, last)
    if step is None or not 0 < step.n < MAX_FILES:
        raise ValueError(f"{first!r:.200} to {last!r:.200} is no run of names")
    parts = NUMBER.split(first)
    before, digits, behind = parts[: step.at], parts[step.at], parts[step.at + 1 :]
    numbers = (str(int(digits) + n).zfill(len(digits)) for n in range(step.n + 1))
    return ["".join([*before, number, *behind]) for number in numbers]


class Step(NamedTuple):
    """How two names differ: in which of their parts, and by how much it counts on."""

    at: int
    n: int


def _step(first: str, name: str) -> Step | None:
    """Compare two names; ``None`` unless they differ in one number, written as wide."""
    one, other = NUMBER.split(first), NUMBER.split(name)
    differing = [at for at, (old, new) in enumerate(zip(one, other, strict=False)) if old != new]
    if len(one) != len(other) or len(differing) != 1 or differing[0] % 2 == 0:
        return None
    old, new = one[differing[0]], other[differing[0]]
    return Step(differing[0], int(new) - int(old)) if new == str(int(new)).zfill(len(old)) else None


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _below(folder: Path, suffix: str) -> Iterator[Path]:
    return (path for path in files_below(folder) if path.name.lower().endswith(suffix))


def _plain(path: Path) -> Path:
    """Make a path absolute; links are followed only where ``..`` makes it necessary, so that names are those given."""
    if path.name == "..":
        return path.resolve()
    return path.parent.resolve() / path.name if ".." in path.parts else path.absolute()
