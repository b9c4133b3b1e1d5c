"""Values of kept elements as Python values: character sets, numbers, dates. Lenient, bounded, never raising.

Whatever a sender wrote, a value is text, a number or nothing; control characters never pass, since names and
descriptions travel on into pages, HL7 and logs of other systems (T9, T19).
"""

from __future__ import annotations

import math
import re
import struct
import warnings
from functools import lru_cache

from pydicom import charset

from triage.dicom.elements import Elements

MAX_TEXT = 1_024  # LO has 64 characters, a person name three groups of 64; what is longer is cut
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NAME_DELIMITERS = {ord("^"), ord("=")}
_TEXT_DELIMITERS = {ord(c) for c in "\r\n\t\f"}
_TO_GB2312 = b"\x1b$)A"
_UTF_TERMS = {"ISO_IR 192": "utf-8", "GB18030": "gb18030", "GBK": "gbk"}


@lru_cache(maxsize=256)
def encodings(specific_character_set: bytes) -> tuple[str, ...]:
    """Python codecs of Specific Character Set (0008,0005); () for the default repertoire or an unknown term.

    source  PS3.3 C.12.1.1.2, PS3.5 6.1
    """
    terms = [t.strip() for t in specific_character_set.rstrip(b"\0 ").decode("ascii", "replace").split("\\")]
    if terms == [""] or terms == ["ISO_IR 6"]:
        return ()
    if terms[0] in _UTF_TERMS:
        return (_UTF_TERMS[terms[0]],)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = charset.convert_encodings(terms)
        except (LookupError, ValueError, TypeError):
            return ()
    known = all(t in charset.python_encoding for t in terms)
    return tuple(found) if known else ()


def decode_text(raw: bytes, codecs: tuple[str, ...], *, is_name: bool = False) -> str:
    """Text of one value; bytes that the declared set does not have become U+FFFD."""
    raw = raw[: 4 * MAX_TEXT]
    if "iso_ir_58" in codecs and raw.count(b"\x1b") == raw.count(_TO_GB2312):
        # The set lies in the upper half while ASCII keeps the lower (PS3.5 K): Python's codec wants no escapes.
        text = raw.replace(_TO_GB2312, b"").decode("gb2312", "replace")
    elif not codecs:
        text = raw.decode("ascii", "replace")
    elif len(codecs) == 1 and b"\x1b" not in raw:
        text = raw.decode(codecs[0], "replace")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                text = charset.decode_bytes(
                    raw, list(codecs), _NAME_DELIMITERS if is_name else _TEXT_DELIMITERS
                )
            except (LookupError, ValueError):
                text = raw.decode("ascii", "replace")
    return _CONTROL.sub(" ", text.rstrip("\0 ").lstrip(" "))[:MAX_TEXT]


class Values:
    """Typed access to one `Elements`, inheriting the character set of what is around it (PS3.5 7.5.3)."""

    def __init__(self, elements: Elements, codecs: tuple[str, ...] = ()) -> None:
        self._elements = elements
        own = elements.values.get(0x00080005)
        self.codecs = codecs if own is None else encodings(own)

    def text(self, tag: int) -> str:
        """First value of a text element, decoded; "" when absent."""
        return decode_text(self._elements.values.get(tag, b""), self.codecs).split("\\")[0].strip()

    def name(self, tag: int) -> str:
        return decode_text(self._elements.values.get(tag, b""), self.codecs, is_name=True)

    def strings(self, tag: int) -> tuple[str, ...]:
        """Values of a multi-valued text element of the default repertoire."""
        raw = self._elements.values.get(tag)
        if not raw:
            return ()
        text = raw[: 4 * MAX_TEXT].decode("ascii", "replace").rstrip("\0 ")
        if not text.isprintable():  # true of nearly all, and ten times as quick to ask as to replace
            text = _CONTROL.sub(" ", text)
        parts = tuple(part.strip() for part in text.split("\\"))
        return parts if any(parts) else ()

    def code(self, tag: int) -> str:
        """First value of a CS, UI, DA, TM or AS element."""
        return next(iter(self.strings(tag)), "")

    def floats(self, tag: int) -> tuple[float, ...]:
        """Values of a DS element; () when one of them is no finite number."""
        parts = self.strings(tag)
        try:
            numbers = tuple(float(p) for p in parts)
        except ValueError:
            return ()
        return numbers if all(math.isfinite(n) for n in numbers) else ()

    def real(self, tag: int) -> float | None:
        return next(iter(self.floats(tag)), None)

    def double(self, tag: int) -> float | None:
        """First value of an FD element."""
        raw = self._elements.values.get(tag, b"")
        if len(raw) < 8:
            return None
        number = float(struct.unpack_from("<d" if self._elements.little_endian else ">d", raw)[0])
        return number if math.isfinite(number) else None

    def integer(self, tag: int) -> int | None:
        """First value of an IS element."""
        try:
            number = int(self.code(tag))
        except ValueError:
            return None
        return number if abs(number) <= 2**31 else None  # what an IS may hold and a database column takes

    def unsigned(self, tag: int) -> int:
        """Value of a US element of one value; 0 when absent or of another length (then the file lies)."""
        return self.words(tag)[0] if len(self._elements.values.get(tag, b"")) == 2 else 0

    def words(self, tag: int) -> tuple[int, ...]:
        """Unsigned 16 bit values."""
        raw = self._elements.values.get(tag, b"")
        order = "<" if self._elements.little_endian else ">"
        return struct.unpack(f"{order}{len(raw) // 2}H", raw[: len(raw) // 2 * 2])

    def raw(self, tag: int) -> bytes | None:
        return self._elements.values.get(tag)

    def items(self, tag: int) -> list[Values]:
        return [Values(item, self.codecs) for item in self._elements.sequences.get(tag, [])]

    def first(self, tag: int) -> Values:
        """First item of a sequence, an empty one when there is none."""
        found = self._elements.sequences.get(tag)
        return Values(found[0] if found else Elements(), self.codecs)

    def __bool__(self) -> bool:
        return bool(self._elements.values or self._elements.sequences)
