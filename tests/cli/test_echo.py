"""`triage echo` and the test button: every step with its outcome, and the exit code of what failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.program import triage
from tests.pacs import a_pacs


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAGE_HOME", str(tmp_path / "home"))
    assert triage("migrate", "up").code == 0


def _add(port: int, host: str = "127.0.0.1") -> None:
    assert triage("peer", "add", "PACS", "--aet", "PACS", "--host", host, "--port", str(port)).code == 0


def test_each_step_is_said_and_a_phantom_is_really_stored() -> None:
    with a_pacs(commits=True) as pacs:
        _add(pacs.port)
        ran = triage("echo", "PACS", "--json")
        assert ran.code == 0 and ran.json()["ok"]
        steps = {s["name"]: s for s in ran.json()["steps"]}
        assert list(steps) == ["name", "connect", "C-ECHO", "C-STORE of a phantom", "services"]
        assert steps["services"]["detail"] == "storage commitment: yes; study queries: no"
        (stored,) = pacs.stored.values()
        assert stored.PatientID == "TRIAGE-CONSTANCY-ECHO"
        assert triage("echo", "PACS", "--no-store").code == 0
        assert len(pacs.stored) == 1


def test_a_peer_that_refuses_the_phantom_is_said_with_its_status() -> None:
    with a_pacs(statuses=[0xC123]) as pacs:
        _add(pacs.port)
        ran = triage("echo", "PACS", "--json")
    assert ran.code == 3
    assert [s["state"] for s in ran.json()["steps"]] == ["ok", "ok", "ok", "failed", "not tried"]
    assert "status C123" in ran.err


def test_nobody_there_and_nobody_known() -> None:
    _add(1)
    ran = triage("echo", "PACS")
    assert ran.code == 3 and "connect: FAILED" in ran.err and "C-ECHO: -" in ran.err
    assert triage("echo", "OTHER").code == 4
