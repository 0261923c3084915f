"""The files of a source: named relative to the folder that they share, so that names tell nothing of the machine."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pointland.data.item import Item, Items


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
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise DamagedFile(f"{name!r:.200} is not inside the folder of the data")
    return regular(folder / name)


def _below(folder: Path, suffix: str) -> Iterator[Path]:
    return (path for path in files_below(folder) if path.name.lower().endswith(suffix))


def _plain(path: Path) -> Path:
    """Make a path absolute; links are followed only where ``..`` makes it necessary, so that names are those given."""
    if path.name == "..":
        return path.resolve()
    return path.parent.resolve() / path.name if ".." in path.parts else path.absolute()
