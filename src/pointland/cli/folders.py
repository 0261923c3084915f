"""Folders that results go to: refused before anything is computed, not after."""

from pathlib import Path


def check_folder(out: Path) -> None:
    """Raise ``NotADirectoryError`` if ``out`` is a file."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; name a folder to write into")
