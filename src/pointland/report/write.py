"""Writing a report beside the rows of a run."""

import json
from pathlib import Path
from typing import cast

from pointland.auditing.directory import read_run, write_json, write_whole
from pointland.report.html import render_html
from pointland.report.markdown import render_markdown
from pointland.report.schema import Summary
from pointland.report.summary import summarize
from pointland.report.thumbnails import thumbnails


def write_report(run_folder: Path | str, *, fdr: float | None = None) -> Path:
    """Write ``summary.json``, ``report.md`` and ``report.html`` into a run, each whole or not at all.

    Args:
        run_folder: A run directory, finished or not.
        fdr: False discovery rate; the run's own by default.

    Returns:
        The path of ``report.html``.

    Raises:
        FileNotFoundError: If the folder is not a run.
        ValueError: If the run is from a newer version, ``fdr`` is not in (0, 1), ``labels.csv`` lacks its header, or
            ``explain/index.json`` is malformed.
    """
    folder = Path(run_folder)
    run = read_run(folder)
    summary = summarize(run, fdr=fdr)
    pages = {"report.md": render_markdown(summary), "report.html": render_html(summary, thumbnails(run, summary))}
    write_json(folder / "summary.json", summary)
    for name, text in pages.items():
        write_whole(folder / name, lambda path, text=text: _write(path, text))  # type: ignore[misc]  # bound at once
    return folder / "report.html"


def read_summary(run_folder: Path | str) -> Summary:
    """Read back the ``summary.json`` that :func:`write_report` left in ``run_folder``."""
    return cast(Summary, json.loads((Path(run_folder) / "summary.json").read_text(encoding="utf-8")))


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8"))
