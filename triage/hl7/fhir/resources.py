"""Rows as FHIR R4 resources of the read-only view (`/fhir`). Plain dicts; a result is preliminary and of a device.

source: standards 7.4; FHIR R4 (4.0.1)
"""

from __future__ import annotations

from typing import Any

from triage.domain.finding import FINDING_CODES
from triage.hl7.fhir.values import (
    ALERT_SYSTEM,
    DISCLAIMER,
    GENDERS,
    OBSERVATION_LOINC,
    OURS,
    PRIORITIES,
    RELEASE_SYSTEM,
    Resource,
    authority,
    coding,
    concept,
    day,
    human_name,
    identifier,
    instant,
    pruned,
    study_identifier,
)

Row = dict[str, Any]
_TASK = {
    "open": "requested", "exhausted": "requested", "acknowledged": "accepted", "closed": "completed",
    "withdrawn": "entered-in-error",
}  # fmt: skip


def patient(r: Row) -> Resource:
    return _resource(
        "Patient", r["id"],
        identifier=[identifier(r["patient_code"], authority(r["issuer_of_patient_id"]), "MR")],
        name=[human_name(r["patient_name"])],
        gender=GENDERS.get(r["patient_sex"], "unknown"),
        birthDate=day(r["patient_birth_date"]),
    )  # fmt: skip


def service_request(r: Row) -> Resource:
    return _resource(
        "ServiceRequest", r["id"],
        identifier=[
            identifier(r["placer_order_number"], authority(r["placer_namespace"]), "PLAC"),
            identifier(r["filler_order_number"], authority(r["filler_namespace"]), "FILL"),
            identifier(r["accession_number"], "", "ACSN"),
        ],
        status="active" if r["state"] == "active" else "revoked",
        intent="order",
        category=[concept(coding("SCT", "363679005", "Imaging"))],
        priority=PRIORITIES[r["priority"]],
        code=concept(coding("", r["procedure_code"], r["procedure_text"]), words=r["procedure_text"] or "Imaging study"),
        subject=_subject(r) or {"display": "unknown"},
        occurrenceDateTime=instant(r["requested_at"]),
        authoredOn=instant(r["received_at"]),
        requester={"display": r["ordering_provider"]} if r["ordering_provider"] else None,
        reasonCode=[{"text": r["reason_for_exam"]}],
        locationReference=[{"display": r["patient_location"]}] if r["patient_location"] else [],
    )  # fmt: skip


def imaging_study(r: Row) -> Resource:
    modalities = sorted({s["modality"] for s in r["series"] if s["modality"]})
    return _resource(
        "ImagingStudy", r["id"],
        identifier=[study_identifier(r["study_instance_uid"]), identifier(r["accession_number"], "", "ACSN")],
        status="available",
        modality=[coding("DCM", m) for m in modalities],
        subject=_subject(r),
        started=instant(r["acquired_at"]),
        numberOfSeries=len(r["series"]),
        numberOfInstances=sum(s["instance_count"] for s in r["series"]),
        description=r["study_description"],
        series=[
            {
                "uid": s["series_instance_uid"],
                "number": s["series_number"] if (s["series_number"] or -1) >= 0 else None,
                "modality": coding("DCM", s["modality"] or "OT"),
                "description": s["series_description"],
                "numberOfInstances": s["instance_count"],
            }
            for s in r["series"]
        ],
    )  # fmt: skip


def observation(r: Row) -> Resource:
    coded = FINDING_CODES[r["name"]]
    certainty = {
        "value": round(100 * r["probability"]),
        "unit": "%",
        "system": "http://unitsofmeasure.org",
        "code": "%",
    }
    return _resource(
        "Observation", r["id"],
        status="preliminary",
        category=[concept(coding("http://terminology.hl7.org/CodeSystem/observation-category", "imaging"))],
        code=concept(coding("LN", *OBSERVATION_LOINC)),
        subject=_subject(r),
        effectiveDateTime=instant(r["acquired_at"] or r["first_received_at"]),
        issued=instant(r["finished_at"]),
        valueCodeableConcept=concept(
            coding(coded.scheme, coded.code, coded.display), coding("RADLEX", coded.radlex, coded.display),
            words=f"{coded.display} (suspected by software)",
        ),
        note=[{"text": f"Not yet read by a radiologist. {DISCLAIMER}"}],
        method=_method(r),
        device=_device(r),
        derivedFrom=[_reference("ImagingStudy", r["study_row"])],
        component=[
            {"code": concept(coding(f"{OURS}/codes", "certainty", "Certainty of finding")), "valueQuantity": certainty},
            {"code": concept(coding(f"{OURS}/codes", "band", "Band")), "valueString": r["band"]},
        ],
    )  # fmt: skip


