"""`python -m tests.web.catalogues`: read every text of the code, add what is new to the catalogues, compile them.

What nobody has translated is listed; a test holds that there is none.
"""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from triage.dicom.archive import _WHY as STATUSES
from triage.domain.finding import FINDING_CODES
from triage.domain.suitability import SENTENCES
from triage.web import language
from triage.web.qa_phrases import PHRASES

WEB = Path(language.__file__).parent
PACKAGE = WEB.parent
KEYWORDS = {"_": None, "N_": None, "gettext": None, "ngettext": (1, 2)}
REFUSALS = {
    "Refused": None,
    "Conflict": None,
    "NotFound": None,
    "NotOpened": None,
}  # what a person at a page is told when it cannot be done
# Words that pages take from rows: states, roles, kinds.
STATES = (
    "open", "acknowledged", "closed", "withdrawn", "exhausted", "waiting", "delivered", "parked", "cancelled",
    "receiving", "complete", "wanted", "written", "sent", "stored", "agree", "disagree", "missed",
    "reader", "lead", "qa", "admin", "auditor", "study", "alert", "user", "token", "worklist", "instance", "release",
    "received", "applied", "ignored", "refused", "result", "withdrawal", "correction", "retry", "in", "out",
    "policy", "peer", "view", "active", "shadow", "retired", "routine order", "critical", "high",
    "elevated", "routine", "requested", "running", "completed", "not_analysed", "failed", "superseded",
)  # fmt: skip
REFUSING = (
    *(
        f"workflow/{name}.py"
        for name in ("read/*", "bulk", "activation", "policy", "accounts", "peering", "messages", "pull")
    ),
    *(
        f"web/{name}.py"
        for name in ("account", "admin", "api_views", "api_worklist", "api_studies", "replay", "shapes")
    ),
)
MADE = datetime(2026, 1, 1, tzinfo=UTC)  # a date of today would make every compilation another file
_SAID = re.compile(r'\bt\(\s*"([^"\\]+)"')
LANGUAGES = tuple(name for name in language.LANGUAGES if name != "en")


def server_texts() -> Catalog:
    found = Catalog(project="triage", charset="utf-8")
    methods = [("web/templates/**.html", "jinja2"), ("web/**.py", "python")]
    options = {"web/templates/**.html": {"newstyle_gettext": "true", "silent": "false"}}
    for file, line, message, *_rest in extract_from_dir(PACKAGE, methods, options, KEYWORDS):
        found.add(message, locations=[(file, line)])
    refusing = [(name, "python") for name in REFUSING]
    for file, line, message, *_rest in extract_from_dir(PACKAGE, refusing, {}, REFUSALS):
        found.add(message, locations=[(file, line)])
    for text in (
        *reasons(),
        *details(),
        *SENTENCES.values(),
        *(c.display for c in FINDING_CODES.values()),
        *STATES,
        *PHRASES,
    ):
        found.add(text)
    return found


MESSAGING = (
    "hl7/*.py", "channels/*.py", "workflow/inbox.py", "workflow/reports.py", "workflow/patients.py", "workflow/relay.py",
)  # fmt: skip
SAYING = ("Refused", "Unusable", "Answer", "Verdict")


def reasons(*, with_values: bool = False) -> list[str]:
    """What the messages page tells of a message: texts as they stand, or those around values, each value as {}."""
    return _texts_of(MESSAGING, with_values, _reason)


def _reason(call: ast.Call) -> list[ast.expr]:
    if getattr(call.func, "id", "") not in SAYING:
        return []
    return [*call.args, *(k.value for k in call.keywords if k.arg == "reason")]


def details(*, with_values: bool = False) -> list[str]:
    """Why an input is not analysed, and what a Run notes, in the same two kinds."""
    return _texts_of(
        ("domain/*.py", "detectors/**/*.py", "dicom/**/*.py", "workflow/complete.py"), with_values, _detail
    )


def words_of_archives() -> list[str]:
    """Why an archive gave no series: texts of `Unavailable`, and its statuses' meaning, each value as {}."""
    raised = _texts_of(
        ("dicom/archive*.py",), True, lambda c: c.args if getattr(c.func, "id", "") == "Unavailable" else []
    )
    retrieving = [t for t in raised if not any(w in t for w in ("query", "finds more", "answers with more"))]
    said = (t for text in retrieving for t in text.removesuffix("; {}").split("; "))
    return [*said, *(re.sub(r"\{\w+\}", "{}", text) for text in STATUSES.values())]


def _detail(call: ast.Call) -> list[ast.expr]:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    if name in ("NotSuitable", "NotSuitableError"):
        return call.args[1:]
    if name == "corrupt":  # dicom/frames: the code is always the same
        return call.args
    notes = isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "notes"
    return call.args if notes and name == "append" else []


def _texts_of(
    patterns: Sequence[str], with_values: bool, said_by: Callable[[ast.Call], list[ast.expr]]
) -> list[str]:
    found = set()
    for file in (f for pattern in patterns for f in PACKAGE.glob(pattern)):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for said in said_by(node) if isinstance(node, ast.Call) else []:
                if isinstance(said, ast.JoinedStr) and with_values:
                    parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in said.values)
                    found.add("".join(map(str, parts)))
                elif isinstance(said, ast.Constant) and not with_values and " " in str(said.value):
                    found.add(str(said.value))
    return sorted(found)


def script_texts() -> Catalog:
    found = Catalog(project="triage", charset="utf-8")
    for file, line, message, *_rest in extract_from_dir(
        WEB / "static" / "js",
        [("**.js", "javascript")],
        {"**.js": {"parse_template_string": "true"}},
        {"t": None, "tn": (1, 2)},
    ):
        found.add(message, locations=[(file, line)])
    for file in sorted((WEB / "static" / "js").glob("*.js")):  # Babel does not look into `${...}`
        for message in _SAID.findall(file.read_text(encoding="utf-8")):
            found.add(message, locations=[(file.name, 1)])
    return found


TEXTS = {"messages": server_texts, "script": script_texts}


def path(name: str, domain: str, ending: str) -> Path:
    return language.FOLDER / name / "LC_MESSAGES" / f"{domain}.{ending}"


def merged(name: str, domain: str) -> Catalog:
    """The catalogue of this language with the texts of today; what is gone from the code is gone."""
    po = path(name, domain, "po")
    held = read_po(po.open("rb"), locale=name) if po.exists() else Catalog(locale=name, charset="utf-8")
    held.update(TEXTS[domain](), no_fuzzy_matching=True)
    held.obsolete.clear()
    held.creation_date = held.revision_date = MADE
    for message in held:
        message.locations = sorted(
            {(f, 0) for f, _ in message.locations}
        )  # line numbers would change with every edit
    return held


def untranslated(catalogue: Catalog) -> Iterator[Message]:
    for message in catalogue:
        said = message.string if isinstance(message.string, tuple) else (message.string,)
        if message.id and not all(said):
            yield message


def compiled(catalogue: Catalog) -> bytes:
    out = io.BytesIO()
    write_mo(out, catalogue)
    return out.getvalue()


def main() -> int:
    missing = 0
    for name in LANGUAGES:
        for domain in TEXTS:
            catalogue = merged(name, domain)
            with path(name, domain, "po").open("wb") as file:
                write_po(
                    file, catalogue, width=120, sort_output=True, include_lineno=False, ignore_obsolete=True
                )
            path(name, domain, "mo").write_bytes(compiled(catalogue))
            for message in untranslated(catalogue):
                missing += 1
                print(f"{name} {domain}: {message.id!r}")
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
