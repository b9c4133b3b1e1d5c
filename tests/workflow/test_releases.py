"""Which detector a release brings: found by its digest, loaded once, and refused with what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflow.foreign import foreign_release
from triage.detectors.releases import MODELS, active_release, load_release
from triage.domain.errors import Misconfigured, Refused
from triage.settings import Settings
from triage.workflow.releases import (
    Loader,
    chosen_detector,
    find_release,
    load_detector,
    on_disk,
    own_models,
    verify_release,
)

SEES_NOTHING = "return Detection(())"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def test_a_worker_loads_each_release_once_by_its_digest(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_models(settings)
    first = foreign_release(own, monkeypatch, SEES_NOTHING)
    second = foreign_release(own, monkeypatch, SEES_NOTHING, version="site-2")
    load = Loader(places=(own,))

    one = load("chest_xray", first.digest)

    assert load("chest_xray", first.digest) is one
    assert load("chest_xray", second.digest) is not one
    assert one.folder == first.folder  # type: ignore[union-attr]
    chosen = chosen_detector(settings, "chest_xray", "site-2")
    assert chosen.folder == second.folder
    assert {r.version for r in on_disk("chest_xray", (MODELS, own))} >= {"site-1", "site-2"}


def test_without_a_version_the_shipped_release_in_force_is_taken(settings: Settings) -> None:
    taken = chosen_detector(settings, "chest_xray", None)
    assert taken.digest == load_release(active_release("chest_xray"), verify=False).digest


def test_a_release_that_a_worker_does_not_have_is_said_with_what_to_do(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_models(settings)
    with pytest.raises(Misconfigured, match="no release of chest_xray with digest abcdef"):
        load_detector("chest_xray", "abcdef" * 10, places=(own,))
    with pytest.raises(Refused, match="no release 9 of chest_xray on disk"):
        find_release("chest_xray", "9", (own,))
    made = foreign_release(own, monkeypatch, SEES_NOTHING, version="site-9")
    monkeypatch.undo()  # its package is gone
    with pytest.raises(Misconfigured, match="is it installed in this environment"):
        load_detector("chest_xray", made.digest, places=(own,))


def test_a_release_that_computes_otherwise_than_it_did_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = foreign_release(own_models(settings), monkeypatch, SEES_NOTHING)
    with pytest.raises(Refused, match=r"golden case differs by 0\.5"):
        verify_release(made, (own_models(settings),))
