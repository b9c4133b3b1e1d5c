"""What a reader does with a study: claim, open, agree, disagree, raise, report, acknowledge.

Plain steps over one unit of work. Each is audited in the transaction of its change and tells the open pages. A claim
is a lease of ten minutes that ends by itself; an alert is closed by a person, never by a machine (ux 5.6, 5.7, 9).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from triage.domain.alerting import AlertState
from triage.domain.errors import Conflict, Refused
from triage.domain.finding import FINDING_CODES, PriorityClass
from triage.domain.priority import prioritize
from triage.domain.run import RunState
from triage.store import (
    alerts,
    audit,
    completeness,
    drills,
    events,
    policies,
    reading,
    results,
    runs,
    studies,
    users,
    worklist,
)
from triage.workflow.alert import close_alerts, tell_pages
from triage.workflow.rank import rank

CLAIM_LENGTH = timedelta(minutes=10)
OPEN_CLAIMS_MAX = 5
UNDO_LENGTH = timedelta(seconds=10)
LATER_LENGTH = timedelta(minutes=5)
READABLE = ("arriving", "to_read", "claimed")
VERDICTS = ("agree", "disagree", "missed")
CHIPS = ("artefact", "known", "post_operative", "other_pathology", "position", "not_relevant", "other")
REPORT_STATES = ("preliminary", "final", "addendum")
_NEXT_TRIES = 5  # readers who press `next` in the same instant; each try sees what the other took


class NotFound(Refused):
    """No such study or alert, or none that this person may see. HTTP 404."""


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


# --- claims --------------------------------------------------------------------------------------------------


def claim(
    tx: Connection,
    study_uid: str,
    reader: str,
    now: datetime,
    *,
    version: int | None = None,
    take_over_reason: str = "",
    opened: bool = True,
    by_next: bool = False,
    by: str = "",
    rank_shown: int | None = None,
) -> int:
    """Lease a study to a reader, and note that it was opened; returns the study's row id.

    by                who assigned it to this reader, when that is another
    take_over_reason  take it although another holds it; told to all, audited
    rank_shown        the place in the list at that moment: the only honest basis of turnaround (ux 5.6)
    raises            NotFound; Stale; Held by another; Refused beyond five open claims or when it was read
    """
    study_id, item = _item(tx, study_uid, version)
    if item["state"] not in READABLE:
        raise Refused(f"the study is {item['state']}; nothing is left to claim")
    held = worklist.live_claim(tx, item["id"], now)
    mine = held is not None and held["reader"] == reader
    if held is not None and not mine and not take_over_reason:
        raise Held(held["reader"], held["expires_at"], "the study is claimed by")
    if not mine and worklist.open_claims(tx, reader, now) >= OPEN_CLAIMS_MAX:
        whose = "you hold" if by in ("", reader) else f"{reader} holds"
        raise Refused(f"{whose} {OPEN_CLAIMS_MAX} studies; release or report one first")
    if not worklist.take_claim(tx, item["id"], reader, now, CLAIM_LENGTH, take_over=bool(take_over_reason)):
        other = worklist.live_claim(tx, item["id"], now)
        raise Held(
            other["reader"] if other else "", other["expires_at"] if other else None, "just claimed by"
        )
    values: dict[str, Any] = {"state": "claimed"}
    if opened and item["opened_at"] is None:
        values["opened_at"] = now
    worklist.set_values(tx, item["id"], **values)
    if held is not None and not mine:
        audit.append(
            tx, now, reader, "study.taken_over", "study", study_uid,
            {"from": held["reader"], "reason": take_over_reason[:200]},
        )  # fmt: skip
    elif not mine and by not in ("", reader):
        audit.append(tx, now, by, "study.assigned", "study", study_uid, {"to": reader})
    elif not mine:
        audit.append(tx, now, reader, "study.claimed", "study", study_uid)
    if opened:
        audit.append(
            tx, now, reader, "study.opened", "study", study_uid, {"next": by_next, "rank": rank_shown}
        )
    taken = {"taken_from": held["reader"], "reason": take_over_reason[:200]} if held and not mine else {}
    _tell(tx, now, study_id, claimed_by=reader, **taken, **({"assigned_by": by} if by else {}))
    return study_id


def ask(tx: Connection, study_uid: str, person: str, now: datetime) -> int:
    """Ask whoever holds a study for it; who asked is told when it is free again (ux 5.6).

    raises  Refused when nobody else holds it
    """
    study_id, item = _item(tx, study_uid, None)
    held = worklist.live_claim(tx, item["id"], now)
    if held is None or held["reader"] == person:
        raise Refused("nobody else holds this study; claim it")
    worklist.note_asker(tx, held["id"], person)
    audit.append(tx, now, person, "study.asked_for", "study", study_uid, {"holder": held["reader"]})
    _tell(tx, now, study_id, asked_by=person, holder=held["reader"])
    return study_id


def next_study(tx: Connection, reader: str, now: datetime) -> str | None:
    """Claim and open the best free study in true order; None when nothing is free (T15)."""
    for _ in range(_NEXT_TRIES):
        item_id = worklist.best_free(tx, reader, now)
        if item_id is None:
            return None
        uid = reading.study_uid_of_item(tx, item_id)
        place = worklist.ranks(tx, now, [item_id]).get(item_id)
        try:
            claim(tx, uid, reader, now, by_next=True, rank_shown=place[0] if place else None)
        except Held:
            continue
        return uid
    return None


def release(tx: Connection, study_uid: str, reader: str, now: datetime, *, version: int | None = None) -> int:
    """Give a study back; raises Held when it is another's, Refused when nobody holds it."""
    study_id, item = _item(tx, study_uid, version)
    held = worklist.live_claim(tx, item["id"], now)
    asked = worklist.askers(held)
    if not worklist.drop_claim(tx, item["id"], reader):
        if held is not None:
            raise Held(held["reader"], held["expires_at"], "the study is claimed by")
        raise Refused("you do not hold this study")
    _make_free(tx, study_id, item)
    audit.append(tx, now, reader, "study.released", "study", study_uid)
    _tell(tx, now, study_id, claimed_by="", free_for=asked)
    return study_id


