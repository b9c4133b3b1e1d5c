"""Rows of the store to the JSON of the contract (architecture 8): the one place where `study_uid` is spelled short."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from triage.domain.errors import Refused
from triage.domain.finding import FINDING_CODES, Finding, Mode, PriorityClass, as_json, shown
from triage.domain.priority import overdue_reason
from triage.domain.suitability import SENTENCES, ReasonCode
from triage.store import listing, reading, run_queue, worklist
from triage.store.listing import Key
from triage.store.narrowing import SORTS, Sort
from triage.web.context import Call, stamp
from triage.workflow.health import LATE_RUN

_READ_MODALITIES = ("CR", "DX", "CT")
_CLOCK_SLACK = timedelta(minutes=1)
_CLOCK_OLDEST = timedelta(hours=24)


def ai_is_down(degraded: Sequence[dict[str, Any]]) -> bool:
    """Does no worker answer, or does the queue stand still? Then rows that wait say AI_DOWN (architecture 8)."""
    return any(d["part"] == "queue" or d["part"].startswith("worker") for d in degraded)


def worklist_items(
    tx: Connection, rows: Sequence[dict[str, Any]], now: datetime, *, ai_down: bool
) -> list[dict[str, Any]]:
    """Rows of `store.listing.rows` as the API says them."""
    study_ids = [r["study_id"] for r in rows]
    images = listing.image_counts(tx, study_ids)
    alert_of = listing.open_alert_of(tx, study_ids)
    senders = reading.senders(tx, study_ids)
    places = worklist.ranks(tx, now, [r["id"] for r in rows]) if rows else {}
    waiting = run_queue.places(tx, study_ids)
    empty = {"received": 0, "expected": None, "complete_because": ""}
    return [
        _item(
            row, places.get(row["id"], (None, None)), images.get(row["study_id"], empty),
            alert_of.get(row["study_id"]), senders.get(row["study_id"], ""), waiting.get(row["study_id"]), now, ai_down,
        )
        for row in rows
    ]  # fmt: skip


def _item(
    r: dict[str, Any], places: tuple[int | None, int | None], images: dict[str, Any], alert: dict[str, Any] | None,
    sender: str, queued: dict[str, Any] | None, now: datetime, ai_down: bool,
) -> dict[str, Any]:  # fmt: skip
    status, reason, detail = _ai(r, ai_down)
    waits = r["state"] in worklist.OPEN_STATES
    overdue = overdue_reason(r["bound_at"], now) if waits else None
    reasons = list(r["reasons"])
    if overdue is not None:
        # Above class high an overdue item does not move, so what set the class is said first.
        reasons.insert(len(reasons) if r["priority_class"] >= PriorityClass.HIGH else 0, overdue.as_json())
    return {
        "study_uid": r["study_instance_uid"],
        "rank": places[0],
        "priority_class": PriorityClass(r["priority_class"]).word,
        "score": r["score"],
        "reasons": reasons,
        # A claim that has run out frees its row at once, whether or not the sweeper came by.
        "state": "to_read" if r["state"] == "claimed" and r["claimed_by"] is None else r["state"],
        "ai_status": status,
        "ai_reason": reason,
        "ai_detail": detail,
        "patient": patient(r),
        "accession_number": r["accession_number"],
        "modality": r["modality"],
        "body_part": r["body_part"],
        "view": r["view"],
        "description": r["study_description"],
        "location": r["location"],
        "site": r["site"],
        "ordered_priority": r["ordered_priority"],
        "arrived_at": stamp(r["arrived_at"]),
        "acquired_at": stamp(r["acquired_at"]),
        "due_at": stamp(r["due_at"]),
        "bound_at": stamp(r["bound_at"]),
        "rank_without_ai": places[1],
        "images": images,
        "claimed_by": r["claimed_by"],
        "claimed_until": stamp(r["claimed_until"]),
        "alert": _alert_brief(alert),
        "sender": sender,
        "report_state": r["report_state"],
        "referrer": r["referring_physician_name"],
        "received_at": stamp(r["first_received_at"]),
        "label": r["label"],
        "queued": _queued(queued, now) if status in ("requested", "running") else None,
        "clock_ok": clock_ok(r["acquired_at"], r["first_received_at"]),
        "version": r["version"],
    }


def _queued(run: dict[str, Any] | None, now: datetime) -> dict[str, Any] | None:
    """Place in the queue of its detector's machine, tries so far, and for how long it is late."""
    if run is None:
        return None
    late = (now - run["requested_at"] - LATE_RUN).total_seconds()
    return {
        "place": run["place"],
        "attempts": run["attempts"],
        "late_minutes": int(late // 60) if late > 0 else None,
    }


def _ai(r: dict[str, Any], ai_down: bool) -> tuple[str, str, str]:
    """Always a state of a Run: a study without one waits for its images, or has the reason why none was asked for."""
    if ai_down and r["ai_status"] in ("requested", "running"):
        return r["ai_status"], ReasonCode.AI_DOWN.value, ""
    if r["ai_status"]:
        return r["ai_status"], r["ai_reason"], r["ai_detail"]
    if r["modality"] not in _READ_MODALITIES:
        return "not_analysed", ReasonCode.WRONG_MODALITY.value, ""
    if r["state"] == "arriving":
        return "requested", "", ""  # the run itself is asked for as soon as the series is whole
    return "not_analysed", ReasonCode.MODEL_OFF.value, ""


def patient(r: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": r["patient_code"],
        "issuer": r.get("issuer_of_patient_id", ""),
        "name": r["patient_name"],
        "sex": r["patient_sex"],
        "birth_date": r.get("patient_birth_date", ""),
        "age_years": r["patient_age_years"],
    }


def clock_ok(acquired_at: datetime | None, received_at: datetime) -> bool:
    """False when the scanner's clock cannot be right: the future, or more than a day before receipt (ux 14)."""
    if acquired_at is None:
        return True
    return received_at - _CLOCK_OLDEST <= acquired_at <= received_at + _CLOCK_SLACK


def _alert_brief(alert: dict[str, Any] | None) -> dict[str, Any] | None:
    if alert is None:
        return None
    return {
        "id": alert["id"],
        "state": alert["state"],
        "step": alert["step"],
        "at": stamp(alert["acknowledged_at"] or alert["stepped_at"]),
        "by": alert["acknowledged_by"],
    }


def alert(a: dict[str, Any]) -> dict[str, Any]:
    """A row of `store.alerts.listing`, or a bare alert row with `study_instance_uid`."""
    said = {
        "id": a["id"],
        "study_uid": a["study_instance_uid"],
        "finding": a["finding_name"],
        "display": FINDING_CODES[a["finding_name"]].display,
        "band": a["band"],
        "state": a["state"],
        "step": a["step"],
        "raised_at": stamp(a["raised_at"]),
        "stepped_at": stamp(a["stepped_at"]),
        "later_until": stamp(a["later_until"]),
        "assigned_to": a["assigned_to"],
        "acknowledged_at": stamp(a["acknowledged_at"]),
        "acknowledged_by": a["acknowledged_by"],
        "ended_at": stamp(a["ended_at"]),
        "version": a["version"],
        "drill": a["drill"],
    }
    if "patient_code" in a:
        said |= {
            "patient": patient(a),
            "location": a["location"] or "",
            "acquired_at": stamp(a["acquired_at"]),
            "arrived_at": stamp(a["arrived_at"]),
        }
    return said


def run(r: dict[str, Any], findings: Sequence[Finding], call: Call) -> dict[str, Any]:
    """A row of `store.runs.all_of_study`. Places and sizes pass through `finding.shown`, and only there."""
    mode = Mode(call.web.settings.mode)
    began, ended = r["started_at"], r["finished_at"]
    return {
        "id": r["id"],
        "detector": r["detector"],
        "release": f"{r['detector']} {r['version']}",
        "release_state": r["release_state"],
        "status": r["state"],
        "reason": r["reason_code"],
        "reason_detail": r["reason_detail"],
        "reason_text": reason_text(r["reason_code"], r["reason_detail"]),
        "series_uid": r["series_instance_uid"],
        "sop_uids": r["sop_instance_uids"],
        "requested_at": stamp(r["requested_at"]),
        "started_at": stamp(began),
        "finished_at": stamp(ended),
        "seconds": (ended - began).total_seconds() if began and ended else None,
        "attempts": r["attempts"],
        "policy_version": r["policy_version"],
        "runtime": r["runtime"],
        "not_covered": r["not_covered"],
        "notes": r["notes"],
        "findings": [as_json(shown(f, mode, may_see_inside=call.who.may_see_inside)) for f in findings],
    }


def reason_text(code: str, detail: str) -> str:
    """The sentence of a not-analysed code with what was found; a failure's own word otherwise."""
    sentence = SENTENCES[ReasonCode(code)] if code in ReasonCode.__members__ else code.replace("_", " ")
    return f"{sentence} ({detail})" if detail and sentence else sentence or detail


# --- the cursor: the order key of the last row, opaque to the client ------------------------------------------


def cursor_of(row: dict[str, Any], sort: Sort) -> str:
    values = [v.isoformat() if isinstance(v, datetime) else v for v in row["key"]]
    key = [sort.column, int(sort.descending), *values]
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def after_cursor(cursor: str, sort: Sort) -> Key | None:
    """The key to go on after; every part is checked, and bound when it is used (T14)."""
    if not cursor:
        return None
    try:
        column, descending, *values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        fits = column == sort.column and bool(descending) == sort.descending
        key = [_part(kind, value) for kind, value in zip(_kinds(sort), values, strict=True)] if fits else None
    except (binascii.Error, ValueError, TypeError) as error:
        raise Refused("this cursor is not one of ours; start again without it") from error
    if key is None:
        raise Refused("this cursor is of another sort; start again without it")
    return key


def _kinds(sort: Sort) -> tuple[str, ...]:
    return ("id", "time", "id") if sort.column == "order" else (SORTS[sort.column][0], "id")


def _part(kind: str, value: Any) -> Any:
    if kind == "time":
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError(value)
        return at
    if kind == "text" and isinstance(value, str) and len(value) <= 400:
        return value
    if kind == "number" and type(value) in (int, float) and abs(value) < 2**31:
        return value
    if kind == "id" and type(value) is int and 0 <= value < 2**62:
        return value
    raise ValueError(value)
