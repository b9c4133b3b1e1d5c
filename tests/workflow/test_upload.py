"""Files go to our own receiver through the real door, and a refusal is an error of the caller."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dicom.hospital import Hospital, film, hospital
from triage.domain.errors import Refused, Unavailable
from triage.settings import DicomSettings, Settings
from triage.workflow.upload import send_study

__all__ = ["film", "hospital"]


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_a_study_comes_in_wherever_the_receiver_listens(hospital: Hospital, film: Path, host: str) -> None:
    settings = Settings(dicom=DicomSettings(host=host, port=hospital.port, insecure_plain=True))
    send_study(settings, [film])
    assert [r.calling_ae_title for r in hospital.received] == ["DEMO-MODALITY"]


def test_what_was_not_stored_is_said_with_its_reason(hospital: Hospital, film: Path) -> None:
    hospital.refuse = Refused("no patient ID")
    with pytest.raises(Unavailable, match="refused 1 of 1 objects"):
        send_study(Settings(dicom=DicomSettings(port=hospital.port)), [film])
