"""Makes HTML without scripts: text from outside is escaped, and the headers of a page allow only its own style."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape

from flyted.gateway.reply import Reply, whole

_STYLE = (
    ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;"
    "padding:0 1rem}table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0;"
    "vertical-align:top}pre{overflow:auto;padding:.5rem;border:1px solid #8888}code{font-family:monospace}"
)
_CSP = (
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": _CSP,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # without a referrer, our own form would send Origin: null
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


async def page(reply: Reply, title: str, body: Iterable[str], status: int = 200, **headers: str) -> None:
    """Send a page. ``body`` is HTML made by the functions below; ``headers`` are named with ``_`` for ``-``."""
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><h1>{escape(title)}</h1>'
        + "".join(body)
    )
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    await whole(reply, status, text.encode("utf-8", "replace"), {**HEADERS, **more})


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def command(text: str) -> str:
    """Return a command for the reader to type."""
    return f"<p><code>{escape(text)}</code></p>"


def lines(texts: Iterable[str]) -> str:
    """Return lines of a program's output, each control character but tab replaced by U+FFFD."""
    clean = ("".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in text) for text in texts)
    return f"<pre>{escape(chr(10).join(clean))}</pre>"


def link(url: str, text: str) -> str:
    """Return a link, or its text alone if ``url`` is neither http(s) nor a path of the gateway."""
    if not url.startswith(("https://", "http://", "/")):
        return escape(text)
    return f'<a href="{escape(url)}" rel="noreferrer">{escape(text)}</a>'


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values; a value is HTML, and a row with an empty one is left out."""
    cells = (f"<tr><th>{escape(name)}</th><td>{value}</td></tr>" for name, value in rows if value)
    return f"<table>{''.join(cells)}</table>"


def button(action: str, text: str) -> str:
    """Return a form of one button, which posts to ``action``."""
    return f'<form method="post" action="{escape(action)}"><button>{escape(text)}</button></form>'
