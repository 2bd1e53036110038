"""Write HTML pages and Markdown from Jinja2 templates, and SVG elements. All escape every value.

A page needs no other file: no script, no font, no picture from elsewhere. It is well-formed XML as well as
HTML, so that a test can read it strictly.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from backattn.common.safe_text import printable

# ASCII punctuation by which a text in the middle of a line becomes markup.
_MARKUP = re.compile(r"[\\`*_{}\[\]<>|~#$!]")
# Pages of a LANG that link to each other; they lie in one folder.
REPORT_PAGE, LIST_PAGE = "report.html", "sentences.html"


@dataclass(frozen=True)
class Script:
    """A script of this project, without any foreign text.

    :param digest: of the text, as a page's Content-Security-Policy names it.
    """

    text: Markup
    digest: str


def render(template: str, **values: object) -> str:
    """Fill a template of ``templates/``.

    Jinja2 escapes the values; :func:`printable` then escapes control characters in the whole page, so that
    neither a template nor a chart can forget it.
    """
    return printable(_environment().get_template(template).render(values), keep="\n\t")


def script(template: str) -> Script:
    """Read a script of ``templates/``."""
    text = _environment().get_template(template).render()
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return Script(Markup(text), f"sha256-{digest}")  # noqa: S704 - a file of the package, without values


def render_markdown(template: str, **values: object) -> str:
    """Fill a Markdown template of ``templates/``; no text among the values is read as markup."""
    made = _environment().overlay(autoescape=False, finalize=_markdown)
    return printable(made.get_template(template).render(values), keep="\n")


def _markdown(value: object) -> object:
    """Escape what Markdown, or HTML in it, reads as markup; code of the project's own (Markup) stays."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _MARKUP.sub(r"\\\g<0>", printable(value)).replace("&", "&amp;")


def element(name: str, content: object = "", attributes: Mapping[str, object] | None = None) -> Markup:
    """Build an element of XML; its content, unless it is :class:`Markup`, and its attributes are escaped."""
    values = Markup("").join(Markup(' {}="{}"').format(*item) for item in (attributes or {}).items())
    return Markup("<{0}{1}>{2}</{0}>").format(name, values, content)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("backattn.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
