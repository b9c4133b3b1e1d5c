"""Evaluation of film detectors: the JSON contract of architecture 8, from a cases file to figures with intervals."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from triage.detectors.protocol import Detection
from triage.domain.errors import Refused
from triage.domain.finding import Band, Finding
from triage.domain.image import Radiograph
from triage.domain.suitability import NotSuitableError, ReasonCode
from triage.qa.evaluate_films import evaluate


class BrightnessDetector:
    """A detector for which a bright film has an effusion and a dark one is refused."""

    name, release, digest = "chest_xray", "chest_xray 0.0.0", "d" * 64

    def detect(self, film: Radiograph) -> Detection:
        grey = float(film.pixels.mean())
        if grey < 0.005:
            raise NotSuitableError(ReasonCode.LOW_QUALITY)
        return Detection(
            (
                Finding("effusion", grey, grey, Band.MODERATE, grey >= 0.5, threshold=0.5),
                Finding("nodule", 1 - grey, 1 - grey, Band.LOW, False),
            )
        )


def read_grey(path: Path) -> Radiograph:
    """A film as bright as its file says."""
    if path.name == "broken":
        raise Refused("no picture in it")
    return Radiograph(np.full((2, 2), float(path.read_text()), np.float32))


@pytest.fixture
def cases(tmp_path: Path) -> Callable[..., Path]:
    """Writes films and the cases file that names them, and returns its path."""

    def write(rows: list[dict[str, object]]) -> Path:
        columns = ["path", "patient_id", "effusion", "nodule", "view", "sex", "age", "source"]
        with (tmp_path / "cases.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns, restval="")
            writer.writeheader()
            for i, row in enumerate(rows):
                (tmp_path / f"film{i}").write_text(str(row.pop("grey")))
                writer.writerow({"path": f"film{i}", "patient_id": f"p{i}", **row})
        return tmp_path / "cases.csv"

    return write


def graded(n: int) -> list[dict[str, object]]:
    return [
        {"grey": (i + 1) / (n + 1), "effusion": int(i >= n // 2), "view": "PA" if i % 2 else "AP", "age": 50}
        for i in range(n)
    ]


def test_a_finding_has_area_and_operating_point_with_intervals(cases: Callable[..., Path]) -> None:
    document = evaluate(cases(graded(20)), BrightnessDetector(), read_grey, None, None)

    effusion = document["findings"]["effusion"]
    assert document["release"] == "chest_xray 0.0.0" and document["mean_auc"] == 1.0
    assert (effusion["n"], effusion["positives"], effusion["auc"]) == (20, 10, 1.0)
    assert effusion["auc_low"] < 1.0 and effusion["sensitivity"] == 1.0
    assert effusion["sensitivity_low"] == pytest.approx(0.7225, abs=1e-4)
    assert effusion["specificity"] == 1.0 and effusion["ppv"] == 1.0


def test_an_empty_label_is_not_known_and_counts_for_nothing(cases: Callable[..., Path]) -> None:
    rows = [{**row, "nodule": "" if i < 15 else int(i == 15)} for i, row in enumerate(graded(20))]

    nodule = evaluate(cases(rows), BrightnessDetector(), read_grey, None, None)["findings"]["nodule"]

    assert (nodule["n"], nodule["positives"]) == (5, 1)
    assert nodule["sensitivity"] is None  # stored, never pushed: it has no operating point


def test_a_refused_film_is_listed_and_not_scored(cases: Callable[..., Path], tmp_path: Path) -> None:
    path = cases([*graded(6), {"grey": 0.001, "effusion": 1}])
    with path.open("a") as stream:
        stream.write("broken,p9,1\nabsent,p10,0\n")
    (tmp_path / "broken").write_text("")

    document = evaluate(path, BrightnessDetector(), read_grey, None, None)

    reasons = {r["path"]: r["reason"] for r in document["refused"]}
    assert reasons["film6"] == "LOW_QUALITY" and reasons["broken"] == "no picture in it"
    assert "absent" in reasons and document["findings"]["effusion"]["n"] == 6


def test_view_is_always_reported_and_few_positives_give_no_figure(cases: Callable[..., Path]) -> None:
    document = evaluate(cases(graded(90)), BrightnessDetector(), read_grey, None, None)

    groups = document["findings"]["effusion"]["groups"]
    assert groups["view"]["PA"]["auc"] == 1.0 and groups["view"]["PA"]["positives"] == 23
    assert groups["age"]["40-64"]["n"] == 90 and groups["sex"] == {}

    few = evaluate(cases(graded(20)), BrightnessDetector(), read_grey, None, None)
    assert few["findings"]["effusion"]["groups"]["view"]["PA"] == {
        "n": 10, "positives": 5, "auc": None, "auc_low": None, "auc_high": None, "too_few": True,
    }  # fmt: skip


def test_a_comparator_is_paired_on_the_cases_that_both_scored(
    cases: Callable[..., Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    lines = [f"film{i},{(i * 7 % 20) / 20}\n" for i in range(18)]
    other.write_text("id,effusion\n" + "".join(lines))

    compared = evaluate(cases(graded(20)), BrightnessDetector(), read_grey, other, None)["findings"][
        "effusion"
    ]

    assert compared["comparator"]["n"] == 18 and compared["comparator"]["ours"] == 1.0
    assert compared["comparator"]["difference"] > 0 and compared["comparator"]["p"] < 0.05


def test_a_report_folder_holds_json_csv_and_a_page_with_plots(
    cases: Callable[..., Path], tmp_path: Path
) -> None:
    evaluate(cases(graded(20)), BrightnessDetector(), read_grey, None, tmp_path / "out")

    document = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    page = (tmp_path / "out" / "report.html").read_text()
    assert document["findings"]["effusion"]["auc"] == 1.0
    assert page.count("<svg") == 3 and "effusion: ROC" in page
    assert len((tmp_path / "out" / "scores.csv").read_text().splitlines()) == 21


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,effusion\nfilm0,1\n", "path and patient_id"),
        ("path,patient_id,weather\nfilm0,p,1\n", "no finding column"),
        ("path,patient_id,effusion\nfilm0,p,maybe\n", "line 2: effusion is 'maybe'"),
    ],
)
def test_a_wrong_cases_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cases.csv").write_text(text)

    with pytest.raises(Refused, match=message):
        evaluate(tmp_path / "cases.csv", BrightnessDetector(), read_grey, None, None)


def test_an_unreadable_cases_or_comparator_file_is_refused(
    cases: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="cannot be read"):
        evaluate(tmp_path / "none.csv", BrightnessDetector(), read_grey, None, None)
    with pytest.raises(Refused, match="cannot be read"):
        evaluate(cases(graded(4)), BrightnessDetector(), read_grey, tmp_path / "none.csv", None)
    (tmp_path / "odd.csv").write_text("name,effusion\nfilm0,0.5\n")
    with pytest.raises(Refused, match="column path or id"):
        evaluate(cases(graded(4)), BrightnessDetector(), read_grey, tmp_path / "odd.csv", None)


def test_the_same_films_disturbed_show_how_far_the_figures_fall(
    cases: Callable[..., Path], tmp_path: Path
) -> None:
    document = evaluate(
        cases(graded(20)), BrightnessDetector(), read_grey, None, tmp_path / "out", robust=True
    )

    table = document["robustness"]
    assert table["as they are"] == {
        "refused": 0, "mean_auc": 1.0, "fall": 0.0, "findings": {"effusion": 1.0},
    }  # fmt: skip
    assert table["gamma 1.6"]["mean_auc"] == 1.0  # darker films keep their order
    cut = table["window cut by 15 % on both ends"]
    assert cut["refused"] == 3 and 0 <= cut["fall"] <= 1  # the darkest three are black now
    assert "window cut by 15 %" in (tmp_path / "out" / "report.html").read_text()


def test_groups_stand_in_the_csv_and_on_the_page(cases: Callable[..., Path], tmp_path: Path) -> None:
    evaluate(cases(graded(100)), BrightnessDetector(), read_grey, None, tmp_path / "out")

    with (tmp_path / "out" / "groups.csv").open(newline="") as stream:
        rows = {(r["finding"], r["group"], r["value"]): r for r in csv.DictReader(stream)}
    assert (
        rows["effusion", "view", "PA"]["auc"] == "1.0" and rows["effusion", "view", "PA"]["positives"] == "25"
    )
    assert ("effusion", "age", "40-64") in rows
    assert "view PA" in (tmp_path / "out" / "report.html").read_text()
