"""The explain pages of a run, which the report links to: ``explain/index.json`` maps keys to files beside it.

The index is ``{"<key>": "<file name>"}``. Whoever hands over a run could have written it, so a name is a plain file
name of letters, digits, dots, hyphens and underscores that ends in ``.html``: no folder, no scheme, nothing to escape.
"""

import json
import re
from pathlib import Path

FOLDER, INDEX = "explain", "index.json"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\.html", re.ASCII)


def explained(run_folder: Path) -> dict[str, str]:
    """Return the file in ``explain/`` that explains each picture, by key.

    Args:
        run_folder: A run directory.

    Returns:
        Only keys whose page is there, as a file and not a link to one; empty without an index.

    Raises:
        ValueError: If the index is not a JSON object, or a name in it is anything but a plain ``.html`` file name.
    """
    path = run_folder / FOLDER / INDEX
    if not path.is_file():
        return {}
    try:
        index = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{FOLDER}/{INDEX} is not JSON ({error}); write the explain pages again") from error
    if not isinstance(index, dict):
        raise ValueError(f"{FOLDER}/{INDEX} holds a {type(index).__name__}; it needs an object of file names by key")
    for key, name in index.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(
                f"{FOLDER}/{INDEX} gives {ascii(name)[:80]} for the picture {ascii(key)[:80]}; it needs the name of a "
                f"file in {FOLDER}/, of letters, digits, '.', '-' and '_', that ends in .html"
            )
    return {key: name for key, name in index.items() if _is_page(run_folder / FOLDER / name)}


def _is_page(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
