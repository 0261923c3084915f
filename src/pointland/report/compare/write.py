"""Writing a comparison."""

from pathlib import Path

from pointland.auditing.directory import write_bytes, write_json
from pointland.report.compare.markdown import render_comparison
from pointland.report.compare.schema import Comparison


def write_comparison(comparison: Comparison, out: Path | str) -> Path:
    """Write ``compare.json`` and ``compare.md`` into a folder, each whole or not at all; return the latter's path.

    Raises:
        NotADirectoryError: If ``out`` is a file.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; name a folder to write into")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "compare.json", comparison)
    page = folder / "compare.md"
    write_bytes(page, render_comparison(comparison).encode("utf-8"))
    return page
