"""Calibration on a site's own cases: lines that fit, counts and intervals beside them, and no line from too few."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from triage.detectors.calibration import Calibration, OperatingPoint, Platt
from triage.domain.finding import Band, Finding
from triage.qa.calibrate_films import fitted
from triage.qa.evaluate_films import Case, Scored

BEFORE = Calibration(
    {n: Platt() for n in ("pneumothorax", "edema")},
    {n: OperatingPoint(0.0, 0.2, 0.5, None) for n in ("pneumothorax", "edema")},
)


def site(films: int, share: float, apart: float, edema_positives: int = 3) -> Scored:
    """Films whose pneumothorax logits are 2 * (truth's own logit) - 3: a network that is too sure and too low."""
    dice = np.random.default_rng(3)
    scored = Scored()
    for i in range(films):
        sick = bool(dice.random() < share)
        logit = 2 * (apart * (1 if sick else -1) + dice.normal()) - 3
        found = [
            Finding(name, 1 / (1 + np.exp(-logit)), 0.5, Band.LOW, False)
            for name in ("pneumothorax", "edema")
        ]
        scored.cases.append(
            Case(
                Path("x"), f"{i}.dcm", f"p{i // 2}", {"pneumothorax": sick, "edema": i < edema_positives}, {}
            )
        )
        scored.findings.append({f.name: f for f in found})
    return scored


def test_a_finding_with_enough_films_gets_a_line_that_fits_them_and_one_without_keeps_its_own() -> None:
    scored = site(600, 0.1, 2.0)

    calibration, measured = fitted(scored, BEFORE)

    truth = np.array([c.labels["pneumothorax"] for c in scored.cases])
    logits = np.array(
        [
            np.log(f["pneumothorax"].probability_raw / (1 - f["pneumothorax"].probability_raw))
            for f in scored.findings
        ]
    )
    told = [calibration.lines["pneumothorax"].probability(v) for v in logits]
    assert abs(np.mean(told) - truth.mean()) < 0.02  # so many are sick, so many are expected to be
    row = measured["pneumothorax"]
    assert row["calibrated"] and row["positives"] == truth.sum()
    assert row["slope_interval"][0] <= row["slope"] <= row["slope_interval"][1]
    assert row["sensitivity_low"] <= row["sensitivity"] <= row["sensitivity_high"]
    assert measured["edema"] == {"n": 600, "positives": 3, "calibrated": False}
    assert calibration.lines["edema"] == Platt() and calibration.points["edema"].actionable is None


def test_flags_stay_within_the_budget_and_below_its_floors_nothing_is_pushed() -> None:
    good, measured = fitted(site(1000, 0.03, 3.0), BEFORE)
    assert measured["pneumothorax"]["flagged"] <= 0.03
    assert measured["pneumothorax"]["pushed"] and good.points["pneumothorax"].actionable is not None

    poor, measured = fitted(site(1000, 0.05, 0.2), BEFORE)
    assert not measured["pneumothorax"]["pushed"] and poor.points["pneumothorax"].actionable is None
