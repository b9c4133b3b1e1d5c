"""AlertNotices for tests: a plausible one, and hostile ones. Shared by tests/hl7 and tests/channels."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from triage.domain.alerting import AlertNotice, MessageKind

CET = timezone(timedelta(hours=1))


def a_notice(**changes: Any) -> AlertNotice:
    notice = AlertNotice(
        control_id="01JGK3V9Q8ZT4M2N7R5X",
        kind=MessageKind.RESULT,
        created_at=datetime(2026, 1, 2, 10, 15, 30, 123000, CET),
        site="MAIN",
        patient_id="12345",
        issuer_of_patient_id="HOSP",
        patient_name="DOE^JANE",
        patient_birth_date="19600101",
        patient_sex="F",
        accession_number="A1",
        study_instance_uid="1.2.276.0.7230010.3.1.2.1",
        study_description="XR Chest 2 Views",
        modality="DX",
        acquired_at=datetime(2026, 1, 2, 10, 9, tzinfo=CET),
        ordered_priority="STAT",
        placer_order_number="P123",
        filler_order_number="F456",
        patient_location="ED",
        referring_physician_name="REFER^RALPH",
        finding_name="pneumothorax",
        finding_display="pneumothorax",
        finding_code="36118008",
        finding_scheme="SCT",
        finding_radlex="RID5352",
        probability=0.91,
        band="high",
        detected_at=datetime(2026, 1, 2, 10, 15, 25, tzinfo=CET),
        detector_release="chest_xray 1.3.0",
    )
    return replace(notice, **changes)


def cleaned(text: str) -> str:
    """What may be lost of a value: controls and line breaks become one space, half characters a mark."""
    text = re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


# What ends fields, segments, frames or lines somewhere; several scripts; escape sequences as data.
_PIECES = [
    "|",
    "^",
    "&",
    "~",
    "\\",
    "\\F\\",
    "\\X0D\\",
    "\\.br\\",
    "\r",
    "\n",
    "\x0b",
    "\x1c",
    "\x1c\r",
    "\x85",
    "\u2028",
]
_PIECES += [
    "MSH|",
    "\rOBX|1",
    "OBR",
    "\x00",
    "\ud800",
    "山田",
    "太郎",
    "Ελένη",
    "Иванов",
    "فاطمة",
    "Müller",
    "🫁",
    " ",
    "A",
]
hostile_text = st.lists(st.sampled_from(_PIECES) | st.text(max_size=4), max_size=6).map("".join)


@st.composite
def hostile_notices(draw: st.DrawFn) -> AlertNotice:
    texts = [
        *("patient_id", "issuer_of_patient_id", "patient_name", "patient_birth_date", "patient_sex"),
        *("accession_number", "study_instance_uid", "study_description", "modality"),
        *("placer_order_number", "filler_order_number", "patient_location", "referring_physician_name"),
        *("finding_display", "detector_release", "finding_zone"),
    ]
    return a_notice(
        kind=draw(st.sampled_from(MessageKind)),
        probability=draw(st.floats(0, 1)),
        acquired_at=draw(st.none() | st.just(a_notice().acquired_at)),
        finding_side=draw(st.sampled_from(["", "left", "right", "both"])),
        **{name: draw(hostile_text) for name in texts},
    )
