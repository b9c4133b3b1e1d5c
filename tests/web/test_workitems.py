"""The reading list as UPS-RS: found, claimed, reported and given back by another program, in step with our own pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.web.conftest import SignedIn, ok
from tests.web.seed import Sown, a_day
from triage.store import workitems as store

JSON_TYPE = "application/dicom+json"
MINE, OTHER = "1.2.3.4", "1.2.3.5"
Bearer = Callable[..., FlaskClient]


@pytest.fixture
def viewer(bearer: Bearer, sown: Sown) -> FlaskClient:
    """Another program, on a list with every kind of row."""
    a_day(sown)
    return bearer("worklist:read", "worklist:act", name="viewer")


def items(client: FlaskClient, query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/dicom-web/workitems{query}")
    if answer.status_code == 204:
        return []
    assert answer.status_code in (200, 206), answer.text
    assert answer.mimetype == JSON_TYPE
    return answer.json  # type: ignore[no-any-return]


def value(item: dict[str, Any], tag: str) -> Any:
    return item[tag]["Value"][0]


def put_state(client: FlaskClient, uid: str, state: str, transaction: str = MINE) -> Any:
    body = [{"00741000": {"vr": "CS", "Value": [state]}, "00081195": {"vr": "UI", "Value": [transaction]}}]
    return client.put(f"/dicom-web/workitems/{uid}/state", json=body, content_type=JSON_TYPE)


def performed() -> list[dict[str, Any]]:
    def coded(v: str) -> dict[str, Any]:
        return {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": [v]}}]}

    done = {
        "00404028": coded("WS1"), "00404019": coded("110005"),
        "00404050": {"vr": "DT", "Value": ["20260314120000"]}, "00404051": {"vr": "DT", "Value": ["20260314120500"]},
        "00404033": {"vr": "SQ"},
    }  # fmt: skip
    return [{"00741216": {"vr": "SQ", "Value": [done]}}]


def test_open_studies_are_scheduled_steps_in_the_order_of_the_list(
    viewer: FlaskClient, signed_in: SignedIn
) -> None:
    ours = ok(signed_in("reader").get("/api/v1/worklist?limit=500"))["items"]
    free = [i["study_uid"] for i in ours if i["state"] in ("to_read", "arriving")]
    found = items(viewer, "?ProcedureStepState=SCHEDULED")
    assert free and {value(i, "0020000D") for i in found} == set(free)
    classes = {i["study_uid"]: i["priority_class"] for i in ours}
    for item in found:
        lifted = classes[value(item, "0020000D")] in ("critical", "high")
        assert value(item, "00741200") == "HIGH" or not lifted
        assert value(item, "00080016") == "1.2.840.10008.5.1.4.34.6.1"
        assert "00081195" not in item
    priorities = [value(i, "00741200") for i in found]
    assert priorities == sorted(priorities)  # HIGH before MEDIUM
    again = items(viewer, "?00741000=SCHEDULED")
    assert [value(i, "00080018") for i in again] == [value(i, "00080018") for i in found]


def test_search_narrows_pages_and_refuses_what_it_cannot_match(viewer: FlaskClient) -> None:
    every = items(viewer)
    one = every[0]
    study = value(one, "0020000D")
    assert [value(i, "0020000D") for i in items(viewer, f"?StudyInstanceUID={study}")] == [study]
    assert items(viewer, "?PatientID=NOBODY") == []
    first, rest = items(viewer, "?limit=1"), items(viewer, "?offset=1")
    assert [value(i, "00080018") for i in first + rest] == [value(i, "00080018") for i in every]
    assert viewer.get("/dicom-web/workitems?limit=1").status_code == 206
    assert viewer.get("/dicom-web/workitems?SopranoName=x").status_code == 422
    warned = viewer.get("/dicom-web/workitems?fuzzymatching=true")
    assert warned.headers["Warning"].startswith("299 triage")


def test_a_step_is_claimed_reported_and_read(viewer: FlaskClient, signed_in: SignedIn, sown: Sown) -> None:
    item = items(viewer, "?ProcedureStepState=SCHEDULED")[0]
    uid, study = value(item, "00080018"), value(item, "0020000D")
    assert put_state(viewer, uid, "IN PROGRESS").status_code == 200
    row = ok(signed_in("reader").get(f"/api/v1/studies/{study}"))["item"]
    assert (row["state"], row["claimed_by"]) == ("claimed", "token:viewer")
    again = put_state(viewer, uid, "IN PROGRESS")
    assert again.status_code == 200 and "already" in again.headers["Warning"]
    assert put_state(viewer, uid, "IN PROGRESS", OTHER).status_code == 409
    assert put_state(viewer, uid, "COMPLETED").status_code == 409  # what it needs was not said
    assert put_state(viewer, uid, "COMPLETED", OTHER).status_code == 400
    url = f"/dicom-web/workitems/{uid}"
    assert viewer.post(f"{url}?{OTHER}", json=performed(), content_type=JSON_TYPE).status_code == 400
    in_body = [{**performed()[0], "00081195": {"vr": "UI", "Value": [MINE]}}]
    for query, body in ((f"?{MINE}", performed()), (f"?transaction={MINE}", performed()), ("", in_body)):
        assert viewer.post(f"{url}{query}", json=body, content_type=JSON_TYPE).status_code == 200
    assert put_state(viewer, uid, "COMPLETED").status_code == 200
    said = viewer.get(url).json[0]
    assert value(said, "00741000") == "COMPLETED" and value(said, "00741216")["00404019"]
    assert "00081195" not in said
    row = ok(signed_in("reader").get(f"/api/v1/studies/{study}"))["item"]
    assert (row["state"], row["report_state"]) == ("read", "final")
    assert put_state(viewer, uid, "CANCELED").status_code == 409  # final is final
    with sown.database.read() as tx:
        told = [e["data"]["00741000"]["Value"][0] for e in store.events_after(tx, 0) if
                e["sop_instance_uid"] == uid and e["kind"] == 1]  # fmt: skip
    assert told == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]


def test_a_canceled_step_gives_the_study_back_as_a_new_step(viewer: FlaskClient) -> None:
    item = items(viewer, "?ProcedureStepState=SCHEDULED")[0]
    uid, study = value(item, "00080018"), value(item, "0020000D")
    put_state(viewer, uid, "IN PROGRESS")
    assert put_state(viewer, uid, "CANCELED").status_code == 200
    found = {value(i, "00741000"): value(i, "00080018") for i in items(viewer, f"?StudyInstanceUID={study}")}
    assert found["CANCELED"] == uid and found["SCHEDULED"] != uid


def test_what_readers_do_on_our_pages_moves_the_steps(viewer: FlaskClient, signed_in: SignedIn) -> None:
    item = items(viewer, "?ProcedureStepState=SCHEDULED")[0]
    uid, study = value(item, "00080018"), value(item, "0020000D")
    reader = signed_in("reader")
    ok(reader.post(f"/api/v1/studies/{study}/claim", json={}))
    assert value(viewer.get(f"/dicom-web/workitems/{uid}").json[0], "00741000") == "IN PROGRESS"
    assert put_state(viewer, uid, "IN PROGRESS").status_code == 409
    assert put_state(viewer, uid, "COMPLETED").status_code == 400  # the reader's, not this program's
    asked = viewer.post(f"/dicom-web/workitems/{uid}/cancelrequest")
    assert asked.status_code == 202
    ok(reader.post(f"/api/v1/studies/{study}/report", json={"state": "final"}))
    assert value(viewer.get(f"/dicom-web/workitems/{uid}").json[0], "00741000") == "COMPLETED"


def test_the_priority_of_a_step_changes_when_ours_does(viewer: FlaskClient, signed_in: SignedIn) -> None:
    medium = next(
        i for i in items(viewer, "?ProcedureStepState=SCHEDULED") if value(i, "00741200") == "MEDIUM"
    )
    uid, study = value(medium, "00080018"), value(medium, "0020000D")
    raised = {"priority_class": "high", "reason": "the ward called"}
    ok(signed_in("lead").post(f"/api/v1/studies/{study}/override", json=raised))
    assert value(viewer.get(f"/dicom-web/workitems/{uid}").json[0], "00741200") == "HIGH"


def test_strangers_and_nonsense_are_refused(viewer: FlaskClient, bearer: Bearer) -> None:
    uid = value(items(viewer)[0], "00080018")
    assert viewer.get("/dicom-web/workitems/1.2.3").status_code == 404
    assert put_state(viewer, uid, "DONE").status_code == 422
    assert put_state(viewer, uid, "IN PROGRESS", "").status_code == 400
    assert (
        viewer.put(f"/dicom-web/workitems/{uid}/state", data="{", content_type=JSON_TYPE).status_code == 422
    )
    body = [{"00741000": {"vr": "CS", "Value": ["COMPLETED"]}}]
    assert (
        viewer.post(f"/dicom-web/workitems/{uid}?{MINE}", json=body, content_type=JSON_TYPE).status_code
        == 422
    )
    reader = bearer("worklist:read", name="looks")
    assert put_state(reader, uid, "IN PROGRESS").status_code == 403
