"""A Ray cluster of several nodes on this machine, and ways to take parts of it down."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}


@contextmanager
def cluster(cpus: tuple[int, ...]) -> Iterator[Any]:
    """Start nodes with so many logical CPUs, all but the first with a GPU that is none; connect to it, end them all."""
    import ray
    from ray.cluster_utils import Cluster

    before = {name: os.environ.get(name) for name in QUIET}
    os.environ.update(QUIET)
    on_term = signal.getsignal(signal.SIGTERM)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus[0], "include_dashboard": False})
    try:
        for n in cpus[1:]:
            made.add_node(num_cpus=n, num_gpus=1)
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        signal.signal(signal.SIGTERM, on_term)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def kill_node(made: Any, at: int) -> None:
    """Take down a node that is not the head, with everything on it, without a word."""
    made.remove_node(sorted(made.worker_nodes, key=id)[at], allow_graceful=False)


def scorers() -> list[int]:
    """Return the processes of Ray actors that this process's own Ray runs."""
    parents, found = {}, []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if (folder / "cmdline").read_bytes().startswith(b"ray::_Actor"):
                    found.append(int(folder.name))
            except (OSError, IndexError):
                continue  # it ended meanwhile
    return [process for process in found if os.getpid() in _ancestors(process, parents)]


def _ancestors(process: int, parents: dict[int, int]) -> Iterator[int]:
    while (process := parents.get(process, 0)) > 1:
        yield process
