"""The FHIR view as the web asks for it: which kinds there are, one resource, a page of them. Read-only."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from triage import __version__
from triage.domain.errors import Refused
from triage.hl7.fhir import resources
from triage.store import fhir
from triage.store.fhir import Wanted

_OF_PATIENT = ("_id", "patient", "patient.identifier", "identifier", "date")
KINDS: dict[str, tuple[str, ...]] = {
    "Patient": ("_id", "identifier"),
    "ServiceRequest": _OF_PATIENT,
    "ImagingStudy": _OF_PATIENT,
    "Observation": _OF_PATIENT,
    "DiagnosticReport": _OF_PATIENT,
    "Device": ("_id", "identifier"),
    "Task": _OF_PATIENT,
    "AuditEvent": ("_id", "date"),
}
_ROWS: dict[str, tuple[Callable[..., list[dict[str, Any]]], Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "Patient": (fhir.patients, resources.patient),
    "ServiceRequest": (fhir.orders, resources.service_request),
    "ImagingStudy": (fhir.studies, resources.imaging_study),
    "Observation": (fhir.findings, resources.observation),
    "Device": (fhir.releases, resources.device),
    "Task": (fhir.alerts, resources.task),
    "AuditEvent": (fhir.audits, resources.audit_event),
}


def find(tx: Connection, kind: str, wanted: Wanted) -> list[dict[str, Any]]:
    """Resources of one kind, in order of id."""
    if kind == "DiagnosticReport":
        rows = fhir.runs(tx, wanted)
        found = fhir.findings(tx, Wanted(limit=10_000), [r["id"] for r in rows])
        return [resources.diagnostic_report(r, [f for f in found if f["run_id"] == r["id"]]) for r in rows]
    source, shape = _ROWS[kind]
    return [shape(r) for r in source(tx, wanted)]


def capability(base: str, now: datetime) -> dict[str, Any]:
    return resources.capability(base, now.date().isoformat(), KINDS, __version__)


def searchset(found: list[dict[str, Any]], base: str, own: str, following: str) -> dict[str, Any]:
    return resources.searchset(found, base, own, following)


def outcome(code: str, text: str) -> dict[str, Any]:
    return resources.outcome("error", code, text)


def row_id(value: str, kind: str) -> int:
    """`12`, `Patient/12` or an absolute address that ends so. raises Refused"""
    number = value.rpartition("/")[2]
    if not number.isascii() or not number.isdigit() or len(number) > 15:
        raise Refused(f"a reference to a {kind} looks like {kind}/12")
    return int(number)


def token_value(value: str) -> str:
    """`system|value` or `value`; a UID comes as urn:oid too. The system is not looked at: numbers are of this site."""
    return value.rpartition("|")[2].removeprefix("urn:oid:")[:200]


def span(value: str) -> tuple[datetime | None, datetime | None]:
    """[since, before) of one date parameter: a day, month, year or instant, with eq, ge, gt, le or lt. raises Refused"""
    match = re.fullmatch(r"(eq|ge|gt|le|lt)?(\d{4})(?:-(\d\d)(?:-(\d\d)(T.+)?)?)?", value)
    if match is None:
        raise Refused("a date looks like 2026-03-14, ge2026-03 or lt2026-03-14T12:00:00Z")
    how, year, month, day, clock = match.groups()
    try:
        if clock:
            begin = datetime.fromisoformat(f"{year}-{month}-{day}{clock}")
            begin = begin if begin.tzinfo else begin.replace(tzinfo=UTC)
            end = begin + timedelta(seconds=1)
        else:
            begin = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
            end = _end(begin, month, day)
    except (ValueError, OverflowError) as error:
        raise Refused("no such date") from error
    return {"ge": (begin, None), "gt": (end, None), "le": (None, end), "lt": (None, begin)}.get(
        how or "eq", (begin, end)
    )


def _end(begin: datetime, month: str | None, day: str | None) -> datetime:
    if day:
        return begin + timedelta(days=1)
    if month:
        return (begin.replace(day=1) + timedelta(days=32)).replace(day=1)
    return begin.replace(year=begin.year + 1)
