"""ER7 bytes of a foreign system into fields with guarantees, and the acknowledgement that answers them.

Lenient in what is read: any delimiters, LF or CRLF between segments, unknown segments, missing fields (""),
an undeclared character set. What is no message at all is `Refused`.
source: HL7 v2.5.1 chapter 2; standards 7.1, 7.3
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import hl7

from triage.domain.errors import Refused
from triage.hl7._text import components, escape, segment, unescape

MAX_ELEMENTS = 200_000  # about 0.7 s and 100 MB in the library; a long embedded document has few delimiters
_DEFAULT_DELIMITERS = "|^~\\&"

# Table 0211 and what is met beside it; lower case, single spaces.
_CODECS = {
    "ascii": "ascii",
    "unicode utf-8": "utf-8",
    "unicode": "utf-8",
    "utf-8": "utf-8",
    "utf8": "utf-8",
    **{f"8859/{part}": f"iso8859_{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "iso ir6": "ascii",
    "iso ir14": "iso2022_jp",
    "iso ir87": "iso2022_jp",
    "iso ir159": "iso2022_jp_1",
    "gb 18030-2000": "gb18030",
    "ks x 1001": "euc_kr",
    "big-5": "big5",
}


class AckCode(StrEnum):
    """Table 0008."""

    AA = "AA"  # accepted
    AE = "AE"  # the content is at fault; may be mended
    AR = "AR"  # type, version or system not able: try later
    CA = "CA"  # safe on disk (enhanced mode)
    CE = "CE"
    CR = "CR"


class ErrorCode(StrEnum):
    """Table 0357, what we use of it."""

    SEGMENT_SEQUENCE = "100"
    REQUIRED_FIELD_MISSING = "101"
    DATA_TYPE = "102"
    TABLE_VALUE = "103"
    UNSUPPORTED_TYPE = "200"
    UNSUPPORTED_EVENT = "201"
    UNSUPPORTED_PROCESSING_ID = "202"
    UNSUPPORTED_VERSION = "203"
    UNKNOWN_KEY = "204"
    DUPLICATE_KEY = "205"
    INTERNAL = "207"


class Unusable(Refused):
    """The content is at fault, and which code of table 0357 says how. The text goes to the sender: no patient data."""

    def __init__(self, text: str, error: ErrorCode = ErrorCode.REQUIRED_FIELD_MISSING) -> None:
        self.error = error
        super().__init__(text)


@dataclass(frozen=True)
class Segment:
    """One segment; `field(n)` counts as the standard does, MSH-1 being the separator."""

    _fields: Any  # hl7.Segment
    _delimiters: str
    _codec: str

    @property
    def name(self) -> str:
        return str(self._fields[0])

    def field(self, number: int, component: int = 1, *, repetition: int = 1, subcomponent: int = 1) -> str:
        """Unescaped value; "" where the message says nothing there."""
        if number >= len(self._fields):
            return ""
        if self.name == "MSH" and number <= 2:
            return str(self._fields[number])
        repetitions = self._fields[number]
        if repetition > len(repetitions):
            return ""
        # The library keeps a value without inner delimiters as text, else nests containers by level.
        value: Any = repetitions[repetition - 1]
        for position in (component, subcomponent):
            if isinstance(value, str):
                if position > 1:
                    return ""
            elif position > len(value):
                return ""
            else:
                value = value[position - 1]
        return unescape(str(value), self._delimiters, self._codec)

    @property
    def text(self) -> str:
        """As it came, with its escapes."""
        return str(self._fields)

    def repetitions(self, number: int) -> int:
        """How often a field is given; 0 when it is empty or absent."""
        if number >= len(self._fields) or not str(self._fields[number]):
            return 0
        return len(self._fields[number])


@dataclass(frozen=True)
class Message:
    """A parsed message; its first segment is MSH."""

    segments: tuple[Segment, ...]

    @property
    def msh(self) -> Segment:
        return self.segments[0]

    @property
    def control_id(self) -> str:
        return self.msh.field(10)

    @property
    def kind(self) -> str:
        """MSH-9 as `ORU^R01`."""
        return "^".join(part for part in (self.msh.field(9), self.msh.field(9, 2)) if part)

    def all(self, name: str) -> list[Segment]:
        return [s for s in self.segments if s.name == name]

    def first(self, name: str) -> Segment:
        """Raises Refused when there is no such segment."""
        for found in self.segments:
            if found.name == name:
                return found
        raise Unusable(f"the message has no {name} segment", ErrorCode.SEGMENT_SEQUENCE)


def parse(raw: bytes) -> Message:
    """A message as its sender meant it.

    raises  Refused: no MSH, unusable delimiters, bytes not of the declared character set, too many elements
    """
    text, codec = _decode(raw)
    delimiters = _delimiters(text)
    if sum(text.count(delimiter) for delimiter in ("\r", *delimiters)) > MAX_ELEMENTS:
        raise Refused(f"the message has more than {MAX_ELEMENTS} elements")
    try:
        parsed = hl7.parse(text)
    except (hl7.ParseException, IndexError) as error:  # a lone MSH raises IndexError, not ParseException
        raise Refused("the message cannot be split into segments and fields") from error
    segments = tuple(Segment(s, delimiters, codec) for s in parsed if str(s).strip())
    if not segments or segments[0].name != "MSH":
        raise Refused("the message does not begin with MSH")
    return Message(segments)


def build_ack(
    raw: bytes,
    code: AckCode,
    *,
    now: datetime,
    text: str = "",
    error: ErrorCode = ErrorCode.INTERNAL,
) -> bytes:
    """The answer to `raw`, which may be anything: what cannot be read of it stays empty.

    text   for the operator of the sender: the reason without patient data; goes to MSA-3 and ERR-8
    error  ERR-3, written with every code but AA and CA
    """
    try:
        msh: Segment | None = parse(raw).msh
    except Refused:
        msh = None
    back = [msh.field(n) if msh else "" for n in (5, 6, 3, 4)]
    trigger = msh.field(9, 2) if msh else ""
    digest = hashlib.sha256(raw + code.encode()).hexdigest()
    header = [
        (2, "^~\\&"),
        *((n, escape(value)) for n, value in zip((3, 4, 5, 6), back, strict=True)),
        (7, f"{now:%Y%m%d%H%M%S%z}"),
        (9, components("ACK", trigger, "ACK")),
        (10, digest[:20].upper()),  # of the answered bytes: the same message gets the same answer
        (11, escape(msh.field(11)) if msh else "P"),
        (12, escape(msh.field(12)) if msh else "2.5.1"),
        (18, "UNICODE UTF-8"),
    ]
    control_id = msh.field(10) if msh else ""
    lines = [
        segment("MSH", [(n - 1, content) for n, content in header]),
        segment("MSA", [(1, code), (2, escape(control_id)), (3, escape(text))]),
    ]
    if code not in (AckCode.AA, AckCode.CA):
        lines.append(segment("ERR", [(3, components(error, "", "HL70357")), (4, "E"), (8, escape(text))]))
    return "".join(line + "\r" for line in lines).encode("utf-8")


def _decode(raw: bytes) -> tuple[str, str]:
    """Text with CR between segments, and the codec that MSH-18 (or the bytes) told."""
    raw = raw.strip(b"\r\n\t \x00")
    if not raw.startswith(b"MSH") or len(raw) < 8:
        raise Refused("the message does not begin with MSH")
    header = raw.replace(b"\n", b"\r").split(b"\r", 1)[0].decode("latin-1").split(chr(raw[3]))
    repetition = (header[1][1:2] if len(header) > 1 else "") or "~"
    declared = [" ".join(d.lower().split()) for d in header[17].split(repetition)] if len(header) > 17 else []
    declared = [d for d in declared if d]
    unknown = [d for d in declared if d not in _CODECS]
    if unknown:
        raise Refused("MSH-18 names a character set that we cannot read")
    codecs = [_CODECS[d] for d in declared if _CODECS[d] != "ascii"]
    # Nothing declared: UTF-8 proves itself, and what is not UTF-8 is Latin-1 in nearly every such sender.
    candidates = codecs[-1:] or (["ascii"] if declared else ["utf-8", "latin-1"])
    for codec in candidates:
        try:
            text = raw.decode(codec)
        except UnicodeDecodeError:
            continue
        return text.replace("\r\n", "\r").replace("\n", "\r"), codec
    raise Refused("the bytes are not of the character set that MSH-18 names")


def _delimiters(text: str) -> str:
    """Field, component, repetition, escape, subcomponent; the standard's own where MSH-2 is short."""
    field = text[3]
    given = field + text[4:].split(field, 1)[0][:4]
    delimiters = given + _DEFAULT_DELIMITERS[len(given) :]
    if len(set(delimiters)) < 5 or any(d.isalnum() or d.isspace() for d in delimiters):
        raise Refused("MSH-1 and MSH-2 are not usable as delimiters")
    return delimiters