def keep(tx: Connection, study_uid: str, reader: str, now: datetime) -> int:
    """Renew one's live claim; raises Refused when it has ended, Held when another took it."""
    study_id, item = _item(tx, study_uid, None)
    held = worklist.live_claim(tx, item["id"], now)
    if held is None:
        raise Refused("the claim has ended; claim again")
    if held["reader"] != reader:
        raise Held(held["reader"], held["expires_at"], "the study is claimed by")
    worklist.take_claim(tx, item["id"], reader, now, CLAIM_LENGTH)
    _tell(tx, now, study_id, claimed_by=reader)
    return study_id


def free_expired(tx: Connection, now: datetime) -> int:
    """Claims that ran out: the rows are free and their former readers are told. For the scheduler's clock."""
    ended = worklist.expired_claims(tx, now)
    for _, study_id, reader, asked in ended:
        item = worklist.find_item(tx, study_id)
        assert item is not None
        _make_free(tx, study_id, item)
        uid = studies.get_study(tx, study_id)["study_instance_uid"]
        audit.append(tx, now, "triage", "claim.expired", "study", uid, {"reader": reader})
        _tell(tx, now, study_id, claimed_by="", expired_for=reader, free_for=asked)
    return len(ended)


# --- what a reader thinks of it ------------------------------------------------------------------------------


def feedback(
    tx: Connection,
    study_uid: str,
    reader: str,
    now: datetime,
    *,
    verdict: str,
    finding: str = "",
    chip: str = "",
    text: str = "",
) -> int:
    """Agree, disagree or missed; for quality alone: neither report nor priority change. Returns the feedback's id.

    finding  "" for all flags of the study; needed for `missed`, which no flag of the study may name already
    raises   Refused before this reader opened or claimed the study (ux 5.7)
    """
    if verdict not in VERDICTS:
        raise Refused(f"verdict {verdict!r} is unknown; one of {', '.join(VERDICTS)}")
    if finding and finding not in FINDING_CODES:
        raise Refused(f"no finding is called {finding!r}")
    if chip and chip not in CHIPS:
        raise Refused(f"chip {chip!r} is unknown; one of {', '.join(CHIPS)}")
    if verdict == "missed" and not finding:
        raise Refused("say which finding was missed")
    study_id, _ = _item(tx, study_uid, None)
    if not _has_seen(tx, study_uid, reader):
        raise Refused("open the study before you judge it")
    if verdict == "missed" and any(
        f.actionable and f.name == finding for _, f in results.counting_findings(tx, study_id)
    ):
        raise Refused("this finding is flagged already: agree with its flag instead")
    feedback_id = reading.add_feedback(
        tx, study_id, reader, verdict, now,
        run_id=_run_meant(tx, study_id, finding), finding=finding, chip=chip, text=text[:400],
    )  # fmt: skip
    audit.append(
        tx, now, reader, f"feedback.{verdict}", "study", study_uid,
        {"feedback": feedback_id, "finding": finding, "chip": chip},
    )  # fmt: skip
    _tell(tx, now, study_id)
    return feedback_id


