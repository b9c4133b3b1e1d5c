"""What is asked of a site's own release before it counts: calibrated, and held to its answer to the phantom."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import NOON
from tests.workflow.desk import Desk
from tests.workflow.foreign import foreign_release
from triage.detectors.releases import Release, active_release, load_release
from triage.domain.errors import Refused
from triage.domain.finding import Band, Finding
from triage.store import releases
from triage.workflow import acceptance, activation
from triage.workflow.constancy import _as_accepted


def test_a_release_is_proposed_when_it_is_calibrated_and_the_phantom_was_shown_to_it(desk: Desk) -> None:
    with desk.database.write() as tx:
        raw = releases.register(tx, "chest_xray", "raw-1", "digest-raw", [], NOON)
        releases.note_acceptance(tx, raw, calibrated=False)
        with pytest.raises(Refused, match="nobody calibrated"):
            activation.propose(tx, raw, "ada", "better", NOON)
        releases.note_acceptance(tx, raw, calibrated=True)
        with pytest.raises(Refused, match="triage models shadow chest_xray raw-1"):
            activation.propose(tx, raw, "ada", "better", NOON)
        answer = {"finding": "pneumothorax", "probability": 0.12, "flagged": False}
        releases.note_acceptance(tx, raw, calibrated=True, constancy=answer)
        activation.propose(tx, raw, "ada", "better", NOON)
    with pytest.raises(Refused, match="triage models calibrate chest_xray raw-1"):
        acceptance.require_calibrated(
            Release("chest_xray", "raw-1", Path("/nowhere"), "d", {"calibrated": False})
        )


def test_a_release_that_knows_no_phantoms_is_held_to_its_own_answer() -> None:
    accepted = {"finding": "pneumothorax", "probability": 0.12, "flagged": False}

    def found(p: float) -> list[Finding]:
        return [Finding("pneumothorax", p, p, Band.LOW, False)]

    assert _as_accepted(found(0.13), accepted)[0]
    assert not _as_accepted(found(0.30), accepted)[0]
    assert not _as_accepted([], accepted)[0]


def test_what_a_sites_own_release_says_to_the_phantom_is_put_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sees = "return Detection((Finding('effusion', 0.3, 0.25, Band.LOW, True),))"
    made = foreign_release(tmp_path / "models", monkeypatch, sees)
    assert acceptance.phantom_answer(made, "openvino", (tmp_path / "models",)) == {
        "finding": "effusion", "probability": 0.25, "flagged": False,
    }  # fmt: skip


def test_a_release_that_refuses_the_phantom_is_refused_and_a_shipped_one_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = foreign_release(
        tmp_path / "models", monkeypatch, "raise NotSuitableError(ReasonCode.LOW_QUALITY)", version="site-2"
    )
    with pytest.raises(Refused, match=r"does not accept the constancy phantom \(LOW_QUALITY\)"):
        acceptance.phantom_answer(made, "openvino", (tmp_path / "models",))
    acceptance.require_calibrated(made)
    shipped = load_release(active_release("chest_xray"), verify=False)
    assert acceptance.phantom_answer(shipped, "openvino", ()) is None
