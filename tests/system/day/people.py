"""Who acts in the day, from outside: the RIS over HL7, three readers over the API, one in Chromium, an administrator.

Each notes in the diary what was answered "done", and when: the figures are counted from that (`figures`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import hl7
from flask import Flask
from flask.testing import FlaskClient

from tests.factories import a_header
from tests.hl7.messages import an_adt, an_orm, message, msh, pid
from tests.simulation.actors import Object, Plan, sender
from tests.simulation.world import SITE, Grant, Steps
from tests.system.day.script import (
    DAY_BEGINS,
    DAY_ENDS,
    HANDOVER,
    HOUR,
    MINUTE,
    NEW_EFFUSION_THRESHOLD,
    POLICY_AT,
    SECOND,
    Case,
)
from tests.system.day.world import DayWorld
from triage.domain.errors import Unavailable
from triage.domain.priority import Policy
from triage.domain.study import CONSTANCY_PATIENT_PREFIX
from triage.workflow import accounts, constancy
from triage.workflow.inbox import Inbox
from triage.workflow.read.claims import CLAIM_LENGTH


@dataclass
class Diary:
    """What the people of the day know to have done; times in the world's milliseconds."""

    cases: dict[str, Case]  # by Study Instance UID
    opened: dict[str, int] = field(default_factory=dict)
    seen: dict[str, set[str]] = field(default_factory=dict)  # flags that the list showed at the first opening
    read: dict[str, int] = field(default_factory=dict)
    words: list[tuple[str, str, str, set[str]]] = field(
        default_factory=list
    )  # (study, verdict, finding, flags that the list showed), not taken back
    acknowledged: dict[int, str] = field(default_factory=dict)  # alert -> who
    merged: dict[str, str] = field(default_factory=dict)  # patient id -> surviving one
    by_browser: set[str] = field(default_factory=set)
    phantoms: int = 0

    def survivor(self, patient_id: str) -> str:
        return self.merged.get(patient_id, patient_id)

    def note_opened(self, item: dict[str, Any], at_ms: int) -> None:
        self.opened.setdefault(item["study_uid"], at_ms)
        self.seen.setdefault(item["study_uid"], flags_of(item))

    def note_read(self, study: str, at_ms: int) -> None:
        """Somebody opened it before: only who took a study reports it."""
        assert study in self.opened
        self.read.setdefault(study, at_ms)


def flags_of(item: dict[str, Any]) -> set[str]:
    codes = (r["code"] for r in item["reasons"])
    return {code.removeprefix("AI_").lower() for code in codes if code.startswith("AI_")}


# --- the RIS -------------------------------------------------------------------------------------------------


