"""The way in beside C-STORE: what a dead process left in it goes, what a living one writes stays."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.dicom.builders import film, save
from tests.workflow.desk import Desk
from triage.settings import Settings
from triage.workflow.inlet import Inlet


def test_half_files_of_dead_processes_are_swept_when_the_first_object_comes(
    desk: Desk, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home")
    gone = subprocess.Popen(["true"])
    gone.wait()
    inlet = settings.spool / "inlet"
    inlet.mkdir(parents=True)
    dead, living = inlet / f"{gone.pid}-web-0.part", inlet / f"{os.getppid()}-web-0.part"
    dead.touch()
    living.touch()
    woken: list[tuple[int, str]] = []

    Inlet(settings, desk.database, desk.clock, "web", wake=woken.extend).take(
        save(film(), tmp_path / "film.dcm"), sender="A", transfer="t"
    )

    assert list(inlet.iterdir()) == [living]
    assert woken == [(1, "stat")] and len(desk.rows("instance")) == 1
