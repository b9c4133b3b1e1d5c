"""The picture with words: valid, without a place in triage-only mode, without anybody's name in either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.dicom.objects import judges
from tests.dicom.objects.analyses import an_analysis
from tests.dicom.objects.judges import read
from triage.dicom.objects import sc
from triage.domain.finding import Mode

PICTURE = np.arange(3 * 33 * 51, dtype=np.uint32).astype(np.uint8).reshape(33, 51, 3)


@pytest.mark.parametrize("modality", ["DX", "CT"])
@pytest.mark.parametrize("mode", list(Mode))
def test_the_overview_is_valid_for_dciodvfy(modality: str, mode: Mode, tmp_path: Path) -> None:
    analysis = an_analysis(modality, mode)
    made = sc.build(analysis, PICTURE)
    path = tmp_path / "sc.dcm"
    path.write_bytes(made.content)
    assert judges.dciodvfy(path) == []
    ds = read(made)
    assert np.array_equal(ds.pixel_array, PICTURE)
    assert "PixelSpacing" not in ds  # nobody should measure on it
    assert ds.SeriesDescription.endswith("(not for diagnosis)")
    assert made == sc.build(analysis, PICTURE)
