"""The directive ``options``: the usage, arguments and options of a command, as the command line itself has them.

.. code-block:: markdown

    ```{options} benchmark lid
    ```
"""

import re
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from pointland.cli import app as commands


class Parameter(NamedTuple):
    """An argument or option.

    Attributes:
        kind: ``argument`` or ``option``.
        names: As they are typed: ``-o``, ``--out``, ``--batch-size``; that of an argument in capitals.
        value: What an option takes, such as ``int``; empty for a switch.
        help: What it does.
        remark: What the terminal adds in brackets: the default, limits, or that it is required.
    """

    kind: str
    names: list[str]
    value: str
    help: str
    remark: str


class Command(NamedTuple):
    """What the terminal says of a command: its full ``name``, ``help`` and ``parameters``."""

    name: str
    help: str
    parameters: list[Parameter]


def every_command() -> dict[str, Command]:
    """Return all commands by their full names, such as ``benchmark lid``."""
    return {one.name: one for one in _below(typer.main.get_command(commands), ())}


def _below(command: Any, names: tuple[str, ...]) -> Iterator[Command]:  # typer's or click's, by the version of typer
    inner = getattr(command, "commands", None)
    if inner is None:
        context = typer.Context(command, info_name=" ".join(names))
        found = [_parameter(one, context) for one in command.params if one.name != "help"]
        yield Command(" ".join(names), command.help or "", found)
        return
    for name, one in inner.items():
        yield from _below(one, (*names, name))


def _parameter(one: Any, context: typer.Context) -> Parameter:
    names, text = one.get_help_record(context) or (one.opts[0], "")
    says, _, remark = text.partition("  [")
    if one.param_type_name == "argument":
        return Parameter("argument", [one.name.upper()], "", says, remark.removesuffix("]"))
    first = re.findall(r"(?<!\S)--?[a-z][\w-]*", names)
    value = re.sub(r"(?<!\S)--?[a-z][\w-]*", "", names).strip(" ,/<>").removesuffix(" range").lower()
    return Parameter("option", first, value, says, remark.removesuffix("]"))


def remarked(remark: str) -> list[nodes.Node]:
    """Return the remark as sentences, numbers and names in code."""
    found: list[nodes.Node] = []
    for part in filter(None, remark.split("; ")):
        name, _, value = part.partition(": ")
        if name == "default":
            found += [nodes.Text(" Default: "), nodes.literal("", value), nodes.Text(".")]
        elif name == "required":
            found.append(nodes.Text(" Required."))
        else:
            found += [nodes.Text(" "), nodes.literal("", part.replace("x", "value")), nodes.Text(".")]
    return found


class Options(SphinxDirective):
    """Write what ``pointland COMMAND --help`` says."""

    has_content: ClassVar[bool] = False
    required_arguments: ClassVar[int] = 1
    final_argument_whitespace: ClassVar[bool] = True

    def run(self) -> list[nodes.Node]:
        """Return the description, the usage and a list of the parameters."""
        command = every_command().get(self.arguments[0])
        if command is None:
            raise self.error(f"no command {self.arguments[0]!r}; there are {', '.join(sorted(every_command()))}")
        words = [
            one.names[0] if "required" in one.remark else f"[{one.names[0]}]"
            for one in command.parameters
            if one.kind == "argument"
        ]
        usage = " ".join(["pointland", command.name, *words, "[OPTIONS]"])
        paragraphs = [nodes.paragraph("", text) for text in command.help.strip().split("\n\n")]
        listing = nodes.definition_list(classes=["options"])
        for one in command.parameters:
            term = nodes.term("", "", nodes.literal("", ", ".join(one.names)))
            if one.value:
                term += [nodes.Text(" "), nodes.emphasis("", one.value)]
            says = nodes.paragraph("", one.help, *remarked(one.remark))
            listing += nodes.definition_list_item("", term, nodes.definition("", says))
        return [*paragraphs, nodes.literal_block(usage, usage, language="none"), listing]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directive ``options``."""
    app.add_directive("options", Options)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
