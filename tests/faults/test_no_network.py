"""Row N1: without a network a local audit works and asks nobody; what is not here is one line of error."""

import socket
import subprocess
from pathlib import Path

import pytest

from commands import Said, pointland
from miniatures import cut
from pointland.auditing import audit, read_run
from pointland.demo import MINIATURE
from pointland.models import load
from pointland.report import write_report

pytestmark = pytest.mark.fault

FLAGS = ["--sigma", "0.3", "--n-draws", "1", "--n-probes", "1", "--device", "cpu"]
REMOTE = "nobody-has-this/model-at-all"


def alone() -> list[str]:
    """Return what runs a command in a network of its own, with nothing in it."""
    for command in (["unshare", "-n"], ["unshare", "-r", "-n"]):
        try:
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                return command
        except FileNotFoundError:
            break
    pytest.skip("unshare -n is not there, or not allowed: on Debian, apt-get install util-linux")


def one_line(done: Said, *words: str) -> None:
    assert done.code == 2, done.err
    line = done.err.strip()
    assert line.startswith("Error: ")
    assert "\n" not in line
    assert all(word in line for word in words)


def test_a_local_audit_reaches_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is imported may open a socket to see whether there is IPv6; nothing may look up or connect."""
    asked: list[object] = []

    def refuse(*address: object, **_: object) -> None:
        asked.append(address)
        raise OSError("there is no network")

    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    for name in ("connect", "connect_ex", "sendto", "sendmsg"):
        monkeypatch.setattr(socket.socket, name, refuse)
    demo = cut(tmp_path, 6, 4)
    run = audit(
        load(MINIATURE, device="cpu"), demo.images, out=tmp_path / "run", reference=demo.reference, sigma=0.3, n_draws=1
    )
    write_report(run.folder)
    assert run.rows.num_rows == 10
    assert asked == []
    with pytest.raises(OSError, match="could not be fetched"):
        load(REMOTE)
    assert asked  # so the trap is one


def test_the_command_in_a_network_of_its_own(tmp_path: Path) -> None:
    demo, out = cut(tmp_path, 6, 4), tmp_path / "run"
    local = ["audit", MINIATURE, demo.images, "--reference", demo.reference, *FLAGS]
    done, remote = pointland(
        [*local, "-o", out], ["audit", REMOTE, demo.images, "-o", tmp_path / "other"], before=alone()
    )
    assert done.code in (0, 10), done.err
    assert read_run(out).rows.num_rows == 10
    assert (out / "report.html").stat().st_size > 10_000
    one_line(remote, REMOTE)
    assert not (tmp_path / "other").exists()


def test_offline_by_the_hubs_own_switch(tmp_path: Path) -> None:
    demo = cut(tmp_path, 2, 2)
    words = ["audit", MINIATURE, demo.images, "-o", tmp_path / "run", *FLAGS]
    failed = pointland(
        ["audit", REMOTE, *words[2:]],
        [*words, "--reference-model", REMOTE],
        [*words, "--lora", REMOTE],
        environment={"HF_HUB_OFFLINE": "1"},
    )
    for one in failed:
        one_line(one, REMOTE)
    assert not (tmp_path / "run").exists()
