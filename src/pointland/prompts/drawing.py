"""Attributions as files: JSON for programs, a picture of the prompt for people, as SVG or inside a page.

Every text from the prompt is escaped; a page is one file that asks nothing of any network.
"""

import json
import math
from html import escape
from typing import Any

from pointland.prompts.attribution import Attribution

WIDE, LETTER, LINE, PAD = 760, 9.2, 44, 12


def as_json(found: Attribution) -> str:
    """Return everything that was found; numbers that are not there are null."""
    record = {
        **found._asdict(),
        "words": [word._asdict() for word in found.words],
        "rewrites": [rewrite._asdict() for rewrite in found.rewrites],
    }
    return json.dumps(_finite(record), indent=2, ensure_ascii=False) + "\n"


def as_svg(found: Attribution) -> str:
    """Return the prompt with every word on a ground as dark as its gradient, and its share of the largest below."""
    most = max(word.gradient for word in found.words) or 1.0
    x, y, parts = float(PAD), float(PAD), []
    for word in found.words:
        width = LETTER * len(word.text) + 10
        if x > PAD and x + width > WIDE - PAD:
            x, y = float(PAD), y + LINE
        share = word.gradient / most
        parts.append(
            f"<g><title>gradient {word.gradient:.4g}, less without it {word.drop:.4g}</title>"
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="24" rx="3" fill="{shade(share)}"/>'
            f'<text x="{x + 5:.1f}" y="{y + 17:.1f}">{_text(word.text)}</text>'
            f'<text class="share" x="{x + 5:.1f}" y="{y + 35:.1f}">{share:.2f}</text></g>'
        )
        x += width + 4
    height = y + LINE + PAD
    style = "text{font:15px ui-monospace,monospace;fill:#111}.share{font-size:10px;fill:#666}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {height:.0f}" role="img" '
        f'aria-label="Words of the prompt by their gradient"><style>{style}</style>{"".join(parts)}</svg>\n'
    )


def as_html(found: Attribution) -> str:
    """Return a page with the picture, the words and the rewrites."""
    words = "".join(
        f"<tr><td>{_text(word.text)}<td>{word.gradient:.4g}<td>{word.drop:.4g}"
        for word in sorted(found.words, key=lambda word: -word.gradient)
    )
    rewrites = "".join(
        f"<tr><td>{_text(rewrite.prompt)}<td>{rewrite.value:.4g}<td>{_text(rewrite.how)}" for rewrite in found.rewrites
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Words of a prompt</title>'
        "<style>body{font:16px system-ui;margin:2em auto;max-width:780px}td,th{padding:.2em .8em;text-align:left}"
        "</style><h1>Words of a prompt</h1>"
        f"{as_svg(found)}<p>Objective {found.value:.4g}; the words first by gradient and by leaving out "
        f"{'agree' if found.agree else 'do not agree'}.</p>"
        f"<table><tr><th>word<th>gradient<th>less without it{words}</table>"
        f"<h2>Rewrites</h2><table><tr><th>prompt<th>objective<th>how{rewrites}</table></html>\n"
    )


def shade(share: float) -> str:
    """Return a color from white at 0 to red at 1."""
    rest = round(255 - 155 * min(max(share, 0.0), 1.0))
    return f"#ff{rest:02x}{rest:02x}"


def _text(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    return escape(shown)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
