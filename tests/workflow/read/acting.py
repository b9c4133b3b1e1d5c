"""What the tests of a reader's acts share: one act in its transaction, and what it left."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.web.seed import Sown, pneumothorax
from triage.store import alerts, audit, studies, worklist

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=11)


def do(sown: Sown, act: Callable[..., Any], *args: Any, **named: Any) -> Any:
    with sown.database.write() as tx:
        return act(tx, *args, **named)


def item(sown: Sown, uid: str) -> dict[str, Any]:
    with sown.database.read() as tx:
        study_id = studies.find_study(tx, uid)
        assert study_id is not None
        found = worklist.find_item(tx, study_id)
        assert found is not None
        return found


def acts(sown: Sown, uid: str) -> list[str]:
    with sown.database.read() as tx:
        return [e["act"] for e in audit.events(tx, object_kind="study", object_id=uid)]


def holder(sown: Sown, uid: str, at: datetime) -> str | None:
    with sown.database.read() as tx:
        held = worklist.live_claim(tx, item(sown, uid)["id"], at)
        return None if held is None else str(held["reader"])


def an_alert(sown: Sown) -> tuple[str, int]:
    uid = sown.add(findings=(pneumothorax(),))
    with sown.database.read() as tx:
        return uid, alerts.listing(tx)[0]["id"]
