"""Reports in: ORU^R01 of the RIS as which study was reported, how far, and in which words.

source: standards 7.1, 7.2 (read the other way); HL7 v2.5.1 tables 0123 and 0085
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from triage.hl7._text import moment
from triage.hl7.orders import said
from triage.hl7.parse import ErrorCode, Message, Segment, Unusable

ReportState = Literal["preliminary", "final", "addendum", "withdrawn", "none"]
_STATES: dict[str, ReportState] = {
    "P": "preliminary", "A": "preliminary", "R": "preliminary", "S": "preliminary",
    "F": "final", "C": "addendum", "X": "withdrawn",
    **dict.fromkeys(("O", "I"), "none"),
}  # fmt: skip
_TEXT_TYPES = ("TX", "FT", "ST", "CE", "CWE", "")
TEXT_CHARACTERS = 100_000  # of one report: beyond it is no text that anybody dictated


@dataclass(frozen=True, kw_only=True)
class ReportNews:
    """One OBR group of a report; `text` is free text with line feeds, "" when only a document came."""

    state: ReportState
    study_instance_uid: str
    accession_number: str
    placer_order_number: str
    filler_order_number: str
    text: str
    reported_at: datetime | None  # OBR-22, only where it names its zone


def reports_of(message: Message) -> list[ReportNews]:
    """raises Unusable: no OBR, an unknown result status, or a report of nothing that can be named"""
    groups = list(_groups(message))
    if not groups:
        raise Unusable("the message has no OBR: nothing says which study was reported")
    return [_news(obr, lines) for obr, lines in groups]


def _groups(message: Message) -> Iterator[tuple[Segment, list[Segment]]]:
    obr: Segment | None = None
    lines: list[Segment] = []
    for segment in message.segments:
        if segment.name == "OBR":
            if obr is not None:
                yield obr, lines
            obr, lines = segment, []
        elif obr is not None:
            lines.append(segment)
    if obr is not None:
        yield obr, lines


def _news(obr: Segment, lines: list[Segment]) -> ReportNews:
    status = said(obr, 25).upper() or _of_lines(lines)
    if status not in _STATES:
        raise Unusable("OBR-25 is not a result status of table 0123", ErrorCode.TABLE_VALUE)
    placer, filler = said(obr, 2), said(obr, 3)
    news = ReportNews(
        state=_STATES[status],
        study_instance_uid=_study_uid(lines),
        accession_number=said(obr, 18) or filler or placer,
        placer_order_number=placer,
        filler_order_number=filler,
        text=_text(lines),
        reported_at=moment(said(obr, 22), zone=None),
    )
    if not (news.accession_number or news.study_instance_uid):
        raise Unusable(
            "nothing says which study was reported: OBR-2, OBR-3, OBR-18 and the Study Instance UID are empty"
        )
    return news


def _of_lines(lines: list[Segment]) -> str:
    """Where OBR-25 is empty the lowest status of the lines counts: one preliminary line makes a preliminary report."""
    said_by_lines = {said(s, 11).upper() for s in lines if s.name == "OBX"}
    return next((s for s in ("P", "C", "F", "X") if s in said_by_lines), "")


def _study_uid(lines: list[Segment]) -> str:
    for segment in lines:
        if segment.name == "ZDS":
            return said(segment, 1)[:64]
        if segment.name == "OBX" and said(segment, 3) in (
            "113014",
            "110180",
        ):  # DICOM Study; Study Instance UID
            return said(segment, 5)[:64]
    return ""


def _text(lines: list[Segment]) -> str:
    """OBX-5 of textual lines, repetitions as lines; documents (ED) are left where they are."""
    found: list[str] = []
    for s in lines:
        if s.name != "OBX" or said(s, 2).upper() not in _TEXT_TYPES or said(s, 3) in ("113014", "110180"):
            continue
        component = 2 if said(s, 2).upper() in ("CE", "CWE") else 1
        values = [s.field(5, component, repetition=r + 1) for r in range(s.repetitions(5))]
        found += [v for v in values if v not in ("", '""')]
    return "\n".join(found)[:TEXT_CHARACTERS]
