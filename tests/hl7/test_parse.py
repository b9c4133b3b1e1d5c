"""Foreign ER7: read leniently, refused with a reason, never a crash; and the answer to it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import given
from hypothesis import strategies as st

from tests.hl7.notices import a_notice, cleaned, hostile_notices, hostile_text
from triage.domain.alerting import AlertNotice
from triage.domain.errors import Refused
from triage.domain.finding import Mode
from triage.hl7._text import escape, unescape
from triage.hl7.parse import AckCode, ErrorCode, build_ack, parse
from triage.hl7.results import build_oru

NOW = datetime(2026, 1, 2, 10, 15, 30, tzinfo=UTC)
ADT = "MSH|^~\\&|RIS|HOSP|TRIAGE|SITE|20260102||ADT^A08^ADT_A01|C1|P|2.5.1{charset}\rEVN||2026\rPID|1||7^^^HOSP^MR||{name}\r"


def an_adt(name: str = "DOE^JANE", charset: str = "", codec: str = "utf-8") -> bytes:
    return ADT.format(name=name, charset=f"||||||{charset}" if charset else "").encode(codec)


@pytest.mark.parametrize("ending", ["\r", "\n", "\r\n"])
def test_segments_may_end_as_they_like(ending: str) -> None:
    message = parse(an_adt().replace(b"\r", ending.encode()))
    assert [s.name for s in message.segments] == ["MSH", "EVN", "PID"]
    assert (message.kind, message.control_id) == ("ADT^A08", "C1")


def test_a_field_is_counted_as_the_standard_counts() -> None:
    message = parse(b"MSH|^~\\&|RIS|HOSP\rPID|1||7^^^HOSP&1.2&ISO~8\rZZZ|x\r")
    assert message.msh.field(1) == "|"
    assert message.msh.field(2) == "^~\\&"
    assert message.msh.field(3) == "RIS"
    pid = message.first("PID")
    assert [pid.field(3), pid.field(3, 4), pid.field(3, 4, subcomponent=2)] == ["7", "HOSP", "1.2"]
    assert (pid.repetitions(3), pid.field(3, repetition=2)) == (2, "8")


def test_what_is_not_there_is_empty() -> None:
    message = parse(an_adt())
    pid = message.first("PID")
    assert [pid.field(99), pid.field(5, 9), pid.field(5, repetition=3), pid.field(5, 1, subcomponent=2)] == [
        ""
    ] * 4
    assert (pid.repetitions(2), pid.repetitions(99), message.all("OBX")) == (0, 0, [])
    with pytest.raises(Refused, match="no OBX segment"):
        message.first("OBX")


def test_delimiters_are_those_of_the_message() -> None:
    message = parse(b"MSH#*!/+#RIS#HOSP###2026##ADT*A08#C1\rPID###7***HO/S/SP!8##D+E*J/F/N\r")
    pid = message.first("PID")
    assert (message.kind, message.control_id) == ("ADT^A08", "C1")
    assert [pid.field(3, 4), pid.field(3, repetition=2), pid.field(5, 2)] == ["HO*SP", "8", "J#N"]
    assert [pid.field(5, subcomponent=n) for n in (1, 2)] == ["D", "E"]


@pytest.mark.parametrize(
    ("charset", "codec", "name"),
    [
        ("", "utf-8", "Müller^Jörg"),
        ("", "latin-1", "Müller^Jörg"),
        ("ASCII", "ascii", "DOE^JANE"),
        ("8859/1", "latin-1", "Müller^Jörg"),
        ("8859/2", "iso8859_2", "Dvořák^Jiří"),
        ("8859/5", "iso8859_5", "Иванов^Пётр"),
        ("8859/7", "iso8859_7", "Παπαδόπουλος^Νίκος"),
        ("8859/8", "iso8859_8", "כהן^דוד"),
        ("UNICODE UTF-8", "utf-8", "山田^太郎"),
        ("unicode  utf-8", "utf-8", "فاطمة^علي"),
        ("~ISO IR87", "iso2022_jp", "山田^太郎"),
        ("GB 18030-2000", "gb18030", "王^小东"),
        ("KS X 1001", "euc_kr", "김^희중"),
    ],
)
def test_names_are_read_in_the_character_set_of_msh_18(charset: str, codec: str, name: str) -> None:
    pid = parse(an_adt(name, charset, codec)).first("PID")
    assert f"{pid.field(5)}^{pid.field(5, 2)}" == name


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"MSH",
        b"MSH|",
        b"MSH|^~\\&",
        b"MSH||||",
        b"MSHHHHHHHHH",
        b"MSH|^^^^|A|B",
        b"MSH|^~\\&|A\x0b",
        b"PID|1",
        b"\x0b",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfeM\x00S\x00H\x00",
        an_adt(charset="KLINGON"),
        an_adt("Müller", "UNICODE UTF-8", "latin-1"),
        an_adt("Müller", "ASCII", "latin-1"),
        b"MSH|^~\\&|A|B\rOBX|" + b"|" * 300_000,
        b"MSH|^~\\&|A|B\rOBX|" + b"~^" * 150_000,
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_is_no_message_is_refused_or_read_but_never_a_crash(raw: bytes) -> None:
    try:
        assert parse(raw).msh.name == "MSH"
    except Refused as refusal:
        assert str(refusal)


@given(
    st.binary(max_size=300)
    | st.binary(max_size=100).map(lambda b: b"MSH|^~\\&|A|B|" + b)
    | st.binary().map(lambda b: b"MSH" + b)
)
def test_any_bytes_parse_or_are_refused_and_are_answered(raw: bytes) -> None:
    try:
        message = parse(raw)
    except Refused:
        message = None
    if message is not None:
        for segment in message.segments:
            for number in range(1, 25):
                segment.field(number, 2, repetition=2, subcomponent=2)
    answer = parse(build_ack(raw, AckCode.AR, now=NOW, text="no"))
    assert answer.first("MSA").field(1) == "AR"


@given(st.data())
def test_a_damaged_message_is_read_or_refused(data: st.DataObject) -> None:
    raw = bytearray(build_oru(a_notice(), mode=Mode.OVERLAY, processing_id="T"))
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    except Refused as refusal:
        assert "DOE" not in str(refusal)


def test_a_header_that_ends_at_its_delimiter_is_refused() -> None:
    """Found by the property above: a line feed as MSH-1 left no second field."""
    with pytest.raises(Refused):
        parse(b"MSH\n^~\\&")


@given(hostile_text)
def test_unescaping_undoes_escaping_once(value: str) -> None:
    escaped = escape(value)
    assert unescape(escaped, "|^~\\&", "utf-8") == cleaned(value)
    assert not re.search(r"[|^&~\r\n]", escaped)


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [
        ("a\\F\\b", "a|b"),
        ("\\E\\F\\E\\", "\\F\\"),
        ("\\X4D4d\\", "MM"),
        ("\\XC3BC\\", "ü"),
        ("\\XZZ\\", "\\XZZ\\"),
        ("one\\.br\\two", "one\ntwo"),
        ("\\H\\bold\\N\\", "bold"),
        ("\\Zxx\\", "\\Zxx\\"),
        ("open \\F", "open \\F"),
        ("\\", "\\"),
        ("\\\\", "\\\\"),
        ("\\P\\", "#"),
    ],
)
def test_escape_sequences_mean_what_the_standard_says(escaped: str, plain: str) -> None:
    assert unescape(escaped, "|^~\\&", "utf-8") == plain


@given(hostile_notices())
def test_the_answer_names_the_message_and_goes_back_to_its_sender(notice: AlertNotice) -> None:
    raw = build_oru(notice, mode=Mode.TRIAGE_ONLY, processing_id="T", sending=("TR|IAGE", "SITE"))
    ack = parse(build_ack(raw, AckCode.AA, now=NOW))
    assert (ack.first("MSA").field(1), ack.first("MSA").field(2)) == ("AA", notice.control_id)
    assert [ack.msh.field(n) for n in (3, 4, 5, 6)] == ["EHR", "HOSP", "TR|IAGE", "SITE"]
    assert (ack.kind, ack.msh.field(11), ack.msh.field(12)) == ("ACK^R01", "T", "2.5.1")
    assert not ack.all("ERR")


def test_the_same_message_gets_the_same_answer() -> None:
    assert build_ack(an_adt(), AckCode.AA, now=NOW) == build_ack(an_adt(), AckCode.AA, now=NOW)
    assert build_ack(an_adt(), AckCode.AA, now=NOW) != build_ack(an_adt("ROE"), AckCode.AA, now=NOW)


@pytest.mark.parametrize("code", AckCode)
def test_an_independent_validator_accepts_every_answer(code: AckCode) -> None:
    raw = build_oru(a_notice(), mode=Mode.TRIAGE_ONLY, processing_id="T")
    ack = build_ack(raw, code, now=NOW, text="PID-5 | is missing", error=ErrorCode.REQUIRED_FIELD_MISSING)
    message = parse_message(ack.decode(), validation_level=VALIDATION_LEVEL.STRICT)
    assert message.validate()
    assert message.msa.msa_1.value == code


def test_a_refusing_answer_has_the_error_code_and_an_accepting_one_none() -> None:
    error = parse(build_ack(an_adt(), AckCode.AE, now=NOW, error=ErrorCode.DUPLICATE_KEY)).first("ERR")
    assert (error.field(3), error.field(4)) == ("205", "E")
    assert not parse(build_ack(an_adt(), AckCode.CA, now=NOW)).all("ERR")
