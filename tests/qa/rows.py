"""Rows of a small department, written as a script: who arrived when, what AI said, when it was read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from triage.domain.finding import FINDING_CODES, PriorityClass
from triage.domain.priority import Policy
from triage.store import audit, policies, releases
from triage.store.schema import (
    alert,
    constancy_check,
    feedback,
    finding,
    patient,
    run,
    series,
    study,
    worklist_item,
)

T0 = datetime(2026, 11, 1, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


class Department:
    """Adds studies in one transaction; every number in a test stands in the call that made it."""

    def __init__(self, tx: Connection) -> None:
        self.tx = tx
        self.count = 0
        policies.ensure_first(tx, at(-1000))
        self.release = {
            name: releases.register(tx, name, "1.0.0", name[0] * 64, [], at(-900))
            for name in ("chest_xray", "lung_nodule")
        }
        self.shadow = releases.register(tx, "chest_xray", "2.0.0", "s" * 64, [], at(-800))
        audit.append(tx, at(-900), "triage", "release.activated", "release", 1)

    def _insert(self, table: Any, **values: Any) -> int:
        return int(self.tx.execute(insert(table).values(**values).returning(table.c.id)).scalar_one())

    def study(
        self,
        arrived: float,
        *,
        flags: tuple[str, ...] = (),
        flagged_after: float = 0.1,
        ran: str = "completed",
        reason: str = "",
        opened_after: float | None = None,
        read_after: float | None = None,
        order: str = "ROUTINE",
        sex: str = "F",
        age: float | None = 50.0,
        view: str = "PA",
        sender: str = "XR1",
        modality: str = "DX",
        detector: str = "chest_xray",
        state: str | None = None,
        constancy: bool = False,
        words: tuple[tuple[str, str], ...] = (),
        size_bytes: int = 100,
    ) -> int:
        """One study with one series and one run (`ran` "": no detector wanted it); times in minutes."""
        self.count += 1
        n = self.count
        person = self._insert(
            patient,
            patient_id=f"P{n}",
            patient_sex=sex,
            patient_name=f"SECRET{n}^NAME",
            patient_birth_date="",
        )
        study_id = self._insert(
            study, study_instance_uid=f"1.2.{n}", patient_id=person, site="SITE", patient_age_years=age,
            first_received_at=at(arrived), last_received_at=at(arrived), constancy=constancy,
        )  # fmt: skip
        series_id = self._insert(
            series, study_id=study_id, series_instance_uid=f"1.3.{n}", modality=modality, calling_ae_title=sender,
            first_instance_at=at(arrived), last_instance_at=at(arrived), state="complete",
        )  # fmt: skip
        policy = Policy()
        base = {"STAT": PriorityClass.HIGH, "URGENT": PriorityClass.ELEVATED}.get(
            order, PriorityClass.ROUTINE
        )
        lifted = max([base, *(FINDING_CODES[f].priority_class for f in flags)])
        state = state or ("read" if read_after is not None else "to_read")
        self._insert(
            worklist_item, study_id=study_id, state=state, ordered_priority=order, base_class=int(base),
            priority_class=int(lifted), reasons=[], arrived_at=at(arrived),
            due_at=at(arrived) + policy.longest_wait[lifted], bound_at=at(arrived) + policy.longest_wait[base],
            ai_status=ran, ai_reason=reason, modality=modality, view=view,
            opened_at=None if opened_after is None else at(arrived + opened_after),
            read_at=None if read_after is None else at(arrived + read_after),
        )  # fmt: skip
        run_id = None
        if ran:
            run_id = self.run(
                study_id, series_id, self.release[detector], arrived, flagged_after, ran, reason
            )
            for name in flags:
                self.finding(run_id, study_id, name)
            self.finding(run_id, study_id, "hernia", actionable=False)
        for verdict, name in words:
            self._insert(
                feedback, study_id=study_id, reader="r1", verdict=verdict, finding=name, at=at(arrived + 60),
                chip="known" if verdict == "disagree" else "", run_id=run_id,
            )  # fmt: skip
        return study_id

    def run(
        self,
        study_id: int,
        series_id: int,
        release_id: int,
        arrived: float,
        after: float,
        state: str,
        reason: str,
    ) -> int:
        ended = state in ("completed", "not_analysed", "failed", "superseded")
        return self._insert(
            run, study_id=study_id, series_id=series_id, release_id=release_id,
            input_digest=f"{study_id}-{release_id}-{state}-{arrived}", sop_instance_uids=[f"1.4.{study_id}"], state=state,
            reason_code=reason, requested_at=at(arrived), finished_at=at(arrived + after) if ended else None,
            policy_version=1, notes=[], queue="shadow" if release_id == self.shadow else "routine",
        )  # fmt: skip

    def rerun(
        self, study_id: int, minute: float | None, *, flags: tuple[str, ...] = (), release_id: int = 0
    ) -> None:
        """A later run of the same images ends then and supersedes the last one; minute None: before that was kept."""
        last = self.tx.execute(
            select(run).where(run.c.study_id == study_id).order_by(run.c.id.desc()).limit(1)
        ).one()
        then = None if minute is None else at(minute)
        self.tx.execute(update(run).where(run.c.id == last.id).values(state="superseded", superseded_at=then))
        release_id = release_id or last.release_id
        new = self.run(study_id, last.series_id, release_id, minute or 0.0, 0.0, "completed", "")
        for name in flags:
            self.finding(new, study_id, name)

    def finding(self, run_id: int, study_id: int, name: str, *, actionable: bool = True) -> None:
        self._insert(
            finding, run_id=run_id, study_id=study_id, name=name, probability_raw=0.9, probability=0.9, band="high",
            threshold=0.5 if actionable else None, actionable=actionable,
        )  # fmt: skip

    def alert(
        self, study_id: int, raised: float, *, acknowledged_after: float | None = None, state: str, step: int = 0,
        ended_after: float | None = None,
    ) -> int:  # fmt: skip
        run_id = self.tx.execute(select(func.max(run.c.id)).where(run.c.study_id == study_id)).scalar_one()
        return self._insert(
            alert, study_id=study_id, run_id=run_id, finding_name="pneumothorax", probability=0.9, band="high", state=state,
            step=step, raised_at=at(raised), stepped_at=at(raised),
            acknowledged_at=None if acknowledged_after is None else at(raised + acknowledged_after),
            ended_at=None if ended_after is None else at(raised + ended_after),
        )  # fmt: skip

    def check(self, started: float, ok: bool | None, seconds: float = 5.0) -> None:
        self._insert(
            constancy_check, detector="chest_xray", study_instance_uid=f"1.9.{started}", finding_name="pneumothorax",
            started_at=at(started), due_at=at(started + 1), ok=ok, detail="" if ok else "no flag within 60 s",
            finished_at=None if ok is None else at(started + seconds / 60),
        )  # fmt: skip
