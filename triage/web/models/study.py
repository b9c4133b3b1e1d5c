"""One study: its findings, runs, alerts and history, and what a reader does to it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from triage.web.models.alerts import AlertAnswer
from triage.web.models.base import ClassWord, Request, RunStateWord, Time, Words
from triage.web.models.worklist import WorklistItem


class ClaimBody(Request):
    take_over: Annotated[str, Field(max_length=200, description="reason; needed when another holds it")] = ""
    open: bool = True
    rank_shown: Annotated[int, Field(ge=1, lt=2**31)] | None = None


class FeedbackBody(Request):
    verdict: Literal["agree", "disagree", "missed"]
    finding: Annotated[str, Field(max_length=40)] = ""
    chip: Annotated[str, Field(max_length=40)] = ""
    text: Words = ""


class FeedbackAnswer(BaseModel):
    id: int
    undo_until: Time | None


class OverrideBody(Request):
    priority_class: ClassWord
    reason: Annotated[str, Field(min_length=1, max_length=200)]


class ReportBody(Request):
    state: Literal["preliminary", "final", "addendum"] = "final"


class FindingAnswer(BaseModel):
    code: str
    scheme: str
    name: str
    display: str
    probability_raw: float
    probability: float
    band: Literal["low", "moderate", "high"]
    actionable: bool
    threshold: float | None
    location: dict[str, Any] | None
    measurements: dict[str, Any] | None
    growth: Annotated[
        dict[str, Any] | None, Field(description="change since the patient's earlier CT; information only")
    ] = None


class RunAnswer(BaseModel):
    id: int
    detector: str
    release: str
    release_state: Literal["active", "shadow", "retired"]
    status: RunStateWord
    reason: str
    reason_detail: str
    reason_text: str
    series_uid: str
    sop_uids: list[str]
    requested_at: Time
    started_at: Time | None
    finished_at: Time | None
    seconds: float | None
    attempts: int
    policy_version: int | None
    runtime: str
    not_covered: list[str]
    notes: Annotated[
        list[str], Field(description="what its images needed or lacked: turned, cut, compressed with loss")
    ]
    findings: list[FindingAnswer]


class HistoryEvent(BaseModel):
    number: int
    at: Time
    actor: str
    act: str
    detail: dict[str, Any]


class StudyAnswer(BaseModel):
    study_uid: str
    item: WorklistItem
    runs: list[RunAnswer]
    findings: Annotated[list[FindingAnswer], Field(description="of the completed runs that count")]
    alerts: list[AlertAnswer]
    outputs: list[dict[str, Any]]
    feedback: list[dict[str, Any]]
    series: list[dict[str, Any]]
    time_line: list[dict[str, Any]]
    history: list[HistoryEvent]
    priors: list[dict[str, Any]]
    preview: dict[str, Any] | None
    as_of: Time


class PreviewQuery(Request):
    frame: Annotated[int, Field(ge=0, le=10_000)] = 0
    center: Annotated[float, Field(ge=-100_000, le=100_000)] | None = None
    width: Annotated[float, Field(gt=0, le=200_000)] | None = None
    preset: Literal["", "stretched"] = ""
    invert: bool = False
