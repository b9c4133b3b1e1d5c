"""The messages API: both directions, the raw view, replay and park; for administrators alone."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.hl7.messages import an_orm, message, msh, pid
from tests.web.conftest import SignedIn
from tests.web.seed import Sown, pneumothorax
from triage.domain.alerting import DeliveryState, MessageKind
from triage.store import alerts, audit, deliveries
from triage.workflow.inbox import Inbox
from triage.workflow.site import Site, new_id


@pytest.fixture
def admin(signed_in: SignedIn) -> FlaskClient:
    return signed_in("admin")


def take(sown: Sown, raw: bytes) -> None:
    list(Inbox(sown.database, Site(), lambda: sown.now).answers(raw, "10.0.0.9"))


def listed(client: FlaskClient, direction: str, **query: str) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/messages", query_string={"direction": direction, **query})
    assert answer.status_code == 200, answer.get_json()
    return list(answer.get_json()["messages"])


def a_delivery(sown: Sown, state: DeliveryState) -> int:
    sown.add(findings=(pneumothorax(),))
    with sown.database.write() as tx:
        deliveries.sync_routes(tx, [("ris", "mllp")])
        alert = alerts.listing(tx)[0]
        deliveries.add(tx, alert["id"], "ris", 0, MessageKind.RESULT, new_id(), sown.now)
        row = deliveries.rows(tx, alert["id"])[-1]
        deliveries.keep_payload(tx, row["id"], b"MSH|^~\\&|TRIAGE\rPID|1\r")
        deliveries.record_attempt(tx, row["id"], sown.now, "refused", "AE 102", state, None)
    return int(row["id"])


def test_what_came_in_is_listed_with_its_reason_and_paged(admin: FlaskClient, sown: Sown) -> None:
    take(sown, an_orm(accession="A77"))
    take(sown, message(msh("ORM^O01"), pid(), "ORC|QQ|1"))
    rows = listed(admin, "in")
    assert [(r["state"], r["answer"]) for r in rows] == [("refused", "AE"), ("applied", "AA")]
    assert "ORC-1" in rows[0]["reason"] and rows[1]["accession_number"] == "A77"
    assert [r["id"] for r in listed(admin, "in", state="refused")] == [rows[0]["id"]]
    page = admin.get("/api/v1/messages?direction=in&limit=1").get_json()
    assert [r["id"] for r in listed(admin, "in", before=str(page["next"]))] == [rows[1]["id"]]
    assert admin.get("/api/v1/messages?direction=in&state=waiting").status_code == 422


def test_a_search_by_accession_finds_both_ways(admin: FlaskClient, sown: Sown) -> None:
    delivery = a_delivery(sown, DeliveryState.PARKED)
    accession = listed(admin, "out")[0]["accession_number"]
    take(sown, an_orm(accession=accession))
    found = admin.post("/api/v1/messages/search", json={"accession_number": accession}).get_json()["messages"]
    assert {(m["direction"], m["id"]) for m in found} == {("in", 1), ("out", delivery)}


def test_the_raw_view_is_audited(admin: FlaskClient, sown: Sown) -> None:
    take(sown, an_orm())
    raw = admin.post("/api/v1/messages/in/1/raw", json={}).get_json()["raw"]
    assert raw.startswith("MSH|") and "\nPID|" in raw
    with sown.database.read() as tx:
        assert [e["act"] for e in audit.events(tx)][-1] == "message.viewed"
    assert admin.post("/api/v1/messages/in/99/raw", json={}).status_code == 404


def test_a_parked_message_is_sent_again_under_a_new_control_id(admin: FlaskClient, sown: Sown) -> None:
    delivery = a_delivery(sown, DeliveryState.PARKED)
    old = listed(admin, "out", state="parked")[0]
    new = admin.post(f"/api/v1/messages/out/{delivery}/replay", json={}).get_json()
    assert new["state"] == "waiting" and new["control_id"] != old["control_id"] and new["id"] != delivery
    assert listed(admin, "out", state="parked") == [old]
    again = admin.post(f"/api/v1/messages/out/{new['id']}/replay", json={})
    assert again.status_code == 422 and "waits" in again.get_json()["detail"]
    tried = admin.post(f"/api/v1/messages/out/{delivery}/raw", json={}).get_json()["attempts_made"]
    assert [t["detail"] for t in tried] == ["AE 102"]


def test_no_message_goes_out_over_a_route_that_is_gone(admin: FlaskClient, sown: Sown) -> None:
    delivery = a_delivery(sown, DeliveryState.PARKED)
    with sown.database.write() as tx:
        deliveries.sync_routes(tx, [("other", "mllp")])
    answer = admin.post(f"/api/v1/messages/out/{delivery}/replay", json={})
    assert answer.status_code == 422 and "route" in answer.get_json()["detail"]


def test_parking_needs_a_reason_and_a_message_that_waits(admin: FlaskClient, sown: Sown) -> None:
    delivery = a_delivery(sown, DeliveryState.WAITING)
    path = f"/api/v1/messages/out/{delivery}/park"
    assert admin.post(path, json={"reason": " "}).status_code == 422
    parked = admin.post(path, json={"reason": "the ward was told by phone"}).get_json()
    assert parked["state"] == "parked" and "by phone" in parked["reason"]
    assert admin.post(path, json={"reason": "again"}).status_code == 422


def test_a_refused_message_is_worked_again_or_set_aside(admin: FlaskClient, sown: Sown) -> None:
    take(sown, message(msh("ORM^O01"), pid(), "ORC|QQ|1"))
    assert admin.post("/api/v1/messages/in/1/replay", json={}).status_code == 422
    take(sown, an_orm(accession="A78"))
    assert admin.post("/api/v1/messages/in/2/replay", json={}).get_json()["attempts"] == 2
    parked = admin.post("/api/v1/messages/in/1/park", json={"reason": "the RIS sent it anew"}).get_json()
    assert parked["state"] == "parked"


# --- the page --------------------------------------------------------------------------------------------------


def test_the_page_lists_what_is_stuck_each_way_with_the_reason(admin: FlaskClient, sown: Sown) -> None:
    a_delivery(sown, DeliveryState.PARKED)
    take(sown, an_orm(accession="A77"))
    take(sown, message(msh("ORM^O01"), pid(), "ORC|QQ|1"))
    out = admin.get("/admin/messages").get_data(as_text=True)
    assert "AE 102" in out and "✕ 1" in out
    came = admin.get("/admin/messages?direction=in").get_data(as_text=True)
    assert "ORC-1" in came and "A77" not in came
    assert "A77" in admin.get("/admin/messages?direction=in&state=applied").get_data(as_text=True)
    assert admin.get("/admin/messages?direction=in&state=waiting").status_code == 422


def test_the_page_finds_by_an_accession_number_that_stands_in_no_address(
    admin: FlaskClient, sown: Sown
) -> None:
    take(sown, an_orm(accession="A77"))
    page = admin.post("/admin/messages", data={"accession_number": "A77"}).get_data(as_text=True)
    assert "/admin/messages/in/1" in page
    assert "=A77" not in page


def test_the_text_is_shown_when_asked_for_and_the_look_is_audited(admin: FlaskClient, sown: Sown) -> None:
    take(sown, an_orm())
    before = admin.get("/admin/messages/in/1").get_data(as_text=True)
    assert "PID|" not in before
    assert "PID|" in admin.post("/admin/messages/in/1", data={"act": "raw"}).get_data(as_text=True)
    with sown.database.read() as tx:
        assert [e["act"] for e in audit.events(tx)][-1] == "message.viewed"
    assert admin.get("/admin/messages/out/99").status_code == 404


def test_from_the_page_a_parked_message_is_sent_anew_and_no_longer_stuck(
    admin: FlaskClient, sown: Sown
) -> None:
    delivery = a_delivery(sown, DeliveryState.PARKED)
    answer = admin.post(f"/admin/messages/out/{delivery}", data={"act": "replay"}, follow_redirects=True)
    assert "A new message waits" in answer.get_data(as_text=True)
    assert "AE 102" not in admin.get("/admin/messages").get_data(as_text=True)
    refused = admin.post(f"/admin/messages/out/{delivery + 1}", data={"act": "replay"})
    assert refused.status_code == 422 and "waits" in refused.get_data(as_text=True)


def test_from_the_page_a_message_in_is_set_aside_with_a_reason_and_no_longer_stuck(
    admin: FlaskClient, sown: Sown
) -> None:
    take(sown, message(msh("ORM^O01"), pid(), "ORC|QQ|1"))
    assert admin.post("/admin/messages/in/1", data={"act": "replay"}).status_code == 422
    assert admin.post("/admin/messages/in/1", data={"act": "park", "reason": " "}).status_code == 422
    assert (
        admin.post("/admin/messages/in/1", data={"act": "park", "reason": "the RIS sent it anew"}).status_code
        == 302
    )
    assert "ORC-1" not in admin.get("/admin/messages?direction=in").get_data(as_text=True)
