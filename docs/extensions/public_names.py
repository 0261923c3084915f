"""Where a public name is documented, whichever module defines it.

Annotations and docstrings name a class by the module that defines it (``pointland.lid.estimate.LidEstimate``) or by its
name alone, and the reference documents it where users import it (``pointland.lid.LidEstimate``). A reference that finds
nothing under its own name is looked up among the public names of all packages.
"""

import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.typing import ExtensionMetadata

import pointland

ROOT = Path(pointland.__file__).parent


def public_modules() -> Iterator[ModuleType]:
    """Yield every package with public names, and every module that stands at the top."""
    yield pointland
    for file in sorted(ROOT.rglob("*.py")):
        names = ["pointland", *file.relative_to(ROOT).with_suffix("").parts]
        is_package = names[-1] == "__init__"
        if (is_package and len(names) > 2) or (not is_package and len(names) == 2 and names[-1] != "__main__"):
            yield import_module(".".join(names[:-1] if is_package else names))


def public_names(module: ModuleType) -> list[str]:
    """Return what a module offers: its ``__all__``, else the functions and classes that it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__ and value.__doc__
    ]


@cache
def documented_as() -> dict[int, str]:
    """Map every public object, by identity, to the shortest name that the reference has it under."""
    found: dict[int, str] = {}
    for module in public_modules():
        if module is pointland:  # its page is a list of links into the others
            continue
        for name in public_names(module):
            full = f"{module.__name__}.{name}"
            key = id(getattr(module, name))
            if key not in found or (full.count("."), full) < (found[key].count("."), found[key]):
                found[key] = full
    return found


def objects_called(target: str, context: str | None) -> Iterator[object]:
    """Yield what ``target`` may mean: an absolute name, one within ``context``, or a name of any module of ours."""
    for full in filter(None, (target, f"{context}.{target}" if context else None)):
        names = full.split(".")
        for cut in (*range(len(names) - 1, 0, -1), len(names)):  # a function before the module of its name
            try:
                value: object = import_module(".".join(names[:cut]))
            except (ImportError, ValueError):
                continue
            try:
                for name in names[cut:]:
                    value = getattr(value, name)
            except AttributeError:
                continue
            yield value
            break
    first, _, rest = target.partition(".")
    for module in [m for n, m in sorted(sys.modules.items()) if n.split(".")[0] == "pointland"]:
        value = getattr(module, first, None)
        if value is not None and getattr(value, "__module__", "").startswith("pointland"):
            yield getattr(value, rest, value) if rest else value


def resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, contnode: nodes.TextElement
) -> nodes.Node | None:
    """Link to the public name of an object of ours, or leave a private one as text; anything else stays missing."""
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    for value in objects_called(node["reftarget"], node.get("py:module")):
        full = documented_as().get(id(value))
        if full is not None and full.rpartition(".")[2] == node["reftarget"].rpartition(".")[2]:
            found = domain.resolve_xref(env, node["refdoc"], app.builder, "obj", full, node, contnode)
            if found is not None:
                return found
        owner = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
        if str(owner).startswith("pointland"):
            return contnode
    return None


def said_below(name: str, value: object) -> list[str]:
    """Return the string that stands below an alias or constant in the module that defines it, in lines."""
    for module in [m for n, m in sorted(sys.modules.items()) if n.startswith("pointland.")]:
        if vars(module).get(name) is value and getattr(module, "__file__", None):
            comments = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
            if ("", name) in comments:
                return list(comments["", name])
    return []


def describe(app: Sphinx) -> None:
    """Let autodoc find the string below an alias or constant from the packages that export it."""
    for module in public_modules():
        for name in public_names(module):
            lines = said_below(name, getattr(module, name))
            if lines:
                ModuleAnalyzer.for_module(module.__name__).find_attr_docs().setdefault(("", name), lines)


def skip(app: Sphinx, what: str, name: str, value: object, skipping: bool, options: object) -> bool | None:
    """Leave out the fields of tuples, which the ``Attributes`` of their docstring say better."""
    return True if (getattr(value, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> ExtensionMetadata:
    """Resolve what Sphinx cannot."""
    app.connect("builder-inited", describe)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
