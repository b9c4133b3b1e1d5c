"""`/api/v1/studies/{uid}`: everything about one study, its picture, and a reader's acts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Response

from triage.domain.errors import ReadOnly, Refused
from triage.domain.finding import Mode, PriorityClass
from triage.log import get_logger
from triage.store import alerts, audit, deliveries, reading, results, runs, studies
from triage.web import shapes
from triage.web.api_worklist import ACT, READ, one_item, tell_hub
from triage.web.context import Call, Route, stamp
from triage.web.language import N_
from triage.web.models.base import Nothing
from triage.web.models.study import (
    ClaimBody,
    FeedbackAnswer,
    FeedbackBody,
    OverrideBody,
    PreviewQuery,
    ReportBody,
    StudyAnswer,
)
from triage.web.models.worklist import WorklistItem
from triage.workflow import preview
from triage.workflow.read import claims, reported, verdicts
from triage.workflow.read.row import NotFound

log = get_logger()

_VIEW_AGAIN = timedelta(minutes=10)
_VIEWS_KEPT = 5000


def get_study(call: Call, uid: str) -> dict[str, Any]:
    """Runs, findings, alerts, outputs, time line and history of one study."""
    item = one_item(call, uid)
    study_id = studies.find_study(call.tx, uid)
    assert study_id is not None
    study = studies.get_study(call.tx, study_id)
    run_rows = [
        r
        for r in runs.all_of_study(call.tx, study_id)
        if r["release_state"] != "shadow" or call.who.may_see_inside  # a shadow speaks to QA alone (I19)
    ]
    findings = results.findings_of_runs(call.tx, [r["id"] for r in run_rows])
    alert_rows = [a | {"study_instance_uid": uid} for a in alerts.of_study(call.tx, study_id)]
    series = studies.series_of(call.tx, study_id)
    history = _history(call, uid, alert_rows)
    _note_view(call, uid)
    said = [shapes.run(r, findings[r["id"]], call) for r in run_rows]
    return {
        "study_uid": uid,
        "item": item,
        "runs": said,
        "findings": [
            f
            for r in said
            if r["status"] == "completed" and r["release_state"] != "shadow"
            for f in r["findings"]
        ],
        "alerts": [shapes.alert(a) | {"deliveries": _deliveries(call, a["id"])} for a in alert_rows],
        "outputs": [_output(o) for o in reading.outputs_of(call.tx, study_id)],
        "feedback": [_feedback(f) for f in reading.feedback_of(call.tx, study_id)],
        "series": [_series(s) for s in series],
        "time_line": _time_line(study, series, run_rows, alert_rows, history),
        "history": history,
        "priors": [_prior(p) for p in reading.priors(call.tx, study_id)],
        "preview": preview.describe(reading.preview_rows(call.tx, study_id)),
        "as_of": stamp(call.now),
    }


def get_preview(call: Call, uid: str) -> Response:
    """The compressed picture, not for diagnosis: one frontal film or key slices, longest side 1024."""
    query: PreviewQuery = call.query
    study_id = studies.find_study(call.tx, uid)
    if study_id is None or studies.get_study(call.tx, study_id)["constancy"]:
        raise NotFound("no such study")
    picture = call.web.previewer.render(
        reading.preview_rows(call.tx, study_id), frame=query.frame, center=query.center, width=query.width,
        stretched=query.preset == "stretched", invert=query.invert,
    )  # fmt: skip
    response = Response(picture.jpeg, mimetype="image/jpeg")
    response.headers["X-Triage-Center"] = f"{picture.center:g}"
    response.headers["X-Triage-Width"] = f"{picture.width:g}"
    return response


def claim(call: Call, uid: str) -> dict[str, Any]:
    """Take the study for ten minutes (again: renew); 409 says who holds it."""
    body: ClaimBody = call.body
    study_id = claims.claim(
        call.tx, uid, call.who.name, call.now, version=call.version, take_over_reason=body.take_over.strip(),
        opened=body.open, rank_shown=body.rank_shown,
    )  # fmt: skip
    if body.open:
        tell_hub(call, "imagingstudy-open", study_id)
    return one_item(call, uid)


def ask(call: Call, uid: str) -> dict[str, Any]:
    """Ask whoever holds the study for it."""
    claims.ask(call.tx, uid, call.who.name, call.now)
    return one_item(call, uid)


def release(call: Call, uid: str) -> dict[str, Any]:
    """Give the study back."""
    claims.release(call.tx, uid, call.who.name, call.now, version=call.version)
    tell_hub(call, "imagingstudy-close", studies.find_study(call.tx, uid) or 0)
    return one_item(call, uid)


def keep(call: Call, uid: str) -> dict[str, Any]:
    """Renew a live claim of one's own."""
    claims.keep(call.tx, uid, call.who.name, call.now)
    return one_item(call, uid)


