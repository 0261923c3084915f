import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from miniatures import cut
from pointland.auditing import read_run
from pointland.cli.app import portable_command
from pointland.data import read_labels
from pointland.demo import MINIATURE, Demo, unpack

POINTLAND = Path(sys.executable).parent / "pointland"
QUICK = ["--sigma", "0.3", "--n-draws", "1", "--n-probes", "1", "--device", "cpu"]


def pointland(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(POINTLAND), *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return cut(tmp_path_factory.mktemp("small"), 24, 24)


@pytest.fixture(scope="module")
def audited(small: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audited") / "run"
    done = pointland("audit", MINIATURE, small.images, "--reference", small.reference, "-o", out, *QUICK)
    assert done.returncode in (0, 10), done.stderr
    return out


def test_help_is_instant_and_needs_no_torch() -> None:
    started = time.perf_counter()
    done = pointland("--help")
    assert time.perf_counter() - started < 5  # 0.3 s on an idle machine: `make bench` measures it
    assert done.returncode == 0
    assert "audit" in done.stdout
    check = (
        "import sys, pointland, pointland.cli; sys.exit(sum(m in sys.modules for m in ('torch', 'diffusers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_an_audit_leaves_a_run_with_a_report(audited: Path) -> None:
    run = read_run(audited)
    assert run.finished
    assert run.rows.num_rows == 48
    assert run.rows["guidance_norm"].null_count == 0
    for name in ("summary.json", "report.html", "report.md"):
        assert (audited / name).stat().st_size > 500
    summary = json.loads((audited / "summary.json").read_text())
    assert summary["verdict"]["n_audited"] == 24


def test_nothing_of_the_users_machine_is_in_the_output(audited: Path) -> None:
    for name in ("run.json", "summary.json", "report.html", "report.md"):
        text = (audited / name).read_text()
        assert str(Path.home()) not in text.replace(str(Path.home()) + "stead", "") or str(Path.home()) == "/"
        assert str(audited) not in text
        assert str(MINIATURE) not in text


def test_show_and_report_need_the_run_only(audited: Path, tmp_path: Path) -> None:
    shown = pointland("show", audited, "--top", 3)
    assert shown.returncode == 0, shown.stderr
    assert ".png" in shown.stdout
    copy = tmp_path / "run"
    shutil.copytree(audited, copy)
    for name in ("summary.json", "report.html", "report.md"):
        (copy / name).unlink()
    again = pointland("report", copy)
    assert again.returncode == 0, again.stderr
    assert (copy / "report.html").exists()


def test_a_second_run_continues_and_another_setting_is_refused(audited: Path, small: Demo) -> None:
    before = {path: path.stat().st_mtime_ns for path in (audited / "rows").iterdir()}
    again = pointland("audit", MINIATURE, small.images, "--reference", small.reference, "-o", audited, *QUICK)
    assert again.returncode in (0, 10), again.stderr
    assert {path: path.stat().st_mtime_ns for path in (audited / "rows").iterdir()} == before
    other = pointland(
        "audit", MINIATURE, small.images, "--reference", small.reference, "-o", audited, *QUICK, "--seed", 1
    )
    assert other.returncode == 2
    assert "differs in" in other.stderr


def test_nothing_scored_is_no_green_light(small: Demo, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).write_bytes(b"")
    done = pointland(
        "audit", MINIATURE, tmp_path / "images", "--reference", small.reference, "-o", tmp_path / "run", *QUICK
    )
    assert done.returncode == 2
    assert "no verdict" in " ".join(done.stderr.split())


def test_the_memorizing_set_is_flagged_and_a_clean_one_is_not(tmp_path: Path) -> None:
    """The same weights and reference: first pictures repeated in training, then pictures never seen."""
    whole = unpack(tmp_path / "demo")
    labels = read_labels(whole.labels, [path.name for path in whole.images.glob("*.png")])
    (tmp_path / "repeated").mkdir()
    (tmp_path / "clean").mkdir()
    (tmp_path / "reference").mkdir()
    for name, label in labels.items():
        if label in ("x20", "x50"):
            shutil.copy(whole.images / name, tmp_path / "repeated" / name)
    for source, target, n in ((whole.disjoint, "clean", 100), (whole.reference, "reference", 200)):
        for path in sorted(source.glob("*.png"))[:n]:
            shutil.copy(path, tmp_path / target / path.name)
    settings = ["--reference", tmp_path / "reference", "--sigma", "0.3", "--n-draws", "2", "--n-probes", "1"]
    repeated = pointland("audit", MINIATURE, tmp_path / "repeated", "-o", tmp_path / "run", *settings)
    assert repeated.returncode == 10, repeated.stdout + repeated.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["verdict"]["n_flagged"] >= 36  # of 40
    clean = pointland("audit", MINIATURE, tmp_path / "clean", "-o", tmp_path / "clean-run", *settings)
    assert clean.returncode == 0, clean.stdout + clean.stderr


def test_dry_run_writes_nothing(small: Demo, tmp_path: Path) -> None:
    done = pointland("audit", MINIATURE, small.images, "-o", tmp_path / "run", *QUICK, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "24 pictures" in done.stderr
    assert "network evaluations a picture" in " ".join(done.stderr.split())
    assert not (tmp_path / "run").exists()


def test_without_a_reference_it_ranks_and_says_so(small: Demo, tmp_path: Path) -> None:
    done = pointland("audit", MINIATURE, small.images, "-o", tmp_path / "run", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "reference" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit", "no-such-model", "IMAGES", "-o", "OUT"], "does not exist"),
        (["audit", "MODEL", "no-such-folder", "-o", "OUT"], "there is no folder"),
        (["audit", "MODEL", "IMAGES", "-o", "OUT", "--sigma", "big"], "neither a number nor"),
        (["audit", "MODEL", "IMAGES", "-o", "OUT", "--dtype", "int8"], "not one of"),
        (["audit", "MODEL", "IMAGES", "-o", "OUT", "--fdr", "7", *QUICK], "not a rate"),
        (["audit", "MODEL", "IMAGES"], "Missing option"),
        (["audit", "MODEL", "IMAGES", "-o", "OUT", "--no-such-option"], "No such option"),
        (["show", "OUT"], "is not a run"),
        (["no-such-command"], "No such command"),
    ],
)
def test_bad_usage_is_one_message_and_code_2(small: Demo, tmp_path: Path, arguments: list[str], message: str) -> None:
    places = {"MODEL": str(MINIATURE), "IMAGES": str(small.images), "OUT": str(tmp_path / "run")}
    done = pointland(*(places.get(a, a) for a in arguments))
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_the_command_for_the_record_tells_no_home() -> None:
    assert portable_command(["audit", "/home/me/model/", "images", "-o", "/tmp/run x"]) == (
        "pointland audit model images -o 'run x'"
    )


def test_bytes_of_rows_are_the_same_twice(audited: Path, small: Demo, tmp_path: Path) -> None:
    done = pointland("audit", MINIATURE, small.images, "--reference", small.reference, "-o", tmp_path / "run", *QUICK)
    assert done.returncode in (0, 10), done.stderr
    for path in (audited / "rows").iterdir():
        assert (tmp_path / "run" / "rows" / path.name).read_bytes() == path.read_bytes()
    assert isinstance(read_run(tmp_path / "run").rows, pa.Table)
