"""What a reader thinks of a study: agree, disagree, missed, and a place raised by hand (ux 5.7, 2.8)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from triage.domain.errors import Refused
from triage.domain.finding import FINDING_CODES, PriorityClass
from triage.domain.priority import prioritize
from triage.domain.run import RunState
from triage.store import audit, policies, reading, results, runs, worklist
from triage.workflow.rank import rank
from triage.workflow.read.row import READABLE, NotOpened, locked_item, tell

UNDO_LENGTH = timedelta(seconds=10)
VERDICTS = ("agree", "disagree", "missed")
CHIPS = ("artefact", "known", "post_operative", "other_pathology", "position", "not_relevant", "other")


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
    raises   NotOpened before this reader opened or claimed the study (ux 5.7)
    """
    if verdict not in VERDICTS:
        raise Refused(f"verdict {verdict!r} is unknown; one of {', '.join(VERDICTS)}")
    if finding and finding not in FINDING_CODES:
        raise Refused(f"no finding is called {finding!r}")
    if chip and chip not in CHIPS:
        raise Refused(f"chip {chip!r} is unknown; one of {', '.join(CHIPS)}")
    if verdict == "missed" and not finding:
        raise Refused("say which finding was missed")
    study_id, _ = locked_item(tx, study_uid, None)
    if not _has_seen(tx, study_uid, reader):
        raise NotOpened("open the study before you judge it")
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
    tell(tx, now, study_id)
    return feedback_id


def withdraw_feedback(tx: Connection, study_uid: str, reader: str, now: datetime) -> int:
    """Take one's newest word back within ten seconds; returns its id."""
    study_id, _ = locked_item(tx, study_uid, None)
    last = reading.last_feedback(tx, study_id, reader)
    if last is None or last["at"] + UNDO_LENGTH < now:
        raise Refused("nothing to undo: feedback can be taken back for 10 seconds")
    reading.withdraw_feedback(tx, last["id"], now)
    audit.append(tx, now, reader, "feedback.withdrawn", "study", study_uid, {"feedback": last["id"]})
    tell(tx, now, study_id)
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
    study_id, item = locked_item(tx, study_uid, version)
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
