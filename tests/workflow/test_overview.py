"""What is painted: the film or slices of the run, marks only where places may be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.dicom.objects.analyses import FILM_FINDINGS, an_analysis
from tests.factories import NOON
from triage.dicom.header import read_header
from triage.domain.finding import Location, Mode, shown
from triage.phantom import identity_for, make_thorax, write_radiograph
from triage.settings import Settings
from triage.store.spool import Spool
from triage.workflow.overview import COLOUR, STRIP_PX, paint
from triage.workflow.preview import Previewer

SQUARE = ((60.0, 60.0), (180.0, 60.0), (180.0, 180.0), (60.0, 180.0))


@pytest.fixture
def previewer(tmp_path: Path) -> Iterator[Previewer]:
    found = Previewer(Settings(home=tmp_path))
    yield found
    found.close()


def _coloured(picture: NDArray[np.uint8]) -> int:
    """Pixels of the marks' colour below the words."""
    return int((picture[STRIP_PX:] == COLOUR).all(-1).sum())


def test_a_film_is_marked_in_overlay_mode_alone(previewer: Previewer, tmp_path: Path) -> None:
    film = write_radiograph(tmp_path, make_thorax(7), identity=identity_for(7, "DX", NOON), size_px=256)
    digest = "ab" * 32
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    spool.path(digest).write_bytes(film.read_bytes())
    header = read_header(film)
    rows: list[dict[str, Any]] = [
        {"header": asdict(header), "digest": digest, "series_id": 1, "modality": "DX"}
    ]
    found = replace(FILM_FINDINGS[0], location=Location(SQUARE))
    painted = {
        mode: paint(
            an_analysis(mode=mode, findings=(shown(found, mode, may_see_inside=False),), sources=(header,)),
            rows,
            previewer,
        )
        for mode in Mode
    }
    kept, told = painted[Mode.TRIAGE_ONLY], painted[Mode.OVERLAY]
    assert kept.shape == told.shape == (STRIP_PX + 1024, 1024, 3)
    assert _coloured(kept) == 0
    assert _coloured(told) == pytest.approx(4 * 120 * 4, rel=0.1)  # a square's outline, four times as large
    assert np.array_equal(kept[:STRIP_PX], told[:STRIP_PX]) and kept[:STRIP_PX].any()
    assert kept[STRIP_PX:].std() > 20
