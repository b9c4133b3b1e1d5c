"""The link in a notice: works once, for a quarter of an hour after it arrived, and only for who signs in (ux 12).

It leads to the alert on the phone page and gives no right; whoever finds it later gets the page as it is for everybody.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection

from triage.store import audit, deliveries

LIVES = timedelta(minutes=15)
CHARACTERS = 32
Secret = Callable[[], str]


def new_secret() -> str:
    """32 characters, 192 random bits, fit for a URL."""
    return secrets.token_urlsafe(24)


def make(tx: Connection, delivery_id: int, address: str, secret: Secret = new_secret) -> str:
    """A link below the address of the phone page, for this delivery; only its digest is kept."""
    word = secret()
    deliveries.keep_link(tx, delivery_id, _digest(word))
    return f"{address.rstrip('/')}/{word}"


def follow(tx: Connection, word: str, person: str, now: datetime) -> int | None:
    """The alert that this link is about; None when there is none, its time is over, or it was used."""
    row = deliveries.find_link(tx, _digest(word))
    if row is None or (row["delivered_at"] is not None and now > row["delivered_at"] + LIVES):
        return None
    if not deliveries.use_link(tx, row["id"], now):
        return None
    audit.append(tx, now, person, "link.used", "alert", row["alert_id"], {"control_id": row["control_id"]})
    return int(row["alert_id"])


def _digest(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()
