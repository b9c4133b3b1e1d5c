"""Does triage as a whole work? Asked by `/health`, the list's banner and `doctor` (P11, P12)."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from triage.settings import PullSettings, Settings
from triage.store import constancy, deliveries, dispatches, events, pulls, removal, run_queue, subscriptions
from triage.store.spool import Spool
from triage.workflow import certificates
from triage.workflow.parts.names import parts_of
from triage.workflow.step_events import OWNERS

BEAT_SECONDS = 5.0
SILENT = timedelta(seconds=30)
LATE_RUN = timedelta(minutes=5)
LATE_OUTPUT = timedelta(hours=1)
LATE_REMOVAL = timedelta(days=2)  # the scheduler removes every hour
PULL_SHOWN = timedelta(days=1)  # a series that was given up is told for so long
PULL_SILENT = timedelta(minutes=10)  # or three intervals
LATE_DELIVERY = timedelta(minutes=5)  # standards 7.3: operators hear of it by then


def checks(
    tx: Connection, settings: Settings, now: datetime, read_only_since: datetime | None = None
) -> list[dict[str, Any]]:
    """[{"name", "ok", "detail"}]; no patient data.

    read_only_since  the database takes no writes: no part can beat, so their silence says nothing beside it
    """
    found = _of_the_list(tx, settings, now, read_only_since)
    if read_only_since is not None:
        return found
    return [*found, _retention(tx, settings, now), *_subscribers(tx, now)]


def degraded(
    tx: Connection, settings: Settings, now: datetime, read_only_since: datetime | None = None
) -> list[dict[str, Any]]:
    """What the list must say about itself: [{"part", "since", "text"}]. That old studies wait to be removed it need not."""
    return [
        {"part": check["name"], "since": check.get("since"), "text": check["detail"]}
        for check in _of_the_list(tx, settings, now, read_only_since)
        if not check["ok"]
    ]


def _of_the_list(
    tx: Connection, settings: Settings, now: datetime, read_only_since: datetime | None
) -> list[dict[str, Any]]:
    """What is asked at every answer of the list, so nothing that looks at every study."""
    if read_only_since is not None:
        detail = f"the database takes no writes since {read_only_since:%H:%M:%S} UTC: mount, disk or server is read-only"
        refused = {"name": "database", "ok": False, "detail": detail, "since": read_only_since.isoformat()}
        return [refused, _disk(settings), *_aside(settings), *certificates.checks(settings, now)]
    return [
        *_beats(events.beats(tx), settings, now),
        _waiting(tx, now),
        _deliveries(tx, now),
        _outputs(tx, now),
        _constancy(tx, settings, now),
        *_pulls(tx, settings, now),
        _disk(settings),
        *_aside(settings),
        *certificates.checks(settings, now),
    ]


def _beats(beats: list[dict[str, Any]], settings: Settings, now: datetime) -> list[dict[str, Any]]:
    """Every process that beats, and one line for the parts that nobody runs: rows alone cannot miss them."""
    there = {b["part"].split("@")[0] for b in beats}
    absent = [part for part in parts_of(settings) if part not in there]
    detail = f"nobody runs {', '.join(absent)}; start with triage up" if absent else "every part runs"
    return [*(_beat(b, now) for b in beats), {"name": "parts", "ok": not absent, "detail": detail}]


def _beat(beat: dict[str, Any], now: datetime) -> dict[str, Any]:
    age = now - beat["at"]
    ok = age < SILENT
    name = beat["part"]
    if not ok:
        detail = f"{name} has been silent since {beat['at']:%H:%M:%S} UTC"
    elif beat["detail"].get("flapping"):
        ok, detail = False, f"{name} keeps dying and being started again"
    else:
        detail = "beating"
    return {"name": name, "ok": ok, "detail": detail, "since": None if ok else beat["at"].isoformat()}


def _waiting(tx: Connection, now: datetime) -> dict[str, Any]:
    oldest = run_queue.oldest_waiting(tx)
    late = oldest is not None and now - oldest > LATE_RUN
    detail = "no run waits" if oldest is None else f"oldest waiting run since {oldest:%H:%M:%S} UTC"
    return {
        "name": "queue",
        "ok": not late,
        "detail": detail,
        "since": oldest.isoformat() if late and oldest else None,
    }


def _deliveries(tx: Connection, now: datetime) -> dict[str, Any]:
    oldest = deliveries.oldest_waiting(tx)
    late = oldest is not None and now - oldest > LATE_DELIVERY
    if oldest is None:
        return {"name": "deliveries", "ok": True, "detail": "no delivery waits"}
    text = f"oldest undelivered alert message since {oldest:%H:%M:%S} UTC"
    return {
        "name": "deliveries",
        "ok": not late,
        "detail": text,
        "since": oldest.isoformat() if late else None,
    }


def _outputs(tx: Connection, now: datetime) -> dict[str, Any]:
    """Objects on their way to peers: late ones make it red, refused ones stand in the words."""
    counts = dispatches.counts(tx)
    waiting, oldest = counts.get("wanted", (0, now))
    late = now - oldest > LATE_OUTPUT
    stopped = sum(counts.get(state, (0, now))[0] for state in ("refused", "parked"))
    words = f"{waiting} objects wait for their peers since {oldest:%H:%M:%S} UTC" if waiting else "none waits"
    detail = f"{words}; {stopped} were refused or given up" if stopped else words
    return {
        "name": "outputs",
        "ok": not late,
        "detail": detail,
        "since": oldest.isoformat() if late else None,
    }


def _pulls(tx: Connection, settings: Settings, now: datetime) -> list[dict[str, Any]]:
    """Archives that we fetch from: red when one does not answer, or gives no series at all.

    A series among others that was given up stands in the words: no watch need be called at night for it.
    """
    found = []
    for pull in settings.pull:
        rows = pulls.failing(tx, pull.name, now - PULL_SHOWN)
        lost = [r for r in rows if r["state"] == "failed"]
        again = [r for r in rows if r["state"] == "wanted"]
        asked_at = pulls.cursor(tx, pull.name)
        due = now - max(PULL_SILENT, 3 * timedelta(seconds=pull.interval_seconds))
        # It is not asked anew before fifty series are here: one that gives them is not silent.
        silent = (asked_at is None or asked_at < due) and not pulls.any_fetched(tx, pull.name, due)
        answered = f"has not answered since {asked_at:%H:%M} UTC" if asked_at else "has not answered yet"
        mend = f"triage echo {pull.peer}" if pull.peer else "look at its url and token"
        why = partial(_why, settings, pull)
        words = [f"{answered}: {mend}"] if silent else []
        words += [f"{len(lost)} series were given up, last for: {why(lost[0])}"] if lost else []
        words += [f"{len(again)} series are tried again, last for: {why(again[0])}"] if again else []
        red = silent or (bool(lost) and not pulls.any_fetched(tx, pull.name, now - PULL_SHOWN))
        since = min((r["next_attempt_at"] for r in lost), default=asked_at) if red else None
        found.append(
            {"name": f"pull {pull.name}", "ok": not red, "detail": "; ".join(words) or "nothing fails",
             "since": since.isoformat() if since else None}
        )  # fmt: skip
    return found


def _why(settings: Settings, pull: PullSettings, row: dict[str, Any]) -> str:
    """Without its address and without ours on this disk (a full spool refuses a series): `/health` is for everybody."""
    reason = str(row["detail"]).replace(f" {settings.spool}", "")
    return reason.replace(pull.url.rstrip("/"), pull.name) if pull.url else reason


def _retention(tx: Connection, settings: Settings, now: datetime) -> dict[str, Any]:
    """Studies that should have been removed and are still here."""
    before = now - timedelta(days=settings.retention_days)
    late = bool(removal.aged(tx, before - LATE_REMOVAL, 1))
    detail = (
        f"studies older than {settings.retention_days} days are still here" if late else "nothing is late"
    )
    return {"name": "retention", "ok": not late, "detail": detail, "since": None}


def _subscribers(tx: Connection, now: datetime) -> list[dict[str, Any]]:
    """Who asked by DIMSE to hear of steps and cannot be told: said in words, for no watch need be called for it."""
    late = [(ae_title, at) for ae_title, at in subscriptions.behind(tx, OWNERS) if now - at > LATE_DELIVERY]
    if not late:
        return []
    names, since = ", ".join(ae_title for ae_title, _ in late), min(at for _, at in late)
    detail = f"{names} not told of steps since {since:%H:%M:%S} UTC: triage peer list shows the address"
    return [{"name": "subscribers", "ok": True, "detail": detail}]


def _constancy(tx: Connection, settings: Settings, now: datetime) -> dict[str, Any]:
    last = [c for c in constancy.last_finished(tx) if c["detector"] in settings.detectors]
    interval = timedelta(seconds=settings.constancy_seconds)
    if not last:
        due = constancy.first_due(tx)
        if due is not None and due < now:
            return {"name": "constancy", "ok": False, "detail": "the first constancy check did not end in time",
                    "since": due.isoformat()}  # fmt: skip
        return {"name": "constancy", "ok": True, "detail": f"first check due within {interval}"}
    bad = [c for c in last if not c["ok"]]
    if bad:
        text = "; ".join(f"{c['detector']}: {c['detail']}" for c in bad)
        return {"name": "constancy", "ok": False, "detail": text, "since": bad[0]["started_at"].isoformat()}
    oldest = min(c["started_at"] for c in last)
    if now - oldest > interval + timedelta(seconds=120):
        return {"name": "constancy", "ok": False, "detail": f"no check since {oldest:%Y-%m-%d %H:%M:%S} UTC",
                "since": oldest.isoformat()}  # fmt: skip
    return {"name": "constancy", "ok": True, "detail": f"last check passed, begun {oldest:%H:%M:%S} UTC"}


def _aside(settings: Settings) -> list[dict[str, Any]]:
    """Acknowledged objects that could not be indexed: said as long as there are any."""
    count = sum(1 for _ in Spool(settings.spool).aside.glob("*"))
    detail = f"{count} acknowledged objects could not be indexed; they are tried again when a receiver starts"
    return [{"name": "index", "ok": False, "detail": detail}] if count else []


def _disk(settings: Settings) -> dict[str, Any]:
    free = shutil.disk_usage(settings.home).free if settings.home.exists() else 0
    ok = free > settings.dicom.reserve_bytes
    return {"name": "disk", "ok": ok, "detail": f"{free >> 30} GiB free for the spool"}
