"""Signed QA reports: kept as they were signed, never edited."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select

from triage.store.schema import qa_report

_LISTED = tuple(c for c in qa_report.c if c.name != "content")


def add_signed(tx: Connection, **values: Any) -> int:
    return int(tx.execute(insert(qa_report).values(**values).returning(qa_report.c.id)).scalar_one())


def find_signed(tx: Connection, digest: str) -> int | None:
    return tx.execute(select(qa_report.c.id).where(qa_report.c.digest == digest)).scalar_one_or_none()


def get_signed(tx: Connection, report_id: int) -> dict[str, Any] | None:
    row = tx.execute(select(qa_report).where(qa_report.c.id == report_id)).mappings().first()
    return dict(row) if row else None


def signed(tx: Connection, limit: int = 100) -> list[dict[str, Any]]:
    """Newest first, without their contents."""
    rows = tx.execute(select(*_LISTED).order_by(qa_report.c.id.desc()).limit(limit)).mappings()
    return [dict(r) for r in rows]
