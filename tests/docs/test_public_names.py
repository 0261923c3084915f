"""Every public name is on a page of the reference, and its docstring says what the style asks for."""

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest
from public_names import public_modules, public_names, said_below

from pages import DOCS, text

MODULES = {module.__name__: module for module in public_modules()}
REFERENCE = "\n".join(text(page) for page in sorted((DOCS / "api").glob("*.md")))
ESTIMATES = {
    *("CensoredLid", "DataLid", "FlowLid", "FlowSpectrum", "JacobianSpectrum", "KernelLid", "LidEstimate"),
    *("PosteriorLid", "PushforwardLid", "SetLid", "list[SetLid]"),
}
WITHOUT_PAGE = {"pointland", "pointland.cli"}  # a table of links; pages of commands


def own(module: ModuleType) -> list[str]:
    return [name for name in public_names(module) if inspect.isroutine(getattr(module, name))]


def section(doc: str, title: str) -> str:
    """Return what stands under a heading of a docstring."""
    found = re.search(rf"^{title}:\n((?:[ ]+.*\n|\n)*)", doc + "\n", re.MULTILINE)
    return found[1] if found else ""


def explained(parameter: inspect.Parameter, doc: str) -> bool:
    """Whether a docstring lists a parameter, or, being short, names it, or its type says all there is."""
    name, kind = parameter.name, getattr(parameter.annotation, "__name__", "")
    listed = re.search(rf"^ +\*{{0,2}}{name}: ", section(doc, "Args"), re.MULTILINE)
    return bool(listed) or re.search(rf"\b{name}s?\b", doc) is not None or kind.lower() == name


@pytest.mark.parametrize("name", [name for name in MODULES if name not in WITHOUT_PAGE])
def test_every_public_name_is_in_the_reference(name: str) -> None:
    module = MODULES[name]
    if not public_names(module) or name == "pointland.experiments":
        return
    directive = f".. automodule:: {name}\n"
    assert directive in REFERENCE, f"{name} is on no page of docs/api"
    for public in public_names(module):
        value = getattr(module, public)
        assert (getattr(value, "__doc__", None) and hasattr(value, "__module__")) or said_below(public, value), public


def test_the_names_at_the_top_are_in_the_table() -> None:
    table = text(DOCS / "api" / "index.md")
    for name in public_names(MODULES["pointland"]):
        assert f"| [`{name}`](" in table, f"docs/api/index.md does not list {name}"


@pytest.mark.parametrize("name", [name for name in MODULES if name not in WITHOUT_PAGE])
def test_functions_say_arguments_errors_cost_and_source(name: str) -> None:
    for public in own(MODULES[name]):
        function = getattr(MODULES[name], public)
        doc = inspect.getdoc(function) or ""
        signature = inspect.signature(function)
        missing = [p.name for p in signature.parameters.values() if not explained(p, doc)]
        assert not missing, f"{name}.{public} does not explain {missing}"
        if "raise ValueError" in inspect.getsource(function):
            assert section(doc, "Raises"), f"{name}.{public} raises and does not say when"
        if "denoise" in signature.parameters and name != "pointland.testing":
            assert section(doc, "Cost"), f"{name}.{public} does not say its cost"
        returned = getattr(signature.return_annotation, "__name__", str(signature.return_annotation))
        if returned in ESTIMATES and not doc.startswith("As :func:"):
            assert section(doc, "Source"), f"{name}.{public} names no source"
            assert section(doc, "Returns"), f"{name}.{public} does not say what its numbers are"
            units = r"dimension|`[a-z_]+`|singular values|nats"
            assert re.search(units, section(doc, "Returns") + section(doc, "Attributes")), f"{name}.{public}: units"


def test_an_undocumented_parameter_is_noticed() -> None:
    doc = "Do it.\n\nArgs:\n    x: Points.\n\nRaises:\n    ValueError: If not."
    keyword = inspect.Parameter.KEYWORD_ONLY
    assert explained(inspect.Parameter("x", keyword), doc)
    assert explained(inspect.Parameter("path", keyword, annotation=Path), doc)
    assert not explained(inspect.Parameter("sigma", keyword), doc)
    assert "If not" in section(doc, "Raises")
    assert section(doc, "Cost") == ""
