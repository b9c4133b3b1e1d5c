"""The picture of a Secondary Capture: a film, or slices of a scan, with the flag in words.

Marks are drawn only for findings that still carry a place, which `domain.finding.shown` took away in triage-only mode;
there the slices are evenly spaced, so that they point to nothing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from triage.dicom.objects import common, places
from triage.dicom.objects.common import Analysis
from triage.domain.study import CT_CLASSES, InstanceHeader
from triage.workflow.preview import Previewer

MOST_SLICES, ACROSS = 12, 4
TILE_PX, FILM_PX, STRIP_PX = 320, 1024, 56
COLOUR, WORDS = (255, 192, 51), (235, 235, 235)
AROUND_MM = 4.0


def paint(analysis: Analysis, rows: Sequence[dict[str, Any]], previewer: Previewer) -> NDArray[np.uint8]:
    """(rows, columns, 3) RGB.

    rows    of `store.reading.preview_rows`
    raises  Refused when a picture cannot be shown, with the reason
    """
    scan = analysis.sources[0].sop_class_uid in CT_CLASSES
    by_uid = {row["header"]["sop_instance_uid"]: row for row in rows}
    chosen = [
        h for h in (_slices(analysis) if scan else analysis.sources[:1]) if h.sop_instance_uid in by_uid
    ]
    tiles = [_tile(analysis, h, by_uid[h.sop_instance_uid], previewer, scan) for h in chosen]
    return np.asarray(_sheet(analysis, tiles))


def _slices(analysis: Analysis) -> Sequence[InstanceHeader]:
    told = places.nearest(analysis.sources, analysis.findings)
    if told:
        return told[:MOST_SLICES]
    count = min(MOST_SLICES, len(analysis.sources))
    picked = np.linspace(0, len(analysis.sources) - 1, count).round().astype(int)
    return [analysis.sources[i] for i in picked]


def _tile(
    analysis: Analysis, header: InstanceHeader, row: dict[str, Any], previewer: Previewer, scan: bool
) -> Image.Image:
    picture = previewer.render([row], frame=0, center=None, width=None)
    image = Image.open(io.BytesIO(picture.jpeg)).convert("RGB")
    longest = TILE_PX if scan else FILM_PX
    scale = longest / max(header.rows, header.columns)
    size = (max(1, round(header.columns * scale)), max(1, round(header.rows * scale)))
    image = image.resize(size, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    if scan:
        _circles(analysis, header, draw, scale)
    else:
        for f in analysis.findings:
            if outline := places.on_film(places.outline_of(f), header):
                draw.polygon([(x * scale, y * scale) for x, y in outline], outline=COLOUR)
    return image


def _circles(analysis: Analysis, header: InstanceHeader, draw: ImageDraw.ImageDraw, scale: float) -> None:
    for f in analysis.findings:
        m = f.measurements
        if m is None or header not in places.nearest(analysis.sources, [f]) or not places.is_placed(header):
            continue
        assert header.pixel_spacing_mm is not None
        x, y = ((v + 0.5) * scale for v in places.pixel_at(header, m.center_lps_mm))
        radius = (m.long_axis_mm / 2 + AROUND_MM) / header.pixel_spacing_mm[1] * scale
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=COLOUR)


def _sheet(analysis: Analysis, tiles: list[Image.Image]) -> Image.Image:
    """Tiles in rows of four below two lines of words."""
    across = min(ACROSS, len(tiles)) or 1
    width = max([FILM_PX // 2, *(t.width for t in tiles)]) if across == 1 else across * TILE_PX
    height = max([1, *(t.height for t in tiles)])
    sheet = Image.new("RGB", (width, STRIP_PX + height * -(-len(tiles) // across)))
    draw = ImageDraw.Draw(sheet)
    flag = common.suspected(analysis.findings) if analysis.findings else "AI: no flag raised, read as usual"
    draw.text((8, 6), flag, fill=COLOUR, font_size=18)
    draw.text((8, 32), "By software, not read. Not for diagnosis.", fill=WORDS, font_size=14)
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % across * TILE_PX, STRIP_PX + i // across * height))
    return sheet
