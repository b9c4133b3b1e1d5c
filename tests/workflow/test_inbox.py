"""Messages in, over a real database: what they do to list, patients and alerts, and what their sender hears."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import hl7
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import NOON, a_finding, uid
from tests.hl7.messages import a_report, an_adt, an_omi, an_orm, message, msh, pid
from tests.workflow.desk import Desk
from triage.store import audit, messages, orders, studies
from triage.store.database import Database
from triage.workflow.inbox import Inbox


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def inbox(desk: Desk) -> Inbox:
    return Inbox(desk.database, desk.site, desk.clock, desk.ids)


def send(desk: Desk, *raws: bytes) -> list[str]:
    """MSA-1 of every answer; the messages one after the other."""
    return [
        str(hl7.parse(a.decode()).segment("MSA")[1])
        for raw in raws
        for a in inbox(desk).answers(raw, "10.0.0.9")
    ]


def error_of(desk: Desk, raw: bytes) -> tuple[str, str]:
    """(MSA-1, ERR-3) of the one answer."""
    (answer,) = inbox(desk).answers(raw)
    parsed = hl7.parse(answer.decode())
    return str(parsed.segment("MSA")[1]), str(parsed.segment("ERR")[3][0][0])


def kept(desk: Desk, **filters: Any) -> list[dict[str, Any]]:
    with desk.database.read() as tx:
        return messages.listing(tx, **filters)


def order_of(desk: Desk, accession: str = "A1") -> dict[str, Any]:
    with desk.database.read() as tx:
        return orders.of_study(tx, "", accession)[0]


# --- orders ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order", [an_orm(), an_omi(), an_orm(version="2.3.1"), an_orm(uid=uid(1), accession="")]
)
@pytest.mark.parametrize("before", [True, False])
def test_an_order_gives_its_priority_whether_before_or_after_the_images(
    desk: Desk, order: bytes, before: bool
) -> None:
    if before:
        assert send(desk, order) == ["AA"]
    desk.receive(accession_number="A1")
    if not before:
        assert desk.item()["ordered_priority"] == "ROUTINE"
        assert send(desk, order) == ["AA"]

    item = desk.item()
    assert (item["ordered_priority"], item["priority_class"]) == ("STAT", 2)
    assert item["location"] in ("ED 12 A", "ICU 2")
    with desk.database.read() as tx:
        assert "order.received" in [e["act"] for e in audit.events(tx)]


def test_an_order_says_what_is_expected_and_for_whom(desk: Desk) -> None:
    send(desk, an_orm(accession="A9", priority="A"))
    with desk.database.read() as tx:
        (row,) = orders.expected(tx, NOON - timedelta(days=1))
    assert row["priority"] == "URGENT" and row["reason_for_exam"] == "chest pain"
    assert (row["placer_order_number"], row["placer_namespace"]) == ("PL1", "HIS")
    assert (row["procedure_text"], row["modality"], row["patient_class"]) == ("Chest 2 views", "DX", "E")
    assert row["requested_at"].hour == 11 and row["patient_id"] is not None
    desk.receive(study=9)
    with desk.database.read() as tx:
        assert orders.expected(tx, NOON - timedelta(days=1)) == []


def test_a_change_of_priority_moves_the_study_both_ways(desk: Desk) -> None:
    desk.receive()
    places = []
    for priority in ("S", "R", "A"):
        assert send(desk, an_orm("XO", priority=priority)) == ["AA"]
        places.append(desk.item()["priority_class"])
    assert places == [2, 0, 1]
    assert [e for e in desk.acts() if e.startswith("order.")] == [
        "order.received",
        "order.changed",
        "order.changed",
    ]


@pytest.mark.parametrize("cancel", [("CA", ""), ("DC", ""), ("OC", ""), ("SC", "CA")])
def test_a_cancelled_order_closes_the_alert_and_gives_its_place_back(
    desk: Desk, cancel: tuple[str, str]
) -> None:
    send(desk, an_orm())
    desk.flagged(a_finding())
    assert send(desk, an_orm(cancel[0], status=cancel[1])) == ["AA"]

    assert order_of(desk)["state"] == "cancelled" and desk.item()["ordered_priority"] == "ROUTINE"
    assert [a["state"] for a in desk.alerts()] == ["closed"]


def test_a_cancellation_that_overtakes_its_order_stands(desk: Desk) -> None:
    late, early = "20260314120000+0000", "20260314110000+0000"
    assert send(desk, an_orm("CA", at=late), an_orm("NW", at=early)) == ["AA", "AA"]
    assert order_of(desk)["state"] == "cancelled"
    assert send(desk, an_orm("NW", at="20260314130000+0000")) == ["AA"]
    assert order_of(desk)["state"] == "active"


def test_one_message_may_hold_several_orders(desk: Desk) -> None:
    both = message(
        msh("ORM^O01"), pid(), "ORC|NW|1|11|", "OBR|1|1|11|X||||||||||||||AA1|||||||||^^^^^R",
        "ORC|NW|2|12|", "OBR|2|2|12|X||||||||||||||AA2|||||||||^^^^^R~^^^^^S",
    )  # fmt: skip
    assert send(desk, both) == ["AA"]
    assert [order_of(desk, a)["priority"] for a in ("AA1", "AA2")] == ["ROUTINE", "STAT"]


def test_equal_numbers_of_two_systems_are_two_orders(desk: Desk) -> None:
    send(
        desk,
        an_orm(accession="B1", placer="7^HIS", filler=""),
        an_orm(accession="B2", placer="7^OTHER", filler=""),
    )
    assert order_of(desk, "B1")["id"] != order_of(desk, "B2")["id"]


def test_a_stat_order_hurries_a_scan_that_waits(desk: Desk) -> None:
    taken = desk.receive_scan()
    desk.clock.advance(60)
    ((run_id, queue),) = desk.judge(taken.series_id)
    assert queue == "routine"
    send(desk, an_orm())
    assert desk.run(run_id)["queue"] == "stat"


def test_an_unknown_priority_counts_as_routine_and_is_said(desk: Desk) -> None:
    assert send(desk, an_orm(priority="ZZ")) == ["AA"]
    assert order_of(desk)["priority"] == "ROUTINE" and "priority" in kept(desk)[0]["reason"]


# --- patients -------------------------------------------------------------------------------------------------


def names(desk: Desk) -> set[tuple[str, str]]:
    with desk.database.read() as tx:
        row = studies.get_study(tx, 1)
    return {(row["patient_code"], row["patient_name"])}


@pytest.mark.parametrize("event", ["A01", "A04", "A05", "A08", "A31", "A02", "A03", "A28"])
def test_an_update_reaches_the_list(desk: Desk, event: str) -> None:
    desk.receive(issuer_of_patient_id="HOSP")
    assert send(desk, an_adt(event, pid(name="ROE^JANE^M"))) == ["AA"]
    assert names(desk) == {("P1", "ROE^JANE^M")}


@pytest.mark.parametrize("event", ["A40", "A18", "A34", "A39", "A36"])
def test_a_merge_moves_the_studies(desk: Desk, event: str) -> None:
    desk.receive(issuer_of_patient_id="HOSP")
    merge = an_adt(event, pid("P9", "ROE^JANE"), "MRG|P1^^^HOSP^MR")
    assert send(desk, merge, merge) == ["AA", "AA"]
    assert names(desk) == {("P9", "ROE^JANE")}


def _history() -> list[bytes]:
    return [
        an_adt("A04", pid("P1", "DOE^JANE"), at="20260314100000+0000", control_id="H1"),
        an_adt("A08", pid("P1", "DOE^JANET"), at="20260314110000+0000", control_id="H2"),
        an_adt("A40", pid("P2", "DOE^JANET"), "MRG|P1^^^HOSP^MR", at="20260314120000+0000", control_id="H3"),
        an_adt("A31", pid("P2", "ROE^JANET"), at="20260314130000+0000", control_id="H4"),
        an_adt("A40", pid("P3", "ROE^JANET"), "MRG|P2^^^HOSP^MR", at="20260314140000+0000", control_id="H5"),
        an_adt("A08", pid("P3", "ROE^JANET^X"), at="20260314150000+0000", control_id="H6"),
    ]


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=4), st.integers(0, 5))
def test_in_any_order_and_twice_it_comes_to_the_same(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], again: list[int], images_at: int
) -> None:
    from triage.store import schema

    database = Database(f"sqlite:///{tmp_path_factory.mktemp('adt') / 't.db'}")
    schema.metadata.create_all(database.engine)
    desk = Desk(database)
    history = _history()
    for number, which in enumerate([*order, *again]):
        if number == images_at:
            desk.receive(issuer_of_patient_id="HOSP")
        assert send(desk, history[which]) == ["AA"]
    assert names(desk) == {("P3", "ROE^JANET^X")}
    database.close()


def test_what_is_not_ours_to_do_is_ignored_or_refused(desk: Desk) -> None:
    assert send(desk, an_adt("A24", pid()), message(msh("SIU^S12"), pid())) == ["AA", "AA"]
    assert {m["state"] for m in kept(desk)} == {"ignored"}
    assert error_of(desk, an_adt("A40", pid("P9"), "MRG|P1^^^ELSEWHERE^MR")) == ("AE", "102")
    assert error_of(desk, an_adt("A43", pid("P9"), "MRG|P1^^^HOSP^MR")) == ("AE", "201")
    assert error_of(desk, an_adt("A40", pid("P9"))) == ("AE", "101")
    assert error_of(desk, an_adt("A08")) == ("AE", "100")


def test_the_bed_of_a_transfer_reaches_the_list(desk: Desk) -> None:
    send(desk, an_orm())
    desk.receive(issuer_of_patient_id="HOSP")
    send(desk, an_adt("A02", pid(), "PV1|1|I|ICU^4", at="20260314130000+0000"))
    assert desk.item()["location"] == "ICU 4"
    send(desk, an_adt("A02", pid(), "PV1|1|I|WARD^9", at="20260314123000+0000"))  # it was sent before
    assert desk.item()["location"] == "ICU 4"


# --- reports --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "state"), [("P", "preliminary"), ("F", "final"), ("C", "addendum"), ("R", "preliminary")]
)
def test_a_report_ends_the_waiting_and_the_alert(desk: Desk, status: str, state: str) -> None:
    desk.flagged(a_finding())
    assert send(desk, a_report(status)) == ["AA"]

    item = desk.item()
    assert (item["state"], item["report_state"]) == ("read", state) and item["read_at"] == desk.clock()
    assert [a["state"] for a in desk.alerts()] == ["closed"]
    with desk.database.read() as tx:
        (report,) = messages.reports_of(tx, 1)
    assert report["text"] == "No pneumothorax." and report["reported_at"].minute == 30


def test_a_preliminary_report_that_comes_late_changes_nothing(desk: Desk) -> None:
    desk.flagged(a_finding())
    send(desk, a_report("F"), a_report("P"), a_report("P"))
    assert desk.item()["report_state"] == "final"
    with desk.database.read() as tx:
        assert [r["state"] for r in messages.reports_of(tx, 1)] == ["final", "preliminary"]


def test_a_report_that_is_taken_back_brings_the_study_back(desk: Desk) -> None:
    desk.flagged(a_finding())
    send(desk, a_report("F"), a_report("X", text=""))
    assert desk.item()["state"] == "to_read" and desk.item()["report_state"] == ""
    send(desk, a_report("F"))
    assert desk.item()["state"] == "read"


def test_a_report_before_its_images_waits_for_them(desk: Desk) -> None:
    assert send(desk, a_report("F")) == ["AA"]
    assert "no study" in kept(desk)[0]["reason"]
    desk.receive()
    assert (desk.item()["state"], desk.item()["report_state"]) == ("read", "final")


def test_a_report_finds_its_study_through_the_order(desk: Desk) -> None:
    send(desk, an_orm(accession="A1", filler="FI77^RIS"))
    desk.receive()
    send(desk, a_report("F", accession="", filler="FI77^RIS"))
    assert desk.item()["state"] == "read"


def test_our_own_alert_sent_back_closes_nothing(desk: Desk) -> None:
    from tests.hl7.notices import a_notice
    from triage.domain.finding import Mode
    from triage.hl7.results import build_oru

    desk.flagged(a_finding())
    echo = build_oru(a_notice(accession_number="A1"), mode=Mode.TRIAGE_ONLY, processing_id="P")
    assert send(desk, echo) == ["AA"]
    assert [a["state"] for a in desk.alerts()] == ["open"] and kept(desk)[0]["state"] == "ignored"


# --- answers --------------------------------------------------------------------------------------------------


def test_the_same_message_again_is_the_same_answer_and_no_work(desk: Desk) -> None:
    order = an_orm(control_id="ONCE")
    first, second = [next(inbox(desk).answers(order)) for _ in range(2)]
    assert first == second and len(kept(desk)) == 1
    assert desk.acts().count("order.received") == 1 and "order.changed" not in desk.acts()


def test_a_number_with_other_content_is_an_error_until_senders_may_have_begun_anew(desk: Desk) -> None:
    assert send(desk, an_orm(control_id="N1")) == ["AA"]
    assert error_of(desk, an_orm(control_id="N1", priority="R")) == ("AE", "205")
    assert order_of(desk)["priority"] == "STAT"
    desk.clock.advance(13 * 3600)
    assert send(desk, an_orm(control_id="N1", priority="R")) == ["AA"]


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b"nonsense", ("AR", "102")),
        (message(msh("ORM^O01", control_id=" "), pid()), ("AE", "101")),
        (message(msh("ORM^O01", version="3.0"), pid()), ("AR", "203")),
        (message(msh("RDS^O13"), pid()), ("AR", "200")),
        (message(msh("ORM^O01").replace("|P|", "|Q|"), pid()), ("AR", "202")),
        (message(msh("ORM^O01"), pid()), ("AE", "101")),
        (message(msh("ORM^O01"), pid(), "ORC|QQ|1"), ("AE", "103")),
        (message(msh("ORM^O01"), pid(), "ORC|NW", "OBR|1"), ("AE", "101")),
        (message(msh("ORU^R01"), pid(), "OBR|1|1|2|X"), ("AE", "103")),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_answered_with_the_reason_and_kept(
    desk: Desk, raw: bytes, answer: tuple[str, str]
) -> None:
    assert error_of(desk, raw) == answer
    (row,) = kept(desk)
    assert row["state"] == "refused" and row["reason"] and (row["code"], row["error"]) == answer
    assert "message.refused" in desk.acts()


def test_a_refused_message_is_worked_again_when_it_comes_again(desk: Desk) -> None:
    raw = message(msh("ORM^O01", control_id="R1"), pid(), "ORC|QQ|1")
    assert error_of(desk, raw) == error_of(desk, raw) == ("AE", "103")
    (row,) = kept(desk)
    assert row["attempts"] == 2


@pytest.mark.parametrize(
    ("conditions", "good", "bad"),
    [
        ("|||AL|AL", ["CA", "AA"], ["CA", "AE"]),
        ("|||AL|NE", ["CA"], ["CA"]),
        ("|||NE|AL", ["AA"], ["AE"]),
        ("|||AL|ER", ["CA"], ["CA", "AE"]),
        ("|||SU|SU", ["CA", "AA"], ["CA"]),
        ("|||NE|NE", [], []),
        ("|||AL|", ["CA"], ["CA"]),
        ("|||ER|ER", [], ["AE"]),
    ],
)
def test_enhanced_mode_answers_what_was_asked_for(
    desk: Desk, conditions: str, good: list[str], bad: list[str]
) -> None:
    assert send(desk, an_orm(more=conditions)) == good
    assert order_of(desk)["priority"] == "STAT"
    assert send(desk, message(msh("ORM^O01", more=conditions), pid(), "ORC|QQ|1")) == bad


def test_in_enhanced_mode_what_is_known_at_once_is_said_at_once(desk: Desk) -> None:
    send(desk, an_orm(control_id="E1"))
    assert send(desk, an_orm(control_id="E1", priority="R", more="|||AL|AL")) == ["CE"]
    assert send(desk, message(msh("RDS^O13", more="|||AL|AL"), pid())) == ["CR"]


def test_safe_on_disk_before_the_accept_answer_and_worked_after_a_crash(desk: Desk) -> None:
    answers = inbox(desk).answers(an_orm(more="|||AL|AL"))
    assert b"|CA|" in b"|".join([next(answers).split(b"\r")[1]]) + b"|"
    answers.close()  # the process dies here
    assert kept(desk)[0]["state"] == "received"
    assert inbox(desk).work_left() == 0  # perhaps it is being worked through just now
    desk.clock.advance(61)
    assert inbox(desk).work_left() == 1
    assert order_of(desk)["priority"] == "STAT" and kept(desk)[0]["state"] == "applied"


def test_a_batch_is_answered_by_a_batch(desk: Desk) -> None:
    batch = b"FHS|^~\\&|RIS\rBHS|^~\\&|RIS\r" + an_orm(accession="B1", placer="1", filler="") + b"BAD|1\r"
    batch += an_orm(accession="B2", placer="2", filler="") + message(msh("RDS^O13")) + b"BTS|3\rFTS|1\r"
    (answer,) = inbox(desk).answers(batch)
    lines = answer.split(b"\r")
    assert lines[0].startswith(b"BHS|") and b"BTS|3" in lines
    assert [line.split(b"|")[1] for line in lines if line.startswith(b"MSA")] == [b"AA", b"AA", b"AR"]
    assert order_of(desk, "B2")["priority"] == "STAT"


def test_a_batch_without_end_is_refused(desk: Desk) -> None:
    assert error_of(desk, b"BHS|^~\\&\r" + an_orm() * 1001) == ("AR", "102")


@pytest.mark.parametrize("charset", ["8859/1", "UNICODE UTF-8", "ISO IR87", "GB 18030-2000", ""])
def test_names_come_in_the_character_set_that_was_declared(desk: Desk, charset: str) -> None:
    codec = {"8859/1": "latin-1", "ISO IR87": "iso2022_jp", "GB 18030-2000": "gb18030"}.get(charset, "utf-8")
    name = {"latin-1": "Müller^Zoë", "iso2022_jp": "山田^太郎", "gb18030": "王^小东"}.get(codec, "Ελένη^Ü")
    desk.receive(issuer_of_patient_id="HOSP")
    text = "\r".join([msh("ADT^A08", more=f"||||||{charset}"), "EVN|A08", pid(name=name)])
    assert send(desk, text.encode(codec)) == ["AA"]
    assert names(desk) == {("P1", name)}


def test_a_bug_of_ours_is_answered_parked_and_stops_no_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("triage.workflow.inbox.orders_of", lambda _: 1 / 0)
        raw = an_orm(control_id="BUG")
        assert error_of(desk, raw) == ("AR", "207")
        assert kept(desk)[0]["state"] == "parked"
    assert send(desk, raw) == ["AA"] and order_of(desk)["priority"] == "STAT"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_message_makes_an_error_of_ours(desk: Desk, data: st.DataObject) -> None:
    """Whatever is cut from or written into real messages: an answer, and no parked row."""
    base = data.draw(
        st.sampled_from([an_orm(), an_omi(), a_report(), an_adt("A40", pid("P9"), "MRG|P1^^^HOSP^MR")])
    )
    raw = bytearray(base)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        piece = data.draw(
            st.sampled_from([b"", b"|", b"^", b"~", b"&", b"\\", b"\r", b'""', b"\xff", b"9" * 300, b"\x00"])
        )
        raw[at : at + data.draw(st.integers(0, 9))] = piece
    for answer in inbox(desk).answers(bytes(raw)):
        assert b"MSA|" in answer
    assert kept(desk, states=("parked", "received")) == []
