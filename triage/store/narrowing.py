"""What narrows the worklist and what sorts it, in SQL: filters, columns, search texts. Every value is bound (T14)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.sql import visitors

from triage.store.alerts import is_alive
from triage.store.schema import alert, claim, patient, series, study, worklist_item
from triage.store.schema.columns import UtcTime
from triage.store.worklist import OPEN_STATES, waiting

STATES = (*OPEN_STATES, "read", "withdrawn")
LIVE_ALERTS = ("open", "exhausted")
TEXT_COLUMNS = ("pat", "mrn", "acc", "desc", "body", "ref")
NAMING = frozenset({"pat", "mrn", "acc"})  # texts of these can name a patient: never in a URL


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a list may be narrowed by.

    texts          {column: part of its text}, columns of TEXT_COLUMNS
    waited_since   acquired (received, where that is not known) before this moment: has waited so long
    """

    states: Sequence[str] = OPEN_STATES
    modalities: Sequence[str] = ()
    priority_classes: Sequence[int] = ()
    ai_statuses: Sequence[str] = ()
    locations: Sequence[str] = ()
    sites: Sequence[str] = ()
    ordered: Sequence[str] = ()
    reports: Sequence[str] = ()
    senders: Sequence[str] = ()
    reader: str = ""  # claimed by; "-" for free ones
    alerts_open: bool = False
    flagged: bool = False
    text: str = ""  # accession, patient id or name, description
    texts: Mapping[str, str] = field(default_factory=dict)
    waited_since: datetime | None = None
    received_since: datetime | None = None
    read_since: datetime | None = None
    study_uid: str = ""  # this study alone

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True)
class Sort:
    """`order` is the reading order; another column only shows, it changes no place (ux 5.2)."""

    column: str = "order"
    descending: bool = False


READING_ORDER = Sort()
Kind = Literal["text", "number", "time"]
NOW = bindparam(
    "now", type_=UtcTime()
)  # given with each statement, so that a statement need not be built anew


