"""The README's example is the file that runs here, and the commands it names exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

from miniatures import cut

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_is_in_the_readme_and_runs(tmp_path: Path) -> None:
    example = (ROOT / "examples" / "audit.py").read_text(encoding="utf-8")
    code = example.split('"""\n\n', 1)[1]
    assert f"```python\n{code}```" in README
    (tmp_path / "src").symlink_to(ROOT / "src")
    demo = cut(tmp_path, 24, 24)
    (tmp_path / "pictures").mkdir()
    demo.images.rename(tmp_path / "pictures" / "images")
    demo.reference.rename(tmp_path / "pictures" / "held_out")
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "audit.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "24" in done.stdout
    assert (tmp_path / "run" / "report.html").exists()


def test_every_command_of_the_readme_exists() -> None:
    shown = subprocess.run(
        [Path(sys.executable).parent / "pointland", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for command in set(re.findall(r"^    pointland (\w+)", README, re.MULTILINE)):
        assert f" {command} " in shown
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^    make (\w+)", README, re.MULTILINE)):
        assert f"\n{target}:" in makefile


def test_links_of_the_documents_lead_somewhere() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_exported_name_can_be_had_and_is_documented() -> None:
    import pointland

    for name in pointland.__all__:
        assert getattr(pointland, name).__doc__
    assert sorted(pointland.__all__) == pointland.__all__
