"""QA charts and the report in the reader's language, phrase by phrase with the figures put in again.

What `qa` draws and files keep is English, so that a signed report is one thing for all; the pages say it as the reader does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape, unescape
from typing import Any

from markupsafe import Markup

from triage.domain.finding import FINDING_CODES
from triage.web.language import _, current

_NODE = re.compile(r">([^<>]+)<")
_FIGURE = re.compile(r"\d+(?:[.,:]\d+)*")
_PARTS = (re.compile(r"(.+) \((.+)\)(.*)", re.DOTALL), re.compile(r"(.+?): (.+)()", re.DOTALL))


def words(text: str) -> str:
    """A phrase, or its parts (`flag (lung_nodule)`, `differs: age`); what no catalogue knows stays as it is."""
    if not text.strip() or current() == "en":
        return text
    inner = text.strip()
    said = _phrase(inner)
    if said is None:
        said = inner
        for index, form in enumerate(_PARTS):
            if parts := form.fullmatch(inner):
                first, second = words(parts[1]), words(parts[2])
                said = f"{first} ({second}){words(parts[3])}" if index == 0 else f"{first}: {second}"
                break
    return text.replace(inner, said)


def _phrase(text: str) -> str | None:
    if text in FINDING_CODES:
        return _(FINDING_CODES[text].display)
    if (said := _(text)) != text:
        return said
    pattern = _FIGURE.sub("#", text)
    if (said := _(pattern)) == pattern:
        return None
    figures = iter(_FIGURE.findall(text))
    return re.sub("#", lambda _found: next(figures, "#"), said)


def page(html: str) -> Markup:
    """Escaped markup (a report, a picture) with its texts in the reader's language."""
    if current() == "en":
        return Markup(html)
    return Markup(_NODE.sub(lambda found: f">{escape(words(unescape(found[1])))}<", html))


def chart(said: Mapping[str, Any], svg: str) -> dict[str, Any]:
    """A chart's JSON and picture as the page shows them."""
    return dict(said) | {
        **{key: words(said[key]) for key in ("question", "whose", "definition", "alarm")},
        "columns": [words(name) for name in said["columns"]],
        "rows": [[_cell(cell) for cell in row] for row in said["rows"]],
        "svg": page(svg),
    }


def _cell(cell: object) -> object:
    if cell is None:
        return ""
    return words(cell) if isinstance(cell, str) else cell
