"""The QA pages speak the reader's language to the last phrase; what they keep and what programs read stays English."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from flask import Flask

from tests.web.conftest import SignedIn
from tests.web.seed import Sown, a_day, flag, pneumothorax
from triage.web import qa_words

# Names and signs that are the same in both languages, or that are no words of ours.
NAMES = re.compile(
    r"(chest_xray|lung_nodule|triage(_only)?|[Rr]elease|[Ss]igma|[Mm]edian|[Ss]ender|[Kk]appa|[Kk]ernel|nodule|ppv|kVp"
    r"|Dr\. Qa|Alarm|index|min|[A-Z][A-Z0-9_]*)(?![a-z])|\([0-9a-f]+…\)"
)


def _a_month(sown: Sown) -> None:
    a_day(sown)
    with sown.database.write() as tx:
        for n in range(30):
            scan = n % 3 == 0
            found = (flag("nodule"),) if scan else (pneumothorax(),) if n % 5 == 0 else ()
            sown.add_in(
                tx, minutes_ago=60 * n + 5, findings=found, modality="CT" if scan else "DX",
                view="" if scan else "PA", sex="FM"[n % 2], age=20 + n,
            )  # fmt: skip
    sown.take_back(sown.uids[0])


def _phrases(html: str) -> set[str]:
    main = re.sub(r"<(select|nav|script|title)\b.*?</\1>", "", html[html.index("<main") :], flags=re.DOTALL)
    return {unescape(node).strip() for node in re.findall(r">([^<>]+)<", main)}


@pytest.mark.parametrize("path", ["/qa", "/qa/report", "/qa/charts/2"])
def test_a_german_reader_finds_no_english_phrase(signed_in: SignedIn, sown: Sown, path: str) -> None:
    _a_month(sown)
    reader = signed_in("qa")
    english, german = (
        _phrases(reader.get(path, headers={"Accept-Language": language}).get_data(as_text=True))
        for language in ("en", "de")
    )
    left = {p for p in english & german if re.search(r"[A-Za-z]{3}", NAMES.sub("", p))}
    assert left == set()


def test_what_is_exported_is_one_thing_for_all(signed_in: SignedIn, sown: Sown) -> None:
    _a_month(sown)
    answers = [
        signed_in("qa").get("/api/v1/reports/qa/charts", headers={"Accept-Language": language}).get_json()
        for language in ("en", "de")
    ]
    assert answers[0] == answers[1]


def test_files_have_german_heads_when_they_were_asked_for_in_german(
    signed_in: SignedIn, sown: Sown, tmp_path: Path
) -> None:
    _a_month(sown)
    reader = signed_in("qa")

    def of(path: str, language: str) -> str:
        return str(reader.get(f"/api/v1/reports/qa{path}&language={language}").get_data(as_text=True))

    english, german = (of("?format=csv", name).splitlines() for name in ("en", "de"))
    assert english[0] == "figure,value,low,high,count,n,note"
    assert german[0] == "Größe,Wert,niedrig,hoch,Anzahl,n,Hinweis"
    times = ("head.created_at", "head.to")  # nothing else may differ: paths are for programs
    assert [r for r in german[1:] if not r.startswith(times)] == [
        r for r in english[1:] if not r.startswith(times)
    ]
    heads = [of("/charts/4?format=csv", name).splitlines()[0] for name in ("en", "de")]
    assert heads[0] != heads[1]
    assert 'format=pdf&amp;language=de"' in reader.get("/qa/report", headers={"Accept-Language": "de"}).text
    if shutil.which("pdftotext") is None:
        pytest.skip(
            "pdftotext is not installed (apt-get install poppler-utils): the words of the PDF not shown"
        )
    (tmp_path / "qa.pdf").write_bytes(reader.get("/api/v1/reports/qa?format=pdf&language=de").data)
    words = subprocess.run(
        ["pdftotext", str(tmp_path / "qa.pdf"), "-"], capture_output=True, text=True, check=True
    )
    assert (
        "Was einging und was analysiert wurde" in words.stdout
        and "Nicht für klinischen Gebrauch" in words.stdout
    )


def test_figures_are_put_in_again_in_their_order(signed_in: SignedIn, sown: Sown) -> None:
    _a_month(sown)
    said = signed_in("qa").get("/qa/report", headers={"Accept-Language": "de"}).get_data(as_text=True)
    assert re.search(r"41 Untersuchungen gingen ein; \d+ davon wollte ein Detektor", said)


def test_charts_are_written_out_and_speak_no_codes(signed_in: SignedIn, sown: Sown) -> None:
    _a_month(sown)
    reader = signed_in("qa")
    said = " ".join(_phrases(reader.get("/qa").get_data(as_text=True)))
    for code in ("OUT_OF_AGE", "chest_xray", "lung_nodule", "not_relevant"):
        assert code not in said
    rows = {(r[0], r[1]): r for r in reader.get("/api/v1/reports/qa/charts/12").get_json()["rows"]}
    assert rows["chest_xray", "last image to result"][4] == 20.0  # for programs
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", reader.get("/qa/charts/12").get_data(as_text=True))
    assert cells[:4] == [
        "Chest film model",
        "last image to result",
        str(rows["chest_xray", "model"][2]),
        "20.0 s",
    ]
    shares = re.findall(r"<td[^>]*>([^<]*)</td>", reader.get("/qa/charts/6").get_data(as_text=True))
    assert any(re.fullmatch(r"\d+\.\d %", cell) for cell in shares)
    assert not any(re.fullmatch(r"0\.\d+", cell) for cell in shares)


def test_the_day_of_a_golden_case_is_read_in_german_and_a_long_label_is_not_cut(app: Flask) -> None:
    label = '<text x="{x}" y="9.0" text-anchor="end" fill="currentColor">lung_nodule: slices are missing within the series<'
    with app.test_request_context(headers={"Accept-Language": "de"}):
        said = [qa_words.words(text) for text in ("largest difference", "phantom", "golden case")]
        narrow, wide = (str(qa_words.page(label.format(x=x))) for x in (272, 900))
    assert said == ["größte Abweichung", "Phantom", "Referenzfall"]
    assert 'textLength="270"' in narrow
    assert "textLength" not in wide
