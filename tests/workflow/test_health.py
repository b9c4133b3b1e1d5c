"""What /health says: each cause of a silent failure turns one check red, and names it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.factories import NOON, a_finding
from tests.workflow.desk import Desk
from triage.domain.errors import Unavailable
from triage.settings import DicomSettings, FolderSettings, Settings
from triage.store import constancy, events, pulls
from triage.store.spool import Spool
from triage.workflow import health
from triage.workflow.parts.names import parts_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def found(desk: Desk, settings: Settings, later: timedelta = timedelta(0)) -> dict[str, dict[str, Any]]:
    with desk.database.read() as tx:
        return {c["name"]: c for c in health.checks(tx, settings, desk.clock() + later)}


def everybody_beats(desk: Desk, settings: Settings) -> None:
    with desk.database.write() as tx:
        for number, part in enumerate(parts_of(settings)):
            events.beat(tx, f"{part}@host", number, desk.clock(), {"flapping": False})


def test_a_part_that_nobody_runs_is_named_though_it_never_beat(desk: Desk, settings: Settings) -> None:
    assert found(desk, settings)["parts"]["detail"].startswith("nobody runs receiver, hl7, worker-stat")
    everybody_beats(desk, settings)
    assert found(desk, settings)["parts"]["ok"]
    collecting = settings.model_copy(update={"folder": FolderSettings(path=settings.home / "in")})
    assert "collector" in found(desk, collecting)["parts"]["detail"]


def test_a_quiet_night_is_healthy_and_nothing_is_degraded(desk: Desk, settings: Settings) -> None:
    everybody_beats(desk, settings)
    assert all(c["ok"] for c in found(desk, settings).values())
    with desk.database.read() as tx:
        assert health.degraded(tx, settings, NOON) == []


def test_a_part_that_falls_silent_or_keeps_dying_is_named(desk: Desk, settings: Settings) -> None:
    with desk.database.write() as tx:
        events.beat(tx, "relay", 1, NOON, {"flapping": False})
        events.beat(tx, "web", 2, NOON, {"flapping": True})
    now = found(desk, settings)
    assert now["relay"]["ok"] and now["relay"]["detail"] == "beating"
    assert not now["web"]["ok"] and "keeps dying" in now["web"]["detail"]
    later = found(desk, settings, timedelta(seconds=31))
    assert not later["relay"]["ok"] and "silent since 12:00:00" in later["relay"]["detail"]


def test_what_waits_too_long_is_red_and_says_since_when(desk: Desk, settings: Settings) -> None:
    waiting = desk.receive(study=2)
    assert found(desk, settings)["queue"]["detail"].startswith("oldest waiting run")
    late = found(desk, settings, timedelta(minutes=6))["queue"]
    assert not late["ok"] and late["since"] is not None
    with desk.database.read() as tx:
        degraded = health.degraded(tx, settings, desk.clock() + timedelta(minutes=6))
    assert [d["part"] for d in degraded if d["part"] != "parts"] == ["queue"]
    desk.analyse(waiting.wake[0][0])
    assert found(desk, settings, timedelta(minutes=6))["queue"]["ok"]


def test_an_alert_message_that_nobody_takes_is_red_after_five_minutes(desk: Desk, settings: Settings) -> None:
    desk.flagged(a_finding("pneumothorax", 0.95))
    assert found(desk, settings)["deliveries"]["ok"]
    assert not found(desk, settings, timedelta(minutes=6))["deliveries"]["ok"]


def test_the_constancy_check_is_due_passed_failed_or_overdue(desk: Desk, settings: Settings) -> None:
    assert found(desk, settings)["constancy"]["detail"].startswith("first check due")
    with desk.database.write() as tx:
        check = constancy.add(tx, "chest_xray", "1.2.3", "pneumothorax", NOON, NOON + timedelta(seconds=60))
    late = found(desk, settings, timedelta(seconds=61))["constancy"]
    assert not late["ok"] and "did not end" in late["detail"]
    with desk.database.write() as tx:
        constancy.finish(tx, check, True, "flagged", NOON)
    assert "passed" in found(desk, settings)["constancy"]["detail"]
    overdue = found(desk, settings, timedelta(seconds=900 + 121))["constancy"]
    assert not overdue["ok"] and "no check since" in overdue["detail"]
    with desk.database.write() as tx:
        again = constancy.add(tx, "chest_xray", "1.2.4", "pneumothorax", NOON, NOON)
        constancy.finish(tx, again, False, "the flag did not come", NOON)
    assert found(desk, settings)["constancy"]["detail"] == "chest_xray: the flag did not come"


def test_a_disk_that_is_nearly_full_and_a_home_that_is_gone_are_red(desk: Desk, settings: Settings) -> None:
    assert found(desk, settings)["disk"]["ok"]
    full = settings.model_copy(update={"dicom": DicomSettings(reserve_bytes=1 << 60)})
    assert not found(desk, full)["disk"]["ok"]
    gone = settings.model_copy(update={"home": settings.home / "gone"})
    assert not found(desk, gone)["disk"]["ok"]


def test_an_archive_that_does_not_answer_is_red_and_says_how_to_look(desk: Desk, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, pull=({"name": "main", "peer": "pacs"},))  # type: ignore[arg-type]
    never = found(desk, settings)["pull main"]
    assert not never["ok"] and never["detail"] == "has not answered yet: triage echo pacs"
    with desk.database.write() as tx:
        pulls.move_cursor(tx, "main", NOON)
    assert found(desk, settings, timedelta(minutes=9))["pull main"]["detail"] == "nothing fails"
    silent = found(desk, settings, timedelta(minutes=11))["pull main"]
    assert not silent["ok"] and silent["detail"].startswith("has not answered since 12:00 UTC")


def test_what_everybody_may_read_has_no_address_of_an_archive(desk: Desk, tmp_path: Path) -> None:
    pull = {"name": "cloud", "method": "wado", "url": "https://pacs.hospital.example/dw/"}
    settings = Settings(home=tmp_path, pull=(pull,))  # type: ignore[arg-type]
    with desk.database.write() as tx:
        pulls.move_cursor(tx, "cloud", NOON)
        pulls.want(tx, "cloud", "1.2", "1.2.3", NOON, modality="CT", instances=10, prior=False)
        (row,) = pulls.wanted(tx, "cloud", NOON)
        pulls.not_fetched(tx, row["id"], "https://pacs.hospital.example/dw answered 500", NOON)
    assert found(desk, settings)["pull cloud"]["detail"].endswith("last for: cloud answered 500")
    spool = Spool(settings.spool, 1 << 60)
    spool.prepare()
    with pytest.raises(Unavailable) as full:
        spool.require_space()
    with desk.database.write() as tx:
        pulls.not_fetched(tx, row["id"], str(full.value), NOON)
    said = found(desk, settings)["pull cloud"]["detail"]
    assert "last for: the spool has " in said and str(tmp_path) not in said


def test_an_archive_that_gives_no_series_is_red_and_of_one_among_others_it_is_told(
    desk: Desk, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, pull=({"name": "main", "peer": "PACS"},))  # type: ignore[arg-type]
    with desk.database.write() as tx:
        pulls.move_cursor(tx, "main", NOON)
    assert found(desk, settings)["pull main"]["detail"] == "nothing fails"
    with desk.database.write() as tx:
        pulls.want(tx, "main", "1.2", "1.2.3", NOON, modality="CT", instances=10, prior=False)
        (row,) = pulls.wanted(tx, "main", NOON)
        pulls.not_fetched(tx, row["id"], "no association", NOON + timedelta(minutes=1))
    again = found(desk, settings)["pull main"]
    assert again["ok"] and again["detail"] == "1 series are tried again, last for: no association"
    with desk.database.write() as tx:
        pulls.not_fetched(tx, row["id"], "no association", None)
    lost = found(desk, settings)["pull main"]
    assert not lost["ok"] and lost["detail"] == "1 series were given up, last for: no association"
    with desk.database.write() as tx:
        pulls.want(tx, "main", "1.3", "1.3.3", NOON, modality="CT", instances=10, prior=False)
        (row,) = pulls.wanted(tx, "main", NOON)
        pulls.fetched(tx, row["id"], 10, NOON)
    told = found(desk, settings)["pull main"]
    assert told["ok"] and told["detail"] == lost["detail"]
    with desk.database.write() as tx:
        pulls.move_cursor(tx, "main", NOON + timedelta(days=2))
    assert found(desk, settings, timedelta(days=2))["pull main"]["detail"] == "nothing fails"


def test_an_archive_that_gives_series_for_long_is_not_silent_and_old_failures_hide_no_new_one(
    desk: Desk, tmp_path: Path
) -> None:
    """It is not asked for news before what it has named is here; and a hundred were given up last year."""
    settings = Settings(home=tmp_path, pull=({"name": "main", "peer": "PACS"},))  # type: ignore[arg-type]
    later = NOON + timedelta(minutes=20)
    with desk.database.write() as tx:
        pulls.move_cursor(tx, "main", NOON)
        for n in range(102):
            old = NOON - timedelta(days=300) if n < 101 else NOON
            pulls.want(tx, "main", "1.2", f"1.2.{n}", old, modality="CT", instances=10, prior=False)
            (row,) = pulls.wanted(tx, "main", NOON)
            pulls.not_fetched(tx, row["id"], f"reason {n}", None)
        pulls.want(tx, "main", "1.3", "1.3.3", NOON, modality="CT", instances=10, prior=False)
        (row,) = pulls.wanted(tx, "main", NOON)
        pulls.fetched(tx, row["id"], 10, later - timedelta(minutes=5))
    said = found(desk, settings, timedelta(minutes=20))["pull main"]
    assert said["ok"] and said["detail"] == "1 series were given up, last for: reason 101"
    assert not found(desk, settings, timedelta(minutes=26))["pull main"]["ok"]


def test_a_study_that_should_have_gone_days_ago_is_red(desk: Desk, settings: Settings) -> None:
    desk.receive(modality="SR", sop_class_uid="1.2.840.10008.5.1.4.1.1.88.33")  # no reader waits for it
    assert found(desk, settings, timedelta(days=61))["retention"]["ok"]
    assert not found(desk, settings, timedelta(days=63))["retention"]["ok"]
    with desk.database.read() as tx:
        told = health.degraded(tx, settings, desk.clock() + timedelta(days=63))
    assert "retention" not in {one["part"] for one in told}  # the reader of a list can do nothing about it


def test_a_database_that_takes_no_writes_is_the_one_thing_said_beside_the_disk(
    desk: Desk, settings: Settings
) -> None:
    """No part can beat then: their silence would only hide the cause."""
    with desk.database.read() as tx:
        said = health.degraded(tx, settings, NOON, read_only_since=NOON - timedelta(minutes=3))

    assert [d["part"] for d in said] == ["database"]
    assert "takes no writes since 11:57:00" in said[0]["text"]
