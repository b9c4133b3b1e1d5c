"""Values with defaults, so that a test names only what it is about."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from triage.domain.finding import Band, Finding, SliceMask
from triage.domain.study import CONSTANCY_PATIENT_PREFIX, CT, DX_FOR_PRESENTATION, InstanceHeader
from triage.store.registration import Arrival

NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
ROOT = "1.2.826.0.1.3680043.10.1337"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


class Clock:
    """Stands until it is turned."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


def counted_ids(prefix: str = "ID") -> Callable[[], str]:
    """Ids that a test can name beforehand: ID000000000000000001, ..."""
    counter = itertools.count(1)
    return lambda: f"{prefix}{next(counter):0{20 - len(prefix)}d}"


def uid(*parts: object) -> str:
    """A valid UID that says where it comes from: the same parts give the same UID."""
    return ".".join([ROOT, *(str(int(p)) if isinstance(p, int) else _number(str(p)) for p in parts)])[:64]


def _number(text: str) -> str:
    return str(int(hashlib.sha256(text.encode()).hexdigest()[:10], 16))


def a_header(
    *, study: object = 1, series: object = 1, instance: object = 1, modality: str = "DX", **values: Any
) -> InstanceHeader:
    """One object of an adult's chest: a frontal radiograph, or with modality="CT" slice `instance` of 1.25 mm."""
    common: dict[str, Any] = {
        "sop_instance_uid": uid(study, series, instance),
        "study_instance_uid": uid(study),
        "series_instance_uid": uid(study, series),
        "transfer_syntax_uid": EXPLICIT_LITTLE,
        "patient_id": f"P{study}",
        "patient_name": "Doe^Jane",
        "patient_birth_date": "19600101",
        "patient_sex": "F",
        "patient_age_years": 66.0,
        "accession_number": f"A{study}",
        "study_date": "20260314",
        "study_time": "115500",
        "modality": modality,
        "body_part_examined": "CHEST",
        "presentation_intent_type": "FOR PRESENTATION",
        "samples_per_pixel": 1,
        "bits_allocated": 16,
        "photometric_interpretation": "MONOCHROME2",
    }
    film = {
        "sop_class_uid": DX_FOR_PRESENTATION,
        "view_position": "PA",
        "image_type": ("ORIGINAL", "PRIMARY"),
        "patient_orientation": ("L", "F"),
        "rows": 2048,
        "columns": 2048,
        "bits_stored": 12,
        "pixel_spacing_mm": (0.17, 0.17),
    }
    number = instance if isinstance(instance, int) else 0
    scan = {
        "sop_class_uid": CT,
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "instance_number": number,
        "acquisition_number": 1,
        "series_description": "THORAX 1.25 B50f",
        "convolution_kernel": "B50f",
        "slice_thickness_mm": 1.25,
        "kvp": 120.0,
        "frame_of_reference_uid": uid(study, "frame"),
        "patient_position": "HFS",
        "rows": 512,
        "columns": 512,
        "bits_stored": 12,
        "pixel_spacing_mm": (0.7, 0.7),
        "image_position_patient": (-180.0, -180.0, -150.0 + 1.25 * number),
        "image_orientation_patient": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "rescale_slope": 1.0,
        "rescale_intercept": -1024.0,
        "rescale_type": "HU",
    }
    return InstanceHeader(**{**common, **(scan if modality == "CT" else film), **values})


def digest_of(content: object) -> str:
    return hashlib.sha256(str(content).encode()).hexdigest()


def an_arrival(
    header: InstanceHeader | None = None,
    *,
    content: object = None,
    calling_ae_title: str = "MODALITY",
    association_id: str = "node:1",
    **header_values: Any,
) -> Arrival:
    """That object on its way into the index; `content` stands for its bytes (the SOP Instance UID by default)."""
    header = header or a_header(**header_values)
    return Arrival(
        header=header,
        digest=digest_of(header.sop_instance_uid if content is None else content),
        size_bytes=1000,
        calling_ae_title=calling_ae_title,
        association_id=association_id,
        wanted=header.sop_class_uid in (CT, DX_FOR_PRESENTATION),
        constancy=header.patient_id.startswith(CONSTANCY_PATIENT_PREFIX),
        acquired_at=NOON - timedelta(minutes=5),
    )


def a_finding(name: str = "pneumothorax", probability: float = 0.9, **values: Any) -> Finding:
    """An actionable finding unless its probability is below the threshold of 0.5."""
    defaults: dict[str, Any] = {
        "probability_raw": probability,
        "band": Band.HIGH if probability >= 0.8 else Band.MODERATE if probability >= 0.5 else Band.LOW,
        "actionable": probability >= 0.5,
        "threshold": 0.5,
    }
    return Finding(name=name, probability=probability, **{**defaults, **values})


def a_region(column: int, row: int, radius: int, slices: range, study: object = 1) -> tuple[SliceMask, ...]:
    """A disc on each of these slices of `a_header(modality="CT")`."""
    side = 2 * radius + 1
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    bits = np.packbits(x * x + y * y <= radius * radius).tobytes().hex()
    return tuple(SliceMask(uid(study, 1, i), row - radius, column - radius, side, side, bits) for i in slices)
