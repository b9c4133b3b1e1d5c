"""`triage models`: what is on disk, in force, and still what it was released as."""

from pathlib import Path

import pytest

from tests.cli.program import triage


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIAGE_HOME", str(tmp_path / "home"))
    triage("migrate", "up")
    return tmp_path / "home"


def test_released_weights_are_their_own_and_give_their_golden_answers(home: Path) -> None:
    done = triage("models", "verify")
    assert done.code == 0, done.err
    assert done.err.count("files are its own") == 2


def test_a_release_that_is_retired_is_listed_as_such(home: Path) -> None:
    version = (Path(__file__).parents[2] / "models" / "lung_nodule" / "ACTIVE").read_text().strip()
    assert triage("models", "retire", "lung_nodule", version).code == 0
    listed = triage("models", "list")
    assert f"lung_nodule {version}  retired" in listed.out


def test_a_release_that_is_not_there_is_refused_with_the_way_to_look(home: Path) -> None:
    done = triage("models", "activate", "lung_nodule", "99.0.0")
    assert done.code == 4
    assert "models list" in done.err