class Ris:
    """Sends orders, registrations and reports at their times; every message must be taken."""

    def __init__(self, world: DayWorld, diary: Diary) -> None:
        self.world, self.diary = world, diary
        self.inbox = Inbox(world.database, SITE, world.now, world.ids("ris"))
        self.due: list[tuple[int, str, Callable[[], None]]] = []  # (when, name, what)
        for case in diary.cases.values():
            self._plan(case)

    def later(self, at_ms: int, name: str, act: Callable[[], None]) -> None:
        self.due.append((at_ms, name, act))
        self.due.sort(key=lambda d: d[:2])

    def work(self) -> Steps:
        while True:
            while self.due and self.due[0][0] <= self.world.ms:
                self.due.pop(0)[2]()
                yield 0.0
            yield 5.0

    def send(self, raw: bytes) -> None:
        """A message that found the database busy is sent again: nothing of it was taken."""
        taken: list[bytes] = []
        while not taken:
            with suppress(Unavailable):
                taken = list(self.inbox.answers(raw, "10.0.0.9"))
        (answer,) = taken
        assert str(hl7.parse(answer.decode()).segment("MSA")[1]) == "AA", answer

    def _plan(self, case: Case) -> None:
        if not case.ordered:
            return
        at_ms = case.at_ms + (4 * MINUTE if case.order_after_images else -20 * MINUTE)
        self.later(at_ms, f"order {case.number}", lambda: self.send(self._order(case, "NW", case.ordered)))
        if case.changed_to:
            self.later(
                case.at_ms + 6 * MINUTE, f"change {case.number}",
                lambda: self.send(self._order(case, "XO", case.changed_to)),
            )  # fmt: skip
        if case.cancelled:
            self.later(
                case.at_ms + 7 * MINUTE, f"cancel {case.number}",
                lambda: self.send(self._order(case, "CA", case.ordered)),
            )  # fmt: skip

    def _order(self, case: Case, control: str, priority: str) -> bytes:
        return an_orm(
            control, accession=case.accession, priority=priority, placer=f"PL{case.number}^HIS",
            filler=f"FI{case.number}^RIS", patient=case.patient_id, uid=case.study_uid, at=self._now(),
        )  # fmt: skip

    def merge(self, case: Case) -> None:
        """Registration finds that two numbers are one person; its message comes twice."""
        surviving = f"M{case.number}"
        raw = an_adt(
            "A40", pid(surviving, "ROE^JANE"), f"MRG|{case.patient_id}^^^HOSP^MR", at=self._now(),
            control_id=f"MERGE{case.number}",
        )  # fmt: skip
        self.send(raw)
        self.send(raw)
        self.diary.merged[case.patient_id] = surviving

    def correct(self, case: Case) -> None:
        """A name was written wrongly."""
        self.send(an_adt("A08", pid(case.patient_id, f"CORRECTED^PERSON{case.number}"), at=self._now()))

    def report(self, case: Case, status: str = "F") -> None:
        """A radiologist dictated it elsewhere; C is a correction of what was final."""
        filler = f"FI{case.number}^RIS"
        self.send(
            message(
                msh("ORU^R01", at=self._now()), pid(case.patient_id), f"ORC|RE||{filler}",
                f"OBR|1||{filler}|CXR2^Chest 2 views^L||||||||||||||{case.accession}||||||DX|{status}",
                f"OBX|1|TX|18782-3^Study observation^LN||Report {status} of {case.number}.||||||{status}",
            )
        )  # fmt: skip
        self.diary.note_read(case.study_uid, self.world.ms)
        self.world.grants.pop(self.world.study_id(case.study_uid), None)

    def _now(self) -> str:
        return self.world.now().strftime("%Y%m%d%H%M%S+0000")


# --- readers over the API ------------------------------------------------------------------------------------


