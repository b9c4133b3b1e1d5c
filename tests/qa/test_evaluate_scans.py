"""Evaluation of a CT detector, with a plain detector (bright balls are nodules) over real MetaImage files."""

import csv
import json

import numpy as np
import pytest
from scipy import ndimage as ndi

from triage.detectors.protocol import Detection
from triage.domain.errors import Refused
from triage.domain.finding import Band, Finding, Measurements
from triage.domain.suitability import NotSuitableError, ReasonCode
from triage.qa.evaluate_scans import evaluate
from triage.qa.metaimage import read_metaimage

SPACING = np.array([0.8, 0.8, 2.0])
ORIGIN = np.array([-30.0, -20.0, 50.0])


class BrightBalls:
    """Says "nodule" at every bright ball; the brighter, the more probable. A dark scan is not for it."""

    name, release, digest = "lung_nodule", "bright balls 1", "0"

    def detect(self, scan):
        if scan.hu.max() < 0:
            raise NotSuitableError(ReasonCode.WRONG_BODY_PART)
        labels, count = ndi.label(scan.hu > 0)
        findings = []
        for k, j, i in ndi.center_of_mass(labels > 0, labels, range(1, count + 1)):
            place = (scan.affine @ [i, j, k, 1.0])[:3]
            probability = float(scan.hu[round(k), round(j), round(i)]) / 1000
            m = Measurements(
                (float(place[0]), float(place[1]), float(place[2])), 6.0, 6.0, 113.0, 0.0, "solid"
            )
            actionable = probability > 0.5
            findings.append(Finding("nodule", probability, probability, Band.LOW, actionable, measurements=m))
        return Detection(tuple(findings))


def write_scan(path, balls, big_endian=False):
    """balls: (x, y, z LPS mm, HU); writes the .mhd with its .raw."""
    hu = np.full((20, 40, 50), -800, np.int16)
    for x, y, z, value in balls:
        i, j, k = np.rint((np.array([x, y, z]) - ORIGIN) / SPACING).astype(int)
        hu[k, j - 1 : j + 2, i - 1 : i + 2] = value
    hu.astype(">i2" if big_endian else "<i2").tofile(path.with_suffix(".raw"))
    path.write_text(
        f"ObjectType = Image\nNDims = 3\nBinaryDataByteOrderMSB = {big_endian}\nCompressedData = False\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -30 -20 50\nElementSpacing = 0.8 0.8 2\nDimSize = 50 40 20\n"
        f"ElementType = MET_SHORT\nElementDataFile = {path.with_suffix('.raw').name}\n"
    )


def write_rows(path, header, rows):
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


def no_reader(path):
    raise AssertionError(f"MetaImage is read here, {path} should not have been asked for")


@pytest.fixture
def two_scans(tmp_path):
    write_scan(tmp_path / "a.mhd", [(-10.0, 0.0, 70.0, 900), (0.4, 0.8, 60.0, 700)])
    write_scan(tmp_path / "b.mhd", [(-14.0, -8.0, 80.0, 600)], big_endian=True)
    write_scan(tmp_path / "dark.mhd", [])
    write_rows(
        tmp_path / "cases.csv", ["path", "patient_id"], [["a.mhd", "1"], ["b.mhd", "2"], ["dark.mhd", "3"]]
    )
    write_rows(
        tmp_path / "nodules.csv",
        ["path", "x", "y", "z", "diameter_mm", "excluded"],
        [["a.mhd", -10.0, 0.0, 70.0, 6, 0], ["b.mhd", -14.0, -8.0, 80.0, 6, 0], ["b.mhd", 0, 0, 60, 5, 0]],
    )
    return tmp_path


