"""The reports that the tests of this folder look at."""

from pathlib import Path
from typing import NamedTuple

import runs
from pointland.report import write_report

COLUMNS = {"denoising_loss_unconditional", "flipd_unconditional", "guidance_norm", "png_bytes"}


class Reports(NamedTuple):
    """Reports as files.

    Attributes:
        hostile: 60 rows with captions and names that try to break the page.
        rich: 30 rows with every part that a report can have, and explain pages of two pictures.
        ranked: A few pictures without reference, captions and labels.
        empty: Nothing scored.
    """

    hostile: Path
    rich: Path
    ranked: Path
    empty: Path


def write_reports(folder: Path) -> Reports:
    """Write them all into a folder."""
    names = [f"{i}{text[:50]}".replace("/", "_").replace("\x00", "") for i, text in enumerate(runs.HOSTILE)]
    hostile = runs.build(
        folder / "hostile", 60, n_reference=99, captions=runs.HOSTILE, names=names, memorized=30, pictures=30
    )
    rich = runs.build(
        folder / "rich",
        30,
        n_reference=200,
        labels=True,
        memorized=12,
        pictures=28,
        n_failed=2,
        null_every=9,
        columns=[column for column in runs.COLUMNS if column["name"] in COLUMNS],
    )
    explain = rich / "explain"
    explain.mkdir()
    (explain / "index.json").write_text('{"000000.png": "a.html", "000003.png": "b-2.html"}', encoding="utf-8")
    for name in ("a.html", "b-2.html"):
        (explain / name).write_text(f"<!doctype html><title>{name}</title>", encoding="utf-8")
    ranked = runs.build(folder / "ranked", 8, n_reference=0, captions=False, curve=False)
    empty = runs.build(folder / "empty", 0, n_reference=0, finished=False)
    return Reports(*(write_report(run) for run in (hostile, rich, ranked, empty)))
