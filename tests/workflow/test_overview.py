"""What is painted: the film or slices of the run, marks only where places may be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.dicom.builders import ct_slices, save
from tests.dicom.objects.analyses import FILM_FINDINGS, an_analysis
from tests.factories import NOON, a_finding
from triage.dicom.header import read_header
from triage.domain.finding import Location, Measurements, Mode, shown
from triage.domain.study import InstanceHeader
from triage.phantom import identity_for, make_thorax, write_radiograph
from triage.settings import Settings
from triage.store.spool import Spool
from triage.workflow.overview import ACROSS, COLOUR, FILM_PX, STRIP_PX, TILE_PX, paint
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


def a_scan(folder: Path, slices: int) -> tuple[list[InstanceHeader], list[dict[str, Any]]]:
    """(headers, rows) of noise in 64 x 64 pixels of 2 mm, 5 mm apart, in the spool."""
    spool = Spool(folder / "spool")
    spool.prepare()
    headers, rows = [], []
    for number, ds in enumerate(ct_slices(slices, rows=64)):
        ds.PixelSpacing = [2.0, 2.0]
        ds.ImagePositionPatient = [-64.0, -64.0, 5.0 * number]
        path = save(ds, folder / "one.dcm")
        digest = f"{number:064x}"
        spool.path(digest).write_bytes(path.read_bytes())
        headers.append(read_header(path))
        rows.append({"header": asdict(headers[-1]), "digest": digest, "series_id": 1, "modality": "CT"})
    return headers, rows


def test_a_scan_shows_the_slice_of_its_nodule_circled_in_overlay_mode_alone(
    previewer: Previewer, tmp_path: Path
) -> None:
    headers, rows = a_scan(tmp_path, 5)
    nodule = a_finding(
        "nodule", 0.8, measurements=Measurements((0.0, 0.0, 14.0), 12.0, 10.0, 500.0, 20.0, "solid")
    )
    painted = {}
    for mode in Mode:
        findings = (shown(nodule, mode, may_see_inside=False),)
        painted[mode] = paint(an_analysis("CT", mode, findings, sources=tuple(headers)), rows, previewer)
    kept, told = painted[Mode.TRIAGE_ONLY], painted[Mode.OVERLAY]
    assert kept.shape == (STRIP_PX + 2 * TILE_PX, ACROSS * TILE_PX, 3)  # five slices in rows of four
    assert _coloured(kept) == 0
    assert told.shape == (STRIP_PX + TILE_PX, FILM_PX // 2, 3)  # the one slice
    # A circle of (12 / 2 + 4) mm, 2.5 pixels a mm, about the middle; drawn a pixel or two wide.
    y, x = np.nonzero((told[STRIP_PX:] == COLOUR).all(-1))
    across = TILE_PX / 128
    away = np.hypot(x - TILE_PX / 2 - across, y - TILE_PX / 2 - across)
    assert len(x) > 100 and np.abs(away - 10 * across).max() < 3


def test_slices_without_a_place_are_shown_unmarked(previewer: Previewer, tmp_path: Path) -> None:
    headers, rows = a_scan(tmp_path, 2)
    lost = tuple(replace(h, image_position_patient=None) for h in headers)
    picture = paint(an_analysis("CT", Mode.OVERLAY, sources=lost), rows, previewer)
    assert picture.shape == (STRIP_PX + TILE_PX, 2 * TILE_PX, 3) and _coloured(picture) == 0


def test_a_picture_that_is_gone_is_left_out_and_no_flag_is_said(previewer: Previewer, tmp_path: Path) -> None:
    headers, _ = a_scan(tmp_path, 2)
    picture = paint(an_analysis("CT", findings=(), sources=tuple(headers)), [], previewer)
    assert picture.shape[0] == STRIP_PX and picture[:STRIP_PX].any()
