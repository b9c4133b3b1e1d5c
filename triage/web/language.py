"""Words in the reader's language: gettext catalogues, chosen per request (ux 14).

English is in the code, the others in `locale/<language>/LC_MESSAGES`: `messages` for what the server says, `script`
for the browser's modules. Both `.po` and `.mo` are kept; `python -m tests.web.catalogues` writes them anew.
"""

from __future__ import annotations

import gettext
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask, current_app, g, has_request_context, request

LANGUAGES: Mapping[str, str] = {"en": "English", "de": "Deutsch"}
FOLDER = Path(__file__).parent / "locale"
Words = dict[str, str | list[str]]


def install(app: Flask) -> None:
    app.extensions["triage.catalogues"] = {
        name: gettext.translation("messages", FOLDER, [name]) for name in LANGUAGES if name != "en"
    }
    app.jinja_env.add_extension("jinja2.ext.i18n")
    environment: Any = app.jinja_env  # the extension adds the next method
    environment.install_gettext_callables(
        lambda text: _catalogue().gettext(text),
        lambda one, many, n: _catalogue().ngettext(one, many, n),
        newstyle=True,
    )
    app.jinja_env.globals.update(language=current, languages=LANGUAGES)


_ENGLISH = gettext.NullTranslations()  # a page of the list asks for 1,700 words


def current() -> str:
    """The person's choice, else the first of the browser's languages that we speak, else English."""
    if not has_request_context():
        return "en"
    if "language" not in g:
        chosen = g.who.language if "who" in g and g.who.is_person else ""
        known = current_app.extensions["triage.catalogues"]
        g.language = chosen if chosen in known or chosen == "en" else _of_browser()
    return str(g.language)


def speak(name: str) -> None:
    """The rest of this request in one language, whoever asks: a file that was wanted in it."""
    g.language = name


def _of_browser() -> str:
    if "Authorization" in request.headers:  # a program reads what the contract says
        return "en"
    return request.accept_languages.best_match(list(LANGUAGES)) or "en"


def _catalogue() -> gettext.NullTranslations:
    if current() == "en":
        return _ENGLISH
    found: gettext.NullTranslations = current_app.extensions["triage.catalogues"][current()]
    return found


def _(text: str, **values: Any) -> str:
    """`text` in the reader's language, its %(name)s filled in."""
    said = _catalogue().gettext(text) if text else ""
    return said % values if values else said


def ngettext(one: str, many: str, n: int, **values: Any) -> str:
    """The form that fits `n`, which is also there as %(n)s."""
    return _catalogue().ngettext(one, many, n) % {"n": n, **values}


def N_(text: str) -> str:  # noqa: N802 - gettext's own name for "translated later"
    return text


def script_words(language: str) -> Words:
    """What the browser's modules say: {English: translated}, or {English: [forms]} where a number decides."""
    if language not in LANGUAGES or language == "en":
        return {}
    found = gettext.translation("script", FOLDER, [language])
    said: Words = {}
    for key in found._catalog:  # type: ignore[attr-defined] # gettext has no public way to list itself
        if isinstance(key, str) and key:
            said[key] = found.gettext(key)
        elif isinstance(key, tuple) and key[1] == 0:
            said[key[0]] = [found._catalog[key[0], form] for form in (0, 1)]  # type: ignore[attr-defined]
    return said
