"""Which event a hub is told of a study, and of which study none."""

from __future__ import annotations

import json

from tests.workflow.desk import Desk
from triage.domain.study import CONSTANCY_PATIENT_PREFIX
from triage.settings import FhircastSettings
from triage.workflow.fhircast import context

SETTINGS = FhircastSettings(url="https://hub.example/x", topic="north-{reader}")


def test_the_event_names_the_study_and_its_patient_and_a_phantom_makes_none(desk: Desk) -> None:
    desk.receive()
    desk.receive(study=2, patient_id=f"{CONSTANCY_PATIENT_PREFIX}-DX", quality_control_image="YES")
    with desk.database.read() as tx:
        told, none = (
            context(tx, "imagingstudy-open", n, "ann", SETTINGS, desk.ids, desk.clock()) for n in (1, 2)
        )

    event = json.loads(told or b"{}")["event"]
    assert event["hub.topic"] == "north-ann"
    assert [c["key"] for c in event["context"]] == ["patient", "study"]
    assert none is None  # it would lead a viewer to a study of nobody
