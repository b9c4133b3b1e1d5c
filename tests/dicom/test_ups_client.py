"""What we take of a foreign server's work items."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from triage.dicom.ups_client import fits


@pytest.mark.parametrize(
    ("uid", "good"),
    [("1.2.840.3", True), ("2.25." + "9" * 59, True), ("2.25." + "9" * 60, False), ("", False), ("1/../../studies", False),
     ("1.2?x=1", False), ("1..2", False)],
)  # fmt: skip
def test_a_work_item_needs_a_name_that_is_a_uid_before_it_goes_into_a_path(uid: str, good: bool) -> None:
    kind = Dataset()
    kind.CodeValue = "110004"
    ds = Dataset.from_json({"00080018": {"vr": "UI", "Value": [uid]}})
    ds.ScheduledWorkitemCodeSequence = Items([kind])
    assert fits(ds, ["110004"]) is good
