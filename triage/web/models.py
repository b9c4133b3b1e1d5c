"""The shapes of requests and answers: what OpenAPI is made of (architecture 8). Requests are also checked by them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from triage.store.listing import SORTS

ClassWord = Literal["critical", "high", "elevated", "routine"]
ItemState = Literal["arriving", "to_read", "claimed", "read", "withdrawn"]
RunStateWord = Literal["requested", "running", "completed", "not_analysed", "failed", "superseded"]
AlertStateWord = Literal["open", "acknowledged", "closed", "withdrawn", "exhausted"]
Time = Annotated[str, Field(description="RFC 3339, UTC")]
Words = Annotated[str, Field(max_length=400)]
Part = Annotated[str, Field(max_length=80)]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


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
    sort: Literal["order", *SORTS] = "order"  # type: ignore[valid-type]
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


class HandoverBody(Request):
    to: Annotated[str, Field(min_length=1, max_length=80)]


class Nothing(Request):
    """An empty body."""


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
    findings: list[FindingAnswer]


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


class PeerTestQuery(Request):
    store: bool = True  # false: no phantom is stored there


class PeerStep(BaseModel):
    name: str
    state: Literal["ok", "failed", "not tried"]
    detail: str
    seconds: float | None


class PeerTestAnswer(BaseModel):
    peer: str
    ok: bool
    steps: list[PeerStep]
    next: str


class PeerRow(BaseModel):
    name: str
    ae_title: str
    host: str
    port: int
    tls: bool
    objects: list[str]
    by: str
    commitment: bool


class PeersAnswer(BaseModel):
    peers: list[PeerRow]


class AgainAnswer(BaseModel):
    count: int


class AuditQuery(Request):
    after: Annotated[int, Field(ge=0, lt=2**53)] = 0
    limit: Annotated[int, Field(ge=1, le=500)] = 500
    object_kind: Annotated[str, Field(max_length=40)] = ""
    object_id: Annotated[str, Field(max_length=80)] = ""


class AuditRow(BaseModel):
    number: int
    at: str
    actor: str
    act: str
    object_kind: str
    object_id: str
    detail: dict[str, Any]
    previous_hash: str
    hash: str


class AuditAnswer(BaseModel):
    events: list[AuditRow]
    next: int | None


class Check(BaseModel):
    name: str
    ok: bool
    detail: str


class Health(BaseModel):
    status: Literal["ok", "degraded"]
    checks: list[Check]


class Ready(BaseModel):
    status: Literal["ready"]


class MessagesQuery(Request):
    direction: Literal["in", "out"] = "out"
    state: Annotated[str, Field(max_length=100, description="one or more, separated by commas")] = ""
    peer: Annotated[str, Field(max_length=160, description="a route (out) or a sender (in)")] = ""
    before: Annotated[int, Field(ge=1, lt=2**53)] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class MessageSearchBody(Request):
    accession_number: Annotated[str, Field(min_length=1, max_length=64)]


class ParkBody(Request):
    reason: Annotated[str, Field(min_length=1, max_length=200)]


class MessageAnswer(BaseModel):
    id: int
    direction: Literal["in", "out"]
    channel: str
    peer: str
    kind: str
    control_id: str
    state: str
    answer: str
    reason: str
    accession_number: str
    study_uid: str
    at: Time
    ended_at: Time | None
    attempts: int
    next_attempt_at: Time | None
    alert_id: int | None
    drill: bool


class RawMessage(MessageAnswer):
    raw: str
    attempts_made: list[dict[str, Any]]


class Messages(BaseModel):
    messages: list[MessageAnswer]
    next: int | None
    as_of: Time


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
