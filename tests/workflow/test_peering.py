"""Peers come and go with their audit, and what cannot be called is not kept."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories import NOON
from tests.workflow.desk import Desk
from triage.domain.errors import Conflict, Refused
from triage.store import peers
from triage.workflow import peering


def add(desk: Desk, **changes: Any) -> None:
    wanted = {"name": "ct", "ae_title": "CT1", "host": "ct1.hospital", "port": 104, "tls": False, **changes}
    with desk.database.write() as tx:
        peering.add(tx, **wanted, by="ada", now=NOON)


def test_a_peer_is_added_once_and_removed_with_its_trail(desk: Desk) -> None:
    add(desk, tls=True, certificate_sha256="a" * 64)
    with pytest.raises(Conflict, match="remove it first"):
        add(desk)
    with desk.database.read() as tx:
        kept = peers.find(tx, "ct")
    assert kept is not None and kept["certificate_sha256"] == "a" * 64
    with desk.database.write() as tx:
        peering.remove(tx, "ct", by="ada", now=NOON)
        assert peers.find(tx, "ct") is None
        with pytest.raises(Refused, match="no peer is called ct"):
            peering.remove(tx, "ct", by="ada", now=NOON)
    assert desk.acts() == ["peer.added", "peer.removed"]


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""}, {"name": "x" * 41}, {"name": "a\nb"}, {"host": ""}, {"host": "a b"}, {"host": "x" * 256},
        {"port": 0}, {"port": 65536}, {"ae_title": ""}, {"ae_title": "A\\B"}, {"ae_title": "A" * 17},
    ],
)  # fmt: skip
def test_what_nobody_could_call_is_refused(desk: Desk, change: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        add(desk, **change)
    assert desk.rows("peer") == [] and desk.acts() == []
