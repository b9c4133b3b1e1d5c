"""Every word of the pages is in the catalogues, and German is complete (ux 14)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from flask import Flask

from tests.web import catalogues
from tests.web.conftest import SignedIn, ok
from tests.web.seed import Sown, a_day
from triage.store import users
from triage.web.told import ARCHIVES, DETAILS, PATTERNS, PIXELS, told

PLACE = re.compile(r"%\((\w+)\)s")


@pytest.mark.parametrize("domain", list(catalogues.TEXTS))
@pytest.mark.parametrize("name", catalogues.LANGUAGES)
def test_each_language_is_whole_compiled_and_keeps_its_places(name: str, domain: str) -> None:
    found = catalogues.merged(name, domain)
    missing = [m.id for m in catalogues.untranslated(found)]
    assert missing == [], "run python -m tests.web.catalogues, translate in triage/web/locale, run it again"
    for message in found:
        ids = message.id if isinstance(message.id, tuple) else (message.id,)
        said = message.string if isinstance(message.string, tuple) else (message.string,)
        for one, other in zip(ids, said, strict=True) if message.id else ():
            assert set(PLACE.findall(one)) == set(PLACE.findall(other)), one
    assert catalogues.path(name, domain, "mo").read_bytes() == catalogues.compiled(found)


class Pseudo:
    """A language in which whatever went through a catalogue stands in brackets."""

    def gettext(self, text: str) -> str:
        return f"⟦{text}⟧"

    def ngettext(self, one: str, many: str, n: int) -> str:
        return f"⟦{one if n == 1 else many}⟧"


class Words(HTMLParser):
    """What a person sees or hears of a page: text and the attributes that are read out."""

    SPOKEN = ("aria-label", "title", "placeholder", "alt")
    SILENT = ("script", "style", "code", "pre", "kbd", "template")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in self.SILENT
        self.found += [v for k, v in attrs if k in self.SPOKEN and v]

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in self.SILENT

    def handle_data(self, data: str) -> None:
        if not self._silent and data.strip():
            self.found.append(data.strip())


# What rows, settings and standards say, not we: names, ids, codes, times, units.
DATA = re.compile(
    r"Dr\. \w+|(Doe|Roe|Haas|Muster|Li|Boy|Okafor|Silva|Novak|Sato|Berg), \w+|triage|NORTH|\bUTC\b|English|Deutsch|CSV|JSON"
    r"|TLS|STAT|URGENT|ROUTINE|\b(DX|CT|MR|AP|PA|CR)\b|Chest\b|portable|thorax|Head|\bhead\b|ICU 2|\bED\b|OPD|Ward 4"
    r"|chest_xray|lung_nodule|embolism|CT1_ST|DX_P2|TRIAGE|Shift|Enter|Home|PgUp|Esc|as installed"
    r"|\b(ann|admin|lead|reader|qa|auditor|ben|cleo)\b",
)


def unwrapped(html: str) -> Iterator[str]:
    words = Words()
    words.feed(html)
    for text in words.found:
        if "⟦" not in text and re.search(r"[A-Za-z]{2}", DATA.sub("", text)):
            yield text


PAGES = (
    ("ann", "/worklist?modality=DX"), ("ann", "/worklist?tab=read"), ("ann", "/alerts"), ("ann", "/m"),
    ("ann", "/help/keys"), ("ann", "/account"),
    ("auditor", "/audit"), ("admin", "/admin/health"), ("admin", "/admin/policies"),
    ("admin", "/admin/users"), ("admin", "/admin/peers"), ("admin", "/admin/routes"), ("admin", "/admin/releases"),
    ("admin", "/admin/rules?finding=nodule&ordered=STAT"),
    ("admin", "/admin/messages"), ("admin", "/admin/escalation"), ("lead", "/double-reads"),
    ("lead", "/qa/replay?source=model&readers=2&minutes=5&arrivals=8"),
)  # fmt: skip


def speak_pseudo(app: Flask, sown: Sown) -> None:
    app.extensions["triage.catalogues"]["qq"] = Pseudo()
    with sown.database.write() as tx:
        for name in ("ann", "admin", "lead", "auditor"):
            users.change_user(tx, name, preferences={"language": "qq"})


def test_no_word_of_a_page_goes_round_the_catalogues(app: Flask, signed_in: SignedIn, sown: Sown) -> None:
    day = a_day(sown)
    speak_pseudo(app, sown)
    wrong: dict[str, Any] = {}
    for name, path in (
        *PAGES,
        ("ann", f"/worklist/{day['pneumothorax']}"),
        ("ann", f"/worklist/{day['child']}"),
    ):
        response = signed_in(name).get(path)
        assert response.status_code == 200
        wrong[path] = sorted(set(unwrapped(response.get_data(as_text=True))))
    assert {path: texts for path, texts in wrong.items() if texts} == {}


def test_what_a_message_was_told_is_read_in_german(app: Flask) -> None:
    around = {PLACE.sub("{}", p) for p in PATTERNS}
    with_words = {r for r in catalogues.reasons(with_values=True) if re.search("[a-z]{2}", r)}
    assert around == with_words, "triage/web/told.py names each text that holds a value"
    with app.test_request_context(headers={"Accept-Language": "de"}):
        for english, german in (
            ("PID-3 names no patient", "PID-3 nennt keinen Patienten"),
            ("no answer within 2.5 s", "keine Antwort innerhalb von 2.5 s"),
            ("DiagnosticReport: no answer: ConnectionResetError", "DiagnosticReport: keine Antwort: ConnectionResetError"),
            ("AE their own words", "AE their own words"),
            ("", ""),
        ):  # fmt: skip
            assert told(english) == german


def test_why_a_study_was_not_analysed_and_what_a_run_noted_is_read_in_german(app: Flask) -> None:
    assert {PLACE.sub("{}", p) for p in (*DETAILS, *PIXELS)} == set(catalogues.details(with_values=True)), (
        "triage/web/told.py names each text that holds a value"
    )
    with app.test_request_context(headers={"Accept-Language": "de"}):
        for english, german in (
            ("12 years, from 18", "12 Jahre, ab 18"),
            ("5.0 mm, limit 3.0", "5.0 mm, höchstens 3.0"),
            ("80 slices, quiet, gap in positions", "80 Schichten, es kam nichts mehr, Schichten fehlen"),
            ("series 3 is read: thinner slices, inspiration", "Serie 3 wird gelesen: dünnere Schichten, Inspiration"),
            ("4 slices of another kernel and matrix left out", "4 Schichten ausgelassen, verschieden in: Kernel und Matrix"),
            ("2 images left out: image type SCREEN SAVE", "2 Bilder ausgelassen: Bildart SCREEN SAVE"),
            ("no window, percentiles used", "kein Fenster, Perzentile verwendet"),
            ("by the picture", "dem Bild nach"),
            ("the JPEG stream does not end", "der JPEG-Strom hat kein Ende"),
            ("512 bytes of pixel data where the header declares 1024", "512 Byte Pixeldaten, laut Kopf 1024"),
            ("the JPEG 2000 decoder refused the frame (RuntimeError)",
             "der Decoder für JPEG 2000 hat das Bild abgelehnt (RuntimeError)"),
            ("the decoder died (signal 9)", "der Decoder brach ab (signal 9)"),
            ("KNEE", "KNEE"),
        ):  # fmt: skip
            assert told(english) == german


def test_what_health_says_of_an_archive_is_read_in_german_to_its_end(app: Flask) -> None:
    why = {PLACE.sub("{}", p) for p in ARCHIVES}
    known = set(catalogues.words_of_archives())
    assert known - why == set() and len(known) > 10, "triage/web/told.py names each reason of an archive"
    with app.test_request_context(headers={"Accept-Language": "de"}):
        for english, german in (
            ("has not answered since 12:00 UTC: look at its url and token; 1 series were given up, last for: "
             "PACS_1: status A801, 0 sent, 0 failed; it does not know where TRIAGE is: enter our host and DICOM port "
             "at PACS_1, or use cget",
             "hat seit 12:00 UTC nicht geantwortet: seine Adresse (url) und sein Token ansehen; 1 Serien aufgegeben, "
             "zuletzt weil: PACS_1: Status A801, 0 gesendet, 0 gescheitert; es weiß nicht, wo TRIAGE ist: unseren "
             "Rechner und DICOM-Port bei PACS_1 eintragen, oder cget verwenden"),
            ("2 series are tried again, last for: main answered 500",
             "2 Serien werden erneut versucht, zuletzt weil: main antwortete mit 500"),
            ("none waits; 3 were refused or given up", "keines wartet; 3 wurden abgelehnt oder aufgegeben"),
            ("nobody runs relay; start with triage up", "niemand betreibt relay; mit triage up starten"),
            ("their words; and more", "their words; and more"),
        ):  # fmt: skip
            assert told(english) == german


LITERAL = re.compile(
    r"""(?:textContent = |toast\(|title: |confirm: |field: |text: |button\()["'`]([A-Za-z]{2}[^"'`]*)"""
)


def test_no_word_of_a_script_goes_round_the_catalogues() -> None:
    for file in sorted((catalogues.WEB / "static" / "js").glob("*.js")):
        assert LITERAL.findall(file.read_text(encoding="utf-8")) == [], file.name


def test_no_text_names_a_single_key() -> None:
    """Every person may choose another one: the key is filled in beside the words."""
    named = re.compile(r"\([A-Z](, [A-Z])?\)|^[B-HJ-Z0-9?/] [a-z]|^\w+ [A-Z]$|[Pp]ress [A-Z0-9]\b")
    texts = [m.id for c in (catalogues.server_texts(), catalogues.script_texts()) for m in c if m.id]
    assert [t for t in texts if named.search(t if isinstance(t, str) else t[0])] == []


def test_the_rows_and_the_page_speak_german_when_asked(signed_in: SignedIn, sown: Sown) -> None:
    a_day(sown)
    client = signed_in("ann")
    german = {"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"}
    said = client.get("/worklist/rows", headers=german).get_json()
    assert said["rows"][0]["cells"]["why"]["t"] == "V. a. Pneumothorax"
    assert '<html lang="de"' in client.get("/worklist", headers=german).get_data(as_text=True)
    assert '<html lang="en"' in client.get("/worklist", headers={"Accept-Language": "fr"}).get_data(
        as_text=True
    )
    client.post("/preferences/appearance", data={"language": "en", "theme": "light", "next": "/worklist"})
    page = client.get("/worklist", headers=german).get_data(as_text=True)
    assert '<html lang="en" data-theme="light"' in page
    words = ok(client.get("/words/de"))["words"]
    assert words["Released."] == "Freigegeben."
    assert words["%(n)s change"] == ["%(n)s Änderung", "%(n)s Änderungen"]


@pytest.mark.parametrize("language", ["en", "de"])
def test_no_row_says_its_class_again_in_its_reason(signed_in: SignedIn, sown: Sown, language: str) -> None:
    a_day(sown)
    said = signed_in("ann").get("/worklist/rows", headers={"Accept-Language": language}).get_json()
    for row in said["rows"]:
        why = row["cells"]["why"]
        assert why["t"]
        assert why["w"].lower() not in why["t"].lower()


def test_a_program_reads_english_whatever_it_accepts(bearer: Any, sown: Sown) -> None:
    client = bearer("worklist:read")
    said = client.get("/api/v1/studies/1.2.3", headers={"Accept-Language": "de"}).get_json()
    assert said["detail"] == "no such study"
