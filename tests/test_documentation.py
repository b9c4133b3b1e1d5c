"""The documentation does not lie: reference pages are what the code says, links lead somewhere, commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.reference_pages import FOLDER, pages
from triage.cli.main import COMMANDS

DOCS = FOLDER.parent
WRITTEN = sorted(p for p in DOCS.rglob("*.md") if "decisions" not in p.parts)


@pytest.mark.parametrize("name", ["commands.md", "settings.md", "http.md", "codes.md"])
def test_a_reference_page_is_what_the_code_says_today(name: str) -> None:
    assert (FOLDER / name).read_text() == pages()[name], "run `make docs` and commit what it wrote"


@pytest.mark.parametrize("page", [*WRITTEN, DOCS.parent / "README.md"], ids=lambda p: p.name)
def test_every_link_to_a_file_of_ours_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [*WRITTEN, DOCS.parent / "README.md"], ids=lambda p: p.name)
def test_every_command_that_is_told_exists(page: Path) -> None:
    told = re.findall(r"(?:^|`|bin/)triage(?: --config \S+)? ([a-z]+)", page.read_text(), flags=re.MULTILINE)
    assert {t for t in told if t not in COMMANDS} == set()
