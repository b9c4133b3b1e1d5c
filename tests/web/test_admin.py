"""The administrator's pages and views of the list, through the real application."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask

from tests.web.conftest import SignedIn, ok
from tests.web.seed import Sown, a_day, flag, pneumothorax
from triage.domain.priority import Policy
from triage.settings import PullSettings, Settings
from triage.store import audit, policies, pulls, releases, users
from triage.store.narrowing import OF_TABS, SORTS


def test_a_policy_is_tried_applied_and_restored_through_the_api(signed_in: SignedIn, sown: Sown) -> None:
    sown.add(findings=(pneumothorax(),))
    admin = signed_in("admin")
    content = Policy().as_json()
    content["raises_to"]["pneumothorax"] = "high"
    said = ok(admin.post("/api/v1/admin/policies/dry-run", json={"content": content}))
    assert (said["moved"], said["down"]) == (1, 1)
    assert ok(admin.post("/api/v1/admin/policies", json={"content": content, "reason": "a trial"})) == {
        "version": 2
    }
    assert ok(admin.get("/api/v1/worklist"))["items"][0]["priority_class"] == "high"
    assert ok(admin.post("/api/v1/admin/policies/1/restore", json={"reason": "over"})) == {"version": 3}
    assert ok(admin.get("/api/v1/worklist"))["items"][0]["priority_class"] == "critical"
    held = ok(admin.get("/api/v1/admin/policies"))
    assert [v["made_by"] for v in held["versions"]] == ["admin", "admin", "triage"]
    content["raises_to"]["effusion"] = "critical"
    assert admin.post("/api/v1/admin/policies", json={"content": content, "reason": "x"}).status_code == 422


def _form(**changes: str) -> dict[str, str]:
    held = Policy().as_json()
    waits = {f"wait-{c}": str(m) for c, m in held["longest_wait_minutes"].items()}
    raises = {f"raise-{n}": c for n, c in held["raises_to"].items()}
    return {**waits, **raises, "raised_per_hour": "30", **changes}


def test_the_policy_page_shows_a_dry_run_keeps_what_was_typed_and_applies(
    signed_in: SignedIn, sown: Sown
) -> None:
    sown.add(findings=(flag("consolidation"),))
    admin = signed_in("admin")
    typed = _form(**{"raise-consolidation": "elevated", "wait-high": "45"})
    tried = admin.post("/admin/policies", data={**typed, "act": "dry-run"}).get_data(as_text=True)
    assert "1 study would move" in tried
    assert 'value="45"' in tried
    refused = admin.post("/admin/policies", data={**typed, "act": "apply"})
    assert refused.status_code == 422
    assert "say why" in refused.get_data(as_text=True)
    done = admin.post(
        "/admin/policies", data={**typed, "act": "apply", "reason": "night"}, follow_redirects=True
    )
    assert "Policy, version 2" in done.get_data(as_text=True)
    assert "longest_wait_minutes.high: 60.0 → 45.0" in done.get_data(as_text=True)


class TestArchives:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        pulls = tuple(PullSettings(name=name, peer=name) for name in ("main", "cloud"))
        return Settings(home=tmp_path / "home", site="NORTH", pull=pulls)

    def test_series_that_were_given_up_are_asked_for_again_by_hand(
        self, signed_in: SignedIn, sown: Sown
    ) -> None:
        """One that is no longer in the settings has no next turn: nothing is offered for it."""
        with sown.database.write() as tx:
            for source in ("main", "cloud", "former"):
                pulls.want(tx, source, "1.2", "1.2.3", sown.now, modality="CT", instances=9, prior=False)
                (row,) = pulls.wanted(tx, source, sown.now)
                pulls.not_fetched(tx, row["id"], "no association", None)
        admin = signed_in("admin")
        assert admin.get("/admin/health").get_data(as_text=True).count("1 series given up") == 2
        done = admin.post("/admin/health", data={"source": "main"}, follow_redirects=True)
        assert "Asked again" in done.get_data(as_text=True)
        assert done.get_data(as_text=True).count("1 series given up") == 1
        with sown.database.read() as tx:
            again = pulls.wanted(tx, "main", sown.now + timedelta(days=1))
            assert [(r["series_instance_uid"], r["attempts"]) for r in again] == [("1.2.3", 0)]
            assert pulls.wanted(tx, "cloud", sown.now + timedelta(days=1)) == []
            (said,) = audit.events(tx, object_kind="archive")
        assert (said["actor"], said["act"], said["detail"]) == ("admin", "pull.asked_again", {"series": 1})
        for source in ("main", "former"):
            refused = admin.post("/admin/health", data={"source": source})
            assert refused.status_code == 422
            assert "no series of this archive was given up" in refused.get_data(as_text=True)
        with sown.database.read() as tx:
            assert pulls.wanted(tx, "former", sown.now + timedelta(days=1)) == []


def test_the_rule_tester_page_says_class_and_reasons(signed_in: SignedIn) -> None:
    page = (
        signed_in("admin")
        .get("/admin/rules?ordered=STAT&finding=pneumothorax&waited=5")
        .get_data(as_text=True)
    )
    assert "suspected pneumothorax" in page
    assert "STAT order" in page


def test_users_are_made_changed_and_disabled_and_a_token_is_shown_once(
    signed_in: SignedIn, sown: Sown
) -> None:
    admin = signed_in("admin")
    new = {"act": "add", "name": "dana", "role": "reader", "password": "long enough 1"}
    assert admin.post("/admin/users", data=new).status_code == 302
    assert admin.post("/admin/users", data=new).status_code == 409
    assert admin.post("/admin/users", data={"act": "role", "name": "dana", "role": "lead"}).status_code == 302
    assert (
        admin.post("/admin/users", data={"act": "role", "name": "admin", "role": "reader"}).status_code == 422
    )
    assert admin.post("/admin/users", data={"act": "disable", "name": "dana"}).status_code == 302
    with sown.database.read() as tx:
        dana = users.find_user(tx, "dana")
        acts = [e["act"] for e in audit.events(tx, object_kind="user", object_id="dana")]
    assert dana is not None
    assert (dana["role"], dana["disabled"]) == ("lead", True)
    assert acts == ["user.added", "user.role_changed", "user.disabled"]
    shown = admin.post("/admin/users", data={"act": "token", "name": "ris", "scope": ["worklist:read"]})
    assert "triage_" in shown.get_data(as_text=True)
    assert "triage_" not in admin.get("/admin/users").get_data(as_text=True)


def test_a_release_is_proposed_by_one_and_confirmed_by_another(signed_in: SignedIn, sown: Sown) -> None:
    with sown.database.write() as tx:
        new = releases.register(tx, "chest_xray", "2.0.0", "digest-2", [], sown.now)
        releases.note_acceptance(
            tx, new, calibrated=True, constancy={"finding": "pneumothorax", "flagged": True}
        )
        users.add_user(tx, "second", "admin", "x", sown.now)
    first, second = signed_in("admin"), signed_in("second")
    ok(first.post(f"/api/v1/admin/releases/{new}/propose", json={"reason": "better here"}))
    assert first.post("/api/v1/admin/proposals/1/confirm").status_code == 422
    assert "Confirm as second person" in second.get("/admin/releases").get_data(as_text=True)
    assert second.post("/admin/releases", data={"act": "confirm", "proposal": "1"}).status_code == 302
    active = [r for r in ok(first.get("/api/v1/admin/releases"))["releases"] if r["state"] == "active"]
    assert new in [r["id"] for r in active]


def test_a_peer_is_added_and_removed_by_its_name(signed_in: SignedIn, sown: Sown) -> None:
    admin = signed_in("admin")
    new = {"act": "add", "name": "CT1", "ae_title": "CT1_ST", "host": "10.1.4.20", "port": "104"}
    assert admin.post("/admin/peers", data=new).status_code == 302
    assert (
        admin.post("/admin/peers", data={**new, "name": "X", "ae_title": "SEVENTEEN_LETTERS"}).status_code
        == 422
    )
    sown.add(modality="CT")
    assert "CT1_ST" in admin.get("/admin/peers").get_data(as_text=True)
    assert (
        admin.post("/admin/peers", data={"act": "remove", "name": "CT1", "confirm": "CT2"}).status_code == 422
    )
    assert (
        admin.post("/admin/peers", data={"act": "remove", "name": "CT1", "confirm": "CT1"}).status_code == 302
    )


def test_views_keep_filters_but_nothing_that_names_a_patient(signed_in: SignedIn, sown: Sown) -> None:
    lead, reader = signed_in("lead"), signed_in("reader")
    view = {
        "name": "Night CT",
        "filters": {"modality": "CT", "sort": "age"},
        "columns": ["pat", "acc"],
        "shared": True,
    }
    assert reader.put("/api/v1/views", json=view).status_code == 422  # a lead shares
    said = ok(lead.put("/api/v1/views", json={**view, "default_for": "reader"}))
    assert said["views"][0]["path"] == "/worklist?modality=CT&sort=age"
    assert [v["mine"] for v in ok(reader.get("/api/v1/views"))["views"]] == [False]
    assert reader.get("/").headers["Location"] == "/worklist?modality=CT&sort=age"
    assert lead.put("/api/v1/views", json={"name": "x", "filters": {"search": "key"}}).status_code == 422
    assert ok(lead.delete("/api/v1/views/Night CT", json={}))["views"] == []


def test_every_sort_pages_through_each_study_once(signed_in: SignedIn, sown: Sown) -> None:
    day = a_day(sown)
    reader = signed_in("reader")
    for column in (s for s in SORTS if s not in OF_TABS):
        for direction in ("", "&descending=true"):
            seen, cursor = [], ""
            while True:
                said = ok(reader.get(f"/api/v1/worklist?limit=6&sort={column}{direction}{cursor}"))
                seen += [i["study_uid"] for i in said["items"]]
                if not said["next"]:
                    break
                cursor = f"&cursor={said['next']}"
            assert sorted(seen) == sorted(day.values()), (column, direction)


def test_the_replay_page_answers_for_a_model_and_says_what_is_missing(signed_in: SignedIn) -> None:
    lead = signed_in("lead")
    page = lead.get("/qa/replay?source=model&readers=2&minutes=6&arrivals=12").get_data(as_text=True)
    assert "Checked against the formula" in page
    assert "Flags per reader-hour" in page
    assert "no study arrived" in lead.get("/qa/replay?source=site").get_data(as_text=True)


def test_a_test_system_says_so_on_every_page(app: Flask, signed_in: SignedIn) -> None:
    assert "TEST" in signed_in("admin").get("/admin/health").get_data(as_text=True)


def test_policies_from_before_thresholds_are_still_read(sown: Sown) -> None:
    content = {k: v for k, v in Policy().as_json().items() if k != "thresholds"}
    assert Policy.from_json(7, content).thresholds == {}
    with sown.database.read() as tx:
        assert policies.active(tx).thresholds == {}
