"""Moving releases between active, shadow and retired: with a reason, and with a second person to make one active."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage.domain.errors import Conflict, Refused
from triage.store import audit, proposals, releases
from triage.workflow.releases import on_disk


def propose(tx: Connection, release_id: int, by: str, reason: str, now: datetime) -> int:
    """Ask that a release become the active one; another person confirms. Returns the proposal's id."""
    release = _release(tx, release_id)
    if release["state"] == "active":
        raise Refused("this release is active already")
    if not release["calibrated"]:
        raise Refused(
            "nobody calibrated this release: its probabilities mean nothing here (triage models calibrate)"
        )
    _require_phantom(release)
    _check_reason(reason)
    if any(p["state"] == "open" and p["release_id"] == release_id for p in proposals.listing(tx)):
        raise Conflict("this is proposed already; a second person confirms it")
    proposal_id = proposals.add(tx, release_id, by, reason.strip()[:400], now)
    _note(tx, now, by, "release.proposed", release, reason)
    return proposal_id


def confirm(tx: Connection, proposal_id: int, by: str, now: datetime) -> None:
    """The second person: the release becomes active, the one before is retired.

    raises  Refused when it is the same person, or the proposal has ended
    """
    proposal = _open(tx, proposal_id)
    if proposal["proposed_by"] == by:
        raise Refused("another person confirms what you proposed")
    proposals.end(tx, proposal_id, "confirmed", by, now)
    release = _release(tx, proposal["release_id"])
    releases.activate(tx, release["id"])
    _note(tx, now, by, "release.activated", release, proposal["reason"], proposed_by=proposal["proposed_by"])


def withdraw(tx: Connection, proposal_id: int, by: str, now: datetime) -> None:
    proposal = _open(tx, proposal_id)
    proposals.end(tx, proposal_id, "withdrawn", by, now)
    _note(tx, now, by, "release.proposal_withdrawn", _release(tx, proposal["release_id"]), "")


def move(tx: Connection, release_id: int, to: str, by: str, reason: str, now: datetime) -> None:
    """Into the shadow or out of service: one person, with a reason; less is being done, not more."""
    if to not in ("shadow", "retired"):
        raise Refused("one person may put a release into the shadow or retire it; making it active needs two")
    _check_reason(reason)
    release = _release(tx, release_id)
    releases.set_state(tx, release_id, to)
    _note(tx, now, by, "release.moved", release, reason, to=to)


def roll_back(tx: Connection, release_id: int, by: str, reason: str, now: datetime) -> None:
    """Back to a release that two persons made active before: in one act."""
    _check_reason(reason)
    release = _release(tx, release_id)
    was_active = any(
        e["act"] == "release.activated"
        for e in audit.events(tx, object_kind="release", object_id=str(release_id))
    )
    if release["state"] == "active" or not was_active:
        raise Refused("only a release that was active before can be brought back by one person; propose it")
    releases.activate(tx, release_id)
    _note(tx, now, by, "release.activated", release, reason, rolled_back=True)


def _require_phantom(release: dict[str, Any]) -> None:
    """Shipped releases were made to flag the constancy phantom; of one of the site's own the answer must be on record.

    It is asked where the networks can run, by `triage models shadow` and `activate`; pages never load one.
    """
    if release["constancy"] is None and release["digest"] not in {
        r.digest for r in on_disk(release["detector"])
    }:
        raise Refused(
            "its answer to the constancy phantom is not on record: run triage models shadow "
            f"{release['detector']} {release['version']}, then propose it"
        )


def _release(tx: Connection, release_id: int) -> dict[str, Any]:
    for release in releases.in_states(tx):
        if release["id"] == release_id:
            return release
    raise Refused("there is no such release")


def _open(tx: Connection, proposal_id: int) -> dict[str, Any]:
    found = proposals.find(tx, proposal_id)
    if found is None or found["state"] != "open":
        raise Refused("this proposal has ended")
    return found


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise Refused("say why: the reason is kept in the audit")


def _note(
    tx: Connection, now: datetime, by: str, act: str, release: dict[str, Any], reason: str, **more: Any
) -> None:
    detail = {
        "detector": release["detector"],
        "version": release["version"],
        "digest": release["digest"],
        **more,
    }
    audit.append(tx, now, by, act, "release", release["id"], {**detail, "reason": reason.strip()[:200]})
