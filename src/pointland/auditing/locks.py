"""Locks of a run directory: one process in it, or several that share its work, one of each share.

They are the kernel's (``flock``), so a process that dies holds none. They need a POSIX system, and on a network disk
one that passes them on.
"""

import errno
import fcntl
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def locked(folder: Path, share: tuple[int, int] | None = None) -> Iterator[None]:
    """Keep a second process out of the run directory, and clear what a crash left half written.

    Processes that share the work (``share``: which, of how many) keep out only whoever has the same share or all of it.
    The lock dies with the process that holds it.

    Raises:
        ValueError: If another process works in the directory.
    """
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        if fresh and share is None:
            held.callback(_remove_if_empty, folder)
        held.enter_context(_lock(folder, ".lock", shared=share is not None))
        if share is not None:
            held.enter_context(_lock(folder, f".lock-{share[0]}-of-{share[1]}"))
        else:
            for stale in [*half_written(folder), *folder.glob(".lock-*")]:
                stale.unlink()
        yield


@contextmanager
def record_locked(folder: Path) -> Iterator[None]:
    """Wait until no other process reads and writes the record; those that share a run do so in turn."""
    with (folder / ".lock-record").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def check_free(folder: Path, *, shared: bool = False) -> None:
    """Make sure that a folder, new or there, can be written to, and that no other process works in it, unless shared.

    Raises:
        OSError: If it, or what it would be made in, cannot be written to.
        ValueError: If another process has it to itself.
    """
    there = next(place for place in [folder.absolute(), *folder.absolute().parents] if place.exists())
    if not os.access(there, os.W_OK):
        code = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(code, os.strerror(code), str(folder))
    if (folder / ".lock").exists():
        with _lock(folder, ".lock", shared=shared, mark=False):
            pass


def in_use(folder: Path) -> bool:
    """Say whether a process has the run's lock, as far as this machine can tell; a run that is read-only will do."""
    lock = folder / ".lock"
    if not lock.exists():
        return False
    with lock.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def half_written(folder: Path) -> list[Path]:
    """Return the temporary files in a run, right only while somebody writes."""
    return [*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")]


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing but our locks: what was wanted of it was refused."""
    if not (folder / "run.json").exists() and all(path.name.startswith(".lock") for path in folder.iterdir()):
        shutil.rmtree(folder)


@contextmanager
def _lock(folder: Path, name: str, *, shared: bool = False, mark: bool = True) -> Iterator[None]:
    with (folder / name).open("a+") as stream:
        try:
            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            owner = stream.read(100).strip()
            raise ValueError(
                f"another process{f' ({owner})' if owner else ''} is working in {folder}; wait for it, or choose "
                "another --out"
            ) from None
        if mark and not shared:
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {platform.node()}")
            stream.flush()
        yield
        if mark and not shared:
            stream.truncate(0)
