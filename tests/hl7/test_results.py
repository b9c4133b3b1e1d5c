"""ORU^R01: what goes out says what it must, no more, and nothing in the data can change its structure."""

from __future__ import annotations

import re

import hl7
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import given, settings

from tests.hl7.notices import a_notice, cleaned, hostile_notices, hostile_text
from triage.domain.alerting import AlertNotice, MessageKind
from triage.domain.finding import Mode
from triage.hl7.parse import Message, parse
from triage.hl7.results import Version, build_oru

GOLDEN = """\
MSH|^~\\&|TRIAGE|SITE|EHR|HOSP|20260102101530.123+0100||ORU^R01^ORU_R01|01JGK3V9Q8ZT4M2N7R5X|P|2.5.1||||||UNICODE UTF-8
PID|1||12345^^^HOSP^MR||DOE^JANE||19600101|F
PV1|1|U|ED
ORC|RE|P123|F456
OBR|1|P123|F456|^XR Chest 2 Views|||20260102100900+0100|||||||||^REFER^RALPH||A1||||20260102101530+0100||RAD|P||^^^^^S
OBX|1|CWE|18782-3^Radiology Study observation^LN|1|36118008^Pneumothorax^SCT^RID5352^pneumothorax^RADLEX||||||P|||20260102100900+0100|||chest_xray^1.3.0^99TRIAGE||20260102101525+0100
OBX|2|NM|99T-CERT^Certainty of finding^99TRIAGE|1|91|%^percent^UCUM|||||P
OBX|3|CWE|99T-ACT^Actionable finding class^99TRIAGE|1|RID49480^Cat 1 Emergent Actionable Finding^RADLEX|||AA|||P
OBX|4|TX|99T-TEXT^Alert text^99TRIAGE|1|AI flag: pneumothorax suspected. Not yet read by a radiologist.||||||P
OBX|5|ST|113014^DICOM Study^DCM|2|1.2.276.0.7230010.3.1.2.1||||||O
NTE|1|L|Research software. Not for clinical use.
"""  # noqa: E501


def an_oru(notice: AlertNotice, mode: Mode = Mode.TRIAGE_ONLY, version: Version = "2.5.1") -> bytes:
    return build_oru(notice, mode=mode, processing_id="P", version=version)


def test_the_message_is_the_one_of_the_standards_page() -> None:
    assert an_oru(a_notice()).decode().replace("\r", "\n") == GOLDEN


@given(hostile_notices())
def test_the_same_notice_gives_the_same_bytes(notice: AlertNotice) -> None:
    assert an_oru(notice) == an_oru(notice)


@given(hostile_notices())
def test_no_data_changes_the_structure(notice: AlertNotice) -> None:
    """T19: the segments are ours, and every value comes back as it went in, whoever splits it."""
    raw = an_oru(notice)
    assert not re.search(rb"[\x00-\x0c\x0e-\x1f\x7f]", raw)
    text = raw.decode("utf-8")
    names = [line[:3] for line in text.splitlines()]
    assert names == ["MSH", "PID", "PV1", "ORC", "OBR", "OBX", "OBX", "OBX", "OBX", "OBX", "NTE"]
    message = parse(raw)
    assert [s.name for s in message.segments] == names
    assert message.first("PID").field(3) == cleaned(notice.patient_id)
    assert message.first("PID").field(3, 4) == cleaned(notice.issuer_of_patient_id)
    assert message.first("OBR").field(18) == cleaned(notice.accession_number)
    assert message.first("OBR").field(2) == cleaned(notice.placer_order_number)
    assert message.all("OBX")[-1].field(5) == cleaned(notice.study_instance_uid)
    check_names(message, notice.patient_name)
    # The library alone, as another receiver would: its unescape gives the same.
    other = hl7.parse(text)
    assert other.unescape(str(other["OBR"][0][18])) == message.first("OBR").field(18)


def check_names(message: Message, patient_name: str) -> None:
    pid = message.first("PID")
    groups = cleaned(patient_name).split("=")[:3]
    if not any(g.replace("^", "").strip() for g in groups):
        assert pid.field(5, 7) == "U"
        return
    if len(groups) > 1:
        groups = [g for g in groups if g.replace("^", "").strip()]
    for position, group in enumerate(groups, start=1):
        family, given_name, middle, prefix, suffix = (group.split("^") + [""] * 5)[:5]
        expected = [cleaned(part) for part in (family, given_name, middle, suffix, prefix)]
        assert [pid.field(5, c, repetition=position) for c in range(1, 6)] == expected


@given(hostile_text)
def test_every_group_of_a_name_is_a_repetition_with_its_kind(family: str) -> None:
    plain = re.sub("[=^]", "", family) + "x"
    pid = parse(an_oru(a_notice(patient_name=f"{plain}^A={plain}^B={plain}^C"))).first("PID")
    assert pid.repetitions(5) == 3
    assert [pid.field(5, 8, repetition=n) for n in (1, 2, 3)] == ["A", "I", "P"]
    assert [pid.field(5, 2, repetition=n) for n in (1, 2, 3)] == ["A", "B", "C"]


