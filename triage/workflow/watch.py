"""A part that fell silent is told to operators, once for each silence: a dead scheduler sends no constancy checks, and
nobody else would notice (P11). Called by the relay's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from triage.log import get_logger
from triage.store import constancy, events
from triage.workflow.health import SILENT
from triage.workflow.site import NewId

log = get_logger()


def ring_for_silence(tx: Connection, routes: Sequence[str], ids: NewId, now: datetime) -> int:
    """Tell each operator route of each part that is silent since its last beat; returns how many notices are new."""
    told = 0
    for beat in events.beats(tx):
        if now - beat["at"] < SILENT:
            continue
        text = f"{beat['part']} has been silent since {beat['at']:%Y-%m-%d %H:%M:%S} UTC. Run: triage doctor"
        for route in routes:
            if constancy.has_notice(tx, "part.silent", text, route):
                continue
            constancy.add_notice(tx, "part.silent", text, route, ids(), now)
            told += 1
        if told:
            log.error("part.silent", part=beat["part"], since=beat["at"].isoformat(), fix="triage doctor")
    return told
