"""Who a study is of, when hospitals correct themselves: updates, merges and moves, in any order and twice.

Nothing is overwritten in a way that the order of messages could show: demographics are kept with the time at which
they were said, newest wins for each field; merges and moves are facts, and who survives is a function of all facts.
An undone merge is a fact less. (HL7 v2.5.1 3.3, standards 7.1; IHE PIR; assurance P14.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime

from triage.domain.errors import Refused


@dataclass(frozen=True, kw_only=True)
class PatientKey:
    """A patient id and who assigned it: (0010,0020) with (0010,0021), PID-3.1 with PID-3.4."""

    patient_id: str
    issuer_of_patient_id: str = ""

    def at(self, site_issuer: str) -> PatientKey:
        """The same with the site's own authority where none is named.

        raises  Refused when the id is empty: that is nobody
        """
        if not self.patient_id.strip():
            raise Refused("a patient without an id cannot be reconciled; send PID-3.1 or (0010,0020)")
        issuer = self.issuer_of_patient_id.strip() or site_issuer
        return PatientKey(patient_id=self.patient_id.strip()[:64], issuer_of_patient_id=issuer[:64])


@dataclass(frozen=True, kw_only=True)
class Demographics:
    """What a message says of a patient; None: it says nothing, "": it says that there is none.

    patient_name  DICOM person name: family^given^middle^prefix^suffix, groups separated by =
    """

    patient_name: str | None = None
    patient_birth_date: str | None = None
    patient_sex: str | None = None

    def said(self) -> dict[str, str]:
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}


@dataclass(frozen=True, kw_only=True)
class Merge:
    """`prior` is the same person as `surviving`, under whose id it all goes on. Patients by their row."""

    prior: int
    surviving: int
    said_at: datetime
    key: str


def newer_fields(
    told: Mapping[str, str], said_at: datetime, stamps: Mapping[str, datetime]
) -> dict[str, str]:
    """Of what was told, the fields that nothing newer has been said about."""
    return {name: value for name, value in told.items() if name not in stamps or said_at >= stamps[name]}


def survivors(merges: Iterable[Merge]) -> dict[int, int]:
    """{merged patient: who survives it}, whatever the order in which the merges were heard.

    The newest word on a patient counts. Merging somebody into a patient who was merged away before gives that patient
    back its own life.
    """
    into: dict[int, int] = {}
    for merge in sorted(merges, key=lambda m: (m.said_at, m.key)):
        if merge.prior == merge.surviving:
            continue
        if merge.prior in _way_of(into, merge.surviving):
            del into[merge.surviving]
        into[merge.prior] = merge.surviving
    return {patient: _way_of(into, patient)[-1] for patient in into}


def may_merge(prior: PatientKey, surviving: PatientKey) -> None:
    """raises Refused when two authorities assigned the ids: then equal persons are for people to find (standards 7.1)"""
    if prior.issuer_of_patient_id != surviving.issuer_of_patient_id:
        raise Refused(
            "patients of two assigning authorities are not merged; merge them at their own registry"
        )


def _way_of(into: Mapping[int, int], patient: int) -> list[int]:
    """Into whom, into whom that one ...: the last survives."""
    way = []
    while patient in into:
        patient = into[patient]
        way.append(patient)
    return way
