"""The layers of CONTRIBUTING.md as a test: who may import whom, and what files may not be called."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
PACKAGE = SOURCE / "pointland"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
FORBIDDEN_NAMES = {"utils", "helpers", "common", "base", "core", "misc", "manager", "factory", "config"}
HEAVY = {"torch", "diffusers", "transformers"}

# What each part may import besides itself; see CONTRIBUTING.md, "How the code is laid out".
LOWEST = {"noise", "denoiser", "model", "draws"}
LID = LOWEST | {"derivatives"}
METRICS = LID | {"lid", "duplicates"}
AUDIT = METRICS | {"metrics", "verdict", "data", "models"}
REPORT = AUDIT | {"auditing"}
BESIDE = REPORT | {
    "exact",
    "benchmarks",
    "testing",
    "demo",
    "explanation",
    "prompts",
    "mitigate",
    "monitoring",
    "experiments",
    "census",
    "samples",
    "extraction",
}
ALLOWED: dict[str, set[str]] = {
    "__main__": {"cli"},
    "noise": set(),
    "draws": set(),
    "denoiser": {"noise"},
    "model": {"denoiser", "noise"},
    "derivatives": {"denoiser", "noise"},
    "lid": LID,
    "duplicates": set(),
    "metrics": METRICS,
    "verdict": METRICS,
    "auditing": AUDIT,
    "report": REPORT,
    "models": {"model", "denoiser", "noise"},
    "data": set(),
    "exact": LOWEST,
    "testing": LOWEST,
    "explanation": BESIDE | {"report"},
    "extraction": REPORT | {"report", "samples"},
    "prompts": BESIDE - {"report", "mitigate"},
    "mitigate": BESIDE - {"report"},
    "monitoring": BESIDE - {"report"},
    "experiments": BESIDE - {"report"},
    "benchmarks": BESIDE | {"report"},
    "census": REPORT,
    "samples": REPORT,
    "demo": BESIDE | {"report", "cli"},
    "cli": BESIDE | {"report"},
}


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules_imported(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the absolute dotted name of everything imported, inside functions too."""
    parents = path.relative_to(SOURCE).parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = parents[: len(parents) - node.level + 1] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def at_import_time(tree: ast.Module) -> ast.Module:
    """Return what runs when the module is imported: no function bodies, nothing for type checkers only."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST:
            if "TYPE_CHECKING" in ast.unparse(node.test):
                node.body = [ast.Pass()]
            return self.generic_visit(node)

    return ast.fix_missing_locations(Strip().visit(tree))  # type: ignore[no-any-return]  # visit() is untyped


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_lower_layers_never_import_higher_ones(path: Path) -> None:
    part = part_of(path)
    assert part in ALLOWED, f"{part} is in no layer: add it to ALLOWED here and to CONTRIBUTING.md"
    for line, module in modules_imported(parse(path), path):
        names = module.split(".")
        if names[0] != "pointland":
            continue
        allowed = ALLOWED[part] | {part}
        assert len(names) > 1, f"{name(path)}:{line} imports the whole package; import the part it needs"
        assert names[1] in allowed, f"{name(path)}:{line} imports {names[1]}; {part} may import {sorted(allowed)}"


@pytest.mark.parametrize("path", [path for path in FILES if part_of(path) == "cli"], ids=name)
def test_the_command_line_imports_nothing_heavy_at_module_level(path: Path) -> None:
    for line, module in modules_imported(at_import_time(parse(path)), path):
        assert module.split(".")[0] not in HEAVY, f"{name(path)}:{line} imports {module}; move it into the function"


def test_importing_the_command_line_loads_no_torch() -> None:
    code = "import sys, pointland.cli; print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_are_named_by_their_noun(path: Path) -> None:
    parts = [part.removesuffix(".py") for part in path.relative_to(PACKAGE).parts]
    for part in parts:
        assert part not in FORBIDDEN_NAMES, f"{name(path)}: name it for what it does"
        assert not part.startswith("_") or part in ("__init__", "__main__"), f"{name(path)}: no leading underscore"


def test_the_check_reads_relative_imports_and_function_bodies() -> None:
    code = "from . import flipd\nfrom ..noise import Levels\ndef f():\n    import pointland.cli\n"
    found = [module for _, module in modules_imported(ast.parse(code), PACKAGE / "lid" / "scale.py")]
    assert found == ["pointland.lid.flipd", "pointland.noise.Levels", "pointland.cli"]
    lazy = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\ndef f():\n    import diffusers\n"
    assert [m for _, m in modules_imported(at_import_time(ast.parse(lazy)), PACKAGE / "cli" / "main.py")] == [
        "typing.TYPE_CHECKING"
    ]
