"""Folders that results go to: refused before anything is computed, not after."""

from pathlib import Path


def check_folder(out: Path, *inputs: Path | None) -> None:
    """Refuse a folder for results that is a file, or lies inside folders of pictures, whose next reader would find it.

    Raises:
        NotADirectoryError: If ``out`` is a file.
        ValueError: If it is one of ``inputs`` or inside one.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; name a folder to write into")
    for place in inputs:
        if place is not None and out.resolve().is_relative_to(place.resolve()):
            raise ValueError(f"{out} lies inside the pictures {place}; choose an --out elsewhere")
