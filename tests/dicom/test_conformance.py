"""The conformance statement says what the code does: it is made from the code's tables, and the file is the newest."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.factories import Clock
from triage.dicom import services
from triage.dicom.objects.kinds import SOP_CLASSES
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow.other_services import other_services
from triage.workflow.site import Site

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance", DOCS / "conformance.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_file_is_what_the_code_says(program: ModuleType) -> None:
    written = (DOCS / "dicom-conformance-statement.md").read_text(encoding="utf-8")
    assert written == program.statement(), "run: python docs/conformance.py --write"


def test_every_class_syntax_and_object_is_in_it(program: ModuleType) -> None:
    said = program.statement()
    for uid in (*services.STORAGE_CLASSES, *services.TRANSFER_SYNTAXES, *SOP_CLASSES.values()):
        assert f"| {uid} |" in said
    assert "/dicom-web/workitems" in said


def test_every_other_service_is_in_it(program: ModuleType, database: Database) -> None:
    served = other_services(database, Spool(Path("spool")), Site(), Clock(), lambda _: None, "")
    assert set(served.sop_classes) == {uid for _, uid, _, _ in program.OTHERS}
    for uid in served.sop_classes:
        assert f"| {uid} |" in program.statement()
