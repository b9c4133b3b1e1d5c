"""Patients in: what an ADT message says about whom, and who was merged into whom.

source: standards 7.1; HL7 v2.5.1 chapter 3; IHE RAD TF-2 4.12 (Patient Update), PIR
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from triage.domain.identity import Demographics, PatientKey
from triage.hl7._text import moment
from triage.hl7.orders import optional, said
from triage.hl7.parse import ErrorCode, Message, Segment, Unusable

_MEDICAL_RECORD = ("MR", "PI", "PT", "")  # table 0203, in order of preference


@dataclass(frozen=True)
class Merging:
    """`prior` (MRG-1) is the same person as `surviving` (PID-3)."""

    prior: PatientKey
    surviving: PatientKey


def keys_of(segment: Segment, number: int) -> list[PatientKey]:
    """The patient identifiers of a repeated CX field, medical record numbers first."""
    found: list[tuple[int, PatientKey]] = []
    for r in range(segment.repetitions(number)):
        identifier = segment.field(number, 1, repetition=r + 1).strip()
        if identifier in ("", '""'):
            continue
        kind = segment.field(number, 5, repetition=r + 1).strip().upper()
        authority = segment.field(number, 4, repetition=r + 1).strip() or segment.field(
            number, 4, repetition=r + 1, subcomponent=2
        )
        rank = _MEDICAL_RECORD.index(kind) if kind in _MEDICAL_RECORD else len(_MEDICAL_RECORD)
        found.append((rank, PatientKey(patient_id=identifier, issuer_of_patient_id=authority)))
    return [key for _, key in sorted(found, key=lambda f: f[0])]


def patient_of(message: Message, *, at: Segment | None = None) -> PatientKey:
    """Who the message is about: PID-3, else the old PID-2. raises Unusable without PID or identifier"""
    pid = at or message.first("PID")
    for number in (3, 2):
        if keys := keys_of(pid, number):
            return keys[0]
    raise Unusable("PID-3 names no patient")


def demographics_of(message: Message, *, at: Segment | None = None) -> Demographics:
    """Name, birth date and sex as DICOM writes them; what the message does not say stays None."""
    pid = at or message.first("PID")
    birth = optional(pid, 7)
    day = birth[:8] if birth else birth
    if day and not re.fullmatch(r"[0-9]{8}", day):
        day = None  # a year alone is no birth date for DICOM, and must not wipe out one
    sex = optional(pid, 8)
    return Demographics(
        patient_name=_person_name(pid),
        patient_birth_date=day,
        patient_sex={"M": "M", "F": "F", "": ""}.get(sex.upper(), "O") if sex is not None else None,
    )


def mergings_of(message: Message) -> list[Merging]:
    """Each PID with the MRG that follows it. raises Unusable when a pair is not whole"""
    pairs: list[Merging] = []
    pid: Segment | None = None
    for segment in message.segments:
        if segment.name == "PID":
            pid = segment
        elif segment.name == "MRG":
            if pid is None:
                raise Unusable("MRG comes before PID: who survives is not said", ErrorCode.SEGMENT_SEQUENCE)
            prior = keys_of(segment, 1)
            if not prior:
                raise Unusable("MRG-1 names no patient")
            surviving = patient_of(message, at=pid)
            pairs += [Merging(key, surviving) for key in _of_authority(prior, surviving)]
    if not pairs:
        raise Unusable("a merge needs MRG-1: the patient who was merged away")
    return pairs


def said_at(message: Message, otherwise: datetime) -> datetime:
    """When the sender said it: EVN-2, else MSH-7; without a zone it counts as UTC."""
    evn = next(iter(message.all("EVN")), None)
    values = (said(evn, 2), message.msh.field(7))
    return next((at for v in values if (at := moment(v, zone=UTC))), otherwise)


def _of_authority(prior: list[PatientKey], surviving: PatientKey) -> list[PatientKey]:
    """The prior ids of the survivor's authority; all of them (to be refused by name) when there is none."""
    equal = [k for k in prior if k.issuer_of_patient_id in (surviving.issuer_of_patient_id, "")]
    return equal or prior


def _person_name(pid: Segment) -> str | None:
    """XPN as DICOM PN; the representations of one name (XPN.8 A, I, P) as its three groups."""
    if optional(pid, 5) is None and not any(pid.field(5, n).strip() for n in range(2, 6)):
        return None
    groups = {"A": "", "I": "", "P": ""}
    for r in range(pid.repetitions(5)):
        parts = [pid.field(5, n, repetition=r + 1).strip().replace('""', "") for n in (1, 2, 3, 5, 4)]
        code = pid.field(5, 8, repetition=r + 1).strip().upper() or "A"
        name = "^".join(p.replace("=", " ").replace("^", " ") for p in parts).rstrip("^")
        if code in groups and not groups[code]:
            groups[code] = name
    return "=".join(groups.values()).rstrip("=")
