"""The page: one file with everything in it, which opens anywhere without a network."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from dnntrain.compare.comparison import Comparison
from dnntrain.compare.payload import payload
from dnntrain.store import write_atomic

PAGE: Final = Path(__file__).with_name("page")
"""Where the page's own files lie."""

SCRIPTS: Final = (
    "vendor/echarts.min.js",
    *("dom.js", "format.js", "theme.js", "selection.js", "series.js", "legend.js", "summary.js", "curves.js"),
    *("answers.js", "columns.js", "table.js", "parallel.js", "importance.js", "differences.js", "live.js", "main.js"),
)
"""In the order in which they build on each other."""

POLICY: Final = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""What a browser lets the page load: nothing from anywhere but itself."""
LIVE_POLICY: Final = f"{POLICY}; connect-src 'self'"
"""The same for the page that asks its server for news."""

_FIELD: Final = re.compile(r"\{\{(\w+)\}\}")
_UNSAFE: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def write_report(comparison: Comparison, path: Path) -> None:
    """Write a comparison as a page.

    Args:
        comparison: what is shown.
        path: the file to make or replace.

    Raises:
        StoreError: the file system refuses.
    """
    page = render(payload(comparison), made=datetime.now())
    write_atomic(path, lambda file: file.write(page.encode()))


def render(data: Mapping[str, Any], *, live: bool = False, made: datetime | None = None) -> str:
    """Return the page as HTML.

    Args:
        data: as `payload` returns it.
        live: whether the page asks the server that it came from for news.
        made: when; said at the foot of the page.
    """
    from dnntrain import __version__

    scripts = (f"<script>\n{(PAGE / name).read_text(encoding='utf-8')}\n</script>" for name in SCRIPTS)
    fields = {
        "attributes": 'data-live="yes"' if live else "",
        "policy": LIVE_POLICY if live else POLICY,
        "version": html.escape(__version__),
        "title": html.escape(_title(data)),
        "made": f" on {made:%Y-%m-%d at %H:%M}" if made else "",
        "style": (PAGE / "page.css").read_text(encoding="utf-8"),
        "data": embedded(data),
        "scripts": "\n".join(scripts),
    }
    template = (PAGE / "page.html").read_text(encoding="utf-8")
    return _FIELD.sub(lambda field: fields[field[1]], template)


def as_text(data: Mapping[str, Any]) -> str:
    """Write a payload as compact JSON."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def embedded(data: Mapping[str, Any]) -> str:
    """Write a payload as JSON that can stand within HTML: no text in it can end the element that holds it."""
    text = re.sub("[<>&\u2028\u2029]", lambda found: _UNSAFE[found[0]], as_text(data))
    # Half of a pair, from a name that was cut or never was UTF-8, cannot be written as UTF-8, but its escape can.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _title(data: Mapping[str, Any]) -> str:
    return f"{data['metric']}: {len(data['groups'])} groups compared" if data["groups"] else "dnntrain: no runs yet"
