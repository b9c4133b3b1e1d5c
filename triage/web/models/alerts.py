"""Alerts, and who is on call for them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from triage.web.models.base import AlertStateWord, Request, Time


class HandoverBody(Request):
    to: Annotated[str, Field(min_length=1, max_length=80)]


class AlertAnswer(BaseModel):
    id: int
    study_uid: str
    finding: str
    display: str
    band: str
    state: AlertStateWord
    step: int
    raised_at: Time
    stepped_at: Time
    later_until: Time | None
    assigned_to: str
    acknowledged_at: Time | None
    acknowledged_by: str
    ended_at: Time | None
    version: int
    drill: bool = False  # a rehearsal: there is no patient
    patient: dict[str, Any] | None = None
    location: str | None = None
    acquired_at: Time | None = None
    arrived_at: Time | None = None
    deliveries: list[dict[str, Any]] | None = None


class Alerts(BaseModel):
    alerts: list[AlertAnswer]
    as_of: Time


class AlertsQuery(Request):
    state: Annotated[
        str, Field(max_length=100, description="open, acknowledged, closed, withdrawn, exhausted, all")
    ] = ""
    limit: Annotated[int, Field(ge=1, le=500)] = 200


class DutyBody(Request):
    site: Annotated[str, Field(min_length=1, max_length=40)]
    place: Literal[1, 2] = 1
    person: Annotated[str, Field(min_length=1, max_length=80)]
    contact: Annotated[str, Field(max_length=200, pattern=r"^([^\s@<>,;:\"]+@[^\s@<>,;:\"]+)?$")] = ""
    starts_at: AwareDatetime
    ends_at: AwareDatetime


class DutyAdded(BaseModel):
    id: int


class Duty(BaseModel):
    id: int
    site: str
    place: int
    person: str
    contact: str
    made_by: str
    starts_at: Time
    ends_at: Time


class Duties(BaseModel):
    duties: list[Duty]
    as_of: Time
