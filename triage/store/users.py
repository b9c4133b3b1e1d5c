"""Users, their sessions, access tokens, and answers kept for repeated requests.

Secrets are never stored: a session or token row has the SHA-256 of what the client holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from triage.store.schema import idempotency, session, token, user
from triage.store.upsert import insert_or_get, upsert


def digest(secret: str) -> str:
    """What is stored of a cookie or token: long random secrets need no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


# --- users ---------------------------------------------------------------------------------------------------


def add_user(
    tx: Connection, name: str, role: str, password_hash: str, now: datetime, *, display_name: str = ""
) -> int | None:
    """Id of the new user; None when the name is taken."""
    user_id, inserted = insert_or_get(
        tx,
        user,
        {"name": name},
        {
            "display_name": display_name,
            "role": role,
            "password_hash": password_hash,
            "created_at": now,
            "preferences": {},
        },
    )
    return user_id if inserted else None


def find_user(tx: Connection, name: str) -> dict[str, Any] | None:
    row = tx.execute(select(user).where(user.c.name == name)).mappings().first()
    return dict(row) if row else None


def listing(tx: Connection) -> list[dict[str, Any]]:
    """Everybody, without their password hashes."""
    columns = [c for c in user.c if c.name != "password_hash"]
    return [dict(r) for r in tx.execute(select(*columns).order_by(user.c.name)).mappings()]


def change_user(tx: Connection, name: str, **values: Any) -> bool:
    """Set columns of a user; False when there is none of this name."""
    return tx.execute(update(user).where(user.c.name == name).values(**values)).rowcount == 1


# --- sessions ------------------------------------------------------------------------------------------------


def open_session(tx: Connection, user_id: int, secret: str, csrf_token: str, now: datetime) -> None:
    tx.execute(
        insert(session).values(
            token_digest=digest(secret), user_id=user_id, csrf_token=csrf_token, created_at=now, seen_at=now
        )
    )


def find_session(
    tx: Connection, secret: str, seen_since: datetime, opened_since: datetime
) -> dict[str, Any] | None:
    """The session of this cookie with its user, if it was used and opened since then and the user may still work."""
    row = (
        tx.execute(
            select(
                session.c.csrf_token, session.c.seen_at, session.c.token_digest, user.c.id.label("user_id"),
                user.c.name, user.c.display_name, user.c.role, user.c.preferences,
            )
            .join(user, user.c.id == session.c.user_id)
            .where(
                session.c.token_digest == digest(secret),
                session.c.seen_at >= seen_since,
                session.c.created_at >= opened_since,
                user.c.disabled.is_(False),
            )
        )
        .mappings()
        .first()
    )  # fmt: skip
    return dict(row) if row else None


def touch_session(tx: Connection, token_digest: str, now: datetime) -> None:
    tx.execute(update(session).where(session.c.token_digest == token_digest).values(seen_at=now))


def close_session(tx: Connection, token_digest: str) -> None:
    tx.execute(delete(session).where(session.c.token_digest == token_digest))


def close_sessions_of(tx: Connection, user_id: int) -> None:
    """After a new password, or when somebody is disabled."""
    tx.execute(delete(session).where(session.c.user_id == user_id))


def sessions_of(
    tx: Connection, user_id: int, seen_since: datetime, opened_since: datetime
) -> list[dict[str, Any]]:
    """The living sessions of a user, the last used first."""
    chosen = (
        select(session.c.token_digest, session.c.created_at, session.c.seen_at)
        .where(
            session.c.user_id == user_id,
            session.c.seen_at >= seen_since,
            session.c.created_at >= opened_since,
        )
        .order_by(session.c.seen_at.desc(), session.c.token_digest)
    )
    return [dict(r) for r in tx.execute(chosen).mappings()]


def close_others(tx: Connection, user_id: int, kept_digest: str, digest_of_one: str = "") -> int:
    """End the sessions of a user but one, or only that of `digest_of_one`; how many ended."""
    chosen = [session.c.user_id == user_id, session.c.token_digest != kept_digest]
    if digest_of_one:
        chosen.append(session.c.token_digest == digest_of_one)
    return tx.execute(delete(session).where(*chosen)).rowcount


def forget_sessions(tx: Connection, seen_before: datetime) -> int:
    return tx.execute(delete(session).where(session.c.seen_at < seen_before)).rowcount


# --- tokens --------------------------------------------------------------------------------------------------


def add_token(tx: Connection, name: str, secret: str, scopes: Sequence[str], now: datetime) -> bool:
    """False when a token of this name exists (revoked or not): names in the audit stay unique."""
    _, inserted = insert_or_get(
        tx, token, {"name": name}, {"token_digest": digest(secret), "scopes": list(scopes), "created_at": now}
    )
    return inserted


def find_token(tx: Connection, secret: str) -> dict[str, Any] | None:
    """The token with this secret, unless revoked."""
    row = (
        tx.execute(select(token).where(token.c.token_digest == digest(secret), token.c.revoked_at.is_(None)))
        .mappings()
        .first()
    )
    return dict(row) if row else None


def tokens(tx: Connection) -> list[dict[str, Any]]:
    columns = [c for c in token.c if c.name != "token_digest"]
    return [dict(r) for r in tx.execute(select(*columns).order_by(token.c.name)).mappings()]


def revoke_token(tx: Connection, name: str, now: datetime) -> bool:
    return (
        tx.execute(
            update(token).where(token.c.name == name, token.c.revoked_at.is_(None)).values(revoked_at=now)
        ).rowcount
        == 1
    )


# --- answers kept under an Idempotency-Key -------------------------------------------------------------------


def reserve_answer(tx: Connection, key: str, request_digest: str, now: datetime) -> dict[str, Any] | None:
    """None: the key is ours, the caller acts and then keeps its answer. Else the row kept for the first request.

    A second request at the same time waits here for the first one's commit, since the key is unique.
    """
    if upsert(
        tx, idempotency, {"key": key},
        {"request_digest": request_digest, "status": 0, "body": "", "at": now}, replace=False,
    ):  # fmt: skip
        return None
    return dict(tx.execute(select(idempotency).where(idempotency.c.key == key)).mappings().one())


def find_answer(tx: Connection, key: str) -> dict[str, Any] | None:
    row = tx.execute(select(idempotency).where(idempotency.c.key == key)).mappings().first()
    return dict(row) if row else None


def keep_answer(tx: Connection, key: str, status: int, body: str) -> None:
    tx.execute(update(idempotency).where(idempotency.c.key == key).values(status=status, body=body))


def forget_answers(tx: Connection, before: datetime) -> int:
    return tx.execute(delete(idempotency).where(idempotency.c.at < before)).rowcount
