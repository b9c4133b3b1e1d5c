"""The worklist: its rows, its filters, what is done to many rows at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator

from triage.store.narrowing import OF_TABS, SORTS
from triage.web.models.base import AlertStateWord, ClassWord, ItemState, Part, Request, RunStateWord, Time


class ReasonTerm(BaseModel):
    code: str
    text: str
    points: int


class PatientBrief(BaseModel):
    id: str
    issuer: str
    name: str
    sex: str
    birth_date: str
    age_years: float | None


class Images(BaseModel):
    received: int
    expected: int | None
    complete_because: str


class AlertBrief(BaseModel):
    id: int
    state: AlertStateWord
    step: int
    at: Time
    by: str


class Queued(BaseModel):
    place: int
    attempts: int
    late_minutes: int | None


class WorklistItem(BaseModel):
    study_uid: str
    rank: int | None
    priority_class: ClassWord
    score: int
    reasons: list[ReasonTerm]
    state: ItemState
    ai_status: RunStateWord
    ai_reason: str
    ai_detail: str
    patient: PatientBrief
    accession_number: str
    modality: str
    body_part: str
    view: str
    description: str
    location: str
    site: str
    ordered_priority: Literal["STAT", "URGENT", "ROUTINE"]
    arrived_at: Time
    acquired_at: Time | None
    due_at: Time
    bound_at: Time
    rank_without_ai: int | None
    images: Images
    claimed_by: str | None
    claimed_until: Time | None
    alert: AlertBrief | None
    sender: str
    report_state: str
    referrer: str
    received_at: Time
    label: str
    queued: Queued | None
    clock_ok: bool
    version: int


class Degraded(BaseModel):
    part: str
    since: str | None
    text: str


class Worklist(BaseModel):
    items: list[WorklistItem]
    next: str | None
    total: int
    hidden_critical: int
    degraded: list[Degraded]
    ordered_by: str
    as_of: Time


class WorklistQuery(Request):
    """Filters; several values of one name are separated by commas."""

    state: str = ""
    modality: str = ""
    priority_class: str = ""
    ai_status: str = ""
    location: str = ""
    site: str = ""
    reader: Annotated[str, Field(max_length=80, description="claimed by; `me` for oneself")] = ""
    ordered_priority: str = ""
    report_state: str = ""
    sender: str = ""
    description: Part = ""
    body_part: Part = ""
    referrer: Part = ""
    waited_minutes: Annotated[int | None, Field(ge=0, le=100_000, description="at least")] = None
    received: Annotated[str, Field(pattern=r"^(today|\d{1,4}[hd])?$", description="today, 4h, 7d")] = ""
    alerts_open: bool = False
    flagged: Annotated[bool, Field(description="raised by AI")] = False
    search: Annotated[str, Field(max_length=64, description="key from POST /api/v1/worklist/searches")] = ""
    sort: Literal["order", *(s for s in SORTS if s not in OF_TABS)] = "order"  # type: ignore[valid-type]
    descending: bool = False
    limit: Annotated[int, Field(ge=1, le=500)] = 100
    cursor: Annotated[str, Field(max_length=900)] = ""

    @field_validator(
        "state",
        "modality",
        "priority_class",
        "ai_status",
        "location",
        "site",
        "ordered_priority",
        "report_state",
        "sender",
    )
    @classmethod
    def _short(cls, text: str) -> str:
        if len(text) > 1000:
            raise ValueError("too long")
        return text


class SearchBody(Request):
    text: Annotated[str, Field(max_length=80, description="name, id, accession or description")] = ""
    columns: Annotated[dict[str, Part], Field(max_length=3, description="parts of: pat, mrn, acc")] = Field(
        default_factory=dict
    )


class SearchKey(BaseModel):
    search: str


class BulkBody(Request):
    act: Literal["assign", "release", "raise", "label"]
    studies: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=100)]
    to: Annotated[str, Field(max_length=80, description="assign: the reader")] = ""
    priority_class: ClassWord = "high"
    reason: Annotated[str, Field(max_length=200, description="raise: why")] = ""
    label: Annotated[str, Field(max_length=40, description="label: the word; none takes it away")] = ""


class Refusal(BaseModel):
    study_uid: str
    detail: str


class BulkAnswer(BaseModel):
    done: int
    refused: list[Refusal]
