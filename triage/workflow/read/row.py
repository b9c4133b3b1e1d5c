"""The row that a reader acts on, and why an act may be refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage.domain.errors import Conflict, Refused
from triage.store import completeness, events, studies, worklist

READABLE = ("arriving", "to_read", "claimed")


class NotFound(Refused):
    """No such study or alert, or none that this person may see. HTTP 404."""


class NotOpened(Refused):
    """Only who has opened or claimed the study may do this (ux 5.7). HTTP 422 with what it needs."""


class Stale(Conflict):
    """The row changed since the caller looked. HTTP 412 with the version of now."""

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__("the study changed meanwhile; look again, then repeat")


class Held(Conflict):
    """Somebody else has it. HTTP 409 with who and until when."""

    def __init__(self, holder: str, until: datetime | None, what: str) -> None:
        self.holder, self.until = holder, until
        super().__init__(f"{what} {holder}")


def locked_item(tx: Connection, study_uid: str, version: int | None) -> tuple[int, dict[str, Any]]:
    """(Row id of the study, its locked worklist item); raises NotFound, and Stale when `version` is another."""
    study_id = studies.find_study(tx, study_uid)
    item = worklist.lock_item(tx, study_id) if study_id is not None else None
    if study_id is None or item is None or studies.get_study(tx, study_id)["constancy"]:
        raise NotFound("no such study")
    if version is not None and item["version"] != version:
        raise Stale(item["version"])
    return study_id, item


def make_free(tx: Connection, study_id: int, item: dict[str, Any]) -> None:
    """A study that was claimed waits again, in its own state."""
    if item["state"] == "claimed":
        state = "arriving" if completeness.study_is_arriving(tx, study_id) else "to_read"
        worklist.set_values(tx, item["id"], state=state)


def tell(tx: Connection, now: datetime, study_id: int, **data: Any) -> None:
    """The row changed: open pages hear it when the transaction is done."""
    events.publish(tx, now, "worklist", study_id, **data)
