"""What many ask for at once is made once, and nobody is given what is another's."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.web.conftest import SignedIn, ok
from tests.web.seed import Sown, a_day
from triage.web.shared import Shared

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def never() -> Any:
    raise AssertionError("made twice")


def test_whoever_asks_meanwhile_waits_for_the_first_answer() -> None:
    shared, made, go_on = Shared(), threading.Event(), threading.Event()

    def make() -> str:
        made.set()
        assert go_on.wait(60)
        return "rows"

    with ThreadPoolExecutor(21) as pool:
        first = pool.submit(shared.get, "list", 7, NOON, make)
        assert made.wait(60)
        others = [pool.submit(shared.get, "list", 7, NOON, never) for _ in range(20)]
        assert shared.get("list", 8, NOON, lambda: "newer rows") == "newer rows"  # waits for nobody
        go_on.set()
        assert {f.result(60) for f in (first, *others)} == {"rows"}


def test_an_answer_is_given_for_a_second_until_an_event_comes() -> None:
    shared = Shared()
    assert shared.get("list", 7, NOON, lambda: 1) == 1
    assert shared.get("list", 7, NOON + timedelta(milliseconds=999), never) == 1
    assert shared.get("list", 7, NOON + timedelta(seconds=1), lambda: 2) == 2
    assert shared.get("list", 8, NOON + timedelta(seconds=1), lambda: 3) == 3
    assert shared.get("other", 8, NOON + timedelta(seconds=1), lambda: 4) == 4


def test_a_failure_is_told_to_the_asker_and_the_next_one_tries_again() -> None:
    shared = Shared()
    with pytest.raises(AssertionError):
        shared.get("list", 7, NOON, never)
    assert shared.get("list", 7, NOON, lambda: "rows") == "rows"


def test_what_nobody_asks_for_any_more_holds_no_memory() -> None:
    shared = Shared()
    for n in range(1000):
        shared.get(n, 7, NOON + timedelta(milliseconds=n), lambda: "rows")
        assert len(shared._answers) <= 100
    shared.get("list", 7, NOON + timedelta(seconds=9), lambda: "rows")
    assert list(shared._answers) == ["list"]


def test_each_person_sees_his_own_claims_in_a_shared_list(signed_in: SignedIn, sown: Sown) -> None:
    """The clock of the test stands still: all these answers are of one second."""
    uid, other = sown.add(minutes_ago=30), sown.add(minutes_ago=20)
    ann, ben = signed_in("ann"), signed_in("ben")
    ok(ann.post(f"/api/v1/studies/{uid}/claim"))
    ok(ben.post(f"/api/v1/studies/{other}/claim"))
    for client, own, theirs in (ann, uid, other), (ben, other, uid), (ann, uid, other):
        said = ok(client.get("/worklist/rows"))
        rows = {row["uid"]: row for row in said["rows"]}
        assert (rows[own]["mine"], rows[own]["cells"]["claim"]["w"]) == (True, "you")
        assert not rows[theirs]["mine"] and rows[theirs]["cells"]["claim"]["w"].startswith("Dr. ")
        assert said["tabs"]["mine"] == 1
        page = client.get("/worklist").get_data(as_text=True)
        assert page.count(">you<") == 1
        assert [row["uid"] for row in ok(client.get("/worklist/rows?tab=mine"))["rows"]] == [own]
    lead = ok(signed_in("lead").get("/worklist/rows"))
    assert lead["tabs"]["mine"] == 0 and not any(row["mine"] for row in lead["rows"])


def test_a_shared_list_speaks_the_language_of_each_and_tells_nobody_anothers_search(
    signed_in: SignedIn, sown: Sown
) -> None:
    day = a_day(sown)
    ann, ben = signed_in("ann"), signed_in("ben")
    for language, words in (("de", "V. a. Pneumothorax"), ("en", "suspected pneumothorax")) * 2:
        said = ok(ann.get("/worklist/rows", headers={"Accept-Language": language}))
        assert said["rows"][0]["cells"]["why"]["t"] == words
    key = ok(ann.post("/api/v1/worklist/searches", json={"text": "Muster"}))["search"]
    assert ok(ann.get(f"/worklist/rows?search={key}"))["texts"] == {"": "Muster"}
    assert ben.get(f"/worklist/rows?search={key}").status_code == 422
    whole = ok(ben.get("/worklist/rows"))
    assert whole["texts"] == {} and whole["total"] == len(day)


def test_an_answer_that_says_the_same_is_not_sent_again(signed_in: SignedIn, sown: Sown) -> None:
    uid = sown.add()
    ann, ben = signed_in("ann"), signed_in("ben")
    tag = ann.get("/worklist/rows").headers["ETag"]
    assert ann.get("/worklist/rows", headers={"If-None-Match": tag}).status_code == 304
    ok(ann.post(f"/api/v1/studies/{uid}/claim"))
    mine = ann.get("/worklist/rows", headers={"If-None-Match": tag})
    assert mine.status_code == 200
    theirs = ben.get("/worklist/rows", headers={"If-None-Match": mine.headers["ETag"]})
    assert theirs.status_code == 200 and theirs.headers["ETag"] != mine.headers["ETag"]
