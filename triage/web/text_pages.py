"""Pages beside the list: alerts, the phone page, audit, health. Plain forms, right without any script."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from flask import Response, make_response, redirect, render_template, request
from pydantic import Field
from sqlalchemy import Connection

from triage import __version__
from triage.domain.alerting import AlertState
from triage.domain.errors import Conflict, Refused
from triage.store import alerts, audit, deliveries, events, reading, releases
from triage.web import admin, auth, shapes, wording
from triage.web.context import Call, Route, stamp
from triage.web.drawn import banner, display_names
from triage.web.language import N_, _
from triage.web.models.base import Request
from triage.web.models.system import AuditQuery
from triage.web.pages import colleagues
from triage.web.times import hours
from triage.workflow import anchors, health, links, pull
from triage.workflow.read import answers
from triage.workflow.read.row import NotFound

_PAST = tuple(s.value for s in AlertState if s.value not in alerts.UNANSWERED)


def alerts_page(call: Call) -> str:
    """Open alerts first, then past ones."""
    return render(
        call, "alerts.html", "alerts", opened=_cards(call), past=_past(call), colleagues=colleagues(call)
    )


class PhoneQuery(Request):
    alert: Annotated[int, Field(ge=1, lt=2**53)] | None = None
    link: Literal["", "over"] = ""


def phone_page(call: Call) -> str:
    """For the on-call: open alerts, large buttons, initials alone; the one that a link named comes first."""
    query: PhoneQuery = call.query
    opened = sorted(_cards(call), key=lambda a: a["id"] != query.alert)
    gone = query.alert is not None and query.alert not in [a["id"] for a in opened]
    return render(
        call, "phone.html", "phone", opened=opened, colleagues=colleagues(call), named=query.alert, gone=gone,
        over=query.link == "over",
    )  # fmt: skip


def follow_link(call: Call, word: str) -> Response:
    """From a notice to its alert: once, by who is signed in."""
    with call.web.database.write() as tx:
        alert_id = links.follow(tx, word, call.who.name, call.now)
    return make_response(redirect("/m?link=over" if alert_id is None else f"/m?alert={alert_id}"))


def act_on_alert(call: Call, alert_id: int, act: str) -> Response:
    """A form of `/alerts` or `/m`; comes back there with words when it was refused."""
    back = auth.own_path(request.form.get("next", "")) or "/alerts"
    try:
        with call.web.database.write() as tx:
            if act == "acknowledge":
                answers.acknowledge(tx, alert_id, call.who.name, call.now)
            elif act == "handover":
                answers.hand_over(tx, alert_id, call.who.name, request.form.get("to", ""), call.now)
            else:
                raise NotFound("no such act")
    except (Conflict, Refused) as error:
        page = render_template("refused.html", why=str(error), back=back, who=call.who)
        return make_response(page, 404 if isinstance(error, NotFound) else 409)
    return make_response(redirect(back))


def _cards(call: Call) -> list[dict[str, Any]]:
    rows = alerts.listing(call.tx, states=alerts.UNANSWERED, limit=100)
    said = {a["id"]: a for a in banner(call, put_off=True)}
    cards = []
    for row in rows:
        patient = shapes.patient(row)
        cards.append(
            said[row["id"]]
            | {
                "initials": _("DRILL") if row["drill"] else wording.initials(row["patient_name"]),
                "sex_age": "" if row["drill"] else wording.sex_age(patient),
                "last_four": row["patient_code"][-4:],
                "waiting": hours((call.now - (row["acquired_at"] or row["raised_at"])).total_seconds()),
                "raised": stamp(row["raised_at"]),
                "state": row["state"],
            }
        )
    return cards


def _past(call: Call) -> list[dict[str, Any]]:
    names = display_names(call)
    rows = alerts.listing(call.tx, states=_PAST, limit=100, drills=False)
    return [
        shapes.alert(r)
        | {
            "name": wording.person(r["patient_name"]),
            "by": names.get(r["acknowledged_by"], r["acknowledged_by"]),
            "minutes": None
            if r["acknowledged_at"] is None
            else (r["acknowledged_at"] - r["raised_at"]).total_seconds() / 60,
        }
        for r in rows
    ]


def _minutes(row: dict[str, Any]) -> float | None:
    seen: datetime | None = row["acknowledged_at"]
    return None if seen is None else (seen - row["raised_at"]).total_seconds() / 60


# --- audit and health ----------------------------------------------------------------------------------------


def audit_page(call: Call) -> str:
    """Who did what to which object, newest page first; read only."""
    query: AuditQuery = call.query
    head = audit.head(call.tx)
    last = head[0] if head else 0
    narrowed = bool(query.object_kind or query.object_id)
    after = query.after if query.after or narrowed else max(0, last - 100)
    found = audit.events(
        call.tx, object_kind=query.object_kind, object_id=query.object_id, after=after, limit=100
    )
    return render(
        call, "audit.html", "audit", events=found[::-1], head=head, query=query,
        newer=found[-1]["number"] if found and found[-1]["number"] < last else None,
        older=max(0, found[0]["number"] - 101) if found and found[0]["number"] > 1 and not narrowed else None,
    )  # fmt: skip


def verify_audit(call: Call) -> str:
    """Walk the whole chain against its anchors and say whether it is whole."""
    home = call.web.settings.home
    held = anchors.read_anchors(home)
    answer = audit.verify(call.tx, held, anchors.anchor_key(home) if held else b"")
    return render(call, "audit_verified.html", "audit", answer=answer, anchors=len(held))


MEND = (
    ("worker", N_("Look into its log. triage doctor names what is missing; triage up starts it again.")),
    ("receiver", N_("Look into its log: is the DICOM port taken by another program? Then triage up again.")),
    ("queue", N_("Does a worker beat? Is the broker there? triage doctor looks at both.")),
    (
        "deliveries",
        N_(
            "See the route below and the receiver's side; what is parked is sent again from the messages page."
        ),
    ),
    ("constancy", N_("Run triage doctor; until the check passes, say so to the readers.")),
    ("disk", N_("Free space or a larger disk; triage retention run removes what may go.")),
    (
        "pull",
        N_(
            "Ask the archive: triage echo shows each step. A series that it shows again larger is fetched anew."
        ),
    ),
    ("retention", N_("Run triage retention run and read what it says; the scheduler does it every hour.")),
    ("", N_("triage doctor says what is wrong and how to mend it.")),
)


def health_page(call: Call, **values: Any) -> str:
    """A light per part, since when, what is known of it, and the next step."""
    found = health.checks(call.tx, call.web.settings, call.now, call.web.database.read_only_since)
    beats = events.beats(call.tx)
    return admin.page(
        call, "health", checks=[c | {"mend": _mend(c["name"])} for c in found], beats=beats,
        figures=reading.figures(call.tx), settings=call.web.settings, listeners=call.web.feed.listeners,
        deliveries=deliveries.listing(call.tx, states=("waiting", "parked"), limit=50),
        support=_support(call, found, beats), given_up=pull.given_up(call.tx, call.web.settings), **values,
    )  # fmt: skip


def act_on_health(call: Call) -> Response:
    """Ask an archive again for the series that it did not give."""
    source = request.form.get("source", "")

    def act(tx: Connection) -> str:
        pull.ask_again(tx, call.web.settings, source, by=call.who.name, now=call.now)
        return "asked"

    return admin.submit(call, "health", health_page, act)


def _mend(part: str) -> str:
    return _(next(words for begin, words in MEND if part.startswith(begin)))


def _support(call: Call, found: list[dict[str, Any]], beats: list[dict[str, Any]]) -> str:
    """What support asks for, without a patient: versions, lights, beats."""
    lines = [f"triage {__version__} · {call.web.settings.mode} · {stamp(call.now)}"]
    lines += [f"{'ok ' if c['ok'] else 'BAD'} {c['name']}: {c['detail']}" for c in found]
    lines += [
        f"{b['part']} pid {b['pid']} since {stamp(b['started_at'])}, beat {stamp(b['at'])}" for b in beats
    ]
    lines += [
        f"{r['detector']} {r['version']} {r['state']} {r['digest'][:12]}" for r in releases.in_states(call.tx)
    ]
    return "\n".join(lines)


def render(call: Call, template: str, page: str, **values: Any) -> str:
    """A page in the common frame; `page` marks its place in the navigation."""
    return render_template(
        template,
        page=page,
        who=call.who,
        site=call.web.settings.site,
        now=stamp(call.now),
        **values,
    )


ALERTS = ("worklist:read", "alerts:act")
ROUTES = (
    Route(path="/alerts", view=alerts_page, scopes=ALERTS, html=True),
    Route(path="/m", view=phone_page, scopes=ALERTS, query=PhoneQuery, html=True),
    Route(
        path=f"/m/<string(length={links.CHARACTERS}):word>", view=follow_link, scopes=ALERTS, html=True, needs_tx=False
    ),
    Route(
        path="/alerts/<id:alert_id>/<any(acknowledge,handover):act>", view=act_on_alert, method="POST",
        scopes=("alerts:act",), html=True, needs_tx=False,
    ),
    Route(path="/audit", view=audit_page, scopes=("audit:read",), query=AuditQuery, html=True),
    Route(path="/audit/verify", view=verify_audit, scopes=("audit:read",), html=True),
    Route(path="/admin/health", view=health_page, scopes=("admin",), html=True),
    Route(path="/admin/health", view=act_on_health, method="POST", scopes=("admin",), html=True, needs_tx=False),
)  # fmt: skip