def withdraw_feedback(tx: Connection, study_uid: str, reader: str, now: datetime) -> int:
    """Take one's newest word back within ten seconds; returns its id."""
    study_id, _ = _item(tx, study_uid, None)
    last = reading.last_feedback(tx, study_id, reader)
    if last is None or last["at"] + UNDO_LENGTH < now:
        raise Refused("nothing to undo: feedback can be taken back for 10 seconds")
    reading.withdraw_feedback(tx, last["id"], now)
    audit.append(tx, now, reader, "feedback.withdrawn", "study", study_uid, {"feedback": last["id"]})
    _tell(tx, now, study_id)
    return int(last["id"])


def override(
    tx: Connection,
    study_uid: str,
    person: str,
    now: datetime,
    *,
    priority_class: PriorityClass,
    reason: str,
    version: int | None = None,
) -> int:
    """Raise a study by hand; or lower what a person raised, never below order and AI (ux 2.8)."""
    if not reason.strip():
        raise Refused("say why: the reason is shown on the list and kept in the audit")
    study_id, item = _item(tx, study_uid, version)
    if item["state"] not in READABLE:
        raise Refused(f"the study is {item['state']}; its place no longer matters")
    before = item["override_class"]
    if before is None and priority_class <= item["priority_class"]:
        raise Refused(
            f"the study is {PriorityClass(item['priority_class']).word} already; "
            "a person can lower only what a person raised"
        )
    facts = replace(worklist.facts(item), override=None)
    ordered = prioritize(facts, (), policies.active(tx), 0).base_class
    kept = int(priority_class) if priority_class > ordered else None
    worklist.set_values(
        tx, item["id"], override_class=kept, override_by=person if kept is not None else "",
        override_reason=reason.strip()[:200] if kept is not None else "",
    )  # fmt: skip
    audit.append(
        tx, now, person, "study.overridden", "study", study_uid,
        {"from": None if before is None else PriorityClass(before).word, "to": priority_class.word, "reason": reason[:200]},
    )  # fmt: skip
    rank(tx, study_id, now)
    return study_id


def report(
    tx: Connection, study_uid: str, person: str, now: datetime, *, state: str, version: int | None = None
) -> int:
    """A report exists: the study is read and its alerts close (closing rule b, ux 9).

    state   preliminary, final or addendum
    raises  Held while another reader has the study
    """
    if state not in REPORT_STATES:
        raise Refused(f"report state {state!r} is unknown; one of {', '.join(REPORT_STATES)}")
    study_id, item = _item(tx, study_uid, version)
    held = worklist.live_claim(tx, item["id"], now)
    if held is not None and held["reader"] != person:
        raise Held(held["reader"], held["expires_at"], "the study is claimed by")
    note_report(tx, study_id, person, now, state=state)
    return study_id


def note_report(tx: Connection, study_id: int, by: str, now: datetime, *, state: str) -> bool:
    """A report is there, whoever holds the study: it is read, its alerts close. False without a worklist item.

    A report never falls back: a preliminary one that comes after the final one changes nothing (messages overtake).
    """
    item = worklist.lock_item(tx, study_id)
    if item is None:
        return False
    uid = studies.get_study(tx, study_id)["study_instance_uid"]
    held = item["report_state"]
    best = state if held not in REPORT_STATES else max(held, state, key=REPORT_STATES.index)
    reading.end_claim(tx, item["id"])
    worklist.set_values(
        tx, item["id"], state="withdrawn" if item["state"] == "withdrawn" else "read", report_state=best,
        read_at=item["read_at"] or now, opened_at=item["opened_at"] or now,
    )  # fmt: skip
    audit.append(tx, now, by, "study.reported", "study", uid, {"state": state})
    close_alerts(tx, study_id, by, f"{state} report", now)
    _tell(tx, now, study_id, claimed_by="")
    return True


def withdraw_report(tx: Connection, study_id: int, by: str, now: datetime) -> bool:
    """The report was taken back (OBR-25 X): the study waits again, in its old place. False when it was not read."""
    item = worklist.lock_item(tx, study_id)
    if item is None or item["state"] != "read":
        return False
    uid = studies.get_study(tx, study_id)["study_instance_uid"]
    state = "arriving" if completeness.study_is_arriving(tx, study_id) else "to_read"
    worklist.set_values(tx, item["id"], state=state, report_state="", read_at=None)
    audit.append(tx, now, by, "study.report_withdrawn", "study", uid)
    _tell(tx, now, study_id)
    return True


# --- alerts --------------------------------------------------------------------------------------------------


