"""What the supervisor keeps of its parts, without running the product (tests/system does that)."""

from __future__ import annotations

import os
import sys

import pytest

from triage.workflow.supervisor import PARTS, STOP_ORDER, Part


def test_every_part_has_its_turn_when_the_product_stops() -> None:
    assert set(STOP_ORDER) == {*PARTS, "broker"}
    assert STOP_ORDER[-1] == "broker"


def test_what_a_part_prints_stays_out_of_the_results(capfd: pytest.CaptureFixture[str]) -> None:
    part = Part("broker", [sys.executable, "-c", "print('noise')"], dict(os.environ))
    part.start()
    assert part.process is not None
    assert part.process.wait(timeout=60) == 0
    out, err = capfd.readouterr()
    assert "noise" not in out and "noise" in err
