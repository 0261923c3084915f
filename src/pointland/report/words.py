"""Numbers for people, and text from data made safe to show.

Captions and file names are hostile until shown otherwise: they may hold NUL, lone surrogates, terminal escapes, a
megabyte of letters, or marks that turn the reading direction around. :func:`clean` deals with all but the last, which
HTML isolates with ``<bdi>``; where nothing isolates (Markdown, terminals, attributes) :func:`upright` takes those marks
out too.
"""

import math
import re

SHOWN = 300
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]+")
_SURROGATES = re.compile("[\ud800-\udfff]")
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_QUOTED_PATH = re.compile(r"""(['"])(?:/|[A-Za-z]:\\)[^'"\n]*[/\\]([^'"\n/\\]*)\1""")
_PATH = re.compile(r"""(?<![\w./\\])(?:/|[A-Za-z]:\\)(?:[^\s/\\'"]+[/\\])+([^\s/\\'"]*)""")
_WHOLE_PATH = re.compile(r"(?:/|[A-Za-z]:\\)(?:[^/\\\n]+[/\\])+([^/\\\n]*)[/\\]?")
_TOKEN = re.compile(r"\b(hf_|sk-|ghp_|github_pat_)[A-Za-z0-9_-]{8,}")


def clean(text: str, limit: int = SHOWN) -> str:
    """Return text without control characters and lone surrogates, cut to ``limit`` characters with an ellipsis."""
    cut = text[: limit + 1]
    cut = _SURROGATES.sub("\ufffd", _CONTROLS.sub(" ", cut))
    return cut if len(text) <= limit else cut[:limit] + "…"


def upright(text: str) -> str:
    """Return text without the marks that turn the reading direction around."""
    return _DIRECTIONS.sub("", text)


def private(text: str) -> str:
    """Return text in which absolute paths keep their last part only, and access tokens nothing."""
    if whole := _WHOLE_PATH.fullmatch(text):
        text = whole[1]
    text = _PATH.sub(r"\1", _QUOTED_PATH.sub(r"\1\2\1", text))
    return _TOKEN.sub(r"\1…", text)


def number(value: float | int | None) -> str:
    """Return three significant digits, or all digits before the point: ``1,234``, ``12.3``, ``−0.0412``."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size == 0:
        text = "0"
    elif size < 1e-4 or size >= 1e9:
        mantissa, exponent = f"{size:.2e}".split("e")
        text = f"{mantissa} × 10{_raised(int(exponent))}"
    elif size >= 99.95:
        text = f"{size:,.0f}"
    else:
        digits = 2 - math.floor(math.log10(float(f"{size:.2e}")))
        text = f"{size:.{max(digits, 0)}f}"
    return f"−{text}" if value < 0 else text


def level(sigma: float | int | None) -> str:
    """Return a noise scale with at most three significant digits and no idle zeros."""
    return "–" if sigma is None else f"{sigma:.3g}"


def with_error(value: float | int | None, stderr: float | int | None) -> str:
    """Return a value with its standard error, if there is one."""
    return number(value) if value is None or stderr is None else f"{number(value)} ± {number(stderr)}"


def with_unit(text: str, unit: str) -> str:
    """Return a number with its unit; ``"1"`` is none."""
    return text if unit in ("", "1") else f"{text} {unit}"


def percent(share: float | int) -> str:
    """Return a share as a percentage: ``5 %``, ``2.9 %``, ``0.04 %``."""
    value = 100 * share
    return f"{value:.2g} %" if value < 10 else f"{value:.0f} %"


def probability(p: float | int | None) -> str:
    """Return a p- or q-value with two significant digits."""
    if p is None or math.isnan(p):
        return "–"
    if p >= 0.995:
        return "1"
    return f"{p:.2f}" if p >= 0.1 else f"{p:.2g}" if p >= 1e-4 else f"{p:.1e}"


def interval(value: float | int, low: float | int, high: float | int) -> str:
    """Return an estimate between 0 and 1 with its interval: ``0.981 [0.970, 0.990]``."""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def counted(n: int, noun: str, nouns: str | None = None) -> str:
    """Return a count with its noun: ``1 picture``, ``1,300 pictures``."""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def _raised(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
