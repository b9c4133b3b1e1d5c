"""A day in the life: 600 studies (fewer in `make test`) in 24 hours of a fake clock, with what goes wrong in a hospital.

Real: every workflow step, the database, the HL7 inbox, the web application with its sessions and rights, Chromium.
Simulated: clock, disk, broker, processes and the consumers of alerts (`tests.simulation`), and what a detector sees.
At the end every promise of assurance 4.2 holds, and the QA report says what the script and the people say.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from flask import Flask
from werkzeug.serving import make_server

from tests.simulation import actors, faults
from tests.simulation.world import ROUTES, Steps
from tests.system.day.checker import DayChecker
from tests.system.day.figures import counted, of_report
from tests.system.day.people import (
    ApiReader,
    BrowserReader,
    Diary,
    Ris,
    administrator,
    phantoms,
    registration,
)
from tests.system.day.script import (
    CONSUMER_DEAD,
    DAY_BEGINS,
    DAY_ENDS,
    HOUR,
    MINUTE,
    WORKERS_OUT,
    senders,
    the_day,
)
from tests.system.day.world import DayDatabase, DayWorld
from triage.settings import Settings
from triage.store import deliveries, policies, releases, users
from triage.web.app import create_app
from triage.workflow import accounts

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.system,
    pytest.mark.browser,
    pytest.mark.timeout(3000),  # a machine that others use too
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
SEED = 20_260_315
READERS = ("ann", "ben", "cleo")
LOOK_EVERY = 2 * HOUR
AFTERWARDS = 4 * HOUR


@pytest.fixture(autouse=True)
def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DayWorld]:
    database = DayDatabase(tmp_path / "day.db")
    found = DayWorld(SEED, database)
    with database.write() as tx:
        policies.ensure_first(tx, found.now())
        deliveries.sync_routes(tx, [(r.name, r.kind) for r in ROUTES.values()])
        for detector in ("chest_xray", "lung_nodule"):
            releases.register(tx, detector, "1.0.0", f"{detector} 1.0.0", [], found.now())
        secret = accounts.hash_password("correct horse 42")
        for name, role in {
            **dict.fromkeys((*READERS, "reader"), "reader"),
            "admin": "admin",
            "qa": "qa",
        }.items():
            users.add_user(tx, name, role, secret, found.now(), display_name=name.title())
    yield found
    database.close()


@pytest.fixture
def app(world: DayWorld, tmp_path: Path) -> Iterator[Flask]:
    home = tmp_path / "home"
    home.mkdir()
    found = create_app(
        Settings(home=home, site="SIM"), world.database, world.now, monotonic=lambda: world.ms / 1000
    )
    yield found
    found.extensions["triage"].feed.stop()
    found.extensions["triage"].previewer.close()


@pytest.fixture
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--no-proxy-server"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def base(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    app.extensions["triage"].feed.stop()
    server.shutdown()


def test_a_day_in_the_life(world: DayWorld, app: Flask, browser: Any, base: str) -> None:
    cases = the_day(SEED)
    diary = Diary({c.study_uid: c for c in cases})
    ris = Ris(world, diary)
    registration(ris)
    open_the_house(world, cases)
    world.add("ris", "outside", ris.work())
    for name in READERS:
        world.add(name, "outside", ApiReader(world, app, name, diary, ris).work())
    world.add("browser", "outside", BrowserReader(world, browser, base, diary, ris).work())
    world.add("administrator", "outside", administrator(world, app))
    world.add("phantoms", "outside", phantoms(world, diary))
    checker = DayChecker(world, diary)

    for at_ms in range(DAY_BEGINS + LOOK_EVERY, DAY_ENDS + 1, LOOK_EVERY):
        world.run_until(at_ms)
        checker.check()
    report, said = qa_report(world, app), counted(diary, world.spool, DAY_ENDS)
    pending = report["coverage"]["pending"]["count"]
    while checker.unfinished() and world.ms < DAY_ENDS + AFTERWARDS:
        world.run_until(world.ms + 10 * MINUTE)
        checker.check()

    assert pending == 0, "a study of the last minutes is still on its way: draw another day"
    assert of_report(report) == said
    assert checker.unfinished() == ""
    checker.i15_pages()
    checker.i18_excluded_inputs_count_nothing()
    what_went_wrong_was_seen(checker, diary)
    assert len(diary.by_browser) == 5


def open_the_house(world: DayWorld, cases: list[Any]) -> None:
    """Senders, receiver, two workers, one relay; and what goes wrong, by its hour."""
    plans = senders(cases)
    world.patients += plans
    for plan in plans:
        world.add(plan.name, "outside", actors.sender(world, plan))
    world.serve(actors.RECEIVER, lambda: world.add(actors.RECEIVER, actors.RECEIVER, actors.receiver(world)))
    for number in range(2):
        faults.serve_worker(world, f"worker{number}")
    faults.serve_relay(world, "relay0")
    world.add("trouble", "outside", trouble(world))


def trouble(world: DayWorld) -> Steps:
    def until(hour: float) -> float:
        return (DAY_BEGINS + hour * HOUR - world.ms) / 1000

    yield until(5)
    world.crash(actors.RECEIVER)
    yield until((CONSUMER_DEAD[0] - DAY_BEGINS) / HOUR)
    world.peers["hl7"].mode = "down"
    yield until(10)
    world.peers["hook"].mode = "late"
    yield until(10.5)
    world.peers["hook"].mode = "up"
    yield until((CONSUMER_DEAD[1] - DAY_BEGINS) / HOUR)
    world.peers["hl7"].mode = "up"
    yield until((WORKERS_OUT[0] - DAY_BEGINS) / HOUR)
    for number in range(2):
        world.crash(f"worker{number}")
        world.restart_ms[f"worker{number}"] = WORKERS_OUT[1]
    yield until(17)
    world.broker.calls.clear()
    world.crash("relay0")
    yield until(19)
    world.broker.calls += world.broker.calls
    world.database.busy = 3


def qa_report(world: DayWorld, app: Flask) -> dict[str, Any]:
    with world.database.write() as tx:
        secret = accounts.sign_in(tx, "qa", world.now()).secret
    client = app.test_client()
    client.set_cookie("triage_session", secret)
    day = (world.now() - timedelta(hours=1)).date()
    answer = client.get(f"/api/v1/reports/qa?from={day}&to={day + timedelta(days=1)}")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    found: dict[str, Any] = answer.get_json()
    return found


def what_went_wrong_was_seen(checker: DayChecker, diary: Diary) -> None:
    """The day had what it should have had: without this the rest would prove little."""
    alert_rows = checker.rows(
        "SELECT a.*, s.study_instance_uid FROM alert a JOIN study s ON s.id = a.study_id WHERE NOT s.constancy"
    )
    told = {a["study_instance_uid"] for a in alert_rows}
    assert told == {c.study_uid for c in diary.cases.values() if c.alerts}
    cleared = {c.study_uid for c in diary.cases.values() if c.late_mark == "clear"}
    withdrawn = {a["study_instance_uid"] for a in alert_rows if a["state"] == "withdrawn"}
    assert withdrawn and withdrawn <= cleared
    assert any(diary.seen.get(study) for study in cleared), "no flag was taken back after a reader saw it"
    assert {a["id"]: a["acknowledged_by"] for a in alert_rows if a["acknowledged_by"]} == diary.acknowledged
    waited = checker.rows("SELECT max(attempts) n FROM delivery WHERE route = 'hl7' AND state = 'delivered'")
    assert waited[0]["n"] > 3, "the dead consumer cost no attempts"
    missed = checker.rows("SELECT count(*) n FROM constancy_check WHERE NOT ok")[0]["n"]
    assert missed >= 1, "no phantom met the outage of the workers"
    assert len(checker.acts("patient.merged")) == len(diary.merged) == 6
    assert len(checker.acts("policy.applied")) == 1
    assert checker.acts("claim.expired") and checker.acts("feedback.withdrawn")
    assert sum(a["step"] > 0 for a in alert_rows) >= 1, "no ladder was climbed"
