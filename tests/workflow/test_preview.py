"""The small picture: one frontal film or key slices, windowed, kept, and never more than the bytes allow."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.factories import NOON, a_header
from triage.dicom.header import read_header
from triage.domain.errors import Refused
from triage.phantom.identity import identity_for
from triage.phantom.person import make_thorax
from triage.phantom.write import write_ct, write_radiograph
from triage.settings import Settings
from triage.store.instances import header_from_json
from triage.store.spool import Spool
from triage.workflow import preview
from triage.workflow.preview import Previewer, describe

Row = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("phantoms")


def kept(spool: Spool, path: Path, series_id: int) -> Row:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    target = spool.path(digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)
    return {"header": asdict(read_header(path)), "digest": digest, "series_id": series_id}


@pytest.fixture(scope="module")
def settings(folder: Path) -> Settings:
    return Settings(home=folder / "home")


@pytest.fixture(scope="module")
def film(folder: Path, settings: Settings) -> Row:
    thorax = make_thorax(3, ["pneumothorax"])
    path = write_radiograph(folder / "film", thorax, identity=identity_for(3, "DX", NOON), size_px=1400)
    return kept(Spool(settings.spool), path, 1)


@pytest.fixture(scope="module")
def slices(folder: Path, settings: Settings) -> list[Row]:
    thorax = make_thorax(4)
    paths = write_ct(folder / "ct", thorax, identity=identity_for(4, "CT", NOON), slices=5)
    return [kept(Spool(settings.spool), p, 2) for p in reversed(paths)]


@pytest.fixture
def previewer(settings: Settings) -> Iterator[Previewer]:
    made = Previewer(settings)
    yield made
    made.close()


def pixels(jpeg: bytes) -> np.ndarray[Any, Any]:
    image = Image.open(io.BytesIO(jpeg))
    assert image.format == "JPEG"
    assert image.mode == "L"
    return np.asarray(image).astype(float)


def show(previewer: Previewer, rows: list[Row], **wishes: Any) -> np.ndarray[Any, Any]:
    return pixels(previewer.render(rows, **{"frame": 0, "center": None, "width": None, **wishes}).jpeg)


def test_a_film_is_shown_small_and_kept(previewer: Previewer, film: Row, settings: Settings) -> None:
    first = show(previewer, [film])
    assert max(first.shape) == 1024
    assert first.std() > 20
    assert list((settings.home / "previews").glob(f"{film['digest']}-0.npy"))
    previewer.close()
    previewer._film = None  # type: ignore[method-assign, assignment] - a second look decodes nothing
    assert np.array_equal(show(previewer, [film]), first)


def test_invert_and_window_change_the_picture(previewer: Previewer, film: Row) -> None:
    plain = show(previewer, [film])
    assert abs((255 - show(previewer, [film], invert=True)) - plain).mean() < 3
    narrow = previewer.render([film], frame=0, center=2000.0, width=200.0)
    assert (narrow.center, narrow.width) == (2000.0, 200.0)
    assert pixels(narrow.jpeg).std() > plain.std()
    stretched = previewer.render([film], frame=0, center=None, width=None, stretched=True)
    assert stretched.width < 4095


def test_a_ct_shows_its_slices_from_feet_to_head_in_a_lung_window(
    previewer: Previewer, slices: list[Row]
) -> None:
    assert describe(slices) | {"sop_uids": None} == {
        "kind": "ct", "frames": 5, "rows": 512, "columns": 512, "sop_uids": None, "not_for_diagnosis": True,
    }  # fmt: skip
    shown = previewer.render(slices, frame=2, center=None, width=None)
    assert (shown.center, shown.width) == preview.LUNG_WINDOW
    uids = describe(slices)["sop_uids"]  # type: ignore[index]
    heights = {r["header"]["sop_instance_uid"]: r["header"]["image_position_patient"][2] for r in slices}
    assert [heights[u] for u in uids] == sorted(heights.values())
    assert show(previewer, slices, frame=99).shape == (512, 512)  # past the end: the last


def test_of_several_films_the_frontal_one_is_shown(film: Row) -> None:
    lateral = film | {"header": film["header"] | {"view_position": "LL", "sop_instance_uid": "1.2.3"}}
    assert describe([lateral, film])["sop_uids"] == [film["header"]["sop_instance_uid"]]  # type: ignore[index]
    assert describe([lateral])["sop_uids"] == ["1.2.3"]  # type: ignore[index]


def test_many_slices_become_evenly_spaced_key_slices() -> None:
    base = asdict(a_header(modality="CT"))
    rows = [
        {"header": base | {"image_position_patient": [0, 0, float(i)], "sop_instance_uid": f"1.2.{i}"}, "digest": "0" * 64,
         "series_id": 1}
        for i in range(300)
    ]  # fmt: skip
    described = describe(rows)
    assert described is not None
    assert described["frames"] == preview.KEY_SLICES
    assert described["sop_uids"][0] == "1.2.0"
    assert described["sop_uids"][-1] == "1.2.299"


def test_without_a_picture_the_reason_is_said(previewer: Previewer) -> None:
    sr = replace(a_header(), sop_class_uid="1.2.840.10008.5.1.4.1.1.88.33")
    blank = replace(a_header(), has_pixel_data=False)
    rows = [{"header": asdict(h), "digest": "0" * 64, "series_id": 1} for h in (sr, blank)]
    assert describe(rows) is None
    with pytest.raises(Refused, match="no picture"):
        previewer.render(rows, frame=0, center=None, width=None)


def test_what_cannot_be_decoded_is_refused_with_its_reason(
    previewer: Previewer, film: Row, settings: Settings
) -> None:
    digest = "ab" * 32
    target = Spool(settings.spool).path(digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(Spool(settings.spool).path(film["digest"]).read_bytes()[:5000])
    with pytest.raises(Refused, match="no preview"):
        previewer.render([film | {"digest": digest}], frame=0, center=None, width=None)


def test_a_slice_of_absurd_size_is_refused(previewer: Previewer, slices: list[Row]) -> None:
    huge = slices[0] | {
        "digest": "cd" * 32,
        "header": slices[0]["header"] | {"rows": 60_000, "columns": 60_000},
    }
    with pytest.raises(Refused, match="too large"):
        previewer.render([huge], frame=0, center=None, width=None)


def test_a_kept_picture_that_was_cut_short_is_made_again(
    previewer: Previewer, film: Row, settings: Settings
) -> None:
    whole = show(previewer, [film])
    (settings.home / "previews" / f"{film['digest']}-0.npy").write_bytes(b"\x93NUMPY")
    assert np.array_equal(show(previewer, [film]), whole)


def test_only_so_many_pictures_are_kept(
    previewer: Previewer, slices: list[Row], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "CACHED_MAX", 2)
    for frame in range(5):
        show(previewer, slices, frame=frame)
    shutil.rmtree(settings.home / "previews")
    for frame in range(5):
        show(previewer, slices, frame=frame)
    assert len(list((settings.home / "previews").glob("*.npy"))) == 2


def test_films_of_one_study_are_decoded_one_after_the_other_by_the_same_child(
    previewer: Previewer, film: Row, settings: Settings
) -> None:
    spool = Spool(settings.spool)
    header, others = header_from_json(film["header"]), []
    whole = previewer.with_decoder(lambda d, p: d.radiograph(p, header), spool.path(film["digest"]))
    assert whole.pixels.size > 1024 * 1024
    for digest in ("ef" * 32, "fe" * 32):
        spool.path(digest).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(spool.path(film["digest"]), spool.path(digest))
        others.append(show(previewer, [film | {"digest": digest}]))
    assert np.array_equal(*others)
    shown = previewer.rendered(spool.path(film["digest"]), header, 0, None, png=False)
    assert np.array_equal(pixels(shown), others[0])


def test_a_picture_over_dicomweb_that_cannot_be_made_says_why(
    previewer: Previewer, slices: list[Row], settings: Settings
) -> None:
    spool = Spool(settings.spool)
    header = header_from_json(slices[0]["header"])
    broken = spool.path("ba" * 32)
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_bytes(spool.path(slices[0]["digest"]).read_bytes()[:3000])
    whole = previewer.rendered(spool.path(slices[0]["digest"]), header, 0, None, png=True)
    assert Image.open(io.BytesIO(whole)).format == "PNG"
    with pytest.raises(Refused, match="no picture"):
        previewer.rendered(broken, header, 0, None, png=False)
    with pytest.raises(Refused, match="colour"):
        previewer.rendered(broken, replace(header, samples_per_pixel=3), 0, None, png=True)
