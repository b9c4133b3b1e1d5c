"""A detector of somebody else's package, really installed for a test, and a release that wants it."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path
from typing import Any

import pytest

from triage.detectors.releases import Release, seal_release

_numbers = itertools.count(1)


def foreign_release(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, *, version: str = "site-1", **content: Any
) -> Release:
    """A release of chest_xray under `folder` whose detector does `answer`, a statement, when it is shown a film.

    Its golden case differs by 0.5 from what it was released with.
    """
    name = f"foreign_{next(_numbers)}"  # a module is loaded once in a process
    package = folder.parent / f"{name}-packages"
    information = package / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[triage.detectors]\n{name} = {name}:Foreign\n")
    (package / f"{name}.py").write_text(_SOURCE.format(answer=answer))
    monkeypatch.syspath_prepend(str(package))
    made = folder / "chest_xray" / version
    made.mkdir(parents=True)
    return seal_release(made, {"detector": "chest_xray", "version": version, "loader": name, **content})


_SOURCE = textwrap.dedent("""\
    from triage.detectors.protocol import Detection
    from triage.domain.finding import Band, Finding
    from triage.domain.suitability import NotSuitableError, ReasonCode

    class Foreign:
        runtime = "foreign 1"

        def __init__(self, folder, runtime):
            self.folder = folder

        def detect(self, film):
            {answer}

        def verify(self):
            return 0.5
""")
