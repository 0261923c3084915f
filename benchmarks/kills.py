"""Kill an audit at random moments, a hundred times, and see whether anything was lost.

    python benchmarks/kills.py [--kills 100] [--out benchmarks/kills.json]

An audit of 3,000 synthetic pictures from tar shards, in shards of 16, by a network that takes a little time, with two
reading processes and a writer. SIGKILL comes at a random moment after its first progress; the same command goes on.
Every other kill takes a reading process instead of the audit. When a run completes, it is compared with an unbroken one
byte for byte, and another begins. Expected: no row lost, none twice, no corrupt file, at most the shards in flight
scored again.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

from growth import Shrink, children, pictures

SHORT = 16


def audited(images: Path, out: Path) -> None:
    """Audit in this process, a little slower than the network would be."""
    import torch

    from pointland.auditing import tasks
    from pointland.auditing.engine import Progress, audit
    from pointland.models import from_module

    tasks.SHARD = SHORT
    model = from_module(
        Shrink(),
        size=(8, 8),
        sigmas=torch.logspace(-2, 1, 100, dtype=torch.float64),
        prediction="sample",
        convention="edm",
    )

    def note(state: Progress) -> None:
        print(state.done, flush=True)
        time.sleep(0.005)

    audit(model, images, out=out, sigma=0.5, n_draws=1, n_probes=1, batch_size=8, progress=note)


def parts(folder: Path) -> dict[str, bytes]:
    return {f"{part.parent.name}/{part.name}": part.read_bytes() for part in folder.glob("*/part-*.parquet")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=3_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/kills.json"))
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.only:
        audited(*map(Path, settings.only))
        return
    from pointland.data.spool import spooled

    chance = random.Random(0)
    counts = {"audits": 0, "readers": 0}
    found = {"runs": 0, "lost_rows": 0, "rows_twice": 0, "corrupt_files": 0, "parts_that_differ": 0, "left_behind": 0}
    most_parts_redone = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        spooled(pictures(settings.pictures, 0), place / "images")
        whole, run = place / "whole", place / "run-0"
        command = [sys.executable, __file__, "--only", str(place / "images")]
        subprocess.run([*command, str(whole)], check=True, stdout=subprocess.DEVNULL)
        wanted = parts(whole)
        while sum(counts.values()) < settings.kills:
            process = subprocess.Popen([*command, str(run)], stdout=subprocess.PIPE, text=True, start_new_session=True)
            assert process.stdout is not None
            seen, target = 0, chance.randint(1, settings.pictures // SHORT)
            for _ in process.stdout:
                seen += 1
                if seen != target or sum(counts.values()) >= settings.kills:
                    continue
                time.sleep(chance.uniform(0, 0.05))
                if chance.random() < 0.5 and (readers := children_of(process.pid)):
                    os.kill(chance.choice(readers), signal.SIGKILL)
                    counts["readers"] += 1
                    target = seen + chance.randint(1, 40)
                else:
                    before = parts(run)
                    process.kill()
                    counts["audits"] += 1
                    most_parts_redone = max(most_parts_redone, len(before.keys() - parts(run).keys()))
            code = process.wait()
            process.stdout.close()
            if code != 0:
                continue
            got = parts(run)
            keys: list[str] = []
            for name, data in got.items():
                try:
                    keys += pq.read_table(run / name, page_checksum_verification=True)["key"].to_pylist()
                except OSError:
                    found["corrupt_files"] += 1
                found["parts_that_differ"] += data != wanted.get(name)
            found["runs"] += 1
            found["lost_rows"] += settings.pictures - len({*keys})
            found["rows_twice"] += len(keys) - len({*keys})
            found["left_behind"] += len([*run.glob("**/.*.tmp")])
            print(counts, found, flush=True)
            if sum(counts.values()) >= settings.kills:
                break
            run = place / f"run-{found['runs']}"
    result = {
        "command": "python benchmarks/kills.py",
        "pictures": settings.pictures,
        "shard": SHORT,
        "kills": counts,
        "finished_parts_ever_lost": most_parts_redone,
        **found,
    }
    settings.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def children_of(process: int) -> list[int]:
    return children(Path(f"/proc/{process}/task"))


if __name__ == "__main__":
    main()
