"""QA charts and the report in the reader's words and language, phrase by phrase with the figures put in again.

What `qa` draws and files keep is English, so that a signed report is one thing for all; the pages say it as the reader does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape, unescape
from typing import Any

from markupsafe import Markup

from triage.domain.finding import FINDING_CODES
from triage.qa.page import SENTENCES_BY_CODE, duration, percent
from triage.web import wording
from triage.web.language import _, current

_NODE = re.compile(r">([^<>]+)<")
_LABEL = re.compile(r'(<text x="([\d.]+)"[^>]* text-anchor="end"[^>]*)>([^<]+)<')
_CHARACTER = 6.5  # units of the picture that a character takes, about
_FIGURE = re.compile(r"\d+(?:[.,:]\d+)*")
_UNIT = re.compile(r",? (s|min)$")
_PARTS = (re.compile(r"(.+) \((.+)\)(.*)", re.DOTALL), re.compile(r"(.+?): (.+)()", re.DOTALL))


def words(text: str) -> str:
    """A phrase, or its parts (`flag (lung_nodule)`, `differs: age`); what no catalogue knows stays as it is."""
    if not text.strip():
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
    if (code := _code(text)) is not None:
        return code
    if current() == "en":
        return None
    if (said := _(text)) != text:
        return said
    pattern = _FIGURE.sub("#", text)
    if (said := _(pattern)) == pattern:
        return None
    figures = iter(_FIGURE.findall(text))
    return re.sub("#", lambda _found: next(figures, "#"), said)


def _code(text: str) -> str | None:
    """What rows call by a code, in words: a finding, a reason, a chip, a detector with what follows it."""
    if text in FINDING_CODES:
        return _(FINDING_CODES[text].display)
    if text in SENTENCES_BY_CODE:
        return _(SENTENCES_BY_CODE[text])
    if text in wording.CHIP_WORDS:
        return _(wording.CHIP_WORDS[text])
    name, space, rest = text.partition(" ")
    if name in wording.DETECTORS:
        return _(wording.DETECTORS[name]) + space + words(rest)
    return None


def page(html: str) -> Markup:
    """Escaped markup (a report, a picture) with its texts in the reader's words."""
    return Markup(
        _LABEL.sub(_fitting, _NODE.sub(lambda found: f">{escape(words(unescape(found[1])))}<", html))
    )


def _fitting(label: re.Match[str]) -> str:
    """A label left of its bar, drawn narrower where its words are longer than the English ones and would be cut off."""
    room = float(label[2])
    if len(unescape(label[3])) * _CHARACTER <= room:
        return label[0]
    return f'{label[1]} textLength="{room - 2:.0f}" lengthAdjust="spacingAndGlyphs">{label[3]}<'


def chart(said: Mapping[str, Any], svg: str, units: Mapping[str, str]) -> dict[str, Any]:
    """A chart's JSON and picture as the page shows them: shares in per cent, times as durations.

    units  {column, or first cell of a row: "share", "seconds" or "minutes"}
    """
    columns, rows = said["columns"], said["rows"]
    return dict(said) | {
        **{key: words(said[key]) for key in ("question", "whose", "definition")},
        "alarm": "; ".join(", ".join(map(_piece, part.split(", "))) for part in said["alarm"].split("; ")),
        "columns": [words(_bare(name, units)) for name in columns],
        "numeric": [any(_is_number(row[i]) for row in rows) for i in range(len(columns))],
        "rows": [
            [_cell(cell, units.get(name) or units.get(str(row[0]), "")) if i else _first(cell, units)
             for i, (name, cell) in enumerate(zip(columns, row, strict=True))]
            for row in rows
        ],
        "svg": page(svg),
    }  # fmt: skip


def _first(cell: object, units: Mapping[str, str]) -> str:
    """The first cell of a row names it; where it is a number (a wait, a threshold), it is one like the others."""
    return words(_bare(cell, units)) if isinstance(cell, str) else _cell(cell, units.get("seconds", ""))


def _bare(name: str, units: Mapping[str, str]) -> str:
    """A name without the unit that its values carry themselves."""
    if units.get(name) not in ("seconds", "minutes"):
        return name
    return "wait" if name == "seconds" else _UNIT.sub("", name)


def _cell(cell: object, unit: str) -> str:
    if cell is None:
        return ""
    if not _is_number(cell):
        return words(str(cell))
    number = float(str(cell))
    if unit == "share":
        return percent(number)
    if unit in ("seconds", "minutes"):
        return duration(number * (60 if unit == "minutes" else 1))
    return f"{number:.15g}"


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _piece(text: str) -> str:
    """One of the things that an alarm lists: a phrase, or a name with what follows it (`sex F`)."""
    said = words(text)
    name, space, rest = text.partition(" ")
    return said if said != text else words(name) + space + rest