def test_scans_in_a_cases_file_get_the_curve_computed_by_hand(two_scans):
    document = evaluate(
        two_scans / "cases.csv", two_scans / "nodules.csv", BrightBalls(), no_reader, two_scans / "out"
    )
    # Hits 0.9 and 0.6, one nodule missed, one false positive (0.7) in two scans: 1/3 below 1/2 a scan, then 2/3.
    assert dict(map(tuple, document["froc"])) == pytest.approx(
        {0.125: 1 / 3, 0.25: 1 / 3, 0.5: 2 / 3, 1.0: 2 / 3, 2.0: 2 / 3, 4.0: 2 / 3, 8.0: 2 / 3}, abs=1e-5
    )
    assert [n["found"] for n in document["nodules"]] == [True, True, False]
    assert document["refused"] == [{"path": "dark.mhd", "reason": "WRONG_BODY_PART"}]
    assert [f["count"] for f in document["false_positives"]] == [1, 0]
    assert json.loads((two_scans / "out" / "evaluation.json").read_text())["cpm"] == document["cpm"]


def test_textures_and_attachments_named_in_the_nodules_file_get_their_own_curves(two_scans):
    write_rows(
        two_scans / "kinds.csv",
        ["path", "x", "y", "z", "diameter_mm", "texture", "attachment"],
        [
            ["a.mhd", -10.0, 0.0, 70.0, 6, "solid", "pleura"],
            ["b.mhd", -14.0, -8.0, 80.0, 6, "ground glass", ""],
            ["b.mhd", 0, 0, 60, 5, "solid", "free"],
        ],
    )
    document = evaluate(two_scans / "cases.csv", two_scans / "kinds.csv", BrightBalls(), no_reader)
    textures = {r["texture"]: r for r in document["by_texture"]}
    assert {k: (r["found"], r["nodules"]) for k, r in textures.items()} == {
        "ground glass": (1, 1), "solid": (1, 2),
    }  # fmt: skip
    # The ground glass one (0.6) comes after the false positive (0.7), which makes 1/2 a scan; the solid one (0.9) before.
    assert [s for _, s in textures["ground glass"]["froc"]] == [0, 0, 1, 1, 1, 1, 1]
    assert [s for _, s in textures["solid"]["froc"]] == [0.5] * 7
    assert [(r["attachment"], r["found"]) for r in document["by_attachment"]] == [("free", 0), ("pleura", 1)]


def test_a_folder_in_the_luna16_layout_is_read_as_it_is(tmp_path):
    for subset, name in ((0, "1.2.3"), (9, "1.2.4")):
        (tmp_path / f"subset{subset}").mkdir()
        write_scan(
            tmp_path / f"subset{subset}" / f"{name}.mhd", [(-10.0, 0.0, 70.0, 900), (0.4, 0.8, 60.0, 700)]
        )
    header = ["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"]
    write_rows(tmp_path / "annotations.csv", header, [["1.2.3", -10, 0, 70, 6]])
    write_rows(tmp_path / "annotations_excluded.csv", header, [["1.2.3", 0, 0, 60, -1]])
    document = evaluate(tmp_path, None, BrightBalls(), no_reader)
    assert document["nodules"][0]["found"]
    assert [f["count"] for f in document["false_positives"]] == [0, 2]


def test_a_nodule_of_an_unknown_scan_is_refused(two_scans):
    write_rows(two_scans / "n.csv", ["path", "x", "y", "z", "diameter_mm"], [["typo.mhd", 0, 0, 0, 5]])
    with pytest.raises(Refused, match=r"typo\.mhd"):
        evaluate(two_scans / "cases.csv", two_scans / "n.csv", BrightBalls(), no_reader)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("DimSize = 50 40 20", "DimSize = 50 40 2000000000"),
        ("DimSize = 50 40 20", "DimSize = 50 40 21"),
        ("DimSize = 50 40 20", "DimSize = 50 forty 20"),
        ("ElementType = MET_SHORT", "ElementType = MET_STRANGE"),
        ("ElementDataFile = a.raw", "ElementDataFile = ../../etc/passwd"),
        ("ElementSpacing = 0.8 0.8 2", "ElementSpacing = 0.8 0 2"),
        ("CompressedData = False", "CompressedData = True"),
    ],
)
def test_a_damaged_or_lying_metaimage_is_refused(two_scans, old, new):
    text = (two_scans / "a.mhd").read_text()
    assert old in text
    (two_scans / "a.mhd").write_text(text.replace(old, new))
    with pytest.raises(Refused):
        read_metaimage(two_scans / "a.mhd")
