"""Stored values to grey and Hounsfield units, through the real guarded child."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import openjpeg
import pytest
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import UID, JPEGLSLossless, RLELossless

from tests.dicom import builders
from triage.dicom import services
from triage.dicom.elements import Elements
from triage.dicom.grayscale import Coding, grey_table
from triage.dicom.header import read_header
from triage.dicom.incoming import part10_preamble
from triage.dicom.pixels import Decoder
from triage.dicom.text import Values
from triage.domain.errors import Refused
from triage.domain.image import Volume
from triage.domain.suitability import NotSuitableError, ReasonCode


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as made:
        yield made


def grey_of(decoder: Decoder, path: Path) -> NDArray[np.float32]:
    return decoder.radiograph(path, read_header(path)).pixels


def reason(decoder: Decoder, path: Path) -> ReasonCode:
    with pytest.raises(NotSuitableError) as refusal:
        decoder.radiograph(path, read_header(path))
    return refusal.value.answer.code


def _window(center: str, width: str, function: str) -> NDArray[np.float32]:
    elements = Elements(
        values={
            0x00280002: b"\1\0",
            0x00280004: b"MONOCHROME2 ",
            0x00281050: center.encode(),
            0x00281051: width.encode(),
            0x00281056: function.encode(),
        }
    )
    coding = Coding(bits_stored=16, shift=0, signed=True)
    # A film that fills the window, so that no window is called useless.
    film = np.tile(np.arange(-300, 300, dtype=np.int16).view(np.uint16), (600, 1))
    return grey_table(Values(elements), coding, film).table * 255


def test_windows_give_the_values_of_the_standard() -> None:
    """Test vectors of standards 5.1, output 0 to 255."""
    linear, exact, sigmoid = (_window("40", "400", f) for f in ("LINEAR", "LINEAR_EXACT", "SIGMOID"))

    def at(stored: int) -> int:
        return stored & 0xFFFF  # the code of a signed value

    assert linear[at(-160)] == 0
    assert linear[at(-159)] == pytest.approx(0.639, abs=1e-3)
    assert linear[at(40)] == pytest.approx(127.82, abs=1e-2)
    assert linear[at(239)] == linear[at(300)] == 255
    assert exact[at(-159)] == pytest.approx(0.638, abs=1e-3)
    assert exact[at(40)] == pytest.approx(127.5, abs=1e-3)
    assert exact[at(240)] == 255
    assert sigmoid[at(140)] == pytest.approx(186.42, abs=1e-2)


def test_a_film_goes_from_dark_to_bright_as_its_values_do(decoder: Decoder, tmp_path: Path) -> None:
    path = builders.save(builders.film(), tmp_path / "film.dcm")
    film = decoder.radiograph(path, read_header(path))
    assert film.pixels.dtype == np.float32
    assert film.pixels[0, 0] == 0
    assert film.pixels[-1, -1] == pytest.approx(1, abs=0.001)
    assert (film.view, film.sex, film.age_years) == ("PA", "F", 58)
    assert film.spacing_mm == (0.143, 0.143)
    assert film.decoder == "native"


def test_bone_is_bright_whatever_the_sender_calls_white(decoder: Decoder, tmp_path: Path) -> None:
    plain = grey_of(decoder, builders.save(builders.film(), tmp_path / "a.dcm"))
    for changes in (
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        {"PresentationLUTShape": "INVERSE"},
    ):
        turned = grey_of(decoder, builders.save(builders.film(**changes), tmp_path / "b.dcm"))
        assert np.allclose(turned, 1 - plain)


def test_padding_is_dark_and_takes_no_part_in_the_stretch(decoder: Decoder, tmp_path: Path) -> None:
    ds = builders.film(WindowCenter=None, WindowWidth=None)
    pixels = np.full((240, 256), 1000, np.uint16)
    pixels[:, 128:] = 2000
    pixels[:, :20] = 4095
    builders.set_pixels(ds, pixels, bits_stored=12)
    ds.add_new(0x00280120, "US", 4095)
    path = builders.save(ds, tmp_path / "a.dcm")
    film = decoder.radiograph(path, read_header(path))
    assert (film.pixels[0, 0], film.pixels[0, 60], film.pixels[0, 200]) == (0, 0, 1)
    assert film.notes == ("no window, percentiles used",)


def test_a_run_says_that_its_images_once_lost_something(decoder: Decoder, tmp_path: Path) -> None:
    told = [
        decoder.radiograph(path, read_header(path)).notes
        for lossy in ("00", "01")
        for path in [builders.save(builders.film(LossyImageCompression=lossy), tmp_path / f"{lossy}.dcm")]
    ]
    assert told == [(), ("compressed with loss",)]


LOSSLESS = {
    "1.2.840.10008.1.2.4.57": lambda a: imagecodecs.ljpeg_encode(a, bitspersample=12),
    "1.2.840.10008.1.2.4.70": lambda a: imagecodecs.ljpeg_encode(a, bitspersample=12),
    "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_encode,
    "1.2.840.10008.1.2.4.90": lambda a: openjpeg.encode(a, bits_stored=12),
    "1.2.840.10008.1.2.4.201": lambda a: imagecodecs.htj2k_encode(a, level=0, reversible=True),
}


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_a_lossless_syntax_gives_the_same_film_bit_for_bit(
    syntax: str, decoder: Decoder, tmp_path: Path
) -> None:
    ds = builders.film()
    plain = grey_of(decoder, builders.save(ds, tmp_path / "a.dcm"))
    frame = LOSSLESS[syntax](builders.pixels(ds))
    ds.add_new(0x7FE00010, "OB", encapsulate([bytes(frame)]))
    path = builders.save(ds, tmp_path / "b.dcm", UID(syntax))
    assert np.array_equal(grey_of(decoder, path), plain)


def test_rle_gives_the_same_film(decoder: Decoder, tmp_path: Path) -> None:
    ds = builders.film()
    plain = grey_of(decoder, builders.save(ds, tmp_path / "a.dcm"))
    ds.compress(RLELossless, generate_instance_uid=False)
    assert np.array_equal(grey_of(decoder, builders.save(ds, tmp_path / "b.dcm", RLELossless)), plain)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"BitsAllocated": 32}, ReasonCode.CORRUPT_PIXELS),
        ({"BitsStored": 17}, ReasonCode.CORRUPT_PIXELS),
        ({"Rows": 241}, ReasonCode.CORRUPT_PIXELS),
        ({"Rows": 60_000, "Columns": 60_000}, ReasonCode.TOO_LARGE),
        ({"Rows": 0}, ReasonCode.CORRUPT_PIXELS),
        ({"SamplesPerPixel": 3}, ReasonCode.CORRUPT_PIXELS),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, ReasonCode.CORRUPT_PIXELS),
        ({"PixelData": b""}, ReasonCode.PIXELS_MISSING),
        ({"PixelData": bytes(2 * 240 * 256)}, ReasonCode.LOW_QUALITY),
        ({"NumberOfFrames": 3}, ReasonCode.GEOMETRY),
    ],
)
def test_pixels_that_do_not_add_up_are_refused_with_their_reason(
    changes: dict[str, object], code: ReasonCode, decoder: Decoder, tmp_path: Path
) -> None:
    assert reason(decoder, builders.save(builders.film(**changes), tmp_path / "x.dcm")) is code


REFUSED = (  # standards 5.1: parts of other objects, moving pictures, streams
    *(".4.92", ".4.93", ".4.94", ".4.95", ".4.204", ".4.205", ".7.1", ".7.2", ".7.3"),
    *(f".4.{n}" for n in range(100, 109)), *(f".4.{n}.1" for n in range(100, 107)),
)  # fmt: skip


@pytest.mark.parametrize("suffix", REFUSED)
def test_what_cannot_be_decoded_is_refused_at_the_door_and_said_to_be_unknown(
    suffix: str, decoder: Decoder, tmp_path: Path
) -> None:
    syntax = UID(f"1.2.840.10008.1.2{suffix}")
    assert syntax not in services.TRANSFER_SYNTAXES
    ds = builders.film()
    ds.add_new(0x7FE00010, "OB", encapsulate([b"\0" * 100]))
    data = builders.save(ds, tmp_path / "x.dcm", JPEGLSLossless).read_bytes()
    path = tmp_path / "x.dcm"
    meta = 144 + int.from_bytes(data[140:144], "little")
    path.write_bytes(part10_preamble(ds.SOPClassUID, ds.SOPInstanceUID, syntax) + data[meta:])
    assert reason(decoder, path) is ReasonCode.UNSUPPORTED_SYNTAX


@pytest.mark.parametrize("table", ["none", "basic", "extended"])
def test_frames_in_fragments_are_found_by_table_or_by_where_a_stream_begins(
    table: str, decoder: Decoder, tmp_path: Path
) -> None:
    """PS3.5 A.4: a frame may be cut into fragments; standards 5.1: without a table markers tell."""
    ds = builders.film(NumberOfFrames=3)
    frames = [builders.pixels(builders.film()) + np.uint16(k) for k in range(3)]
    streams = [bytes(imagecodecs.jpegls_encode(f)) for f in frames]
    if table == "extended":
        content, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(streams)
    else:
        content = encapsulate(streams, fragments_per_frame=3, has_bot=table == "basic")
    ds.add_new(0x7FE00010, "OB", content)
    path = builders.save(ds, tmp_path / "x.dcm", JPEGLSLossless)
    header = read_header(path)
    assert decoder.samples(path, header, [2, 0, 1]) == [frames[k].tobytes() for k in (2, 0, 1)]


def test_fragments_that_make_another_number_of_frames_are_corrupt(decoder: Decoder, tmp_path: Path) -> None:
    ds = builders.film(NumberOfFrames=3)
    stream = bytes(imagecodecs.jpegls_encode(builders.pixels(builders.film())))
    ds.add_new(0x7FE00010, "OB", encapsulate([stream, stream], fragments_per_frame=2, has_bot=False))
    path = builders.save(ds, tmp_path / "x.dcm", JPEGLSLossless)
    with pytest.raises(NotSuitableError, match="4 fragments do not make 3 frames"):
        decoder.samples(path, read_header(path), [0])


def volume_of(decoder: Decoder, paths: list[Path]) -> Volume:
    return decoder.volume(paths, [read_header(p) for p in paths])


def test_a_series_becomes_a_stack_in_hounsfield_units(decoder: Decoder, tmp_path: Path) -> None:
    paths = builders.save_all(builders.ct_slices(12), tmp_path)
    volume = volume_of(decoder, paths[::-1])
    assert volume.hu.shape == (12, 64, 64)
    assert volume.hu.dtype == np.int16
    assert list(volume.hu[:, 0, 0]) == [-1000 + k for k in range(12)]  # feet to head
    assert volume.spacing_mm == (2.0, 0.7, 0.7)
    assert volume.affine @ [0, 0, 11, 1] == pytest.approx([-150, -140, -278, 1])
    assert volume.sop_instance_uids[0] == f"{builders.ROOT}.2.1.1"
    assert volume.kernel == "B30f"


def test_each_slice_has_its_own_scale_and_padding_is_minus_1024(decoder: Decoder, tmp_path: Path) -> None:
    series = builders.ct_slices(8)
    for k, ds in enumerate(series):
        ds.RescaleSlope = 2 if k == 3 else 1
        pixels = np.full((64, 64), 1024, np.int16)
        pixels[0, :2] = -2000, 0
        builders.set_pixels(ds, pixels, bits_stored=16)
        ds.add_new(0x00280120, "SS", -2000)
    volume = volume_of(decoder, builders.save_all(series, tmp_path))
    assert [int(v) for v in volume.hu[:, 5, 5]] == [0, 0, 0, 1024, 0, 0, 0, 0]
    assert volume.hu[2, 0, 0] == -1024


def test_a_slice_that_came_twice_counts_once_and_two_that_differ_stop_the_series(
    decoder: Decoder, tmp_path: Path
) -> None:
    series = builders.ct_slices(9)
    twin = builders.ct_slices(9)[4]
    twin.SOPInstanceUID = f"{builders.ROOT}.2.1.99"
    volume = volume_of(decoder, builders.save_all([*series, twin], tmp_path / "same"))
    assert volume.hu.shape[0] == 9
    assert volume.notes == ("1 duplicate slices dropped",)
    builders.set_pixels(twin, builders.pixels(twin) + 1, bits_stored=16)
    with pytest.raises(NotSuitableError, match="different images at one place"):
        volume_of(decoder, builders.save_all([*series, twin], tmp_path / "other"))


def test_pictures_of_the_screen_among_the_slices_are_left_out_and_noted(
    decoder: Decoder, tmp_path: Path
) -> None:
    screens = builders.ct_slices(12)[:2]
    for i, ds in enumerate(screens):
        ds.SOPInstanceUID, ds.ImageType = f"{builders.ROOT}.2.1.9{i}", ["DERIVED", "SECONDARY", "SCREENSAVE"]
        for keyword in ("ImagePositionPatient", "RescaleSlope", "RescaleIntercept"):
            delattr(ds, keyword)
    paths = builders.save_all([*screens, *builders.ct_slices(12)], tmp_path)
    volume = volume_of(decoder, paths)
    assert volume.hu.shape == (12, 64, 64)
    assert volume.notes == ("2 images left out: image type SCREENSAVE",)
    assert not {ds.SOPInstanceUID for ds in screens} & set(volume.sop_instance_uids)


def test_one_damaged_slice_names_the_whole_series_damaged_and_the_next_series_is_read(
    decoder: Decoder, tmp_path: Path
) -> None:
    paths = builders.save_all(builders.ct_slices(9), tmp_path)
    whole = paths[5].read_bytes()
    paths[5].write_bytes(whole[:-500])
    with pytest.raises(NotSuitableError, match="damaged"):
        volume_of(decoder, paths)
    paths[5].write_bytes(whole)
    assert volume_of(decoder, paths).hu.shape[0] == 9


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"RescaleSlope": None}, ReasonCode.NO_RESCALE),
        ({"ImagePositionPatient": None}, ReasonCode.GEOMETRY),
        ({"Rows": 2000, "Columns": 2000}, ReasonCode.TOO_LARGE),
        ({"PixelData": None}, ReasonCode.PIXELS_MISSING),
    ],
)
def test_a_series_that_is_no_volume_is_refused_with_its_reason(
    changes: dict[str, object], code: ReasonCode, decoder: Decoder, tmp_path: Path
) -> None:
    paths = builders.save_all(builders.ct_slices(9, **changes), tmp_path)
    with pytest.raises(NotSuitableError) as refusal:
        volume_of(decoder, paths)
    assert refusal.value.answer.code is code


@pytest.mark.shared_data
def test_one_film_in_eleven_lossless_encodings_is_one_film(decoder: Decoder, shared_data: Path) -> None:
    folder = shared_data / "dicom/syntax"
    plain = grey_of(decoder, folder / "own_ts_explicit.dcm")
    films = sorted(folder.glob("own_ts_*.dcm"))
    lossy = {"own_ts_jpeg_ext12_q90.dcm": 0.05, "own_ts_jpegls_near2.dcm": 0.001}
    assert len(films) == 13
    for film in films:
        assert np.abs(grey_of(decoder, film) - plain).max() <= lossy.get(film.name, 0), film.name


@pytest.mark.shared_data
def test_odd_bits_overlays_and_luts_show_the_same_film(decoder: Decoder, shared_data: Path) -> None:
    folder = shared_data / "dicom/pixel"
    plain = grey_of(decoder, folder / "own_mono1_12bit_small.dcm")
    for name in (
        "dirty_high_bits",
        "left_justified",
        "mono1_identity_conflict",
        "mono2_12bit",
        "overlay_in_pixel_bits",
        "overlay_out_of_bounds",
        "signed_12bit",
        "signed_12bit_not_extended",
        "voilut_empty_sequence",
        "voilut_too_short",
    ):
        assert np.allclose(grey_of(decoder, folder / f"own_{name}.dcm"), plain, atol=1e-3), name
    for name in (
        "modality_lut_inverting",
        "modality_lut_12bit",
    ):  # the LUT turns the values, the tag does not know
        assert np.allclose(grey_of(decoder, folder / f"own_{name}.dcm"), 1 - plain, atol=2e-3), name


# What decoding must say of the broken and odd files that a header can be read of; the rest decode or are no films.
DAMAGED = {
    "malformed:pixel_length",
    "malformed:decode",
    "malformed:size_mismatch",
    "malformed:truncated",
    "malformed:bits",
    "malformed:photometric",
    "malformed:transfer_syntax",
    "malformed:bad_value",
    "malformed:no_pixels",
}
TOLERATED = {  # read as far as they say the truth
    "broken/GH1339.dcm",
    "broken/own_uid_leading_zero.dcm",
}


@pytest.mark.shared_data
def test_no_file_of_the_corpus_kills_the_decoder_or_passes_as_a_picture_it_is_not(
    decoder: Decoder, shared_data: Path
) -> None:
    """P15: 333 files, and the same decoder reads a sound film afterwards."""
    passed = []
    with (shared_data / "dicom/index.csv").open() as index:
        for row in csv.DictReader(index):
            path = shared_data / "dicom" / row["file"]
            try:
                grey = grey_of(decoder, path)
            except (Refused, NotSuitableError):
                continue
            assert np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1, row["file"]
            if row["expected"].split(";")[0].split(" ")[0] in DAMAGED and row["file"] not in TOLERATED:
                passed.append((row["file"], row["expected"]))
    assert not passed
    assert grey_of(decoder, shared_data / "dicom/eligibility/own_dx_pa_ok.dcm").max() > 0.9
