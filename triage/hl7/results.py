"""An AlertNotice as an unsolicited result, ORU^R01.

Preliminary and said to be so: never F in OBR-25 or OBX-11, never a reader in OBR-32. The same notice gives
the same bytes, so that a resend is byte-identical and the receiver can hold it to once by MSH-10.
source: standards 7.2; HL7 v2.5.1 chapters 2, 3 (PID, PV1), 4 (ORC), 7 (OBR, OBX)
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from triage.domain.alerting import AlertNotice, MessageKind
from triage.domain.finding import Mode
from triage.hl7._text import components, escape, plain, segment

Version = Literal["2.3.1", "2.4", "2.5.1"]
ProcessingId = Literal["P", "T", "D"]

_MAX_CONTROL_ID = 20  # MSH-10 in 2.3.1 to 2.5.1
_SEX = {"": "", "F": "F", "M": "M", "O": "O"}  # table 0001; anything else is U
_SIDES = {
    "right": ("24028007", "Right"),
    "left": ("7771000", "Left"),
    "both": ("51440002", "Bilateral"),
}  # CID 244
_DISCLAIMER = "Research software. Not for clinical use."


def build_oru(
    notice: AlertNotice,
    *,
    mode: Mode,
    processing_id: ProcessingId,
    sending: tuple[str, str] = ("TRIAGE", "SITE"),
    receiving: tuple[str, str] = ("EHR", "HOSP"),
    version: Version = "2.5.1",
) -> bytes:
    """One message in UTF-8, segments ended by CR, without the MLLP frame.

    mode               triage_only: nothing says where the finding is, whatever the notice holds
    sending, receiving (application, facility): MSH-3 and 4, MSH-5 and 6
    processing_id      MSH-11: P production, T training (demo), D debugging
    """
    assert 1 <= len(notice.control_id) <= _MAX_CONTROL_ID, "MSH-10 holds 20 characters"
    segments = [
        _msh(notice, sending, receiving, processing_id, version),
        _pid(notice),
        segment("PV1", [(1, "1"), (2, "U"), (3, components(notice.patient_location))]),
        _orc(notice),
        _obr(notice),
        *_obx(notice, mode, version),
        segment("NTE", [(1, "1"), (2, "L"), (3, _DISCLAIMER)]),
    ]
    return "".join(s + "\r" for s in segments).encode("utf-8")


def _msh(
    notice: AlertNotice,
    sending: tuple[str, str],
    receiving: tuple[str, str],
    processing_id: ProcessingId,
    version: Version,
) -> str:
    fields = [
        (2, "^~\\&"),
        (3, escape(sending[0])),
        (4, escape(sending[1])),
        (5, escape(receiving[0])),
        (6, escape(receiving[1])),
        (7, _moment(notice.created_at, "milliseconds")),
        (9, "ORU^R01^ORU_R01"),
        (10, escape(notice.control_id)),
        (11, processing_id),
        (12, version),
        (18, "UNICODE UTF-8"),  # MSH-15 and 16 stay empty: original mode, one acknowledgement
    ]
    return segment("MSH", [(number - 1, content) for number, content in fields])  # MSH-1 is the separator


def _pid(notice: AlertNotice) -> str:
    birth_date = notice.patient_birth_date
    fields = [
        (1, "1"),
        (3, components(notice.patient_id, "", "", notice.issuer_of_patient_id, "MR")),
        (5, _person_names(notice.patient_name)),
        # A malformed date would let a strict receiver refuse the alert: better none.
        (7, birth_date if len(birth_date) == 8 and birth_date.isascii() and birth_date.isdigit() else ""),
        (8, _SEX.get(notice.patient_sex.strip().upper(), "U")),
    ]
    return segment("PID", fields)


def _orc(notice: AlertNotice) -> str:
    return segment("ORC", [(1, "RE"), (2, escape(notice.placer_order_number)), (3, _filler(notice))])


def _obr(notice: AlertNotice) -> str:
    procedure = plain(notice.study_description).strip() or plain(notice.modality).strip() or "Imaging study"
    fields = [
        (1, "1"),
        (2, escape(notice.placer_order_number)),
        (3, _filler(notice)),
        (4, components("", procedure)),  # in words: we know no code of the order
        (7, _moment(notice.acquired_at)),
        (16, components("", *_xpn_order(notice.referring_physician_name.split("=")[0]))),
        (18, escape(notice.accession_number)),
        (22, _moment(notice.created_at)),
        (24, "RAD"),
        (25, "P" if notice.kind is MessageKind.RESULT else "C"),
        (27, "^^^^^S"),
    ]
    return segment("OBR", fields)


def _obx(notice: AlertNotice, mode: Mode, version: Version) -> list[str]:
    """The lines of one finding, grouped by OBX-4; then which DICOM study it is about."""
    coded = "CWE" if version == "2.5.1" else "CE"
    detector, _, release = notice.detector_release.rpartition(" ")
    scheme_text = notice.finding_display[:1].upper() + notice.finding_display[1:]
    alternate = (notice.finding_radlex, notice.finding_display, "RADLEX") if notice.finding_radlex else ()
    finding = components(notice.finding_code, scheme_text, notice.finding_scheme, *alternate)
    rows = [
        (
            coded,
            "18782-3^Radiology Study observation^LN",
            finding,
            [
                (14, _moment(notice.acquired_at)),
                (17, components(detector, release, "99TRIAGE")),
                *([] if version == "2.3.1" else [(19, _moment(notice.detected_at))]),  # OBX-19 came with 2.4
            ],
        ),
        (
            "NM",
            "99T-CERT^Certainty of finding^99TRIAGE",
            f"{100 * notice.probability:.0f}",
            [(6, "%^percent^UCUM")],
        ),
        (  # only findings of category 1 make an Alert (standards 13.3)
            coded,
            "99T-ACT^Actionable finding class^99TRIAGE",
            "RID49480^Cat 1 Emergent Actionable Finding^RADLEX",
            [(8, "AA")],
        ),
        ("TX", "99T-TEXT^Alert text^99TRIAGE", escape(alert_text(notice)), []),
    ]
    if mode is Mode.OVERLAY and notice.finding_side in _SIDES:
        place = components(*_SIDES[notice.finding_side], "SCT", "", notice.finding_zone)
        rows.append((coded, "363698007^Finding site^SCT", place, []))
    status = {MessageKind.WITHDRAWAL: "W", MessageKind.CORRECTION: "C"}.get(notice.kind, "P")
    lines = [
        segment("OBX", [(1, str(n)), (2, kind), (3, what), (4, "1"), (5, value), (11, status), *more])
        for n, (kind, what, value, more) in enumerate(rows, start=1)
    ]
    # As archives announce studies; O says that this line is no result (table 0085).
    study = [
        (2, "ST"),
        (3, "113014^DICOM Study^DCM"),
        (4, "2"),
        (5, escape(notice.study_instance_uid)),
        (11, "O"),
    ]
    return [*lines, segment("OBX", [(1, str(len(lines) + 1)), *study])]


def alert_text(notice: AlertNotice) -> str:
    """What a person reads of it; the words of standards 0.3, never "has" or "shows"."""
    return f"DRILL, no patient: {_said(notice)}" if notice.drill else _said(notice)


def _said(notice: AlertNotice) -> str:
    if notice.kind is MessageKind.CORRECTION:
        return (
            f"AI flag corrected: patient or order is named differently now. {notice.finding_display} suspected. "
            "Not yet read by a radiologist."
        )
    if notice.of_another_patient:
        return "AI flag withdrawn: the study is not of this patient. Not yet read by a radiologist."
    if notice.kind is MessageKind.WITHDRAWAL:
        return (
            f"AI flag withdrawn: a newer analysis of this study no longer suspects {notice.finding_display}. "
            "This is not a reading: not yet read by a radiologist."
        )
    return f"AI flag: {notice.finding_display} suspected. Not yet read by a radiologist."


def _filler(notice: AlertNotice) -> str:
    """OBR-3; one of OBR-2 and OBR-3 must be there, and the accession number is what a receiver knows best."""
    if notice.filler_order_number or notice.placer_order_number:
        return escape(notice.filler_order_number)
    return escape(notice.accession_number or notice.study_instance_uid)


def _person_names(patient_name: str) -> str:
    """DICOM PN as XPN: each of the groups alphabetic=ideographic=phonetic is a repetition (XPN.8 A, I, P)."""
    groups = plain(patient_name).split("=")[:3]
    if not any(map(_says_something, groups)):
        return "^^^^^^U"  # PID-5 is required; U: unspecified (table 0200)
    if len(groups) == 1:
        return components(*_xpn_order(groups[0]))
    return "~".join(
        components(*_xpn_order(group), "", "L", representation)
        for group, representation in zip(groups, "AIP", strict=False)
        if _says_something(group)
    )


def _says_something(group: str) -> bool:
    return bool(group.replace("^", "").strip())


def _xpn_order(group: str) -> tuple[str, ...]:
    """family, given, middle, suffix, prefix: the last two change places between PN and XPN."""
    family, given, middle, prefix, suffix = (group.split("^") + [""] * 5)[:5]
    return family, given, middle, suffix, prefix


def _moment(moment: datetime | None, precision: Literal["seconds", "milliseconds"] = "seconds") -> str:
    """DTM with zone, of the moment's own zone."""
    if moment is None:
        return ""
    assert moment.tzinfo is not None, "a moment in a message has a zone"
    thousandths = f".{moment.microsecond // 1000:03d}" if precision == "milliseconds" else ""
    return f"{moment.year:04d}{moment:%m%d%H%M%S}{thousandths}{format(moment, '%z')[:5]}"
