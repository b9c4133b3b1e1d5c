"""Orders in: ORM^O01 (2.3.1, 2.4), OMG^O19 and OMI^O23 (2.5.1) as what they say about each order.

Lenient: any mix of the three structures, absent segments, priorities in words. A value of `""` in the message is "",
one that is not there is None: the first takes away, the second says nothing (HL7 v2.5.1 2.5.3).
source: standards 7.1; IHE RAD TF-2 4.4 (Procedure Scheduled), 4.13 (Procedure Update)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from triage.domain.priority import HL7_PRIORITY, OrderedPriority
from triage.hl7._text import moment
from triage.hl7.parse import ErrorCode, Message, Segment, Unusable

Act = Literal["new", "change", "cancel", "none"]

# Table 0119, what a triage list needs of it.
_ACTS: dict[str, Act] = {
    **dict.fromkeys(("", "NW", "RP", "RO", "PA", "CH", "OK", "SN", "PR", "RL", "RE"), "new"),
    **dict.fromkeys(("XO", "XX", "XR", "NA"), "change"),
    **dict.fromkeys(("CA", "DC", "OC", "OD", "CR", "DR"), "cancel"),
    **dict.fromkeys(
        ("UA", "UX", "UC", "UD", "UH", "UR", "UM", "DE", "HD", "HR", "OH", "RU", "RQ", "AF", "DF", "FU"),
        "none",
    ),
}
_STATUS_ACTS: dict[str, Act] = {"CA": "cancel", "DC": "cancel"}  # ORC-5 under SC (table 0038)
# Words and codes of other decades beside table 0485.
_WORDS = {
    "STAT": "S", "EMERGENCY": "S", "CRITICAL": "S", "ASAP": "A", "URGENT": "A", "U": "A", "HIGH": "A",
    **dict.fromkeys(("R", "P", "C", "PRN", "ROUTINE", "NORMAL", "MEDIUM", "LOW", "ELECTIVE"), "R"),
}  # fmt: skip
_RANK = (OrderedPriority.ROUTINE, OrderedPriority.URGENT, OrderedPriority.STAT)
_STUDY_UID_LENGTH = 64


@dataclass(frozen=True, kw_only=True)
class OrderNews:
    """What one message says about one order; None: nothing, "": that there is none.

    priority_unknown  a priority was given that no table knows; it counts as routine
    """

    act: Act
    placer_order_number: str = ""  # ORC-2, OBR-2
    placer_namespace: str = ""
    filler_order_number: str = ""  # ORC-3, OBR-3
    filler_namespace: str = ""
    accession_number: str = ""  # IPC-1, OBR-18
    study_instance_uid: str = ""  # IPC-3, ZDS-1
    priority: OrderedPriority | None = None
    priority_unknown: bool = False
    patient_location: str | None = None
    patient_class: str | None = None
    reason_for_exam: str | None = None
    procedure_code: str | None = None
    procedure_text: str | None = None
    modality: str | None = None
    ordering_provider: str | None = None
    requested_at: datetime | None = None


@dataclass
class _Group:
    orc: Segment | None
    segments: list[Segment] = field(default_factory=list)

    def all(self, name: str) -> list[Segment]:
        return [s for s in self.segments if s.name == name]

    def first(self, name: str) -> Segment | None:
        return next(iter(self.all(name)), None)


def orders_of(message: Message) -> list[OrderNews]:
    """Every order that a message speaks of, at least one.

    raises  Unusable: no ORC nor OBR; an order that nothing identifies; an unknown order control
    """
    groups = list(_groups(message))
    if not groups:
        raise Unusable("the message has neither ORC nor OBR: there is no order in it")
    uids = {uid for group in groups if (uid := _study_uid(group))}
    only = uids.pop() if len(uids) == 1 else ""
    return [_news(message, group, only) for group in groups]


def _groups(message: Message) -> Iterator[_Group]:
    """ORC begins an order; so does an OBR where the order has one already (several procedures under one ORC)."""
    current: _Group | None = None
    for segment in message.segments:
        if segment.name == "ORC":
            if current:
                yield current
            current = _Group(segment)
        elif segment.name == "OBR" and (current is None or current.first("OBR")):
            if current:
                yield current
            current = _Group(current.orc if current else None, [segment])
        elif current:
            current.segments.append(segment)
    if current:
        yield current


def _news(message: Message, group: _Group, only_study_uid: str) -> OrderNews:
    orc, obr, ipc = group.orc, group.first("OBR"), group.first("IPC")
    placer = _entity(orc, obr, 2)
    filler = _entity(orc, obr, 3)
    accession = said(ipc, 1) or said(obr, 18)
    priority, unknown = _priority(group)
    news = OrderNews(
        act=_act(orc),
        placer_order_number=placer[0],
        placer_namespace=placer[1],
        filler_order_number=filler[0],
        filler_namespace=filler[1],
        accession_number=accession or filler[0],  # where OBR-18 stays empty the two are the same number
        study_instance_uid=_study_uid(group) or only_study_uid,
        priority=priority,
        priority_unknown=unknown,
        patient_location=location_of(message),
        patient_class=optional(_first(message, "PV1"), 2),
        reason_for_exam=_reason(group, obr),
        procedure_code=optional(obr, 4),
        procedure_text=_either(optional(obr, 4, 2), optional(obr, 4, 5)),
        modality=_either(optional(ipc, 5), _modality(obr)),
        ordering_provider=_provider(orc, obr),
        requested_at=_requested_at(group, orc, obr),
    )
    numbers = (
        news.placer_order_number,
        news.filler_order_number,
        news.accession_number,
        news.study_instance_uid,
    )
    if not any(numbers):
        raise Unusable("an order needs a placer, filler or accession number, or a Study Instance UID")
    return news


def _act(orc: Segment | None) -> Act:
    control = said(orc, 1).upper()
    if control == "SC":
        return _STATUS_ACTS.get(said(orc, 5).upper(), "change")
    if control not in _ACTS:
        raise Unusable("ORC-1 is not an order control of table 0119", ErrorCode.TABLE_VALUE)
    return _ACTS[control]


def _entity(orc: Segment | None, obr: Segment | None, number: int) -> tuple[str, str]:
    """(entity identifier, namespace) of ORC-n, else of OBR-n."""
    for segment in (orc, obr):
        if identifier := said(segment, number):
            return identifier, said(segment, number, 2)
    return "", ""


def _study_uid(group: _Group) -> str:
    for segment, number in ((group.first("IPC"), 3), (group.first("ZDS"), 1)):
        uid = said(segment, number)
        if uid and len(uid) <= _STUDY_UID_LENGTH and all(part.isdigit() for part in uid.split(".")):
            return uid
    return ""


def _priority(group: _Group) -> tuple[OrderedPriority | None, bool]:
    """The highest that is said anywhere; OBR-5 only where nothing else says any."""
    said_words = [w for s in group.all("TQ1") for w in _repeated(s, 9, 1)]
    said_words += [w for s in group.all("OBR") for w in _repeated(s, 27, 6)]
    said_words += _repeated(group.orc, 7, 6)
    said_words = said_words or [w for s in group.all("OBR") for w in _repeated(s, 5, 1)]
    codes = [_WORDS.get(w.upper(), w.upper()) for w in said_words]
    known = [HL7_PRIORITY.get(c, OrderedPriority.ROUTINE) for c in codes if c in HL7_PRIORITY or c == "R"]
    unknown = len(known) < len(codes)
    if not codes:
        return None, False
    return max(known, key=_RANK.index, default=OrderedPriority.ROUTINE), unknown


def _repeated(segment: Segment | None, number: int, component: int) -> list[str]:
    if segment is None:
        return []
    values = (segment.field(number, component, repetition=r + 1) for r in range(segment.repetitions(number)))
    return [v.strip() for v in values if v.strip() not in ("", '""')]


def _reason(group: _Group, obr: Segment | None) -> str | None:
    """OBR-31 and OBR-13 in words, else the diagnoses."""
    parts = [w for n in (31,) for w in _texts(obr, n)] + [w for w in [optional(obr, 13)] if w]
    parts = parts or [w for s in group.all("DG1") for w in (said(s, 4) or said(s, 3, 2),) if w]
    if parts:
        return "; ".join(dict.fromkeys(parts))
    return "" if optional(obr, 31) == "" else None


def _texts(segment: Segment | None, number: int) -> list[str]:
    """Of each repetition of a coded element its text, else its code."""
    if segment is None:
        return []
    found = []
    for r in range(segment.repetitions(number)):
        word = segment.field(number, 2, repetition=r + 1) or segment.field(number, 1, repetition=r + 1)
        if word.strip() not in ("", '""'):
            found.append(word.strip())
    return found


def _modality(obr: Segment | None) -> str | None:
    """OBR-24, where it is a modality and not the name of a department (table 0074: RAD, CT, NMR ...)."""
    value = optional(obr, 24)
    return (
        value if value is None or (len(value) <= 16 and value.upper() not in ("RAD", "RX", "IMG")) else None
    )


def _provider(orc: Segment | None, obr: Segment | None) -> str | None:
    """Whom to call about it, as text: XCN of OBR-16, else ORC-12."""
    for segment, number in ((obr, 16), (orc, 12)):
        name = " ".join(w for w in (said(segment, number, 3), said(segment, number, 2)) if w)
        if name or said(segment, number):
            return name or said(segment, number)
    return None


def _requested_at(group: _Group, orc: Segment | None, obr: Segment | None) -> datetime | None:
    values = (said(group.first("TQ1"), 7), said(obr, 27, 4), said(orc, 7, 4), said(obr, 36))
    return next((at for v in values if (at := moment(v, zone=UTC))), None)


# --- shared with `patient` and `reports` ------------------------------------------------------------------------


def location_of(message: Message) -> str | None:
    """PV1-3 as a person says it: point of care, room, bed."""
    pv1 = _first(message, "PV1")
    if pv1 is None or optional(pv1, 3) is None:
        return None
    return " ".join(w for n in (1, 2, 3) if (w := said(pv1, 3, n)))


def said(segment: Segment | None, number: int, component: int = 1) -> str:
    """The value, "" where nothing is said or it is taken away."""
    return optional(segment, number, component) or ""


def optional(segment: Segment | None, number: int, component: int = 1) -> str | None:
    """The value; "" where the message takes it away by `\"\"`, None where it says nothing."""
    value = segment.field(number, component).strip() if segment is not None else ""
    return "" if value == '""' else value or None


def _first(message: Message, name: str) -> Segment | None:
    return next(iter(message.all(name)), None)


def _either(*values: str | None) -> str | None:
    return next((v for v in values if v), next((v for v in values if v is not None), None))
