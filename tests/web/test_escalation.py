"""The page of the ladder and its API: drill, on call, test of a route."""

from __future__ import annotations

from datetime import timedelta

from flask import Flask

from tests.web.conftest import SignedIn, ok
from tests.web.seed import SITE, Sown, pneumothorax
from triage.domain.alerting import MessageKind
from triage.store import audit, deliveries
from triage.workflow import links
from triage.workflow.site import new_id
from triage.workflow.sweep import climb_due


def test_a_drill_by_the_api_shows_on_every_page_as_one_and_is_acknowledged(
    signed_in: SignedIn, sown: Sown
) -> None:
    admin, reader = signed_in("admin"), signed_in("ann")
    alert_id = ok(admin.post("/api/v1/admin/escalation/drill", json={}))["alert_id"]
    assert admin.post("/api/v1/admin/escalation/drill", json={}).status_code == 409
    (alert,) = ok(reader.get("/api/v1/alerts"))["alerts"]
    assert alert["drill"] and alert["id"] == alert_id
    assert ok(reader.get("/worklist/rows"))["banner"][0]["drill"]
    for page in ("/alerts", "/m"):
        said = reader.get(page).get_data(as_text=True)
        assert "DRILL: suspected" in said and alert["study_uid"] not in said
    climb_due(sown.database, SITE, lambda: sown.now + timedelta(minutes=4))
    ok(reader.post(f"/api/v1/alerts/{alert_id}/acknowledge", json={}))
    (report,) = ok(admin.get("/api/v1/admin/escalation"))["drills"]
    assert (report["state"], report["ended_by"]) == ("acknowledged", "ann")
    assert [s["step"] for s in report["steps"]] == [0, 1]
    assert ok(reader.get("/api/v1/worklist"))["items"] == []
    assert reader.get(f"/api/v1/studies/{alert['study_uid']}").status_code == 404


def test_the_page_starts_and_ends_a_drill(signed_in: SignedIn) -> None:
    admin = signed_in("admin")
    begun = admin.post("/admin/escalation", data={"act": "drill"}, follow_redirects=True).get_data(
        as_text=True
    )
    assert "The drill has begun" in begun and "End the drill" in begun
    assert admin.post("/admin/escalation", data={"act": "drill"}).status_code == 409
    number = ok(admin.get("/api/v1/admin/escalation"))["drills"][0]["id"]
    ended = admin.post("/admin/escalation", data={"act": "end", "drill": str(number)}, follow_redirects=True)
    assert "called off" in ended.get_data(as_text=True)
    again = admin.post(f"/api/v1/admin/escalation/drill/{number}/end", json={})
    assert again.status_code == 422


def test_the_calendar_is_kept_on_the_page_in_the_sites_time(signed_in: SignedIn, sown: Sown) -> None:
    admin = signed_in("admin")
    day = f"{sown.now + timedelta(days=1):%Y-%m-%d}"
    typed = {"act": "add", "place": "2", "person": "ann", "contact": "ann@hospital.example",
             "starts_at": f"{day}T20:00", "ends_at": f"{day}T23:00"}  # fmt: skip
    page = admin.post("/admin/escalation", data=typed, follow_redirects=True).get_data(as_text=True)
    assert f"{day} 20:00:00" in page and "ann@hospital.example" in page
    assert admin.post("/admin/escalation", data=typed).status_code == 409
    assert admin.post("/admin/escalation", data={**typed, "starts_at": "soon"}).status_code == 422
    (duty,) = ok(admin.get("/api/v1/admin/escalation"))["on_call"]
    assert admin.post("/admin/escalation", data={"act": "remove", "duty": str(duty["id"])}).status_code == 302
    assert ok(admin.get("/api/v1/oncall"))["duties"] == []
    assert admin.post("/admin/escalation", data={"act": "fly"}).status_code == 422


def test_a_route_that_does_not_exist_cannot_be_tested(signed_in: SignedIn, sown: Sown) -> None:
    assert signed_in("admin").post("/api/v1/admin/routes/ris/test", json={}).status_code == 422
    with sown.database.read() as tx:
        assert "route.tested" not in [e["act"] for e in audit.events(tx)]


def test_a_link_of_a_notice_leads_to_its_alert_once_and_only_after_sign_in(
    app: Flask, signed_in: SignedIn, sown: Sown
) -> None:
    sown.add(findings=(pneumothorax(),))
    with sown.database.write() as tx:
        deliveries.sync_routes(tx, [("hook", "webhook")])
        deliveries.add(tx, 1, "hook", 0, MessageKind.RESULT, new_id(), sown.now)
        path = links.make(tx, 1, "/m")
    outside = app.test_client().get(path)
    assert outside.status_code == 302 and outside.headers["Location"].startswith("/sign-in?next=/m/")
    reader = signed_in("ann")
    first = reader.get(path)
    assert first.headers["Location"] == "/m?alert=1"
    page = reader.get("/m?alert=1").get_data(as_text=True)
    assert '<details class="confirm" open>' in page
    assert reader.get(path).headers["Location"] == "/m?link=over"
    assert "works once" in reader.get("/m?link=over").get_data(as_text=True)
    ok(reader.post("/api/v1/alerts/1/acknowledge", json={}))
    assert "That alert is closed" in reader.get("/m?alert=1").get_data(as_text=True)


def test_the_page_says_the_alarm_budget(signed_in: SignedIn, sown: Sown) -> None:
    for _ in range(3):
        sown.add(findings=(pneumothorax(),))
    with sown.database.write() as tx:
        audit.append(tx, sown.now - timedelta(minutes=1), "ann", "study.opened", "study", "1.2.3")
    admin = signed_in("admin")
    assert "The budget is spent." in admin.get("/admin/escalation").get_data(as_text=True)
    assert ok(admin.get("/api/v1/admin/escalation"))["budget"]["beyond"] == ["banners"]
