"""Which findings alert, over which rungs the ladder climbs, and what an alert says to the outside.

An alert is closed by a person, never by a machine's acknowledgement (standards 7.3; hazard H8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from triage.domain.finding import Finding, PriorityClass


class AlertState(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"  # a report at least preliminary arrived, or the order was cancelled
    WITHDRAWN = "withdrawn"  # a superseding run no longer has the finding
    EXHAUSTED = (
        "exhausted"  # every rung was climbed and nobody acknowledged; still red, still acknowledgeable
    )


class DeliveryState(StrEnum):
    WAITING = "waiting"  # to be sent, or to be sent again at `next_attempt_at`
    DELIVERED = "delivered"  # the peer positively answered this control id
    PARKED = "parked"  # the peer refused the content (AE, 4xx): a person must look
    CANCELLED = "cancelled"  # the alert ended before the first success


class MessageKind(StrEnum):
    RESULT = "result"
    WITHDRAWAL = "withdrawal"
    CORRECTION = (
        "correction"  # the same finding of the same person, who or whose order is named differently now
    )


@dataclass(frozen=True)
class Rung:
    """After `after` without acknowledgement the routes of this rung are told.

    on_call  1 or 2: the alert goes to the page of whoever is first or second on call then (ux 9)
    """

    after: timedelta
    routes: tuple[str, ...]
    on_call: int = 0


@dataclass(frozen=True, kw_only=True)
class AlertNotice:
    """Everything a message about one alert may hold; `hl7.results` and `channels` take from it what the route allows.

    control_id  <= 20 characters, unique for ever: MSH-10 and idempotency key; the same for every resend
    """

    control_id: str
    kind: MessageKind
    created_at: datetime
    site: str
    # study
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str  # DICOM PN: family^given^middle^prefix^suffix, groups separated by =
    patient_birth_date: str
    patient_sex: str
    accession_number: str
    study_instance_uid: str
    study_description: str
    modality: str
    acquired_at: datetime | None
    ordered_priority: str  # STAT, URGENT, ROUTINE
    placer_order_number: str = ""
    filler_order_number: str = ""
    patient_location: str = ""
    referring_physician_name: str = ""
    # finding
    finding_name: str
    finding_display: str
    finding_code: str
    finding_scheme: str
    finding_radlex: str
    probability: float
    band: str
    detected_at: datetime
    detector_release: str  # "chest_xray 1.0.0"
    # place, only as `finding.shown` lets it pass; written in overlay mode alone
    finding_side: str = ""  # left, right, both
    finding_zone: str = ""
    rung: int = 0
    of_another_patient: bool = False  # of a withdrawal: the study is not of the patient named here
    alert_id: int = 0  # of our own rows: what a result is known by over its whole life
    drill: bool = False  # a rehearsal: there is no patient and no finding
    recipient: str = ""  # mail address of who is on call, where a route takes one
    link: str = ""  # to this alert on the phone page: works once, asks for sign-in


def alerting(findings: Sequence[Finding]) -> dict[str, Finding]:
    """The findings that raise an Alert, by name: actionable and of class critical (standards 13.3).

    Of several of one name (two films of a study) the most probable stands.
    """
    chosen: dict[str, Finding] = {}
    for finding in findings:
        if not finding.actionable or finding.coded.priority_class is not PriorityClass.CRITICAL:
            continue
        held = chosen.get(finding.name)
        if held is None or finding.probability > held.probability:
            chosen[finding.name] = finding
    return chosen


def rungs_due(ladder: Sequence[Rung], raised_at: datetime, step: int, now: datetime) -> list[int]:
    """Indices of rungs above `step` whose time has come, lowest first; none is skipped (I12)."""
    return [i for i, rung in enumerate(ladder) if i > step and now >= raised_at + rung.after]


BANNERS_PER_READER_HOUR = 2.0  # the alarm budget of ux 9
PRECISION_FLOOR = 0.5  # of critical flags over 30 days
JUDGED_MIN = 20  # fewer judged flags say nothing


@dataclass(frozen=True)
class Loudness:
    """alerts, reader_hours: of a day; agreed, disagreed: judged critical flags of 30 days"""

    alerts: int
    reader_hours: int
    agreed: int
    disagreed: int


def beyond_budget(found: Loudness) -> list[str]:
    """Which budgets are spent: "banners", "precision" (ux 9). Without a reader at work, or too few judged: none."""
    spent = []
    if found.reader_hours and found.alerts > BANNERS_PER_READER_HOUR * found.reader_hours:
        spent.append("banners")
    judged = found.agreed + found.disagreed
    if judged >= JUDGED_MIN and found.agreed < PRECISION_FLOOR * judged:
        spent.append("precision")
    return spent


RETRY_SECONDS = (2, 4, 8, 16, 32, 64, 128, 256, 300)  # standards 7.3, then 300 for ever


def retry_after(attempts: int, jitter: float) -> timedelta:
    """Wait before attempt number `attempts` + 1; jitter in [0, 1) lengthens it by up to a quarter."""
    assert attempts >= 1
    base = RETRY_SECONDS[min(attempts - 1, len(RETRY_SECONDS) - 1)]
    return timedelta(seconds=base * (1 + jitter / 4))
