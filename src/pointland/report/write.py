"""Writing a report beside the rows of a run."""

from pathlib import Path

from pointland.audit.directory import read_run, write_json, write_whole
from pointland.report.html import render_html
from pointland.report.markdown import render_markdown
from pointland.report.summary import summarize
from pointland.report.thumbnails import thumbnails


def write_report(run_folder: Path, *, fdr: float | None = None) -> Path:
    """Write ``summary.json``, ``report.md`` and ``report.html`` into a run, each whole or not at all.

    Args:
        run_folder: A run directory, finished or not.
        fdr: False discovery rate; the run's own by default.

    Returns:
        The path of ``report.html``.

    Raises:
        FileNotFoundError: If the folder is not a run.
        ValueError: If the run is from a newer version, ``fdr`` is not in (0, 1), or ``labels.csv`` lacks its header.
    """
    run = read_run(run_folder)
    summary = summarize(run, fdr=fdr)
    pages = {"report.md": render_markdown(summary), "report.html": render_html(summary, thumbnails(run, summary))}
    write_json(run_folder / "summary.json", summary)
    for name, text in pages.items():
        write_whole(run_folder / name, lambda path, text=text: _write(path, text))  # type: ignore[misc]  # bound at once
    return run_folder / "report.html"


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8"))
