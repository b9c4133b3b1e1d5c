"""The HTTP contract of architecture 8, asked through the real application over a real database."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import jsonschema
import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.pacs import a_pacs
from tests.web.conftest import Clock, SignedIn, ok
from tests.web.seed import Sown, a_day, flag, pneumothorax
from triage.store import alerts, audit, peers, releases, runs, studies
from triage.web.app import CONTENT_SECURITY_POLICY

ITEM_KEYS = {
    "study_uid",
    "rank",
    "priority_class",
    "score",
    "reasons",
    "state",
    "ai_status",
    "ai_reason",
    "patient",
    "accession_number",
    "modality",
    "body_part",
    "view",
    "description",
    "location",
    "site",
    "ordered_priority",
    "arrived_at",
    "acquired_at",
    "due_at",
    "bound_at",
    "rank_without_ai",
    "images",
    "claimed_by",
    "claimed_until",
    "alert",
    "sender",
    "version",
}
Bearer = Callable[..., FlaskClient]


def test_the_list_has_every_key_of_the_contract_in_true_order(signed_in: SignedIn, sown: Sown) -> None:
    day = a_day(sown)
    said = ok(signed_in("reader").get("/api/v1/worklist"))
    assert {"items", "next", "total", "hidden_critical", "degraded", "as_of"} <= said.keys()
    assert all(item.keys() >= ITEM_KEYS for item in said["items"])
    assert [i["rank"] for i in said["items"]] == list(range(1, len(day) + 1))
    first = said["items"][0]
    assert first["study_uid"] == day["pneumothorax"]
    assert first["priority_class"] == "critical"
    assert first["alert"]["state"] == "open"
    assert first["rank_without_ai"] > 1
    assert all(set(r) == {"code", "text", "points"} for i in said["items"] for r in i["reasons"])
    assert all(i["reasons"] for i in said["items"])


def test_a_study_that_no_detector_reads_says_so(signed_in: SignedIn, sown: Sown) -> None:
    day = a_day(sown)
    items = {i["study_uid"]: i for i in ok(signed_in("reader").get("/api/v1/worklist"))["items"]}
    assert (items[day["mr"]]["ai_status"], items[day["mr"]]["ai_reason"]) == (
        "not_analysed",
        "WRONG_MODALITY",
    )
    assert (items[day["child"]]["ai_status"], items[day["child"]]["ai_reason"]) == (
        "not_analysed",
        "OUT_OF_AGE",
    )


def test_pages_by_cursor_give_every_study_once(signed_in: SignedIn, sown: Sown) -> None:
    a_day(sown)
    reader, seen, cursor = signed_in("reader"), [], ""
    while cursor is not None:
        said = ok(reader.get(f"/api/v1/worklist?limit=3&cursor={cursor}"))
        seen += [i["study_uid"] for i in said["items"]]
        cursor = said["next"]
    assert seen == [i["study_uid"] for i in ok(reader.get("/api/v1/worklist"))["items"]]


@pytest.mark.parametrize(
    "query",
    [
        "limit=501",
        "limit=0",
        "cursor=xx",
        "cursor=WzEsIng'IiwxXQ",
        "state=bad",
        "unknown=1",
        "priority_class=top",
    ],
)
def test_a_wrong_query_is_refused_with_words(signed_in: SignedIn, sown: Sown, query: str) -> None:
    response = signed_in("reader").get(f"/api/v1/worklist?{query}")
    problem = ok(response, 422)
    assert response.mimetype == "application/problem+json"
    assert problem["reference"] == response.headers["X-Reference"]
    assert {"type", "title", "status", "detail"} <= problem.keys()


def test_closed_studies_come_newest_first(signed_in: SignedIn, sown: Sown) -> None:
    """In reading order the tab of all began with the oldest critical one ever read, and sorted every row for it."""
    first, second, third = (sown.add(minutes_ago=n, findings=(pneumothorax(),)) for n in (30, 20, 10))
    reader = signed_in("ann")
    for uid in second, first:
        ok(reader.post(f"/api/v1/studies/{uid}/claim", json={"open": True}))
        ok(reader.post(f"/api/v1/studies/{uid}/report", json={"state": "final"}))

    def shown(tab: str, limit: int = 100) -> list[str]:
        found, cursor = [], ""
        while cursor is not None:
            said = ok(reader.get(f"/worklist/rows?tab={tab}&limit={limit}&cursor={cursor}"))
            found += [r["uid"] for r in said["rows"]]
            cursor = said["next"]
        return found

    assert shown("all", limit=1) == [third, second, first]
    assert set(shown("read", limit=1)) == {first, second}
    assert shown("to_read") == [third]


def test_filters_narrow_and_hidden_critical_studies_are_counted(signed_in: SignedIn, sown: Sown) -> None:
    day = a_day(sown)
    said = ok(signed_in("reader").get("/api/v1/worklist?modality=CT"))
    assert {i["modality"] for i in said["items"]} == {"CT"}
    assert said["total"] == 3
    assert said["hidden_critical"] == 1
    alone = ok(signed_in("reader").get("/api/v1/worklist?alerts_open=true"))
    assert [i["study_uid"] for i in alone["items"]] == [day["pneumothorax"]]


def test_an_unchanged_list_is_answered_304(signed_in: SignedIn, sown: Sown, clock: Clock) -> None:
    a_day(sown)
    reader = signed_in("reader")
    etag = reader.get("/api/v1/worklist").headers["ETag"]
    assert reader.get("/api/v1/worklist", headers={"If-None-Match": etag}).status_code == 304
    sown.add()
    assert reader.get("/api/v1/worklist", headers={"If-None-Match": etag}).status_code == 200


def test_a_search_text_stands_in_no_url(signed_in: SignedIn, sown: Sown) -> None:
    day = a_day(sown)
    reader = signed_in("reader")
    key = ok(reader.post("/api/v1/worklist/searches", json={"text": "doe"}))["search"]
    found = ok(reader.get(f"/api/v1/worklist?search={key}"))["items"]
    assert [i["study_uid"] for i in found] == [day["pneumothorax"]]
    assert signed_in("ann").get(f"/api/v1/worklist?search={key}").status_code == 422


def test_a_claim_is_one_readers(signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add()
    ann, ben = signed_in("ann"), signed_in("ben")
    item = ok(ann.post(f"/api/v1/studies/{uid}/claim"))
    assert (item["claimed_by"], item["state"]) == ("ann", "claimed")
    refused = ok(ben.post(f"/api/v1/studies/{uid}/claim"), 409)
    assert refused["holder"] == "ann"
    assert refused["until"] == item["claimed_until"]
    taken = ok(ben.post(f"/api/v1/studies/{uid}/claim", json={"take_over": "patient is crashing"}))
    assert taken["claimed_by"] == "ben"
    assert ok(ben.post(f"/api/v1/studies/{uid}/release"))["state"] == "to_read"


def test_a_stale_version_is_answered_412_with_the_new_one(signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add()
    reader = signed_in("reader")
    version = ok(reader.get(f"/api/v1/studies/{uid}"))["item"]["version"]
    stale = ok(reader.post(f"/api/v1/studies/{uid}/claim", headers={"If-Match": f'"{version - 1}"'}), 412)
    assert stale["version"] == version
    ok(reader.post(f"/api/v1/studies/{uid}/claim", headers={"If-Match": f'"{version}"'}))


def test_next_gives_each_reader_another_study(signed_in: SignedIn, sown: Sown) -> None:
    a_day(sown)
    order = [i["study_uid"] for i in ok(signed_in("reader").get("/api/v1/worklist"))["items"]]
    taken = [
        ok(signed_in(name).post("/api/v1/worklist/next"))["study_uid"] for name in ("ann", "ben", "cleo")
    ]
    assert taken == order[:3]


def test_next_says_204_when_nothing_is_free(signed_in: SignedIn, sown: Sown) -> None:
    assert signed_in("reader").post("/api/v1/worklist/next").status_code == 204


def test_the_same_idempotency_key_acts_once(signed_in: SignedIn, sown: Sown) -> None:
    sown.add(), sown.add()
    reader, key = signed_in("reader"), {"Idempotency-Key": "abc"}
    first = reader.post("/api/v1/worklist/next", headers=key)
    again = reader.post("/api/v1/worklist/next", headers=key)
    assert again.get_json() == first.get_json()
    assert again.headers["Idempotent-Replayed"] == "true"
    uid = first.get_json()["study_uid"]
    ok(reader.post(f"/api/v1/studies/{uid}/release", headers=key), 422)  # another request under the same key


def test_places_in_triage_only_mode_are_for_qa_alone(signed_in: SignedIn, bearer: Bearer, sown: Sown) -> None:
    uid = sown.add(findings=(pneumothorax(outline=True),))

    def location(client: FlaskClient) -> object:
        return ok(client.get(f"/api/v1/studies/{uid}"))["runs"][0]["findings"][0]["location"]

    assert location(signed_in("reader")) is None
    assert location(bearer("worklist:read")) is None
    assert location(signed_in("qa")) is not None


def test_a_shadow_release_speaks_to_qa_alone(signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add(findings=(flag("nodule"),))
    with sown.database.write() as tx:
        shadow = releases.register(tx, "chest_xray", "2.0.0", "shadow-digest", [], sown.now)
        counted = runs.all_of_study(tx, studies.find_study(tx, uid) or 0)[0]
        runs.request(
            tx, study_id=counted["study_id"], series_id=counted["series_id"], release_id=shadow, input_digest="x",
            sop_instance_uids=["1.2.3"], queue="shadow", policy_version=1, mode="triage_only", now=sown.now,
        )  # fmt: skip
    seen = {
        name: [r["release"] for r in ok(signed_in(name).get(f"/api/v1/studies/{uid}"))["runs"]]
        for name in ("ann", "qa")
    }
    assert seen == {"ann": ["chest_xray 1.0.0"], "qa": ["chest_xray 1.0.0", "chest_xray 2.0.0"]}


def test_an_alert_is_acknowledged_by_one_person(signed_in: SignedIn, sown: Sown) -> None:
    sown.add(findings=(pneumothorax(),))
    reader = signed_in("reader")
    alert = ok(reader.get("/api/v1/alerts"))["alerts"][0]
    assert alert["patient"]["name"].startswith("Muster")
    ok(reader.post(f"/api/v1/alerts/{alert['id']}/handover", json={"to": "qa"}), 422)
    assert (
        ok(reader.post(f"/api/v1/alerts/{alert['id']}/handover", json={"to": "ann"}))["assigned_to"] == "ann"
    )
    ok(reader.post(f"/api/v1/alerts/{alert['id']}/later"))
    ok(reader.post(f"/api/v1/alerts/{alert['id']}/later"), 422)
    said = ok(reader.post(f"/api/v1/alerts/{alert['id']}/acknowledge"))
    assert (said["state"], said["acknowledged_by"]) == ("acknowledged", "reader")
    assert ok(signed_in("ann").post(f"/api/v1/alerts/{alert['id']}/acknowledge"), 409)["holder"] == "reader"
    assert ok(reader.get("/api/v1/alerts"))["alerts"] == []


def test_a_report_reads_the_study_and_closes_its_alerts(signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add(findings=(pneumothorax(),))
    reader = signed_in("reader")
    assert ok(reader.post(f"/api/v1/studies/{uid}/report", json={"state": "preliminary"}))["state"] == "read"
    said = ok(reader.get(f"/api/v1/studies/{uid}"))
    assert said["alerts"][0]["state"] == "closed"
    acts = [e["act"] for e in said["history"]]
    assert acts.index("alert.raised") < acts.index("study.reported") < acts.index("alert.closed")


def test_constancy_studies_are_nobodys(signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add(constancy=True, findings=(pneumothorax(),))
    reader = signed_in("reader")
    assert ok(reader.get("/api/v1/worklist"))["items"] == []
    assert ok(reader.get("/api/v1/alerts?state=all"))["alerts"] == []
    for path in (f"/api/v1/studies/{uid}", f"/api/v1/studies/{uid}/preview"):
        assert reader.get(path).status_code == 404
    assert reader.post(f"/api/v1/studies/{uid}/claim").status_code == 404


def test_health_and_ready_need_no_sign_in_and_hold_no_patient(app: Flask, sown: Sown) -> None:
    a_day(sown)
    response = app.test_client().get("/health")
    said = response.get_json()
    assert response.status_code == (200 if all(c["ok"] for c in said["checks"]) else 503)
    assert all(set(c) == {"name", "ok", "detail"} for c in said["checks"])
    assert "Doe" not in response.get_data(as_text=True)
    assert ok(app.test_client().get("/ready")) == {"status": "ready"}


def test_metrics_count_rows_and_name_no_patient(bearer: Bearer, sown: Sown) -> None:
    a_day(sown)
    text = bearer("metrics:read").get("/metrics").get_data(as_text=True)
    assert "triage_studies 11.0" in text
    assert 'triage_runs{detector="chest_xray",state="failed"} 1.0' in text
    assert 'triage_alerts{state="open"} 1.0' in text
    for secret in ("Doe", "4000001", "A10001", "1.2.826"):
        assert secret not in text


def test_looking_at_a_study_is_audited_once(signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add()
    reader = signed_in("reader")
    for _ in range(3):
        ok(reader.get(f"/api/v1/studies/{uid}"))
    with sown.database.read() as tx:
        acts = [e["act"] for e in audit.events(tx, object_kind="study", object_id=uid)]
        assert acts.count("study.viewed") == 1
        assert audit.verify(tx).ok


def test_the_audit_pages_by_number(signed_in: SignedIn, sown: Sown) -> None:
    sown.add(findings=(pneumothorax(),))
    auditor = signed_in("auditor")
    first = ok(auditor.get("/api/v1/audit?limit=1"))
    assert first["next"] == 1
    assert ok(auditor.get("/api/v1/audit?after=1"))["events"][0]["number"] == 2
    assert signed_in("reader").get("/api/v1/audit").status_code == 403


def test_answers_match_the_published_contract(signed_in: SignedIn, sown: Sown) -> None:
    day = a_day(sown)
    reader = signed_in("qa")
    document = ok(reader.get("/api/openapi.json"))
    assert document["openapi"].startswith("3.1")

    def fits(path: str, url: str) -> None:
        name = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"][
            "$ref"
        ]
        jsonschema.validate(
            ok(reader.get(url)), {"$ref": name.replace("#/", "#/"), "components": document["components"]}
        )

    fits("/api/v1/worklist", "/api/v1/worklist")
    for uid in day.values():
        fits("/api/v1/studies/{uid}", f"/api/v1/studies/{uid}")
    fits("/api/v1/alerts", "/api/v1/alerts?state=all")
    fits("/api/v1/audit", "/api/v1/audit")


def test_every_answer_has_the_strict_headers(signed_in: SignedIn, app: Flask, sown: Sown) -> None:
    for response in (
        signed_in("reader").get("/api/v1/worklist"), app.test_client().get("/nowhere"), app.test_client().get("/health"),
    ):  # fmt: skip
        assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert "unsafe" not in CONTENT_SECURITY_POLICY
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"


def test_numbers_beyond_any_row_are_refused(signed_in: SignedIn) -> None:
    huge = "9" * 30
    assert signed_in("auditor").get(f"/api/v1/audit?after={huge}").status_code == 422
    assert signed_in("reader").post(f"/api/v1/alerts/{huge}/acknowledge").status_code == 404


def test_a_long_list_travels_compressed(signed_in: SignedIn, sown: Sown) -> None:
    a_day(sown)
    response = signed_in("reader").get("/api/v1/worklist", headers={"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(response.data))["items"]) == 11


def test_a_foreign_host_header_is_refused(app: Flask) -> None:
    assert app.test_client().get("/health", headers={"Host": "evil.example"}).status_code == 400


def test_broken_json_and_large_bodies_are_refused(signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add()
    reader, path = signed_in("reader"), f"/api/v1/studies/{uid}/feedback"
    assert reader.post(path, data="{", content_type="application/json").status_code == 422
    assert reader.post(path, data="[" * 100_000, content_type="application/json").status_code == 422
    assert reader.post(path, data="x" * 300_000, content_type="application/json").status_code == 413
    assert reader.post(path, data={"verdict": "agree"}).status_code == 422


def test_a_word_before_the_claim_is_refused_and_says_what_it_needs(signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add()
    ann, path = signed_in("ann"), f"/api/v1/studies/{uid}"
    assert ok(ann.post(f"{path}/feedback", json={"verdict": "agree"}), 422)["needs"] == "claim"
    ok(signed_in("ben").post(f"{path}/claim"))  # another's claim is not mine
    assert ok(ann.post(f"{path}/feedback", json={"verdict": "agree"}), 422)["needs"] == "claim"


def test_an_override_raises_and_its_reason_is_shown(signed_in: SignedIn, sown: Sown) -> None:
    sown.add()
    uid = sown.add(findings=(flag("nodule"),))
    lead = signed_in("lead")
    item = ok(
        lead.post(
            f"/api/v1/studies/{uid}/override", json={"priority_class": "critical", "reason": "sats fall"}
        )
    )
    assert (item["priority_class"], item["rank"]) == ("critical", 1)
    assert item["reasons"][0]["text"] == "raised by lead: sats fall"
    with sown.database.read() as tx:
        assert alerts.listing(tx) == []  # a hand raises the place, it makes no Alert


def test_idempotency_keys_of_two_people_do_not_meet(signed_in: SignedIn, sown: Sown) -> None:
    sown.add(), sown.add()
    key = {"Idempotency-Key": "same"}
    one = ok(signed_in("ann").post("/api/v1/worklist/next", headers=key))
    two = ok(signed_in("ben").post("/api/v1/worklist/next", headers=key))
    assert one["study_uid"] != two["study_uid"]
    assert json.dumps(one) != json.dumps(two)


def test_a_shared_answer_never_hides_a_change(signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add()
    ann, ben = signed_in("ann"), signed_in("ben")
    assert ok(ben.get("/api/v1/worklist"))["items"][0]["claimed_by"] is None
    ok(ann.post(f"/api/v1/studies/{uid}/claim"))
    assert ok(ben.get("/api/v1/worklist"))["items"][0]["claimed_by"] == "ann"
    ok(ann.post(f"/api/v1/studies/{uid}/report"))
    assert ok(ben.get("/api/v1/worklist"))["items"] == []


def test_an_administrator_tests_a_peer_and_reads_whom_we_speak_with(signed_in: SignedIn, sown: Sown) -> None:
    with a_pacs() as pacs:
        with sown.database.write() as tx:
            peers.add(tx, "PACS", "PACS", "127.0.0.1", pacs.port, tls=False)
        admin = signed_in("admin")
        (peer,) = ok(admin.get("/api/v1/peers"))["peers"]
        assert (peer["name"], peer["ae_title"], peer["objects"]) == ("PACS", "PACS", [])
        said = ok(admin.post("/api/v1/peers/PACS/test?store=false"))
        assert said["ok"] and [s["name"] for s in said["steps"]] == ["name", "connect", "C-ECHO", "services"]
    said = ok(admin.post("/api/v1/peers/PACS/test?store=false"))
    assert not said["ok"] and [s["state"] for s in said["steps"]] == [
        "ok",
        "failed",
        "not tried",
        "not tried",
    ]
    assert said["next"].startswith("Is the peer running?")
    assert admin.post("/api/v1/peers/NOBODY/test").status_code == 422
