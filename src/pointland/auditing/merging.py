"""Joining the runs of processes that shared an audit, each in a directory of its own.

Parts are copied whole or not at all, and only what is missing: a merge that was interrupted goes on where it was, one
that is repeated changes nothing.
"""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pointland.auditing import directory, locks, plan
from pointland.auditing.directory import Run
from pointland.auditing.parts import DamagedPart, Shape, parts_in, read_part
from pointland.auditing.tasks import Share

SHARE = re.compile(r"--shard[ =](\d+)/(\d+)")
PLACES = ("folder", "files", "n_files", "files_sha256")  # of an entry of the data: where, not what


class Merged(NamedTuple):
    """What became of a merge.

    Attributes:
        run: The joined run, finished if nothing is missing.
        missing: Parts that no run has.
        of: Parts in all.
        shares: What ``--shard`` they belong to, as far as the runs' commands tell.
    """

    run: Run
    missing: list[int]
    of: int
    shares: list[Share]


def merge(
    runs: Sequence[Path | str],
    out: Path | str,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Merged:
    """Join runs that are parts of one audit.

    Args:
        runs: Their directories, finished or not; they are not changed.
        out: Where the whole goes; it may hold what an earlier merge left, or be one of the runs.
        progress: Called with how many parts are done, and of how many.

    Raises:
        FileNotFoundError: If one of them is no run.
        ValueError: If they are of different audits, naming the field; if a part is damaged, or two runs have different
            ones of the same number.
    """
    if not runs:
        raise ValueError("there is nothing to merge; give the run directories")
    folders, target = [Path(run) for run in runs], Path(out)
    directory.check_usable(target)
    found = [directory.read_run(folder) for folder in folders]
    for run in found:
        directory.check_pictures(run)
        _check_same(found[0], run)
    shape, first = Shape.of(found[0].record), _located(found[0], target)
    for entry in filter(None, first["data"].values()):
        if entry["kind"] == "folder" and target.resolve().is_relative_to((target / entry["folder"]).resolve()):
            raise ValueError(f"the run directory {target} would lie inside the pictures; choose an --out elsewhere")
    sources: dict[int, list[Path]] = {}
    for folder in folders:
        for number in parts_in(folder):
            sources.setdefault(number, []).append(folder)
    with locks.locked(target):
        for run in found:
            for environment in (run.record["environment"], *run.record.get("continued", [])):
                directory.open_run(target, {**first, "environment": environment})
        _join_labels(folders, target)
        for done, (number, holders) in enumerate(sorted(sources.items())):
            progress(done, len(sources))
            _join(number, holders, target, shape)
        progress(len(sources), len(sources))
        missing = sorted({*range(shape.n_shards)} - {*parts_in(target)})
        if not missing and directory.read_record(target).get("finished") is None:
            directory.finish(target, finished=plan.now())
    return Merged(directory.read_run(target), missing, shape.n_shards, _shares(found, missing))


def _check_same(first: Run, other: Run) -> None:
    """Raise ``ValueError`` unless two runs have the same record, but for when, where and with what versions."""
    names = sorted({*first.record, *other.record} - {*directory.VOLATILE})
    differing = [name for name in names if _compared(name, first) != _compared(name, other)]
    if differing:
        name = "sigma" if "sigma" in differing else differing[0]  # metrics and columns differ with it
        hint = "; audit all shares with the same --sigma" if name == "sigma" else ""
        raise ValueError(
            f"{first.folder} and {other.folder} are not of one audit: they differ in {', '.join(differing)}, {name} is "
            f"{directory.short(first.record.get(name))} and {directory.short(other.record.get(name))}{hint}"
        )


def _compared(name: str, run: Run) -> object:
    return directory.compared(name, run.record.get(name), places=PLACES)


def _located(run: Run, target: Path) -> dict[str, Any]:
    """Return the record of a run as it reads from another directory."""
    data = {
        role: entry
        if entry is None or not entry.get("folder")
        else {**entry, "folder": _seen(run, entry["folder"], target)}
        for role, entry in run.record["data"].items()
    }
    source = run.record.get("model_source")
    if source is not None and (run.folder / source).exists():
        source = plan.seen_from(target, str(run.folder / source))
    record = {name: value for name, value in run.record.items() if name != "continued"}
    return {**record, "data": data, "model_source": source, "finished": None}


def _seen(run: Run, folder: str, target: Path) -> str:
    return os.path.relpath((run.folder.resolve() / folder).resolve(), target.resolve())


def _join_labels(folders: Sequence[Path], target: Path) -> None:
    """Take over what the user knew beforehand, which must be the same in every run that has it."""
    known = {path: path.read_bytes() for folder in (target, *folders) if (path := folder / "labels.csv").exists()}
    if len({*known.values()}) > 1:
        raise ValueError(f"the labels differ in {' and '.join(map(str, known))}; keep those that are right")
    for content in list(known.values())[:1]:
        if not (target / "labels.csv").exists():
            directory.write_bytes(target / "labels.csv", content)


def _join(number: int, holders: Sequence[Path], target: Path, shape: Shape) -> None:
    """Copy one part, failures first as they were written; whoever has it already must have the same."""
    name = f"part-{number:06d}.parquet"
    owners = [target, *holders] if (target / "rows" / name).exists() else list(holders)
    contents = [_content(owner, name) for owner in owners]
    for owner, content in zip(owners, contents, strict=True):
        if content != contents[0]:
            raise ValueError(
                f"{owners[0]} and {owner} have different parts {name}; `pointland verify` says whether one is damaged, "
                "otherwise they were scored on different machines: delete one"
            )
    if owners[0] == target:
        return
    try:
        part = read_part(holders[0], name, shape.columns)
    except DamagedPart as damage:
        raise ValueError(
            f"{holders[0]}/{damage}; delete it there, repeat that share's audit, and merge again"
        ) from None
    if part.rows.num_rows + part.failed.num_rows != shape.size(number):
        raise ValueError(f"{holders[0]}/rows/{name} has another number of pictures than a part of this audit")
    for kind in ("failed", "rows"):
        path = holders[0] / kind / name
        if path.exists():
            directory.write_whole(target / kind / name, lambda to, path=path: _copy(path, to))  # type: ignore[misc]  # bound at once
        else:
            (target / kind / name).unlink(missing_ok=True)  # of an audit that died before its rows


def _content(run: Path, name: str) -> tuple[bytes | None, ...]:
    paths = (run / kind / name for kind in ("rows", "failed"))
    return tuple(path.read_bytes() if path.exists() else None for path in paths)


def _copy(path: Path, to: Path) -> None:
    shutil.copyfile(path, to)


def _shares(runs: Sequence[Run], missing: Sequence[int]) -> list[Share]:
    """Return the shares that missing parts belong to, if the commands of all runs name one number of shares."""
    numbers = {int(found[2]) for run in runs if (found := SHARE.search(run.record.get("command") or ""))}
    if len(numbers) != 1:
        return []
    (of,) = numbers
    return [Share(number, of) for number in sorted({part % of for part in missing})] if of else []
