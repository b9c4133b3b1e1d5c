"""The alarm budget (ux 9): beyond it operators get one notice a week and the QA page shows it; readers are told nothing.

It holds back no alert. What is critical goes out however loud the day is; what to do about a loud detector (threshold,
policy, shadow) is a person's decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from triage.domain.alerting import Loudness, beyond_budget
from triage.store import constancy, measures, monitoring
from triage.workflow.site import NewId

DAY, MONTH = timedelta(days=1), timedelta(days=30)
WORDS = {
    "banners": "more than 2 alerts a reader-hour in a day (QA chart 14)",
    "precision": "fewer than half of the critical flags of 30 days were right (QA chart 3)",
}


def loudness(tx: Connection, now: datetime) -> Loudness:
    """Alerts of a day over the hours in which readers opened studies; judged critical flags of 30 days."""
    opened = monitoring.opened_between(tx, now - DAY, now)
    hours = {(o.at.replace(minute=0, second=0, microsecond=0), o.reader) for o in opened}
    agreed, disagreed = measures.judged_alerts(tx, now - MONTH, now)
    return Loudness(measures.count_alerts(tx, now - DAY, now), len(hours), agreed, disagreed)


def watch(tx: Connection, routes: Sequence[str], ids: NewId, now: datetime) -> int:
    """Tell each operator route of each budget that is spent, once a week; returns how many notices are new."""
    monday = (now - timedelta(days=now.weekday())).date()
    told = 0
    for what in beyond_budget(loudness(tx, now)):
        text = (
            f"Alarm budget spent in the week from {monday}: {WORDS[what]}. Every alert goes out all the same."
        )
        for route in routes:
            if not constancy.has_notice(tx, "alerts.budget", text, route):
                constancy.add_notice(tx, "alerts.budget", text, route, ids(), now)
                told += 1
    return told


def as_json(found: Loudness) -> dict[str, Any]:
    """What the page of the ladder says of it."""
    return {
        "alerts_24h": found.alerts, "reader_hours_24h": found.reader_hours, "agreed_30d": found.agreed,
        "disagreed_30d": found.disagreed, "beyond": beyond_budget(found),
    }  # fmt: skip
