"""Data into and out of the delimiters of an HL7 v2 message.

What goes out uses the recommended delimiters; what comes in is undone with the message's own (MSH-1, MSH-2).
source: HL7 v2.5.1 2.7; standards 7.2; threat T19
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo

_ESCAPED = {"|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\\": "\\E\\"}
# C0 and C1 controls with DEL, and the Unicode breaks: each ends a line (so a segment) for some reader.
_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def plain(value: str) -> str:
    """One value as one line of encodable text: breaks and controls become a space."""
    return _LONE_SURROGATE.sub("\ufffd", _BREAKING.sub(" ", value))


def escape(value: str) -> str:
    """One value as it may stand between delimiters: nothing in it can begin a field or a segment."""
    return "".join(_ESCAPED.get(character, character) for character in plain(value))


def components(*values: str) -> str:
    """Escaped values joined by ^, empty ones at the end left out."""
    return "^".join(escape(value) for value in values).rstrip("^")


def segment(name: str, fields: Iterable[tuple[int, str]]) -> str:
    """A segment from (field number, already escaped content), empty ones at the end left out."""
    by_number = {0: name, **dict(fields)}
    last = max(number for number, content in by_number.items() if content)
    return "|".join(by_number.get(number, "") for number in range(last + 1))


def unescape(value: str, delimiters: str, codec: str) -> str:
    """A value with its escape sequences undone, once.

    delimiters  field, component, repetition, escape and subcomponent separator, as MSH-1 and MSH-2 have them
    codec       of the message; `\\Xdd..\\` holds bytes in it

    Highlighting is dropped, a line command becomes a line feed, an unknown or unfinished sequence stays.
    """
    field, component, repetition, mark, subcomponent = tuple(delimiters)
    if mark not in value:
        return value
    meanings = {"F": field, "S": component, "R": repetition, "E": mark, "T": subcomponent, "P": "#"}
    meanings |= {"H": "", "N": "", ".br": "\n", ".sp": "\n", ".ce": "\n"}

    def meaning(match: re.Match[str]) -> str:
        sequence = match[1]
        if re.fullmatch("X(?:[0-9A-Fa-f]{2})+", sequence):
            return bytes.fromhex(sequence[1:]).decode(codec, errors="replace")
        return meanings.get(sequence, match[0])

    return re.sub(f"{re.escape(mark)}([^{re.escape(mark)}]*){re.escape(mark)}", meaning, value)


def moment(value: str, *, zone: tzinfo | None) -> datetime | None:
    """A DTM (2.A.22) of at least a day, aware; None when it is no time, or names no zone and `zone` is None."""
    found = re.fullmatch(r"(\d{8})(\d{2})?(\d{2})?(\d{2})?(?:\.\d{1,4})?([+-]\d{4})?", value.strip())
    if found is None:
        return None
    day, hour, minute, second, offset = found.groups()
    digits = day + (hour or "00") + (minute or "00") + (second or "00")
    try:
        if offset:
            return datetime.strptime(digits + offset, "%Y%m%d%H%M%S%z").astimezone(UTC)
        if zone is None:
            return None
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):  # the 32nd of a month; the year 1 east of Greenwich
        return None
