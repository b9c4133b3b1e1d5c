"""An AlertNotice as FHIR resources for another server: a Communication, and the result as Observation or DiagnosticReport.

Preliminary and said to be so, by a device, never by a person. The study, patient and order are named by identifiers:
the server's own ids are not ours to know. The same notice gives the same bytes.
source: standards 0.3, 7.4; FHIR R4 Communication, Observation, DiagnosticReport
"""

from __future__ import annotations

import json
from typing import Literal
from urllib.parse import quote

from triage.domain.alerting import AlertNotice, MessageKind
from triage.domain.finding import Mode
from triage.hl7.fhir.values import (
    ALERT_SYSTEM,
    DELIVERY_SYSTEM,
    DISCLAIMER,
    OBSERVATION_LOINC,
    RELEASE_SYSTEM,
    Resource,
    authority,
    by_identifier,
    coding,
    concept,
    identifier,
    instant,
    pruned,
    study_identifier,
)
from triage.hl7.results import alert_text

ResultType = Literal["DiagnosticReport", "Observation"]
_STATUS = {
    MessageKind.RESULT: "preliminary",
    MessageKind.CORRECTION: "corrected",
    MessageKind.WITHDRAWAL: "entered-in-error",
}
_CRITICAL = coding(
    "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", "AA", "Critical abnormal"
)
_SIDES = {
    "right": ("24028007", "Right"),
    "left": ("7771000", "Left"),
    "both": ("51440002", "Right and left"),
}


def build_bundle(notice: AlertNotice, *, mode: Mode, result: ResultType) -> bytes:
    """A transaction Bundle as JSON: the result first, then who must hear of it.

    A first result is created unless the server has it; its correction and withdrawal replace it. Both go by the
    identifier of the alert, so that a resend of anything makes no double.
    """
    known_as = identifier(f"{notice.site}-{notice.alert_id}", ALERT_SYSTEM)
    said = _observation(notice, mode) if result == "Observation" else _report(notice, mode)
    query = f"identifier={quote(f'{ALERT_SYSTEM}|{notice.site}-{notice.alert_id}', safe='')}"
    if notice.kind is MessageKind.RESULT:
        request = {"method": "POST", "url": result, "ifNoneExist": query}
    else:
        request = {"method": "PUT", "url": f"{result}?{query}"}
    delivery = f"identifier={quote(f'{DELIVERY_SYSTEM}|{notice.control_id}', safe='')}"
    communication = {"method": "POST", "url": "Communication", "ifNoneExist": delivery}
    entries = [
        {"resource": {**said, "identifier": [known_as]}, "request": request},
        {"resource": _communication(notice, result, known_as), "request": communication},
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    return json.dumps(pruned(bundle), sort_keys=True, separators=(",", ":")).encode("ascii")


def _words(notice: AlertNotice) -> str:
    return f"{alert_text(notice)} {DISCLAIMER}"


def _communication(notice: AlertNotice, result: str, known_as: Resource | None) -> Resource:
    return {
        "resourceType": "Communication",
        "identifier": [identifier(notice.control_id, DELIVERY_SYSTEM)],
        "status": "completed",
        "category": [
            concept(coding("http://terminology.hl7.org/CodeSystem/communication-category", "alert"))
        ],
        "priority": "stat" if notice.kind is MessageKind.RESULT else "routine",
        "subject": _patient(notice),
        "about": [by_identifier(result, known_as), _study(notice)],
        "sent": instant(notice.created_at),
        "sender": {"type": "Device", "display": f"triage ({notice.detector_release})"},
        "payload": [{"contentString": _words(notice)}],
        "meta": _meta(notice),
    }


def _observation(notice: AlertNotice, mode: Mode) -> Resource:
    withdrawn = notice.kind is MessageKind.WITHDRAWAL
    return {
        "resourceType": "Observation",
        "meta": _meta(notice),
        "status": _STATUS[notice.kind],
        "category": [concept(coding("http://terminology.hl7.org/CodeSystem/observation-category", "imaging"))],
        "code": concept(coding("LN", *OBSERVATION_LOINC)),
        "subject": _patient(notice),
        "basedOn": [_order(notice)],
        "effectiveDateTime": instant(notice.acquired_at),
        "issued": instant(notice.created_at),
        "valueCodeableConcept": _finding(notice),
        "interpretation": [] if withdrawn else [concept(_CRITICAL)],
        "note": [{"text": _words(notice)}],
        "bodySite": _side(notice, mode),
        "method": concept(words=notice.detector_release),
        "device": {"type": "Device", "identifier": identifier(notice.detector_release, RELEASE_SYSTEM),
                   "display": notice.detector_release},
        "derivedFrom": [_study(notice)],
    }  # fmt: skip


def _report(notice: AlertNotice, mode: Mode) -> Resource:
    """The finding goes inside: a server that takes reports may take no observations by themselves."""
    inside = {**_observation(notice, mode), "id": "finding"}
    inside.pop("meta")
    return {
        "resourceType": "DiagnosticReport",
        "meta": _meta(notice),
        "contained": [inside],
        "status": _STATUS[notice.kind],
        "category": [concept(coding("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology"))],
        "code": concept(coding("LN", *OBSERVATION_LOINC), words=notice.study_description),
        "subject": _patient(notice),
        "basedOn": [_order(notice)],
        "effectiveDateTime": instant(notice.acquired_at),
        "issued": instant(notice.created_at),
        "result": [{"reference": "#finding"}],
        "imagingStudy": [_study(notice)],
        "conclusion": _words(notice),
    }


def _finding(notice: AlertNotice) -> Resource:
    return concept(
        coding(notice.finding_scheme, notice.finding_code, notice.finding_display),
        coding("RADLEX", notice.finding_radlex, notice.finding_display),
        words=f"{notice.finding_display} (suspected by software)",
    )


def _side(notice: AlertNotice, mode: Mode) -> Resource | None:
    if mode is not Mode.OVERLAY or notice.finding_side not in _SIDES:
        return None
    return concept(coding("SCT", *_SIDES[notice.finding_side]), words=notice.finding_zone)


def _meta(notice: AlertNotice) -> Resource | None:
    """HTEST: test data, for a receiver that sorts by it (v3-ActReason)."""
    if not notice.drill:
        return None
    return {
        "tag": [coding("http://terminology.hl7.org/CodeSystem/v3-ActReason", "HTEST", "test health data")]
    }


def _patient(notice: AlertNotice) -> Resource | None:
    return by_identifier(
        "Patient", identifier(notice.patient_id, authority(notice.issuer_of_patient_id), "MR")
    )


def _study(notice: AlertNotice) -> Resource | None:
    return by_identifier("ImagingStudy", study_identifier(notice.study_instance_uid))


def _order(notice: AlertNotice) -> Resource | None:
    for value, kind in (
        (notice.filler_order_number, "FILL"),
        (notice.placer_order_number, "PLAC"),
        (notice.accession_number, "ACSN"),
    ):
        if value:
            return by_identifier("ServiceRequest", identifier(value, "", kind))
    return None