def _text(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.lower(func.coalesce(column, ""))


def _of_series(aggregate: ColumnElement[Any]) -> ColumnElement[Any]:
    return select(aggregate).where(series.c.study_id == worklist_item.c.study_id).scalar_subquery()


_RATIO = (
    1.0
    * func.sum(series.c.instance_count)
    / func.nullif(func.sum(func.coalesce(series.c.expected_count, series.c.instance_count)), 0)
)
_SINCE = func.coalesce(study.c.acquired_at, study.c.first_received_at)
_AI_RANK = case(
    {"failed": 0, "not_analysed": 1, "running": 2, "requested": 3, "completed": 4},
    value=worklist_item.c.ai_status,
    else_=5,
)
_ALERT_RANK = (
    select(func.max(case({"exhausted": 4, "open": 3, "acknowledged": 2}, value=alert.c.state, else_=1)))
    .where(alert.c.study_id == worklist_item.c.study_id)
    .scalar_subquery()
)
_ORDERED_RANK = case({"STAT": 2, "URGENT": 1}, value=worklist_item.c.ordered_priority, else_=0)
OF_TABS = ("arrived", "read")  # sorts of no column: what the tabs of closed studies come in
SORTS: Mapping[str, tuple[Kind, ColumnElement[Any]]] = {
    "due": ("time", worklist_item.c.due_at),
    "age": ("time", _SINCE),  # the page turns it round: the longest wait is the oldest time
    "pat": ("text", _text(patient.c.patient_name)),
    "mrn": ("text", _text(patient.c.patient_id)),
    "mod": ("text", _text(worklist_item.c.modality)),
    "body": ("text", _text(worklist_item.c.body_part)),
    "desc": ("text", _text(study.c.study_description)),
    "loc": ("text", _text(worklist_item.c.location)),
    "site": ("text", _text(study.c.site)),
    "ord": ("number", _ORDERED_RANK),
    "ai": ("number", _AI_RANK),
    "img": ("number", func.coalesce(_of_series(_RATIO), 0.0)),
    "claim": (
        "text",
        _text(case((claim.c.expires_at > NOW, claim.c.reader))),
    ),
    "alert": ("number", func.coalesce(_ALERT_RANK, 0)),
    "acc": ("text", _text(study.c.accession_number)),
    "src": ("text", _text(_of_series(func.max(series.c.calling_ae_title)))),
    "acq": ("time", _SINCE),
    "arrived": ("number", worklist_item.c.id),
    "read": ("time", worklist_item.c.read_at),
    "recv": ("time", study.c.first_received_at),
    "ref": ("text", _text(study.c.referring_physician_name)),
    "rep": ("text", _text(worklist_item.c.report_state)),
    "cmp": ("text", _text(_of_series(func.max(series.c.complete_because)))),
}
_TEXTS: Mapping[str, ColumnElement[Any]] = {
    "pat": patient.c.patient_name, "mrn": patient.c.patient_id, "acc": study.c.accession_number,
    "desc": study.c.study_description, "body": worklist_item.c.body_part, "ref": study.c.referring_physician_name,
}  # fmt: skip


def conditions(filters: Filters) -> list[ColumnElement[bool]]:
    w = worklist_item.c
    found: list[ColumnElement[bool]] = [waiting()] if open_alone(filters) else [w.constancy.is_(False)]
    if set(filters.states) != set(OPEN_STATES):
        states: list[ColumnElement[Any]] = [literal_column(f"'{s}'") for s in STATES if s in filters.states]
        if len(states) < len(STATES):  # one alone is spelled as index worklist_item_read has it
            found.append(w.state == states[0] if len(states) == 1 else w.state.in_(states))
    for column, values in (
        (w.modality, filters.modalities), (w.priority_class, filters.priority_classes), (w.ai_status, filters.ai_statuses),
        (w.location, filters.locations), (study.c.site, filters.sites), (w.ordered_priority, filters.ordered),
        (w.report_state, filters.reports),
    ):  # fmt: skip
        if values:
            found.append(column.in_(list(values)))
    if filters.senders:
        sent = select(series.c.study_id).where(series.c.calling_ae_title.in_(list(filters.senders)))
        found.append(w.study_id.in_(sent))
    if filters.reader == "-":
        found.append(or_(claim.c.id.is_(None), claim.c.expires_at <= NOW))
    elif filters.reader:
        found.append(and_(claim.c.reader == filters.reader, claim.c.expires_at > NOW))
    if filters.alerts_open:
        live = select(alert.c.study_id).where(alert.c.state.in_(LIVE_ALERTS), is_alive())
        found.append(w.study_id.in_(live))
    if filters.flagged:
        found.append(w.priority_class > w.base_class)
    if filters.study_uid:
        found.append(study.c.study_instance_uid == filters.study_uid)
    return found + _time_conditions(filters) + _text_conditions(filters)


def open_alone(filters: Filters) -> bool:
    return set(filters.states) <= set(OPEN_STATES)


def _time_conditions(filters: Filters) -> list[ColumnElement[bool]]:
    conditions = []
    if filters.waited_since is not None:
        conditions.append(filters.waited_since >= _SINCE)
    if filters.received_since is not None:
        conditions.append(study.c.first_received_at >= filters.received_since)
    if filters.read_since is not None:
        conditions.append(worklist_item.c.read_at >= filters.read_since)
    return conditions


def _text_conditions(filters: Filters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        _TEXTS[column].ilike(_part(text), escape="\\")
        for column, text in sorted(filters.texts.items())
        if text
    ]
    if filters.text:
        exact = filters.text
        conditions.append(
            or_(
                study.c.accession_number == exact,
                patient.c.patient_id == exact,
                patient.c.patient_name.ilike(_part(exact), escape="\\"),
                study.c.study_description.ilike(_part(exact), escape="\\"),
            )
        )
    return conditions


def _part(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def source(said: Iterable[ColumnElement[Any]]) -> FromClause:
    """The list with those tables beside it that these expressions speak of, and no other."""
    tables = {c.table for element in said for c in visitors.iterate(element) if isinstance(c, Column)}
    found: FromClause = worklist_item
    if study in tables or patient in tables:
        found = found.join(study, study.c.id == worklist_item.c.study_id)
    if patient in tables:
        found = found.join(patient, patient.c.id == study.c.patient_id)
    if claim in tables:
        found = found.outerjoin(claim, claim.c.worklist_item_id == worklist_item.c.id)
    return found
