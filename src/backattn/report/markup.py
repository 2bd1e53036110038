"""Pages that need nothing but themselves: no script, no font, no picture from elsewhere.

What is written is well-formed XML as well as HTML, so that a test can read it strictly.
"""

import html
from collections.abc import Mapping

from backattn.common.safe_text import printable
from backattn.report.style import STYLE

# Blocks every request: proof for the reader that the page is self-contained.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def text(value: object) -> str:
    """A value as text of a page: what no page may hold, reorders text or has a meaning in HTML is escaped."""
    return html.escape(printable(str(value), keep="\n\t"), quote=True)


def element(name: str, content: str = "", attributes: Mapping[str, object] | None = None) -> str:
    """An element around markup; the attributes' values are escaped here, the content is not."""
    told = "".join(f' {key}="{text(value)}"' for key, value in (attributes or {}).items())
    return f"<{name}{told}>{content}</{name}>" if content else f"<{name}{told}></{name}>"


def document(title: str, body: str) -> str:
    """A whole page around the markup of its body."""
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8" />'
        '<meta name="viewport" content="width=device-width, initial-scale=1" />'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}" />'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    )
