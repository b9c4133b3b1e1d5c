"""`/api/v1/peers`: whom we speak DICOM with, a test of one of them, and a second try of what a peer refused."""

from __future__ import annotations

from typing import Any

from triage.domain.errors import Refused
from triage.store import audit, dispatches, outputs, peers
from triage.web.context import Call, Route
from triage.web.models.base import AgainAnswer
from triage.web.models.system import PeersAnswer, PeerTestAnswer, PeerTestQuery
from triage.workflow.peer_check import check_peer
from triage.workflow.remotes import find_peer

ADMIN = ("admin",)


def get_peers(call: Call) -> dict[str, Any]:
    """Every peer, and which objects of ours it gets."""
    outlets = {o.peer: o for o in call.web.settings.outlets}
    said = []
    for row in peers.listing(call.tx):
        outlet = outlets.get(row["name"])
        said.append(
            row
            | {
                "objects": list(outlet.objects) if outlet else [],
                "by": outlet.by if outlet else "",
                "commitment": outlet.commitment if outlet else False,
            }
        )
    return {"peers": said}


def test_peer(call: Call, name: str) -> dict[str, Any]:
    """Speak with it, step by step, as `triage echo` does. No transaction is open meanwhile."""
    query: PeerTestQuery = call.query
    with call.web.database.read() as tx:
        peer = find_peer(tx, name)
    check = check_peer(call.web.settings, peer, store=query.store)
    with call.web.database.write() as tx:
        audit.append(tx, call.now, call.who.name, "peer.tested", "peer", name, {"ok": check.ok})
    return check.as_json(name)


def resend(call: Call, uid: str) -> dict[str, Any]:
    """Try again what peers refused or never took of one object."""
    output_id = outputs.find(call.tx, uid)
    if output_id is None:
        raise Refused("no object of ours has this SOP Instance UID")
    count = dispatches.again(call.tx, output_id, call.now)
    audit.append(call.tx, call.now, call.who.name, "output.again", "output", uid, {"count": count})
    return {"count": count}


ROUTES = (
    Route(path="/api/v1/peers", view=get_peers, scopes=ADMIN, answer=PeersAnswer),
    Route(
        path="/api/v1/peers/<string(maxlength=40):name>/test", view=test_peer, method="POST", scopes=ADMIN,
        query=PeerTestQuery, answer=PeerTestAnswer, needs_tx=False,
    ),
    Route(
        path="/api/v1/outputs/<uid:uid>/again", view=resend, method="POST", scopes=ADMIN,
        answer=AgainAnswer,
    ),
)  # fmt: skip
