"""One small department: objects arrive, series are judged, runs end as a test says. Real steps over a real database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from tests.factories import NOON, Clock, an_arrival, counted_ids
from triage.detectors.protocol import Detection
from triage.domain.alerting import Rung
from triage.domain.finding import Finding
from triage.domain.suitability import NotSuitable
from triage.store import alerts, audit, deliveries, leases, policies, releases, runs, schema, worklist
from triage.store.database import Database
from triage.workflow import assess
from triage.workflow.assess import Result
from triage.workflow.complete import complete_series
from triage.workflow.intake import Intake, intake
from triage.workflow.site import NewId, Site

ROUTES = ("hl7", "hook", "pager")
LADDER = (
    Rung(timedelta(0), ("hl7", "hook")),
    Rung(timedelta(minutes=3), ("pager",)),
    Rung(timedelta(minutes=5), ()),
)


@dataclass
class Desk:
    database: Database
    clock: Clock = field(default_factory=Clock)
    site: Site = field(default_factory=lambda: Site(ladder=LADDER))
    ids: NewId = field(default_factory=counted_ids)

    def __post_init__(self) -> None:
        with self.database.write() as tx:
            policies.ensure_first(tx, NOON)
            deliveries.sync_routes(tx, [(name, "webhook") for name in ROUTES])
            for detector in ("chest_xray", "lung_nodule"):
                releases.register(tx, detector, "1.0.0", f"{detector}-1", ["hernia"], NOON)

    def receive(self, **values: Any) -> Intake:
        with self.database.write() as tx:
            return intake(tx, an_arrival(**values), self.site, self.clock())

    def receive_scan(
        self, slices: int = 10, *, study: object = 1, series: object = 1, **values: Any
    ) -> Intake:
        for number in range(slices):
            taken = self.receive(study=study, series=series, modality="CT", instance=number, **values)
        return taken

    def judge(self, series_id: int) -> list[tuple[int, str]]:
        with self.database.write() as tx:
            return complete_series(tx, series_id, self.site, self.clock(), self.ids)

    def lease(self, run_id: int) -> leases.Leased | None:
        with self.database.write() as tx:
            return assess.lease(tx, run_id, self.ids(), self.clock())

    def finish(self, leased: leases.Leased, result: Result) -> bool:
        with self.database.write() as tx:
            return assess.finish(tx, leased, result, self.site, self.ids, self.clock())

    def analyse(
        self, run_id: int, *findings: Finding, why_not: NotSuitable | None = None, failure: str = ""
    ) -> int:
        """Take a run and end it; returns its study."""
        leased = self.lease(run_id)
        assert leased is not None
        found = None if why_not or failure else Detection(tuple(findings), notes=("looked",))
        assert self.finish(leased, Result(detection=found, not_suitable=why_not, failure=failure))
        return leased.study_id

    def flagged(self, *findings: Finding, study: object = 1, **values: Any) -> int:
        """A film that was analysed with these findings; its study."""
        return self.analyse(self.receive(study=study, **values).wake[0][0], *findings)

    def item(self, study_id: int = 1) -> dict[str, Any]:
        with self.database.read() as tx:
            found = worklist.find_item(tx, study_id)
        assert found is not None
        return found

    def alerts(self, study_id: int = 1) -> list[dict[str, Any]]:
        with self.database.read() as tx:
            return alerts.of_study(tx, study_id)

    def deliveries(self) -> list[dict[str, Any]]:
        with self.database.read() as tx:
            return deliveries.rows(tx)

    def run(self, run_id: int) -> dict[str, Any]:
        with self.database.read() as tx:
            return runs.get_run(tx, run_id)

    def acts(self) -> list[str]:
        with self.database.read() as tx:
            assert audit.verify(tx).ok
            return [e["act"] for e in audit.events(tx)]

    def rows(self, table: str) -> list[dict[str, Any]]:
        with self.database.read() as tx:
            return [dict(r) for r in tx.execute(select(schema.metadata.tables[table])).mappings()]


def between(
    monkeypatch: pytest.MonkeyPatch, desk: Desk, step: str, other: Callable[[], Any]
) -> threading.Thread:
    """Let `other` run into the locks of a worker that has changed its run and comes to `step` of `assess`.

    The thread of `other` was started and waits for the worker (PostgreSQL) when the step goes on.
    """
    real, thread = getattr(assess, step), threading.Thread(target=other)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    def held(*arguments: Any) -> Any:
        thread.start()
        deadline = time.monotonic() + 20
        with desk.database.read() as tx:
            while not tx.execute(text(waiting)).scalar_one():
                assert time.monotonic() < deadline, "nobody waits for the worker"
                time.sleep(0.02)
                tx.execute(text("SELECT pg_stat_clear_snapshot()"))
        return real(*arguments)

    monkeypatch.setattr(assess, step, held)
    return thread