class ApiReader:
    """Takes the next study, looks at it, says what it thinks, reports; acknowledges alerts first of all."""

    def __init__(self, world: DayWorld, app: Flask, name: str, diary: Diary, ris: Ris) -> None:
        self.world, self.app, self.name, self.diary, self.ris = world, app, name, diary, ris
        self.client = self._sign_in()

    def work(self) -> Steps:
        while True:
            yield 10.0 + 30.0 * self._draw()
            if HANDOVER[0] <= self.world.ms < HANDOVER[1]:
                yield (HANDOVER[1] - self.world.ms) / SECOND
            self.acknowledge()
            if not self.world.any("SELECT 1 FROM worklist_item WHERE state IN ('to_read', 'arriving')"):
                yield 60.0
                continue
            answer = self.ask("POST", "/api/v1/worklist/next")
            if answer.status_code == 204:
                yield 60.0
                continue
            assert answer.status_code in (200, 422), answer.get_data(as_text=True)
            if answer.status_code == 422:  # five claims are enough
                yield 120.0
                continue
            item = answer.get_json()
            study = item["study_uid"]
            self.note_claim(study)
            self.diary.note_opened(item, self.world.ms)
            yield 40.0 + 110.0 * self._draw()
            self.judge(study)
            yield from self.end(study)

    def acknowledge(self) -> None:
        if not self.world.any("SELECT 1 FROM alert WHERE state IN ('open', 'exhausted')"):
            return
        for alert in self.ask("GET", "/api/v1/alerts").get_json()["alerts"][:2]:
            answer = self.ask("POST", f"/api/v1/alerts/{alert['id']}/acknowledge")
            if answer.status_code == 200:
                self.diary.acknowledged.setdefault(alert["id"], self.name)

    def note_claim(self, study: str) -> None:
        """Nobody else may believe to hold it now (I16)."""
        study_id, now = self.world.study_id(study), self.world.now()
        held = self.world.grants.get(study_id)
        free = held is None or held.reader == self.name or held.until_ms <= self.world.ms
        assert free, f"I16: {study} was given to {self.name} while {held and held.reader} holds it"
        length_ms = int(CLAIM_LENGTH.total_seconds() * SECOND)
        self.world.grants[study_id] = Grant(self.name, now + CLAIM_LENGTH, self.world.ms + length_ms)

    def judge(self, study: str) -> None:
        """Reads the panel now and then; agrees or not, sometimes takes the word back."""
        chance = self._draw()
        if chance < 0.2:
            said = self.ask("GET", f"/api/v1/studies/{study}").get_json()
            assert said["item"]["claimed_by"] == self.name
        if chance < 0.6:
            return
        verdict, finding = ("agree", "") if chance < 0.85 else ("disagree", "")
        if chance > 0.97:
            verdict, finding = "missed", "nodule"
        body = {"verdict": verdict, "finding": finding, "chip": "artefact" if verdict == "disagree" else ""}
        answer = self.ask("POST", f"/api/v1/studies/{study}/feedback", body)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        if 0.80 < chance < 0.85:
            assert self.ask("DELETE", f"/api/v1/studies/{study}/feedback", {}).status_code == 200
        else:
            shown = self.ask("GET", f"/api/v1/studies/{study}").get_json()["item"]
            self.diary.words.append((study, verdict, finding, flags_of(shown)))

    def end(self, study: str) -> Steps:
        """Reports it here, or dictates into the RIS, or gives it back, or goes for lunch."""
        chance, case = self._draw(), self.diary.cases[study]
        if chance < 0.80:
            answer = self.ask("POST", f"/api/v1/studies/{study}/report", {"state": "final"})
            assert answer.status_code == 200, answer.get_data(as_text=True)
            self.diary.note_read(study, self.world.ms)
        elif chance < 0.92:
            at_ms = self.world.ms + int((1 + 5 * self._draw()) * MINUTE)
            self.ris.later(at_ms, f"report {case.number}", lambda: self.ris.report(case))
            yield 5.0
            return  # its claim ends with the report
        elif chance < 0.97:
            assert self.ask("POST", f"/api/v1/studies/{study}/release").status_code == 200
        else:
            yield 11 * 60.0  # the claim runs out
            return
        self.world.grants.pop(self.world.study_id(study), None)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.client.open(path, method=method, json=body)
        if answer.status_code == 401:  # nobody sat here for a quarter of an hour
            self.client = self._sign_in()
        return self.ask(method, path, body) if answer.status_code in (401, 503) else answer

    def _sign_in(self) -> FlaskClient:
        with self.world.database.write() as tx:
            signed = accounts.sign_in(tx, self.name, self.world.now())
        client = self.app.test_client()
        client.set_cookie("triage_session", signed.secret)
        client.environ_base["HTTP_X_CSRF_TOKEN"] = signed.csrf_token
        return client

    def _draw(self) -> float:
        return self.world.draw(self.name)


# --- the reader at the browser -------------------------------------------------------------------------------