def give_feedback(call: Call, uid: str) -> dict[str, Any]:
    """Agree, disagree or missed: for quality; changes neither report nor priority."""
    body: FeedbackBody = call.body
    feedback_id = verdicts.feedback(
        call.tx, uid, call.who.name, call.now, verdict=body.verdict, finding=body.finding, chip=body.chip,
        text=body.text,
    )  # fmt: skip
    return {"id": feedback_id, "undo_until": stamp(call.now + verdicts.UNDO_LENGTH)}


def undo_feedback(call: Call, uid: str) -> dict[str, Any]:
    """Take one's newest feedback back within ten seconds."""
    return {"id": verdicts.withdraw_feedback(call.tx, uid, call.who.name, call.now), "undo_until": None}


def override(call: Call, uid: str) -> dict[str, Any]:
    """Raise by hand; or lower what a person raised."""
    body: OverrideBody = call.body
    verdicts.override(
        call.tx, uid, call.who.name, call.now, priority_class=PriorityClass.from_word(body.priority_class),
        reason=body.reason, version=call.version,
    )  # fmt: skip
    return one_item(call, uid)


def report(call: Call, uid: str) -> dict[str, Any]:
    """A report exists: the study is read, its alerts close."""
    body: ReportBody = call.body
    reported.report(call.tx, uid, call.who.name, call.now, state=body.state, version=call.version)
    tell_hub(call, "imagingstudy-close", studies.find_study(call.tx, uid) or 0)
    return one_item(call, uid)


def note_overlay(call: Call, uid: str) -> dict[str, Any]:
    """The reader switched the outline on; allowed in overlay mode alone, and audited."""
    if Mode(call.web.settings.mode) is not Mode.OVERLAY and not call.who.may_see_inside:
        raise Refused("overlay is not enabled here: this site runs in triage-only mode")
    one_item(call, uid)
    audit.append(call.tx, call.now, call.who.name, "overlay.shown", "study", uid)
    return {}


# --- parts ---------------------------------------------------------------------------------------------------


def _note_view(call: Call, uid: str) -> None:
    """Who saw what, once in ten minutes. Its own unit of work: a look must not wait for the look's own write."""
    viewed = call.web.viewed
    last = viewed.get((call.who.name, uid))
    if last is not None and call.now - last < _VIEW_AGAIN:
        return
    if len(viewed) > _VIEWS_KEPT:
        viewed.clear()
    try:
        with call.web.database.write() as tx:
            audit.append(tx, call.now, call.who.name, "study.viewed", "study", uid)
    except ReadOnly:
        log.warning(
            "study.viewed_unaudited", who=call.who.name
        )  # a reader in need of a study is not sent away
    else:
        viewed[call.who.name, uid] = call.now


