"""Row S1: what a run leaves behind tells nothing of the machine or the person: no path, no token, no environment."""

import os
import sys
from pathlib import Path

import pytest

from commands import pointland
from miniatures import cut
from pointland.auditing import read_run
from pointland.demo import MINIATURE

pytestmark = pytest.mark.fault

SECRETS = {
    "HF_TOKEN": "hf_" + "abcdefgh" * 4,
    "HUGGING_FACE_HUB_TOKEN": "hf_" + "hgfedcba" * 4,
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "OPENAI_API_KEY": "sk-" + "12345678" * 4,
    "WANDB_API_KEY": "0123456789abcdef" * 2,
    "LOGNAME": "alice-of-the-machine",
    "HOSTNAME": "host-of-alice-1234",
}


def test_no_path_no_token_and_no_environment_in_what_a_run_leaves_behind(tmp_path: Path) -> None:
    home = tmp_path / "home" / "alice"
    home.mkdir(parents=True)
    demo = cut(home, 12, 8)
    (demo.images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")  # its reason is text as well
    environment = os.environ | SECRETS | {"HOME": str(home), "OMP_NUM_THREADS": "1"}
    words = ["audit", str(MINIATURE), str(demo.images), f"--reference={demo.reference}", "--labels", str(demo.labels)]
    words += ["-o", str(home / "run"), "--sigma", "0.3", "--n-draws", "1", "--n-probes", "1", "--device", "cpu"]
    (done,) = pointland(words, environment=environment)
    assert done.code in (0, 10), done.err
    run = read_run(home / "run")
    texts = {
        path.relative_to(home).as_posix(): path.read_text(encoding="utf-8")
        for path in (home / "run").rglob("*")
        if path.is_file() and path.suffix in (".json", ".html", ".md", ".csv", ".jsonl", ".txt")
    }
    assert {"run/run.json", "run/summary.json", "run/report.html", "run/report.md"} <= texts.keys()
    texts["rows"] = repr([run.rows.to_pylist(), run.rows.schema.metadata])
    texts["failed"] = repr([run.failed.to_pylist(), run.failed.schema.metadata])
    assert "broken.png" in texts["failed"]
    paths = {str(tmp_path), str(home), "home/alice", "/alice", str(MINIATURE), str(MINIATURE.parent), sys.prefix}
    values = {value for value in environment.values() if len(value) >= 12} | set(SECRETS.values())
    for name, text in texts.items():
        for secret in paths | values:
            assert secret not in text, (name, secret)
