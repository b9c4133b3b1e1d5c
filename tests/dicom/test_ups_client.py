"""What we take of a foreign server's work items."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from triage.dicom.ups_client import fits, inputs_of


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


@pytest.mark.parametrize(("study", "series"), [("*", "1.2.3"), ("1.2", "1.2.*"), ("", "1.2.3")])
def test_inputs_without_uids_are_none_that_an_archive_could_be_asked_for(study: str, series: str) -> None:
    def step(study: str, series: str) -> Dataset:
        item = {"0020000D": {"vr": "UI", "Value": [study]}, "0020000E": {"vr": "UI", "Value": [series]}}
        return Dataset.from_json({"00404021": {"vr": "SQ", "Value": [item]}})

    assert inputs_of(step("1.2", "1.2.3")) is not None
    assert inputs_of(step(study, series)) is None
