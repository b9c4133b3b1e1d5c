"""Subscriptions to the reading list's steps: whoever subscribes hears the state of now, then every change (PS3.4 CC.2.3)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage.dicom import workitem as dataset
from triage.domain.errors import Conflict, Refused
from triage.store import audit, subscriptions, workitems
from triage.store.subscriptions import FILTERED, GLOBAL
from triage.workflow.workitems import ENDED_SHOWN, STATE_REPORT, follow, get

FIRST_REPORTS = 1_000  # of a global subscription: steps that are alive


class NotYours(Conflict):
    """The subscriptions under this AE title are another's. HTTP 403."""


class NoFilter(Refused):
    """A subscription by filter names nothing that steps must match. HTTP 400."""


class FilterNotSupported(Refused):
    """A subscription by filter with a value that our search does not match. HTTP 403."""


def subscribe(
    tx: Connection,
    ae_title: str,
    workitem_uid: str,
    who: str,
    now: datetime,
    matching: dict[str, Any] | None = None,
) -> None:
    """matching  of a filtered one: arguments of `store.workitems.search`; steps that match once stay subscribed

    raises  NotFound for a step that there is not; NotYours; NoFilter, FilterNotSupported
    """
    if workitem_uid == FILTERED:
        _check(matching or {})
    follow(tx, now)
    owner = subscriptions.add_subscriber(tx, ae_title, who, workitems.last_event(tx), now)
    if owner != who:
        raise NotYours("this AE title belongs to another subscriber")
    subscriptions.want(tx, ae_title, workitem_uid, matching=matching if workitem_uid == FILTERED else None)
    if workitem_uid == GLOBAL:
        steps = workitems.search(tx, since=now, limit=FIRST_REPORTS)
    elif workitem_uid == FILTERED:
        steps = workitems.search(tx, since=now - ENDED_SHOWN, limit=FIRST_REPORTS, **(matching or {}))
        for step in steps:
            subscriptions.want(tx, ae_title, step["sop_instance_uid"])
    else:
        steps = [get(tx, workitem_uid)]
    for step in steps:
        state = dataset.state_report(step["state"], step["readiness"])
        workitems.tell(tx, step["id"], step["sop_instance_uid"], STATE_REPORT, state, now, receiver=ae_title)
    audit.append(tx, now, who, "workitem.subscribed", "workitem", workitem_uid, {"ae_title": ae_title})


def unsubscribe(tx: Connection, ae_title: str, workitem_uid: str, who: str, now: datetime) -> None:
    """From one step, also out of a global subscription; from a global one: from everything. raises NotFound, NotYours"""
    _own(tx, ae_title, who)
    if workitem_uid in (GLOBAL, FILTERED):
        subscriptions.drop_all(tx, ae_title)
    elif {GLOBAL, FILTERED} & subscriptions.wanted(tx, ae_title).keys():
        get(tx, workitem_uid)
        subscriptions.want(tx, ae_title, workitem_uid, wanted=False)
    else:
        get(tx, workitem_uid)
        subscriptions.drop(tx, ae_title, workitem_uid)
    audit.append(tx, now, who, "workitem.unsubscribed", "workitem", workitem_uid, {"ae_title": ae_title})


def suspend(tx: Connection, ae_title: str, who: str, now: datetime) -> None:
    """Steps that come from now on are not told by themselves; those that are there still are. raises NotYours"""
    _own(tx, ae_title, who)
    asked = subscriptions.wanted(tx, ae_title)
    if asked.get(GLOBAL):
        for step in workitems.search(tx, since=now - ENDED_SHOWN, limit=FIRST_REPORTS):
            subscriptions.want(
                tx, ae_title, step["sop_instance_uid"], asked.get(step["sop_instance_uid"], True)
            )
        subscriptions.drop(tx, ae_title, GLOBAL)
    subscriptions.drop(tx, ae_title, FILTERED)
    audit.append(tx, now, who, "workitem.suspended", "workitem", GLOBAL, {"ae_title": ae_title})


def _check(matching: dict[str, Any]) -> None:
    if not matching:
        raise NoFilter("a subscription by filter names at least one attribute and its value")
    values = [v for value in matching.values() for v in (value if isinstance(value, list) else [value])]
    if any("*" in value or "?" in value for value in values):
        raise FilterNotSupported("work items are matched by whole values: * and ? match nothing here")


def _own(tx: Connection, ae_title: str, who: str) -> None:
    held = subscriptions.find_subscriber(tx, ae_title)
    if held is not None and held["owner"] != who:
        raise NotYours("this AE title belongs to another subscriber")
