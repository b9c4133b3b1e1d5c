"""What may stand in a log: ids and our own words, never what an error of others quotes."""

from __future__ import annotations

import json

import pytest
import structlog

from triage import log
from triage.domain.errors import Refused


def test_an_error_is_logged_with_its_place_and_without_the_values_that_it_quotes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = structlog.get_config()
    log.configure("json")
    try:
        try:
            {}["DOE^JOHN"]
        except KeyError:
            try:
                raise Refused("the row is held")
            except Refused:
                structlog.get_logger().error("run.failed", exc_info=True)
    finally:
        structlog.configure(**before)
    said = json.loads(capsys.readouterr().err)
    assert "DOE" not in said["exception"].replace('{}["DOE^JOHN"]', "")
    assert "KeyError" in said["exception"] and "Refused: the row is held" in said["exception"]
    assert "test_log.py" in said["exception"]
