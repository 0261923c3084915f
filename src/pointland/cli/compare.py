"""The command ``compare``: what changed between two audits."""

import json
from pathlib import Path

from rich.console import Console

from pointland.auditing.directory import Run, read_run
from pointland.cli.folders import check_folder
from pointland.report.compare import compare, print_comparison, write_comparison


def run_compare(run_a: Path, run_b: Path, *, out: Path | None, fdr: float | None, top: int) -> bool:
    """Compare, print, write; return whether B flags a picture that A did not."""
    if out is not None:
        check_folder(out)
    comparison = compare(opened(run_a), opened(run_b), fdr=fdr)
    print_comparison(comparison, top, Console())
    if out is not None:
        page = write_comparison(comparison, out)
        Console(stderr=True).print(f"Written: {page}, {page.with_suffix('.json')}", soft_wrap=True, markup=False)
    return comparison["flags"]["n_newly"] + comparison["flags"]["n_only_b"] > 0


def opened(folder: Path) -> Run:
    """Read a run; ``ValueError`` also where its record is not one."""
    try:
        return read_run(folder)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / 'run.json'} is damaged ({error}); restore it, or audit again") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / 'run.json'} is not the record of an audit: it has no schema_version; give the folder that "
            "`pointland audit -o` wrote"
        ) from error
