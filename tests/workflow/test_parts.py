"""What every process of the product does, and whom the receiver's door lets in."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.dicom.hospital import eventually
from tests.workflow.desk import Desk
from triage.dicom.receiver_config import Caller
from triage.domain.errors import Unavailable
from triage.settings import Settings, WebSettings
from triage.store import events, peers
from triage.workflow.parts import common, sender
from triage.workflow.parts.common import Beat, settings_of_process, wait_for
from triage.workflow.parts.receiver import Door, retrieve_url


def test_a_part_beats_while_it_lives_and_takes_its_beat_along_when_it_goes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "BEAT_SECONDS", 0.01)
    monkeypatch.setenv("TRIAGE_RESTARTS", "3")
    monkeypatch.setenv("TRIAGE_FLAPPING", "1")
    alive = threading.Event()
    beat = Beat(desk.database, "relay@host", alive.is_set)
    beat.start()
    assert not wait_for(lambda: bool(desk.rows("heartbeat")), 0.2)  # what it watches does not live
    alive.set()
    eventually(lambda: desk.rows("heartbeat"))
    (row,) = desk.rows("heartbeat")
    assert (row["part"], row["pid"], row["detail"]) == (
        "relay@host", os.getpid(), {"restarts": 3, "flapping": True},
    )  # fmt: skip
    beat.leave()
    assert desk.rows("heartbeat") == [] and not beat.is_alive()


def test_a_database_that_is_away_ends_no_heart(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "BEAT_SECONDS", 0.01)
    asked = threading.Event()

    def away() -> Any:
        asked.set()
        raise Unavailable("the database does not answer")

    beat = Beat(desk.database, "relay@host")
    with monkeypatch.context() as outage:
        outage.setattr(desk.database, "write", away)
        beat.start()
        assert asked.wait(10)
    eventually(lambda: desk.rows("heartbeat"))
    monkeypatch.setattr(desk.database, "write", away)
    beat.leave()
    assert not beat.is_alive() and len(desk.rows("heartbeat")) == 1  # it goes stale, and is seen


@pytest.mark.parametrize(
    "error", [Unavailable("the database does not answer"), KeyError("a mistake of ours")]
)
def test_a_lease_that_cannot_be_renewed_is_not_held_and_is_asked_for_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Its thread ended on a mistake of ours and left us sending, beside whoever took the lease next."""
    monkeypatch.setattr(sender, "LEASE", timedelta(milliseconds=30))
    real, fails = events.take_lease, threading.Event()

    def take_lease(*given: Any) -> int | None:
        if fails.is_set():
            raise error
        return real(*given)

    monkeypatch.setattr(events, "take_lease", take_lease)
    lease = sender.Lease(desk.database)
    lease.start()
    assert lease.held.wait(20)
    fails.set()
    eventually(lambda: not lease.held.is_set())
    fails.clear()
    assert lease.held.wait(20)
    lease.stopping.set()
    lease.join(20)
    assert not lease.is_alive()


def test_a_part_reads_the_file_that_its_supervisor_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "triage.toml"
    file.write_text('site = "NORTH"\n')
    monkeypatch.setenv("TRIAGE_CONFIG", str(file))
    monkeypatch.setenv("TRIAGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRIAGE_LOG_FORMAT", "json")
    logs: list[str] = []
    monkeypatch.setattr(common.logging, "configure", logs.append)  # the whole process would log so else
    said = settings_of_process()
    assert logs == ["json"]
    assert (said.site, said.home) == ("NORTH", tmp_path / "home")
    monkeypatch.setenv("TRIAGE_CONFIG", "")
    assert settings_of_process().site != "NORTH"


def test_who_is_no_peer_calls_from_this_machine_alone(desk: Desk) -> None:
    with desk.database.write() as tx:
        peers.add(tx, "ct", "CT1", "10.0.0.7", 104, tls=False)
        peers.add(tx, "odd", "ODD", "no-such-host.invalid", 104, tls=False)
    door = Door(desk.database, None)  # type: ignore[arg-type]

    def lets_in(title: str, address: str) -> bool:
        return door.may_call(Caller(title, address, None))

    assert lets_in("ANYBODY", "127.0.0.1") and lets_in("CT1", "10.0.0.7")
    assert not lets_in("CT1", "10.0.0.8") and not lets_in("ANYBODY", "10.0.0.7")
    assert not lets_in("ODD", "10.0.0.7")  # its name is known to no name server


def test_our_dicomweb_is_named_so_that_it_can_be_called() -> None:
    assert retrieve_url(Settings(web=WebSettings(host="::1", port=81))) == "http://[::1]:81/dicom-web"
    assert retrieve_url(Settings(web=WebSettings(host="10.0.0.1"))) == "http://10.0.0.1:8080/dicom-web"
