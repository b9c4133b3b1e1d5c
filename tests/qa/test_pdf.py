"""The report as PDF: the same words and numbers as the page, pictures included, the same bytes for the same report."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.qa.test_report import a_day, report
from triage.qa.pdf import to_pdf
from triage.store.database import Database


@pytest.fixture
def tx(database: Database) -> Iterator[Connection]:
    with database.write() as connection:
        yield connection


def test_the_pdf_is_the_page_in_print_and_has_the_same_bytes_each_time(
    tx: Connection, tmp_path: Path
) -> None:
    a_day(tx)
    document = report(tx)
    first = to_pdf(document)
    assert first.startswith(b"%PDF-") and first == to_pdf(document)
    if shutil.which("pdftotext") is None:
        pytest.skip(
            "pdftotext is not installed (apt-get install poppler-utils): the words of the PDF not shown"
        )
    (tmp_path / "qa.pdf").write_bytes(first)
    words = subprocess.run(
        ["pdftotext", "-layout", str(tmp_path / "qa.pdf"), "-"], capture_output=True, text=True, check=True
    ).stdout
    for expected in ("QA report of triage", "What arrived and what was analysed", "pneumothorax", "Alerts",
                     "Not for clinical use", document["head"]["audit_head"]["hash"][:16]):  # fmt: skip
        assert expected in words, expected
    assert "SECRET" not in words


def test_an_empty_period_makes_a_page_too(tx: Connection) -> None:
    assert to_pdf(report(tx)).startswith(b"%PDF-")
