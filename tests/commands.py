"""The real command line, several commands in one fresh process: starting it costs seconds."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

PROGRAM = """
import contextlib, io, json, sys, traceback
from pointland.cli import main
said = []
for words in json.loads(sys.stdin.read()):
    sys.argv = ["pointland", *words]
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
    said.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(said))
"""


class Said(NamedTuple):
    """What a command left behind: its exit code, ``None`` after a traceback, and what it printed."""

    code: int | None
    out: str
    err: str


def pointland(
    *commands: Sequence[object], before: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> list[Said]:
    """Run ``pointland`` with each of these words.

    Args:
        commands: The words of each command.
        before: A command to run the process under, such as ``unshare -n``.
        environment: Variables to add.
    """
    done = subprocess.run(
        [*before, sys.executable, "-c", PROGRAM],
        input=json.dumps([[str(word) for word in words] for words in commands]),
        env=os.environ | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Said(*said) for said in json.loads(done.stdout.splitlines()[-1])]
