"""Finds what should have moved and did not. With the broker gone, this alone runs the product."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection

from triage.domain.alerting import RETRY_SECONDS, retry_after
from triage.domain.completeness import longest_wait
from triage.domain.errors import Unavailable
from triage.domain.run import LEASE
from triage.log import get_logger
from triage.store import alerts, audit, completeness, events, leases, run_queue, users, workitems
from triage.store.database import Database
from triage.store.skew import Longest, clamp_future
from triage.workflow.alert import climb, is_due, settle_study
from triage.workflow.complete import complete_series
from triage.workflow.constancy import DEADLINE
from triage.workflow.rank import rank
from triage.workflow.read.answers import LATER_LENGTH
from triage.workflow.read.claims import CLAIM_LENGTH, free_expired
from triage.workflow.reconcile import settle_strays
from triage.workflow.site import NewId, Site, new_id

PATIENCE = timedelta(seconds=20)  # a run that nobody took so long after its wake-up call is called again
GRACE = timedelta(minutes=5)  # after the last rung before an alert counts as exhausted
FEED_KEPT = timedelta(hours=1)
BEATS_KEPT = timedelta(days=1)  # a part that fell silent is red on /health for so long, then its host is gone
ANSWERS_KEPT = timedelta(days=1)  # of POSTs under an Idempotency-Key, and of searches
SESSIONS_KEPT = timedelta(days=1)  # unused for so long; signing out and idle time end them sooner
SET_ASIDE = timedelta(minutes=1)  # a series that cannot be judged is tried again, and stops nobody meanwhile
log = get_logger()


def judge_due(
    database: Database, site: Site, clock: Callable[[], datetime], ids: NewId = new_id
) -> list[tuple[int, str]]:
    """Judge every series whose time has come, one transaction each: one bad series costs no other."""
    with database.read() as tx:
        due = completeness.series_to_judge(tx, clock())
    wake: list[tuple[int, str]] = []
    for series_id in due:
        try:
            with database.write() as tx:
                wake += complete_series(tx, series_id, site, clock(), ids)
        except Unavailable:
            raise
        except Exception:
            log.error(
                "series.not_judged", code=series_id, exc_info=True, fix="send this line to the developers"
            )
            with database.write() as tx:
                completeness.look_again(tx, series_id, clock() + SET_ASIDE)
    return wake


def climb_due(database: Database, site: Site, clock: Callable[[], datetime], ids: NewId = new_id) -> int:
    """Every open alert whose time has come goes up one rung, one transaction each: one that cannot costs no other.

    Returns how many moved.
    """
    with database.read() as tx:
        due = [a["id"] for a in alerts.open_alerts(tx) if is_due(a, site.ladder, GRACE, clock())]
    moved = 0
    for alert_id in due:
        try:
            with database.write() as tx:
                moved += climb(tx, alert_id, site.ladder, GRACE, ids, clock())
        except Unavailable:
            raise
        except Exception:
            log.error(
                "alert.not_climbed", alert_id=alert_id, exc_info=True, fix="send this line to the developers"
            )
    return moved


def sweep(tx: Connection, site: Site, ids: NewId, now: datetime) -> list[tuple[int, str]]:
    """One pass over runs, claims and the feed; returns (run id, queue) to wake after the commit."""
    for study_id in clamp_future(tx, now, _longest(site)):
        rank(tx, study_id, now)
    for study_id, run_id in leases.give_up_crashed(tx, now):
        audit.append(tx, now, "triage", "run.failed", "run", run_id, {"study": study_id, "reason": "crashed"})
        settle_study(tx, study_id, site, ids, now)
    settle_strays(tx, site, ids, now)
    free_expired(tx, now)
    wake = run_queue.to_wake(tx, now, PATIENCE)
    events.forget_events(tx, now - FEED_KEPT)
    workitems.forget_events(tx, now - FEED_KEPT)
    events.forget_beats(tx, now - BEATS_KEPT)
    users.forget_answers(tx, now - ANSWERS_KEPT)
    users.forget_sessions(tx, now - SESSIONS_KEPT)
    return wake


def _longest(site: Site) -> Longest:
    return Longest(
        judge=longest_wait(site.quiet_seconds),
        lease=LEASE,
        claim=CLAIM_LENGTH,
        retry=retry_after(len(RETRY_SECONDS), 1.0),
        later=LATER_LENGTH,
        check=DEADLINE,
    )
