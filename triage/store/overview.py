"""What the administrator's pages ask for: counts per release, route and sender, thresholds in use, last sign-ins."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, case, func, select

from triage.store.schema import delivery, finding, operator_notice, run, series, session, study, user


def runs_by_release(tx: Connection, since: datetime) -> dict[int, dict[str, int]]:
    """{release id: {state: runs asked for since then}}"""
    query = (
        select(run.c.release_id, run.c.state, func.count())
        .where(run.c.requested_at >= since)
        .group_by(run.c.release_id, run.c.state)
    )
    found: dict[int, dict[str, int]] = {}
    for release_id, state, n in tx.execute(query).tuples():
        found.setdefault(int(release_id), {})[state] = int(n)
    return found


def thresholds_in_use(tx: Connection, newest_runs: int = 200) -> dict[str, float]:
    """{finding: threshold} that the newest runs judged by."""
    newest = select(run.c.id).where(run.c.state == "completed").order_by(run.c.id.desc()).limit(newest_runs)
    query = (
        select(finding.c.name, finding.c.threshold)
        .where(finding.c.run_id.in_(newest), finding.c.threshold.is_not(None))
        .order_by(finding.c.id)
    )
    return {name: float(threshold) for name, threshold in tx.execute(query).tuples()}


def deliveries_by_route(tx: Connection) -> dict[str, dict[str, Any]]:
    """{route: {"waiting", of them "retrying", "delivered", "parked", "cancelled", "last" delivered at}}"""
    tried = func.count(case((delivery.c.attempts > 0, 1)))
    query = select(
        delivery.c.route, delivery.c.state, func.count(), func.max(delivery.c.delivered_at), tried
    ).group_by(delivery.c.route, delivery.c.state)
    found: dict[str, dict[str, Any]] = {}
    for route, state, n, last, again in tx.execute(query).tuples():
        row = found.setdefault(route, {"last": None})
        row[state] = int(n)
        if state == "waiting":
            row["retrying"] = int(again)
        row["last"] = last or row["last"]
    return found


def notices(tx: Connection, limit: int = 20) -> list[dict[str, Any]]:
    """What operators were told of triage itself, newest first."""
    query = select(operator_notice).order_by(operator_notice.c.id.desc()).limit(limit)
    return [dict(r) for r in tx.execute(query).mappings()]


def senders_heard(tx: Connection, since: datetime) -> dict[str, dict[str, Any]]:
    """{calling AE title: {"last" image, "studies", "gap": its usual (median) minutes between studies, or None}}"""
    query = (
        select(
            series.c.calling_ae_title,
            series.c.study_id,
            func.min(series.c.first_instance_at),
            func.max(series.c.last_instance_at),
        )
        .join(study, study.c.id == series.c.study_id)
        .where(
            series.c.last_instance_at >= since, study.c.constancy.is_(False), series.c.calling_ae_title != ""
        )
        .group_by(series.c.calling_ae_title, series.c.study_id)
    )
    begun: dict[str, list[datetime]] = {}
    last: dict[str, datetime] = {}
    for title, _, first, newest in tx.execute(query).tuples():
        begun.setdefault(title, []).append(first)
        last[title] = max(newest, last.get(title, newest))
    return {
        title: {"last": last[title], "studies": len(times), "gap": _median_gap(sorted(times))}
        for title, times in begun.items()
    }


def _median_gap(times: list[datetime]) -> float | None:
    gaps = sorted((b - a).total_seconds() / 60 for a, b in pairwise(times))
    return gaps[len(gaps) // 2] if len(gaps) >= 5 else None


def last_seen(tx: Connection) -> dict[str, datetime]:
    """{user: when a page of theirs last asked for something}, of sessions that are still kept."""
    query = (
        select(user.c.name, func.max(session.c.seen_at))
        .join(session, session.c.user_id == user.c.id)
        .group_by(user.c.name)
    )
    return dict(tx.execute(query).tuples().all())
