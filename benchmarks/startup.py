"""How long `pointland --help` takes: below 0.5 s is the target.

    python benchmarks/startup.py [--rounds 15] [--out benchmarks/startup.json]

The baseline of the same run is the interpreter that does nothing.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/startup.json"))
    settings = parser.parse_args()
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "pointland --help": [str(Path(sys.executable).parent / "pointland"), "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(settings.rounds + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: round(statistics.median(times[1:]), 3) for name, times in seconds.items()}
    result = {
        "command": "python benchmarks/startup.py",
        "seconds_median": medians,
        "target_seconds": 0.5,
        "rounds": settings.rounds,
        "machine": {"processor": platform.machine(), "python": platform.python_version()},
    }
    settings.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
