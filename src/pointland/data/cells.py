"""Text in a cell of CSV that no spreadsheet runs as a formula, and back.

A spreadsheet takes a cell that begins with one of ``= + - @``, a tab or a return for a formula, which can run programs
(OWASP, "CSV Injection"); an apostrophe before it makes it text. Text that has its own apostrophes there gets one more,
so that the way back is exact.
"""

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def shielded(text: str) -> str:
    """Return text for a cell.

    Example:
        >>> [shielded(text) for text in ("=1+1", "a-b", "'=1")]
        ["'=1+1", 'a-b', "''=1"]
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unshielded(cell: str) -> str:
    """Return the text that :func:`shielded` was given.

    Example:
        >>> [unshielded(cell) for cell in ("'=1+1", "a-b", "''=1")]
        ['=1+1', 'a-b', "'=1"]
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
