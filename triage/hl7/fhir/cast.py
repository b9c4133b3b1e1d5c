"""FHIRcast: a study that a reader opened or left, as the hub takes it.

source: FHIRcast STU3, 2.5 (request context change), events ImagingStudy-open and -close; names compare without case
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

Kind = Literal["imagingstudy-open", "imagingstudy-close"]


def context_event(
    kind: Kind, study: dict[str, Any], patient: dict[str, Any] | None, topic: str, event_id: str, at: datetime
) -> dict[str, Any]:
    """study, patient: resources of our own FHIR view. topic: the reader's session at the hub"""
    context = [{"key": "study", "resource": study}]
    if patient is not None:
        context.insert(0, {"key": "patient", "resource": patient})
    event = {"hub.topic": topic, "hub.event": kind, "context": context}
    return {"timestamp": at.isoformat(timespec="milliseconds"), "id": event_id, "event": event}
