"""Every command and option is documented, and every command that a page names exists and takes these options."""

import re
import shlex
from pathlib import Path

import pytest
from command_options import Command, every_command

from pages import DOCS, PAGES, ROOT, command_lines, name, text

COMMANDS = every_command()
MAKEFILE = text(ROOT / "Makefile")
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.json"))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_and_option_is_documented(command: Command) -> None:
    assert len(command.help) > 20
    for parameter in command.parameters:
        assert len(parameter.help) > 3, f"{command.name} {parameter.names} has no help"
    page = DOCS / "commands" / f"{command.name.replace(' ', '-')}.md"
    assert f"```{{options}} {command.name}\n```" in text(page)
    assert f"]({page.name})" in text(DOCS / "commands" / "index.md")
    assert any(line.startswith(f"pointland {command.name}") for line in command_lines(page)), "an example, too"


def test_the_options_of_a_command_are_those_of_its_help() -> None:
    audit = COMMANDS["audit"]
    known = {one.names[-1]: one for one in audit.parameters}
    assert audit.parameters[0] == ("argument", ["MODEL"], "", known["MODEL"].help, "required")
    assert known["--out"].names == ["-o", "--out"]
    assert "required" in known["--out"].remark
    assert "default: 0.05" in known["--fdr"].remark
    assert (known["--screen"].value, known["--batch-size"].value) == ("", "str")


def problems(line: str) -> list[str]:
    """Say what is wrong with a command that a page names."""
    plain = line.removeprefix("OMP_NUM_THREADS=1 ")
    words = [w for w in re.split(r"\s+", re.sub(r"[\[\]]", " ", plain)) if w and w not in ("|", "...")]
    if words[0] == "make":
        return [f"no make target {w}" for w in words[1:2] if f"\n{w}:" not in MAKEFILE]
    if words[0].startswith("python"):
        return _python_problems(words)
    if "pointland" not in words:
        return []
    at = words.index("pointland") + 1
    if words[at].startswith("-") or words[at].isupper():
        return [] if words[at] in ("--help", "--version", "COMMAND") else [f"no option {words[at]}"]
    known = {c.split()[0] for c in COMMANDS}
    group = [c for c in COMMANDS if c == words[at] or c == " ".join(words[at : at + 2])]
    if not group:
        return [] if words[at] == "benchmark" and len(words) == at + 1 else [f"no command {words[at]} of {known}"]
    options = {option for one in COMMANDS[group[0]].parameters for option in one.names} | {"--help", "-h"}
    asked = [w.split("=")[0] for w in words[at:] if re.match(r"--?[a-z]", w)]
    return [f"{group[0]} has no option {option}" for option in asked if option.rstrip("`,.;:)") not in options]


def _python_problems(words: list[str]) -> list[str]:
    if "-m" in words:
        module = words[words.index("-m") + 1]
        if not module.startswith("pointland"):
            return []
        parts = ROOT / "src" / Path(*module.split("."))
        script = parts.with_suffix(".py") if not parts.is_dir() else parts / "__main__.py"
    else:
        script = ROOT / words[1]
        if words[1] == "-c":
            return []
    if not script.exists():
        return [f"no file {script.relative_to(ROOT)}"]
    source = text(script)
    if script.name == "train_flow.py":  # takes what the training of the miniature takes
        source += text(script.with_name("train.py")) + text(script.with_name("training.py"))
    asked = [w.split("=")[0] for w in words if w.startswith("--")]
    return [f"{script.name} has no option {option}" for option in asked if f'"{option}"' not in source]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    wrong = [(line, problem) for line in command_lines(page) for problem in problems(line)]
    assert not wrong


def test_commands_that_do_not_exist_are_noticed() -> None:
    assert problems("pointland audit MODEL --refrence x")
    assert problems("pointland adit MODEL")
    assert problems("make nothing")
    assert problems("python benchmarks/none.py")
    assert problems("python benchmarks/neighbors.py --billion")
    assert not problems("pointland benchmark lid [--suite exact|paper] [-o OUT]")
    assert shlex.split("pointland show run/ --top 20")[0] == "pointland"


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_published_measurement_names_its_command(path: Path) -> None:
    """Each file of numbers is named by a page that also names the command that writes it, or by the file itself."""
    stem = path.stem
    folder = path.parent.name
    script = path.with_suffix(".py")
    commands = (f"benchmarks/{stem}.py",) if script.exists() else ("pointland ",)
    named = [
        page
        for page in PAGES
        if any(word in text(page) for word in (path.name, f"benchmarks/{stem}.py", f"benchmarks/{folder}/*.json"))
    ]
    assert any(any(command in line for line in command_lines(page) for command in commands) for page in named), (
        f"no page names {path.name} and its command"
    )
