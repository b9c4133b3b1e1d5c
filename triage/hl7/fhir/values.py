"""Small FHIR R4 values as plain dicts: codings, identifiers, references, instants; empty ones are left out."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

Resource = dict[str, Any]

OURS = (
    "https://triage.invalid/fhir"  # our own canonical base; .invalid: nothing is to be had there (RFC 2606)
)
ALERT_SYSTEM = f"{OURS}/alert"
DELIVERY_SYSTEM = f"{OURS}/delivery"
RELEASE_SYSTEM = f"{OURS}/release"
SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "RADLEX": "http://radlex.org",
    "LN": "http://loinc.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
}
OBSERVATION_LOINC = ("18782-3", "Radiology Study observation (narrative)")
DISCLAIMER = "Research software. Not for clinical use."


def pruned(value: Any) -> Any:
    """The same without what says nothing: FHIR has no empty strings, arrays or objects."""
    if isinstance(value, dict):
        kept = {k: pruned(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v not in (None, "", [], {})}
    if isinstance(value, list):
        return [v for v in map(pruned, value) if v not in (None, "", [], {})]
    return text(value) if isinstance(value, str) else value


def text(value: str) -> str:
    """A FHIR string: no controls but tab, CR and LF, no lone surrogates, no blanks around."""
    cleaned = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", " ", value)
    return cleaned.strip()


def coding(system: str, code: str, display: str = "") -> Resource:
    return {"system": SYSTEMS.get(system, system), "code": code, "display": display}


def concept(*codings: Resource, words: str = "") -> Resource:
    return {"coding": [c for c in codings if c.get("code")], "text": words}


def identifier(value: str, system: str = "", kind: str = "") -> Resource | None:
    """kind: a code of table 0203, e.g. MR, ACSN, PLAC, FILL."""
    if not value:
        return None
    typed = concept(coding("http://terminology.hl7.org/CodeSystem/v2-0203", kind)) if kind else None
    return {"type": typed, "system": system, "value": value}


def study_identifier(study_instance_uid: str) -> Resource:
    return {"system": "urn:dicom:uid", "value": f"urn:oid:{study_instance_uid}"}


def by_identifier(kind: str, value: Resource | None, display: str = "") -> Resource | None:
    """A reference to what another server knows under this identifier."""
    return {"type": kind, "identifier": value, "display": display} if value else None


def authority(issuer: str) -> str:
    """An assigning authority as a URI: an OID or URI as it is, a name under our own base."""
    if not issuer:
        return ""
    if re.fullmatch(r"[0-2](\.(0|[1-9][0-9]*))+", issuer):
        return f"urn:oid:{issuer}"
    if re.match(r"(?:urn|https?):\S+$", issuer):
        return issuer
    return f"{OURS}/authority/{re.sub('[^A-Za-z0-9._-]', '_', issuer)}"


def instant(at: datetime | None) -> str | None:
    return (
        None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def day(dicom_date: str) -> str | None:
    """A DICOM date as FHIR's, None when it is none."""
    if not re.fullmatch("[0-9]{8}", dicom_date):
        return None
    try:
        return datetime.strptime(dicom_date, "%Y%m%d").date().isoformat()  # noqa: DTZ007 - a date has no zone
    except ValueError:
        return None


def human_name(patient_name: str) -> Resource | None:
    """A DICOM person name: its first group that says anything."""
    group = next((g for g in patient_name.split("=") if g.replace("^", "").strip()), "")
    if not group:
        return None
    family, given, middle, prefix, suffix = (p.strip() for p in (group.split("^") + [""] * 5)[:5])
    return {"family": family, "given": [n for n in (given, middle) if n], "prefix": [prefix] if prefix else [],
            "suffix": [suffix] if suffix else []}  # fmt: skip


GENDERS = {"M": "male", "F": "female", "O": "other"}
PRIORITIES = {"STAT": "stat", "URGENT": "urgent", "ROUTINE": "routine"}
