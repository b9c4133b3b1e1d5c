"""Where a study stands in the list: recomputed in the transaction of whatever changed it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from triage.domain.priority import prioritize
from triage.domain.run import RunState
from triage.domain.suitability import NOT_WHOLE
from triage.store import completeness, events, policies, results, runs, worklist

# Across detectors the first of these that any detector is in is what the list says (I17): what is still to come,
# then what went wrong, then what nobody looked at; "completed" only when every wanted detector is.
_ACROSS = ("running", "requested", "failed", "not_analysed", "completed")
# Within one detector a completed input answers for the study: a frontal film beside its lateral.
_WITHIN = ("running", "requested", "failed", "completed", "not_analysed")


def fold(current_runs: Sequence[dict[str, Any]]) -> tuple[str, str, str]:
    """(ai_status, reason code, reason detail) of a study from its current runs; ("", "", "") without any."""
    by_detector: dict[str, list[dict[str, Any]]] = {}
    for run in current_runs:
        by_detector.setdefault(run["detector"], []).append(run)
    spoken = [_spokesman(group) for group in by_detector.values()]
    if not spoken:
        return "", "", ""
    run = min(spoken, key=lambda r: _ACROSS.index(r["state"]))
    told = run["state"] in (RunState.NOT_ANALYSED.value, RunState.FAILED.value)
    return run["state"], run["reason_code"] if told else "", run["reason_detail"] if told else ""


def _spokesman(group: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run that answers for one detector. That images are missing speaks before what the series said without them:
    the earlier findings still count, and the reader knows that nobody has looked at all of it."""
    analysed = {r["series_id"] for r in group if r["state"] == RunState.COMPLETED.value}

    def place(run: dict[str, Any]) -> float:
        late = run["reason_code"] in NOT_WHOLE and run["series_id"] in analysed
        return _WITHIN.index(RunState.COMPLETED.value) - 0.5 if late else _WITHIN.index(run["state"])

    return min(group, key=place)


def rank(tx: Connection, study_id: int, now: datetime) -> None:
    """Recompute class, times, reasons and AI status of one study, and tell the open pages."""
    item = worklist.lock_item(tx, study_id)
    if item is None:
        return
    findings = [f for _, f in results.counting_findings(tx, study_id)]
    policy = policies.active(tx)
    raised = worklist.raised_since(tx, now - timedelta(hours=1), study_id)
    priority = prioritize(worklist.facts(item), findings, policy, raised)
    first_raise = priority.raised_by_ai and item["raised_at"] is None
    worklist.store_priority(tx, item["id"], priority, now, first_raise)
    status, code, detail = fold(runs.current(tx, study_id))
    state = item["state"]
    if state in ("arriving", "to_read"):
        state = "arriving" if completeness.study_is_arriving(tx, study_id) else "to_read"
    worklist.set_values(tx, item["id"], ai_status=status, ai_reason=code, ai_detail=detail, state=state)
    events.publish(tx, now, "worklist", study_id)
