"""Times as pages say them: in the zone of the site, 24 hours, ISO dates, its zone named where it could be doubted."""

from __future__ import annotations

from datetime import datetime, tzinfo

from flask import has_app_context
from tzlocal import get_localzone

from triage.web.context import web


def zone() -> tzinfo:
    return web().zone if has_app_context() else get_localzone()


def local(at: str | datetime) -> datetime:
    return (datetime.fromisoformat(at) if isinstance(at, str) else at).astimezone(zone())


def doubled(at: datetime) -> bool:
    """Does this wall clock time come twice? In the night in which summer time ends."""
    return at.utcoffset() != at.replace(fold=1 - at.fold).utcoffset()


def clock(at: str | datetime | None) -> str:
    """`03:12`; `02:30 CEST` in the hour that comes twice."""
    if at is None:
        return ""
    here = local(at)
    return f"{here:%H:%M %Z}" if doubled(here) else f"{here:%H:%M}"


def minute(at: str | datetime | None) -> str:
    """`2026-11-21 03:12`, in tables."""
    return "" if at is None else f"{local(at):%Y-%m-%d} {clock(at)}"


def moment(at: str | datetime | None) -> str:
    """`2026-11-21 03:12:40 CET`."""
    return "–" if at is None or at == "" else f"{local(at):%Y-%m-%d %H:%M:%S %Z}"


def iso(at: str | datetime | None) -> str:
    """ISO 8601 with offset, for files."""
    return "" if at is None else local(at).isoformat(timespec="seconds")


def hours(seconds: float) -> str:
    """`0:42`: hours and minutes."""
    minutes = int(seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02d}"


def milliseconds(at: str | None) -> int | None:
    return None if at is None else int(datetime.fromisoformat(at).timestamp() * 1000)
