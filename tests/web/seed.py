"""Rows for the pages, written through the store's and the workflow's own functions. All names are made up."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from triage.domain.alerting import Rung
from triage.domain.finding import Band, Finding, Location
from triage.domain.priority import ItemFacts, OrderedPriority, prioritize
from triage.domain.study import CT, DX_FOR_PRESENTATION, InstanceHeader
from triage.domain.suitability import NotSuitable, ReasonCode
from triage.store import (
    completeness,
    leases,
    policies,
    registration,
    releases,
    results,
    runs,
    studies,
    users,
    worklist,
)
from triage.store.database import Database
from triage.store.schema import metadata
from triage.workflow import accounts, intake
from triage.workflow.alert import settle_alerts, settle_study
from triage.workflow.rank import rank
from triage.workflow.site import Site, new_id

PASSWORD = "correct horse 42"
ROLES = ("reader", "lead", "qa", "admin", "auditor")
SITE = Site(name="NORTH", ladder=tuple(Rung(timedelta(minutes=m), ()) for m in (0, 3, 5, 10, 15)))


@dataclass
class Sown:
    """A database with policy, releases and users; `add` puts studies in."""

    database: Database
    now: datetime
    count: int = 0
    uids: list[str] = field(default_factory=list)

    def add(self, **wishes: Any) -> str:
        with self.database.write() as tx:
            return self.add_in(tx, **wishes)

    def add_in(
        self,
        tx: Connection,
        *,
        patient: str = "",
        sex: str = "F",
        age: float = 67.0,
        modality: str = "DX",
        view: str = "AP",
        body_part: str = "CHEST",
        description: str = "",
        location: str = "ICU 2",
        ordered: str = "ROUTINE",
        minutes_ago: float = 10.0,
        findings: tuple[Finding, ...] = (),
        state: str = "completed",
        reason: NotSuitable | None = None,
        images: int = 1,
        expected: int | None = None,
        arriving: bool = False,
        constancy: bool = False,
        patient_id: str = "",
        outline: bool = False,
        digest: str = "",
        rows: int = 1000,
        columns: int = 1000,
    ) -> str:
        """One study with its run in the wished state; returns its UID."""
        self.count += 1
        n = self.count
        arrived = self.now - timedelta(minutes=minutes_ago)
        uid = f"1.2.826.0.1.3680043.10.1.{n}"
        stored = [
            _arrival(
                uid, n, i, patient or f"Muster^Person{n}", patient_id or f"{4000000 + n}", sex, age, modality,
                view, body_part, description or ("Chest portable" if modality == "DX" else "CT thorax"),
                location, arrived - timedelta(minutes=2), constancy, digest, rows, columns,
            )
            for i in range(images)
        ]  # fmt: skip
        registered = [registration.register(tx, a, SITE.name, SITE.quiet_seconds, arrived) for a in stored][
            -1
        ]
        study_id, series_id = registered.study_id, registered.series_id
        self._item(tx, study_id, OrderedPriority(ordered), arrived, modality, body_part, view, location)
        if expected is not None:
            completeness.set_expected_count(tx, stored[0].header.series_instance_uid, expected, arrived)
        if not arriving:
            completeness.settle_series(tx, series_id, "film" if modality == "DX" else "count met")
        if modality in ("DX", "CR", "CT") and not arriving:
            self._run(tx, study_id, series_id, stored, state, reason, findings, arrived)
        rank(tx, study_id, arrived)
        if state == "completed":
            settle_alerts(tx, study_id, SITE, new_id, arrived + timedelta(seconds=20))
        self.uids.append(uid)
        return uid

    def take_back(self, uid: str) -> None:
        """A newer run of the same images finds nothing."""
        with self.database.write() as tx:
            study_id = studies.find_study(tx, uid) or 0
            old = runs.current(tx, study_id)[0]
            again, _ = runs.request(
                tx, study_id=study_id, series_id=old["series_id"], release_id=old["release_id"], input_digest="again",
                sop_instance_uids=old["sop_instance_uids"], queue="routine", policy_version=1, mode="triage_only",
                now=self.now,
            )  # fmt: skip
            leases.lease(tx, again, "token", self.now, timedelta(seconds=60))
            leases.finish(tx, again, "token", "finished", self.now, runtime="torch cpu")
            runs.supersede_older(tx, again, self.now)
            settle_study(tx, study_id, SITE, new_id, self.now)

    def _item(
        self, tx: Connection, study_id: int, ordered: OrderedPriority, arrived: datetime, modality: str,
        body_part: str, view: str, location: str,
    ) -> None:  # fmt: skip
        facts = ItemFacts(arrived_at=arrived, ordered_priority=ordered)
        priority = prioritize(facts, (), policies.active(tx), 0)
        item_id = worklist.ensure_item(tx, study_id, priority, ordered, arrived)
        worklist.set_values(tx, item_id, modality=modality, body_part=body_part, view=view, location=location)

    def _run(
        self, tx: Connection, study_id: int, series_id: int, stored: list[registration.Arrival], state: str,
        reason: NotSuitable | None, findings: tuple[Finding, ...], at: datetime,
    ) -> None:  # fmt: skip
        detector = "lung_nodule" if stored[0].header.modality == "CT" else "chest_xray"
        release = next(r for r in releases.in_states(tx, "active") if r["detector"] == detector)
        inputs = [(a.header.sop_instance_uid, a.digest) for a in stored]
        run_id, _ = runs.request(
            tx, study_id=study_id, series_id=series_id, release_id=release["id"],
            input_digest=intake.input_digest(inputs), sop_instance_uids=[u for u, _ in inputs], queue="routine",
            policy_version=1, mode="triage_only", now=at,
        )  # fmt: skip
        if reason is not None:
            runs.settle_unsuitable(tx, run_id, reason, at)
        elif state != "requested":
            leases.lease(tx, run_id, "token", at, timedelta(seconds=60))
            if state == "completed":
                results.add_findings(tx, run_id, study_id, findings)
                leases.finish(
                    tx, run_id, "token", "finished", at + timedelta(seconds=20), runtime="torch cpu"
                )
            elif state == "failed":
                leases.finish(tx, run_id, "token", "gave_up", at + timedelta(seconds=20), failure="crashed")


def sow(path: Path, now: datetime) -> Sown:
    """An empty site in a SQLite file: tables, policy, two releases, one user a role (name = role)."""
    return sow_in(Database(f"sqlite:///{path}"), now)


def sow_in(database: Database, now: datetime) -> Sown:
    """As `sow`, in an empty database of either kind."""
    metadata.create_all(database.engine)
    with database.write() as tx:
        policies.ensure_first(tx, now - timedelta(days=1))
        for detector, not_covered in (("chest_xray", ["fracture"]), ("lung_nodule", ["embolism"])):
            releases.register(tx, detector, "1.0.0", f"{detector}-digest", not_covered, now)
        people = {r: r for r in ROLES} | dict.fromkeys(("ann", "ben", "cleo"), "reader")
        for name, role in people.items():
            users.add_user(tx, name, role, _one_for_all(), now, display_name=f"Dr. {name.title()}")
    return Sown(database, now)


@functools.cache
def _one_for_all() -> str:
    return accounts.hash_password(PASSWORD)  # Argon2 is slow on purpose


def pneumothorax(probability: float = 0.93, *, outline: bool = False) -> Finding:
    place = Location(((100.0, 100.0), (300.0, 100.0), (300.0, 400.0)), "left", "upper") if outline else None
    return Finding("pneumothorax", probability - 0.1, probability, Band.HIGH, True, 0.6, place)


def flag(name: str, band: Band = Band.MODERATE, probability: float = 0.7) -> Finding:
    return Finding(name, probability - 0.1, probability, band, True, 0.5)


def a_day(sown: Sown) -> dict[str, str]:
    """A small night list with every kind of row; {nickname: study uid}."""
    add = sown.add
    return {
        "pneumothorax": add(
            patient="Doe^Jane", findings=(pneumothorax(outline=True),), minutes_ago=7, description="Chest AP portable"
        ),
        "stat": add(patient="Roe^Max", sex="M", age=45, modality="CT", view="", location="ED", ordered="STAT",
                    state="requested", minutes_ago=19, images=3),
        "edema": add(patient="Haas^Greta", age=81, location="ED", findings=(flag("edema"), flag("effusion")),
                     minutes_ago=14),
        "overdue": add(patient="Muster^Eva", age=71, location="OPD", view="PA", minutes_ago=25 * 60),
        "nodule": add(patient="Li^Wei=李^伟", sex="M", age=59, modality="CT", view="", location="OPD",
                      findings=(flag("nodule"), flag("emphysema", Band.LOW, 0.5)), minutes_ago=31, images=4, expected=4),
        "child": add(patient="Boy^Tom", sex="M", age=12, location="ED", view="PA", minutes_ago=22,
                     reason=NotSuitable(ReasonCode.OUT_OF_AGE, "age 12, limit 18")),
        "clear": add(patient="Okafor^Ada", age=38, location="OPD", view="PA", minutes_ago=52),
        "urgent": add(patient="Silva^Rui", sex="M", age=55, location="Ward 4", ordered="URGENT", minutes_ago=44,
                      state="running"),
        "failed": add(patient="Novak^Petr", sex="M", age=62, location="Ward 4", minutes_ago=35, state="failed"),
        "arriving": add(patient="Sato^Yuki", age=49, modality="CT", view="", location="ED", minutes_ago=1, images=5,
                        expected=312, arriving=True),
        "mr": add(patient="Berg^Lars", sex="M", age=33, modality="MR", view="", body_part="HEAD", location="OPD",
                  description="MR head", minutes_ago=65),
    }  # fmt: skip


def _arrival(
    uid: str, n: int, i: int, patient: str, patient_id: str, sex: str, age: float, modality: str, view: str,
    body_part: str, description: str, location: str, acquired: datetime, constancy: bool, digest: str,
    rows: int, columns: int,
) -> registration.Arrival:  # fmt: skip
    header = InstanceHeader(
        sop_class_uid=CT
        if modality == "CT"
        else DX_FOR_PRESENTATION
        if modality == "DX"
        else "1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid=f"{uid}.1.{i + 1}",
        study_instance_uid=uid,
        series_instance_uid=f"{uid}.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        patient_id=patient_id,
        patient_name=patient,
        patient_sex=sex,
        patient_age_years=age,
        patient_birth_date="19540101",
        accession_number=f"A{10000 + n}",
        study_description=description,
        modality=modality,
        series_number=1,
        body_part_examined=body_part,
        view_position=view,
        institutional_department_name=location,
        rows=rows,
        columns=columns,
        samples_per_pixel=1,
        image_position_patient=(0.0, 0.0, float(i)),
        photometric_interpretation="MONOCHROME2",
    )
    return registration.Arrival(
        header=header,
        digest=digest or f"{n:032x}{i:032x}",
        size_bytes=1000,
        calling_ae_title="DX_P2" if modality == "DX" else "CT1_ST",
        association_id="",
        wanted=modality in ("DX", "CT"),
        constancy=constancy,
        acquired_at=acquired,
    )
