"""Report text: what stands, what is denied, what is left open, and what belongs to another part of the report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triage.domain.finding import FINDING_CODES
from triage.qa.report_text import LANGUAGES, Said, guess_language, lexicon, read_report

P, A, U = Said.PRESENT, Said.ABSENT, Said.UNCERTAIN


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("There is a large right pneumothorax.", {"pneumothorax": P}),
        ("No pneumothorax.", {"pneumothorax": A}),
        ("No pneumothorax or pleural effusion.", {"pneumothorax": A, "effusion": A}),
        ("No focal consolidation, effusion or pneumothorax is seen.",
         {"consolidation": A, "effusion": A, "pneumothorax": A}),
        ("Pneumothorax is not seen.", {"pneumothorax": A}),
        ("The previously seen pneumothorax has resolved.", {"pneumothorax": A}),
        ("No effusion, but there is a small left apical pneumothorax.", {"effusion": A, "pneumothorax": P}),
        ("Left basal opacity, possibly pneumonia.", {"lung_opacity": P, "pneumonia": U}),
        ("A small pneumothorax cannot be excluded.", {"pneumothorax": U}),
        ("Findings concerning for pulmonary edema.", {"edema": U}),
        ("Heart size is normal. Lungs are clear.",
         {"cardiomegaly": A, "consolidation": A, "lung_opacity": A, "pneumonia": A, "edema": A, "nodule": A,
          "mass": A, "atelectasis": A}),
        ("The heart is mildly enlarged.", {"cardiomegaly": P}),
        ("The cardiac silhouette is not enlarged.", {"cardiomegaly": A}),
        ("Blunting of the left costophrenic angle.", {"effusion": P}),
        ("8 mm nodule in the right upper lobe. No mass.", {"nodule": P, "mass": A}),
        ("No effusion on the left. Small effusion on the right.", {"effusion": P}),
        ("INDICATION: rule out pneumothorax.\nFINDINGS: Clear costophrenic angles. No pneumothorax.",
         {"pneumothorax": A}),
        ("HISTORY: pneumonia 2019.\nIMPRESSION: Rib fracture.", {"fracture": P}),
        ("Stable 3.5 cm mass without consolidation.", {"mass": P, "consolidation": A}),
        ("", {}),
    ],
)  # fmt: skip
def test_english_reports(text: str, said: dict[str, Said]) -> None:
    assert read_report(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Spannungspneumothorax rechts.", {"pneumothorax": P}),
        ("Kein Pneumothorax. Kein Pleuraerguss.", {"pneumothorax": A, "effusion": A}),
        ("Kein Hinweis auf Infiltrate, jedoch kleiner Pleuraerguss links.", {"lung_opacity": A, "effusion": P}),
        ("Verdacht auf Pneumonie im rechten Unterlappen.", {"pneumonia": U}),
        ("Ein Pneumothorax ist nicht nachweisbar.", {"pneumothorax": A}),
        ("Herz nicht vergrößert, Randwinkel frei.", {"cardiomegaly": A, "effusion": A}),
        ("Fragestellung: Pneumothorax?\nBefund: Kardiomegalie, Stauungszeichen.",
         {"cardiomegaly": P, "edema": P}),
    ],
)  # fmt: skip
def test_german_reports(text: str, said: dict[str, Said]) -> None:
    assert read_report(text, "de") == said


def test_the_language_is_guessed_by_its_words() -> None:
    assert guess_language("Kein Hinweis auf Pneumonie. Beurteilung: Kein Pleuraerguss.") == "de"
    assert guess_language("No evidence of pneumonia. Impression: no effusion.") == "en"
    assert guess_language("") == "en"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_lexicon_speaks_of_findings_that_there_are(language: str) -> None:
    rules = lexicon(language)
    assert rules.language == language
    named = set(rules.findings) | {name for _, names in rules.normal for name in names}
    assert named <= set(FINDING_CODES)
    with pytest.raises(KeyError):
        lexicon("xx")


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert set(read_report(text)) <= set(FINDING_CODES)


def test_a_hostile_report_takes_no_time_to_speak_of() -> None:
    assert read_report("no " * 5000 + "pneumothorax") == {"pneumothorax": A}
