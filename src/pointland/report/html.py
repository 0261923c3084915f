"""The report as one HTML file: no network request, at most 3 MB, no text from data that could run or break the page.

Everything is escaped by Jinja; a Content-Security-Policy forbids all but the page's own style and script, named by
their hashes (a hash lets exactly that text run, where a nonce in a file at rest could be copied); ``<bdi>`` isolates
the reading direction.
"""

import base64
import hashlib
from collections.abc import Mapping

import jinja2
from markupsafe import Markup

from pointland.report.page import page_of
from pointland.report.schema import Summary
from pointland.report.words import counted, level, number, percent, upright

LARGEST = 3_000_000
SCRIPTS = ("pictures.js", "choice.js", "details.js", "page.js")


def render_html(summary: Summary, pictures: Mapping[str, str]) -> str:
    """Render a summary.

    Args:
        summary: What :func:`pointland.report.summarize` returned.
        pictures: Data URIs by :func:`~pointland.report.thumbnails.name_of`; a picture without one is drawn as a
            placeholder.

    Returns:
        The page, at most 3 MB: pictures of the table are left out, from its end, when they would not fit, and the page
        says so.
    """
    environment = _environment()
    template = environment.get_template("report.html.j2")
    css = asset(environment, "report.css")
    js = '"use strict";\n(() => {\n' + "\n".join(asset(environment, name) for name in SCRIPTS) + "})();\n"
    context = page_of(summary, pictures)
    context |= {"css": Markup(css), "js": Markup(js), "css_hash": integrity(css), "js_hash": integrity(js)}
    rows = context["rows"]
    wanted = [row["thumb"] for row in rows]
    for row in rows:
        row["thumb"] = "borrowed" if row["thumb"] == "borrowed" else None
    page = template.render(context)
    room = LARGEST - len(page.encode("utf-8")) - 10_000
    dropped = 0
    for row, uri in zip(rows, wanted, strict=True):
        if uri is None or uri == "borrowed":
            continue
        room -= len(uri) + 120
        if room > 0:
            row["thumb"] = uri
        else:
            dropped += 1
    if dropped:
        text = (
            f"{counted(dropped, 'picture')} at the end of the table "
            f"{'is' if dropped == 1 else 'are'} left out, to keep this page below 3 MB."
        )
        context["notices"].append(text)
    return template.render(context)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pointland.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    environment.filters |= {
        "number": number,
        "level": level,
        "percent": percent,
        "count": lambda n: f"{n:,}",
        "upright": upright,
    }
    return environment


def asset(environment: jinja2.Environment, name: str) -> str:
    """Return a file of the templates as it stands: a style or a script."""
    loader = environment.loader
    if loader is None:
        raise RuntimeError("the templates are not installed")
    return loader.get_source(environment, name)[0]


def integrity(text: str) -> str:
    """Return what a content security policy names an inline script or style by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