def _history(call: Call, uid: str, alert_rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = audit.events(call.tx, object_kind="study", object_id=uid)
    for a in alert_rows:
        found += audit.events(call.tx, object_kind="alert", object_id=str(a["id"]))
    keys = ("number", "at", "actor", "act", "detail")
    return [{k: e[k] for k in keys} for e in sorted(found, key=lambda e: e["number"])]


def _deliveries(call: Call, alert_id: int) -> list[dict[str, Any]]:
    return [
        {
            "route": d["route"],
            "rung": d["rung"],
            "kind": d["kind"],
            "state": d["state"],
            "control_id": d["control_id"],
            "attempts": d["attempts"],
            "first_attempt_at": stamp(d["first_attempt_at"]),
            "delivered_at": stamp(d["delivered_at"]),
        }
        for d in deliveries.rows(call.tx, alert_id)
    ]


def _output(o: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": o["kind"],
        "sop_uid": o["sop_instance_uid"],
        "state": o["state"],
        "detail": o["detail"],
        "run": o["run_id"],
        "destinations": [
            {
                "peer": d["peer"],
                "state": d["state"],
                "detail": d["detail"],
                "attempts": d["attempts"],
                "sent_at": stamp(d["sent_at"]),
                "committed_at": stamp(d["committed_at"]),
                "next_attempt_at": stamp(d["next_attempt_at"]),
            }
            for d in o["destinations"]
        ],
        "created_at": stamp(o["created_at"]),
    }


def _feedback(f: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f["id"],
        "run": f["run_id"],
        "reader": f["reader"],
        "verdict": f["verdict"],
        "finding": f["finding"],
        "chip": f["chip"],
        "text": f["text"],
        "at": stamp(f["at"]),
        "withdrawn_at": stamp(f["withdrawn_at"]),
    }


def _series(s: dict[str, Any]) -> dict[str, Any]:
    return {
        "series_uid": s["series_instance_uid"],
        "modality": s["modality"],
        "number": s["series_number"],
        "description": s["series_description"],
        "received": s["instance_count"],
        "expected": s["expected_count"],
        "state": s["state"],
        "complete_because": s["complete_because"],
        "sender": s["calling_ae_title"],
    }


def _prior(p: dict[str, Any]) -> dict[str, Any]:
    flags = [r for r in p["reasons"] or [] if r["code"].startswith("AI_")]
    return {
        "study_uid": p["study_instance_uid"],
        "description": p["study_description"],
        "modality": p["modality"] or "",
        "acquired_at": stamp(p["acquired_at"] or p["first_received_at"]),
        "state": p["state"] or "",
        "ai_status": p["ai_status"] or None,
        "flagged": [r["text"] for r in flags],
        "flagged_names": [r["code"].removeprefix("AI_").lower() for r in flags],
    }


ENDED = {
    "completed": N_("%(release)s done"),
    "not_analysed": N_("%(release)s not analysed: %(why)s"),
    "failed": N_("%(release)s failed: %(why)s"),
    "superseded": N_("%(release)s superseded"),
}


def _time_line(
    study: dict[str, Any], series: list[dict[str, Any]], run_rows: list[dict[str, Any]],
    alert_rows: list[dict[str, Any]], history: list[dict[str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    """[{"at", "what", "said", "values"}] from acquisition to report, oldest first (ux 5.8): `said` is `what` before its
    values are filled in, so that a page can say it in another language."""
    moments: list[tuple[Any, str, dict[str, Any]]] = [
        (study["acquired_at"], N_("acquired"), {}),
        (study["first_received_at"], N_("first image received"), {}),
        (study["last_received_at"], N_("last image received"), {}),
    ]
    moments += [
        (
            s["last_instance_at"],
            N_("series %(number)s complete because: %(because)s"),
            {"number": s["series_number"] or "–", "because": s["complete_because"]},
        )
        for s in series
        if s["state"] == "complete"
    ]
    for r in run_rows:
        name = f"{r['detector']} {r['version']}"
        moments.append((r["requested_at"], N_("%(release)s asked for"), {"release": name}))
        if r["finished_at"] and r["state"] in ENDED:
            why = shapes.reason_text(r["reason_code"], r["reason_detail"])
            values = {"release": name, "why": why, "code": r["reason_code"], "detail": r["reason_detail"]}
            moments.append((r["finished_at"], ENDED[r["state"]], values))
    for a in alert_rows:
        moments.append(
            (
                a["raised_at"],
                N_("alert raised: %(finding)s"),
                {"finding": a["finding_name"].replace("_", " ")},
            )
        )
    said = [
        {"at": stamp(at), "what": what % values, "said": what, "values": values}
        for at, what, values in moments
        if at is not None
    ]
    for e in history:
        if e["act"] not in ("study.viewed", "alert.raised"):
            what = e["act"].replace(".", " ").replace("_", " ")
            said.append(
                {
                    "at": e["at"][:23] + "Z",
                    "what": f"{what} by {e['actor']}",
                    "said": "",
                    "values": {"act": e["act"], "who": e["actor"], "route": e["detail"].get("route", "")},
                }
            )
    return sorted(said, key=lambda m: str(m["at"]))


_ITEM = WorklistItem


def _act(name: str, view: Any, body: Any = Nothing, answer: Any = _ITEM, **more: Any) -> Route:
    path = f"/api/v1/studies/<uid:uid>/{name}"
    return Route(
        path=path, view=view, **{"method": "POST", "scopes": ACT, "body": body, "answer": answer, **more}
    )


ROUTES = (
    Route(path="/api/v1/studies/<uid:uid>", view=get_study, scopes=READ, answer=StudyAnswer),
    Route(path="/api/v1/studies/<uid:uid>/preview", view=get_preview, scopes=READ, query=PreviewQuery),
    _act("claim", claim, ClaimBody),
    _act("ask", ask),
    _act("release", release),
    _act("keep", keep),
    _act("feedback", give_feedback, FeedbackBody, FeedbackAnswer),
    _act("feedback", undo_feedback, answer=FeedbackAnswer, method="DELETE"),
    _act("override", override, OverrideBody),
    _act("report", report, ReportBody),
    _act("overlay", note_overlay, answer=Nothing, scopes=READ),
)