@pytest.mark.parametrize("nobody", ["", "^^^^", "==", "\r\n", " ^\x00^", "^=^=\u3000"])
def test_a_patient_without_a_name_is_said_to_be_one(nobody: str) -> None:
    assert b"||^^^^^^U||" in an_oru(a_notice(patient_name=nobody))


def test_japanese_names_keep_their_three_spellings() -> None:
    pid = parse(an_oru(a_notice(patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう"))).first("PID")
    assert [pid.field(5, 1, repetition=n) for n in (1, 2, 3)] == ["Yamada", "山田", "やまだ"]


def test_prefix_and_suffix_change_places() -> None:
    pid = parse(an_oru(a_notice(patient_name="Adams^John^Robert^Rev.^B.A."))).first("PID")
    assert [pid.field(5, c) for c in range(1, 6)] == ["Adams", "John", "Robert", "B.A.", "Rev."]


@pytest.mark.parametrize("version", ["2.3.1", "2.4", "2.5.1"])
@pytest.mark.parametrize("kind", MessageKind)
@pytest.mark.parametrize("mode", Mode)
def test_an_independent_validator_accepts_it_strictly(
    version: Version, kind: MessageKind, mode: Mode
) -> None:
    name = "O\\Neill|&~^山田^x=山田^太郎"
    raw = an_oru(
        a_notice(kind=kind, patient_name=name, finding_side="left", finding_zone="upper"), mode, version
    )
    message = parse_message(raw.decode(), validation_level=VALIDATION_LEVEL.STRICT)
    assert message.validate()


@settings(max_examples=15, deadline=None)
@given(hostile_notices())
def test_the_validator_accepts_hostile_data_too(notice: AlertNotice) -> None:
    assert parse_message(an_oru(notice).decode(), validation_level=VALIDATION_LEVEL.TOLERANT).validate()


@given(hostile_notices())
def test_triage_only_says_nothing_of_the_place(notice: AlertNotice) -> None:
    without = an_oru(a_notice_without_place(notice))
    assert an_oru(notice) == without


def a_notice_without_place(notice: AlertNotice) -> AlertNotice:
    return a_notice(**{**vars(notice), "finding_side": "", "finding_zone": ""})


def test_overlay_mode_says_the_side() -> None:
    raw = an_oru(a_notice(finding_side="left", finding_zone="upper"), Mode.OVERLAY)
    place = parse(raw).all("OBX")[4]
    assert (place.field(3), place.field(5), place.field(5, 2)) == ("363698007", "7771000", "Left")
    assert place.field(5, 5) == "upper"


def test_a_withdrawal_takes_back_the_same_lines() -> None:
    result, withdrawal = (
        parse(an_oru(a_notice(kind=kind))) for kind in (MessageKind.RESULT, MessageKind.WITHDRAWAL)
    )
    assert withdrawal.first("OBR").field(25) == "C"
    assert {x.field(11) for x in withdrawal.all("OBX")[:4]} == {"W"}
    assert "withdrawn" in withdrawal.all("OBX")[3].field(5)
    for a, b in zip(result.all("OBX"), withdrawal.all("OBX"), strict=True):
        assert (a.field(3), a.field(4)) == (b.field(3), b.field(4))
    assert [result.first("OBR").field(n) for n in (2, 3)] == [
        withdrawal.first("OBR").field(n) for n in (2, 3)
    ]


@given(hostile_notices())
def test_nothing_is_ever_final_or_signed_by_a_reader(notice: AlertNotice) -> None:
    message = parse(an_oru(notice))
    assert message.first("OBR").field(25) in ("P", "C")
    assert message.first("OBR").field(32) == ""
    assert all(x.field(11) in ("P", "C", "W", "O") for x in message.all("OBX"))


def test_a_study_without_orders_is_still_found_by_its_accession_number_or_uid() -> None:
    bare = {"placer_order_number": "", "filler_order_number": ""}
    assert parse(an_oru(a_notice(**bare))).first("OBR").field(3) == "A1"
    assert parse(an_oru(a_notice(**bare, accession_number=""))).first("OBR").field(3).startswith("1.2.276")


@pytest.mark.parametrize(("given_sex", "sent"), [("F", "F"), ("m", "M"), ("O", "O"), ("", ""), ("?", "U")])
def test_sex_is_a_code_of_the_table(given_sex: str, sent: str) -> None:
    assert parse(an_oru(a_notice(patient_sex=given_sex))).first("PID").field(8) == sent


def test_a_malformed_birth_date_does_not_stop_an_alert() -> None:
    assert parse(an_oru(a_notice(patient_birth_date="1960-01-01"))).first("PID").field(7) == ""