class BrowserReader:
    """Comes five times in the day: acknowledges what the banner shows, takes the next study by key, agrees."""

    NAME = "reader"

    def __init__(self, world: DayWorld, browser: Any, base: str, diary: Diary, ris: Ris) -> None:
        self.world, self.browser, self.base, self.diary, self.ris = world, browser, base, diary, ris

    def work(self) -> Steps:
        for hour in (1, 9, 12.5, 16, 22):
            yield max(0.0, (DAY_BEGINS + hour * HOUR - self.world.ms) / SECOND)
            while not self.world.any(
                "SELECT 1 FROM worklist_item w JOIN study s ON s.id = w.study_id "
                "WHERE w.state = 'to_read' AND NOT s.constancy"
            ):
                yield 15.0
            self.visit()

    def visit(self) -> None:
        with self.world.database.write() as tx:
            secret = accounts.sign_in(tx, self.NAME, self.world.now()).secret
        context = self.browser.new_context(viewport={"width": 1440, "height": 900})
        context.add_cookies([{"name": "triage_session", "value": secret, "url": self.base}])
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("response", self._hear)
        page.goto(f"{self.base}/worklist")
        page.wait_for_selector("#rows tr[data-uid], #rows tr.empty")
        page.wait_for_selector(".rows table[data-loaded]")
        if page.query_selector(".banner") is not None:
            page.keyboard.press("x")
            page.wait_for_selector("dialog[open]")
            page.keyboard.press("Enter")
            page.wait_for_selector(".toast >> text=Acknowledged")
        page.keyboard.press("n")
        page.wait_for_selector("#panel header")
        study = page.evaluate("document.querySelector('#panel header').dataset.uid")
        item = page.evaluate("uid => fetch(`/api/v1/studies/${uid}`).then(r => r.json())", study)["item"]
        self.diary.note_opened(item, self.world.ms)
        page.keyboard.press("a")
        page.wait_for_selector(".toast >> text=Agreed")
        self.diary.words.append((study, "agree", "", flags_of(item)))
        context.close()
        self.diary.by_browser.add(study)
        case = self.diary.cases[study]
        self.ris.later(
            self.world.ms + 3 * MINUTE, f"report {case.number}", lambda: self.ris.report(case, "F")
        )

    def _hear(self, response: Any) -> None:
        parts = response.url.split("/")
        if parts[-1] == "acknowledge" and response.status == 200:
            self.diary.acknowledged.setdefault(int(parts[-2]), self.NAME)


# --- the house -----------------------------------------------------------------------------------------------


def administrator(world: DayWorld, app: Flask) -> Steps:
    """At noon: consolidation lifts less, and effusions need more certainty."""
    yield (POLICY_AT - world.ms) / SECOND
    with world.database.write() as tx:
        signed = accounts.sign_in(tx, "admin", world.now())
    client = app.test_client()
    client.set_cookie("triage_session", signed.secret)
    content = Policy().as_json()
    content["raises_to"]["consolidation"] = "elevated"
    content["thresholds"] = {"effusion": NEW_EFFUSION_THRESHOLD}
    headers = {"X-CSRF-Token": signed.csrf_token}
    body = {"content": content, "reason": "too many effusions"}
    tried = client.post("/api/v1/admin/policies/dry-run", json={"content": content}, headers=headers)
    assert tried.status_code == 200, tried.get_data(as_text=True)
    answer = client.post("/api/v1/admin/policies", json=body, headers=headers)
    assert answer.status_code == 200, answer.get_data(as_text=True)


def phantoms(world: DayWorld, diary: Diary) -> Steps:
    """A constancy phantom through the real door every three hours; one of them finds no worker."""
    while True:
        yield 140 * 60.0
        if world.ms >= DAY_ENDS:
            return
        diary.phantoms += 1
        header = a_header(
            study=f"constancy{diary.phantoms}", patient_id=f"{CONSTANCY_PATIENT_PREFIX}-DX",
            quality_control_image="YES",
        )  # fmt: skip
        item = Object(header, f"{header.sop_instance_uid}|pneumothorax")
        with world.database.write() as tx:
            constancy.begin(tx, "chest_xray", header.study_instance_uid, world.now())
        plan = Plan(f"phantom{diary.phantoms}", [item], ae_title="TRIAGE")
        world.patients.append(plan)
        world.add(plan.name, "outside", sender(world, plan))
        yield 0.0


def registration(ris: Ris) -> None:
    """Six merges and six corrections, some before their images and some while an alert is open."""
    cases = list(ris.diary.cases.values())
    critical = [c for c in cases if c.alerts and not c.cancelled]
    for case in [*_spread(critical, 0), *_spread(cases, 0)]:
        ris.later(case.at_ms + 90 * SECOND, f"merge {case.number}", lambda c=case: ris.merge(c))  # type: ignore[misc]
    for number, case in enumerate([*_spread(critical, 1), *_spread(cases, 1)]):
        early = -MINUTE if number % 2 else 2 * MINUTE
        ris.later(case.at_ms + early, f"name {case.number}", lambda c=case: ris.correct(c))  # type: ignore[misc]


def _spread(cases: list[Case], first: int) -> list[Case]:
    """Three of them over the day; another `first` gives three others."""
    return [cases[(2 * n + 1 + first) * len(cases) // 8] for n in range(3)]
