"""Who a phantom pretends to be. Names are invented; UIDs come from the seed, so the same phantom is the same object."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from triage.domain.study import CONSTANCY_PATIENT_PREFIX

# Alphabetic group, then ideographic and phonetic ones where the script has them (PS3.5 6.2.1.1, H.3, I.2).
_FAMILY = (
    "Brandt",
    "Müller",
    "Ødegård",
    "Nováková",
    "Łukaszewicz",
    "Yılmaz",
    "Okafor",
    "García",
    "Lindqvist",
    "Petit",
)
_GIVEN = {
    "F": ("Anna", "Ingrid", "Zoë", "Fátima", "Chiara", "Noémie", "Amara", "Jana"),
    "M": ("Erik", "Jürgen", "Tomáš", "Emre", "Chidi", "José", "Łukasz", "Paul"),
}
_OTHER_SCRIPTS = (
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "Hong^Gildong=洪^吉洞=홍^길동",
    "Wang^XiaoDong=王^小东",
)


@dataclass(frozen=True)
class Identity:
    """Header values of one phantom study, as DICOM writes them (dates YYYYMMDD, times HHMMSS, age 045Y)."""

    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    patient_age: str
    accession_number: str
    study_id: str
    study_date: str
    study_time: str
    study_instance_uid: str
    study_description: str
    referring_physician_name: str
    institution_name: str
    quality_control: bool

    def series_uid(self, name: str) -> str:
        """A UID under this study; the same name gives the same UID."""
        return uid_of(self.study_instance_uid, name)


def uid_of(*names: str) -> str:
    """A UID under 2.25 made from names (PS3.5 B.2; the UUID is a name-based one)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '|'.join(names)).int}"


def identity_for(
    seed: int, modality: str, now: datetime, *, sex: str | None = None, **overrides: Any
) -> Identity:
    """The identity of this seed.

    modality   "DX" or "CT"
    now        study date and time, in the time zone that the caller lives in
    sex        of the Thorax, so that name and picture agree; None: as drawn
    overrides  fields of Identity to replace; a patient_id under CONSTANCY_PATIENT_PREFIX marks quality control
    """
    rng = np.random.default_rng([seed, 77])
    sex = sex or str(rng.choice(["F", "M"]))
    age = int(rng.integers(22, 90))
    name = f"{rng.choice(_FAMILY)}^{rng.choice(_GIVEN[sex])}"
    if rng.random() < 0.2:
        name = str(rng.choice(_OTHER_SCRIPTS))
    birthday = now.replace(year=now.year - age, day=1, month=int(rng.integers(1, now.month + 1)))
    identity = Identity(
        patient_id=f"PHANTOM-{seed:06d}",
        patient_name=name,
        patient_birth_date=birthday.strftime("%Y%m%d"),
        patient_sex=sex,
        patient_age=f"{age:03d}Y",
        accession_number=f"P{modality}{seed:08d}",
        study_id=f"{seed % 10**8}",
        study_date=now.strftime("%Y%m%d"),
        study_time=now.strftime("%H%M%S"),
        study_instance_uid=uid_of("triage phantom", modality, str(seed), now.isoformat()),
        study_description="Chest PA" if modality == "DX" else "CT Chest without contrast",
        referring_physician_name="Invented^Referrer",
        institution_name="Phantom Hospital",
        quality_control=False,
    )
    identity = replace(identity, **overrides)
    return replace(identity, quality_control=True) if is_constancy(identity) else identity


def is_constancy(identity: Identity) -> bool:
    return identity.patient_id.startswith(CONSTANCY_PATIENT_PREFIX)