def acknowledge_alert(
    tx: Connection, alert_id: int, person: str, now: datetime, *, version: int | None = None
) -> dict[str, Any]:
    """Seen; I take care of it. Stops the ladder; it is not a claim and not a report.

    Twice by one person is once. raises  Held when another was first; Refused when it has ended otherwise
    """
    alert = _alert(tx, alert_id)
    if alert["state"] == AlertState.ACKNOWLEDGED.value:
        if alert["acknowledged_by"] == person:
            return alert
        raise Held(alert["acknowledged_by"], None, "acknowledged by")
    if not alerts.move(tx, alert_id, AlertState.ACKNOWLEDGED, now, by=person, version=version):
        now_row = _alert(tx, alert_id)
        if now_row["state"] in alerts.UNANSWERED:
            raise Stale(now_row["version"])
        raise Refused(f"the alert is {now_row['state']}")
    audit.append(
        tx, now, person, "alert.acknowledged", "alert", alert_id,
        {
            "finding": alert["finding_name"],
            "detected_at": alert["raised_at"].isoformat(),
            "seconds": round((now - alert["raised_at"]).total_seconds(), 1),
            "step": alert["step"],
        } | ({"drill": True} if alert["drill"] else {}),
    )  # fmt: skip
    if alert["drill"]:
        drills.stop_sending(tx, alert_id)
    _tell_alert(tx, now, alert, AlertState.ACKNOWLEDGED.value)
    return _alert(tx, alert_id)


def handover_alert(tx: Connection, alert_id: int, person: str, to: str, now: datetime) -> dict[str, Any]:
    """Put the alert on a colleague's page; the ladder goes on until somebody acknowledges."""
    alert = _alert(tx, alert_id)
    colleague = users.find_user(tx, to)
    if colleague is None or colleague["disabled"] or colleague["role"] not in ("reader", "lead"):
        raise Refused(f"{to or 'nobody'} cannot take alerts; name a reader or lead")
    if not reading.assign_alert(tx, alert_id, to, alerts.UNANSWERED):
        raise Refused(f"the alert is {alert['state']}")
    audit.append(
        tx, now, person, "alert.handed_over", "alert", alert_id, {"to": to, "from": alert["assigned_to"]}
    )
    _tell_alert(tx, now, alert, alert["state"])
    return _alert(tx, alert_id)


def later_alert(tx: Connection, alert_id: int, person: str, now: datetime) -> dict[str, Any]:
    """Hide the banner for five minutes, once; the ladder is not stopped."""
    alert = _alert(tx, alert_id)
    if alert["state"] not in alerts.UNANSWERED:
        raise Refused(f"the alert is {alert['state']}")
    if not reading.hide_alert_until(tx, alert_id, now + LATER_LENGTH):
        raise Refused("an alert can be put off once, and not after its ladder ended")
    audit.append(tx, now, person, "alert.put_off", "alert", alert_id)
    _tell_alert(tx, now, alert, alert["state"])
    return _alert(tx, alert_id)


# --- shared --------------------------------------------------------------------------------------------------


def _item(tx: Connection, study_uid: str, version: int | None) -> tuple[int, dict[str, Any]]:
    study_id = studies.find_study(tx, study_uid)
    item = worklist.lock_item(tx, study_id) if study_id is not None else None
    if study_id is None or item is None or studies.get_study(tx, study_id)["constancy"]:
        raise NotFound("no such study")
    if version is not None and item["version"] != version:
        raise Stale(item["version"])
    return study_id, item


def _alert(tx: Connection, alert_id: int) -> dict[str, Any]:
    alert = alerts.get(tx, alert_id)
    if alert is None or (studies.get_study(tx, alert["study_id"])["constancy"] and not alert["drill"]):
        raise NotFound("no such alert")
    return alert


def _make_free(tx: Connection, study_id: int, item: dict[str, Any]) -> None:
    if item["state"] == "claimed":
        state = "arriving" if completeness.study_is_arriving(tx, study_id) else "to_read"
        worklist.set_values(tx, item["id"], state=state)


def _has_seen(tx: Connection, study_uid: str, reader: str) -> bool:
    acts = ("study.opened", "study.claimed", "study.taken_over")
    trail = audit.events(tx, object_kind="study", object_id=study_uid)
    return any(e["actor"] == reader and e["act"] in acts for e in trail)


def _run_meant(tx: Connection, study_id: int, finding: str) -> int | None:
    """The run that a word is about: the one that says this finding, else the newest completed one."""
    chosen = None
    for run in runs.current(tx, study_id):
        if run["state"] != RunState.COMPLETED.value:
            continue
        chosen = run["id"]
        found = results.findings_of_runs(tx, [chosen])[chosen]
        if any(f.actionable and f.name == finding for f in found):
            break
    return chosen


def _tell(tx: Connection, now: datetime, study_id: int, **data: Any) -> None:
    events.publish(tx, now, "worklist", study_id, **data)


def _tell_alert(tx: Connection, now: datetime, alert: dict[str, Any], state: str) -> None:
    tell_pages(tx, alert, AlertState(state), now)
    if not alert["drill"]:
        events.publish(tx, now, "worklist", alert["study_id"])  # the alert column of the row