def diagnostic_report(r: Row, findings: list[Row]) -> Resource:
    names = ", ".join(dict.fromkeys(FINDING_CODES[f["name"]].display for f in findings))
    said = (
        f"AI flag: {names} suspected."
        if names
        else "No flag by software, which is no statement that nothing is there."
    )
    return _resource(
        "DiagnosticReport", r["id"],
        status="preliminary",
        category=[concept(coding("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology"))],
        code=concept(coding("LN", *OBSERVATION_LOINC), words=r["study_description"]),
        subject=_subject(r),
        effectiveDateTime=instant(r["acquired_at"] or r["first_received_at"]),
        issued=instant(r["finished_at"]),
        performer=[_device_name(r)],
        result=[_reference("Observation", f["id"]) for f in findings],
        imagingStudy=[_reference("ImagingStudy", r["study_row"])],
        conclusion=f"{said} Not yet read by a radiologist. {DISCLAIMER}",
        extension=[{"url": f"{OURS}/StructureDefinition/method", "valueString": f"{r['detector']} {r['version']}"}],
    )  # fmt: skip


def device(r: Row) -> Resource:
    return _resource(
        "Device", r["id"],
        identifier=[identifier(f"{r['detector']} {r['version']}", RELEASE_SYSTEM)],
        status="inactive" if r["state"] == "retired" else "active",
        deviceName=[{"name": r["detector"], "type": "model-name"}],
        version=[{"value": r["version"]}],
        type=concept(coding("SCT", "706687001", "Software")),
        note=[{"text": DISCLAIMER}],
    )  # fmt: skip


def task(r: Row) -> Resource:
    coded = FINDING_CODES[r["finding_name"]]
    return _resource(
        "Task", r["id"],
        identifier=[identifier(str(r["id"]), ALERT_SYSTEM)],
        status=_TASK[r["state"]],
        intent="order",
        priority="stat",
        code=concept(words="Acknowledge a critical finding"),
        description=f"AI flag: {coded.display} suspected. Not yet read by a radiologist.",
        focus=_reference("ImagingStudy", r["study_row"]),
        **{"for": _subject(r)},
        authoredOn=instant(r["raised_at"]),
        lastModified=instant(max(t for t in (r["stepped_at"], r["acknowledged_at"], r["ended_at"]) if t)),
        owner={"display": r["acknowledged_by"] or r["assigned_to"]} if r["acknowledged_by"] or r["assigned_to"] else None,
        businessStatus={"text": f"{r['state']}, step {r['step']}"},
    )  # fmt: skip


def audit_event(r: Row) -> Resource:
    person = not r["actor"].startswith(("triage", "hl7:", "dicom:", "token:"))
    return _resource(
        "AuditEvent", r["id"],
        type=coding("DCM", "110112" if r["act"].endswith("viewed") else "110100"),
        subtype=[coding(f"{OURS}/acts", r["act"])],
        action="R" if r["act"].endswith("viewed") else "E",
        recorded=r["at"].replace("+00:00", "Z"),
        outcome="0",
        agent=[{"who": {"display": r["actor"]}, "requestor": person}],
        source={"observer": {"display": "triage"}},
        entity=[{"what": {"display": f"{r['object_kind']} {r['object_id']}"}}],
    )  # fmt: skip


def searchset(resources: list[Resource], base: str, own: str, following: str) -> Resource:
    """A page of matches. base: of the server; own, following: addresses of this page and the next, "" for none."""
    links = [{"relation": "self", "url": own}] + (
        [{"relation": "next", "url": following}] if following else []
    )
    entries = [
        {"fullUrl": f"{base}/{r['resourceType']}/{r['id']}", "resource": r, "search": {"mode": "match"}}
        for r in resources
    ]
    return pruned({"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries})  # type: ignore[no-any-return]


def outcome(severity: str, code: str, text: str) -> Resource:
    issue = {"severity": severity, "code": code, "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def capability(base: str, date: str, kinds: dict[str, tuple[str, ...]], version: str) -> Resource:
    """kinds: resource type to the names of its search parameters."""
    types = {
        "date": "date",
        "identifier": "token",
        "_id": "token",
        "patient": "reference",
        "patient.identifier": "token",
    }
    return pruned(  # type: ignore[no-any-return]
        {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": date,
            "kind": "instance",
            "software": {"name": "triage", "version": version},
            "implementation": {"description": f"Results of triage, to be read. {DISCLAIMER}", "url": base},
            "fhirVersion": "4.0.1",
            "format": ["json"],
            "rest": [
                {
                    "mode": "server",
                    "security": {"description": "Bearer token with the scope fhir:read"},
                    "resource": [
                        {
                            "type": kind,
                            "interaction": [{"code": "read"}, {"code": "search-type"}],
                            "searchParam": [{"name": n, "type": types[n]} for n in names],
                        }
                        for kind, names in kinds.items()
                    ],
                }
            ],
        }
    )


def _resource(kind: str, row_id: int, **values: Any) -> Resource:
    return pruned({"resourceType": kind, "id": str(row_id), **values})  # type: ignore[no-any-return]


def _reference(kind: str, row_id: int | None) -> Resource | None:
    return None if row_id is None else {"reference": f"{kind}/{row_id}"}


def _subject(r: Row) -> Resource | None:
    return _reference("Patient", r["patient_row"])


def _method(r: Row) -> Resource:
    return concept(words=f"{r['detector']} {r['version']}")


def _device(r: Row) -> Resource:
    return {"reference": f"Device/{r['release_id']}", "display": f"{r['detector']} {r['version']}"}


def _device_name(r: Row) -> Resource:
    """R4 lets no Device perform a report: named, not referenced."""
    return {"display": f"triage, {r['detector']} {r['version']}"}
