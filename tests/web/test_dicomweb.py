"""QIDO-RS and WADO-RS over real sockets, asked by dicomweb-client: other people's reading of PS3.18."""

from __future__ import annotations

import copy
import io
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicomweb_client import DICOMwebClient
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from werkzeug.serving import make_server

from tests.dicom.builders import ct_slices, film, save
from tests.web.seed import Sown
from triage.store import audit
from triage.workflow import accounts

Bearer = Callable[..., FlaskClient]
SYNTAXES = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, JPEGLSLossless,
    RLELossless,
)  # fmt: skip


@pytest.fixture
def held(app: Flask, tmp_path: Path) -> tuple[Dataset, list[Dataset]]:
    """A film and a scan in the spool, a slice in each transfer syntax."""
    inlet = app.extensions["triage"].inlet
    one = film(PatientName="Müller^Jürgen", StudyDate="20260110", AccessionNumber="ACC-7")
    slices = ct_slices(len(SYNTAXES), StudyDate="20260201", PatientID="CT1", PatientName="山田^太郎")
    inlet.take(save(one, tmp_path / "film.dcm"), sender="DX1", transfer="1")
    for number, (ds, syntax) in enumerate(zip(slices, SYNTAXES, strict=True)):
        path = tmp_path / f"{number}.dcm"
        if syntax == ExplicitVRBigEndian:
            other = copy.deepcopy(ds)
            other.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
            save(other, path, syntax)
        elif syntax == DeflatedExplicitVRLittleEndian:
            whole = save(ds, path).read_bytes()
            squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            raw = whole[144 + int.from_bytes(whole[140:144], "little") :]
            save(ds, path, syntax, squeeze.compress(raw) + squeeze.flush())
        else:
            save(ds, path)
            again = pydicom.dcmread(path)
            if syntax.is_encapsulated:
                again.compress(syntax, generate_instance_uid=False)
            again.file_meta.TransferSyntaxUID = syntax
            again.save_as(
                path,
                enforce_file_format=True,
                implicit_vr=syntax == ImplicitVRLittleEndian,
                little_endian=True,
            )
        inlet.take(path, sender="CT1", transfer="1")
    inlet.end("1")
    return one, slices


@pytest.fixture
def client(app: Flask, sown: Sown, clock: Any) -> Iterator[DICOMwebClient]:
    with sown.database.write() as tx:
        secret = accounts.issue_token(tx, "viewer", ["dicom:read"], clock(), by="test")
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield DICOMwebClient(
        f"http://127.0.0.1:{server.server_port}/dicom-web", headers={"Authorization": f"Bearer {secret}"}
    )
    server.shutdown()
    thread.join()


def test_search_by_every_required_key(client: DICOMwebClient, held: Any) -> None:
    one, slices = held

    def found(**filters: Any) -> list[str]:
        return [
            s["0020000D"]["Value"][0] for s in client.search_for_studies(search_filters=filters, limit=50)
        ]

    film_uid, scan_uid = one.StudyInstanceUID, slices[0].StudyInstanceUID
    for key, value in {
        "StudyDate": "20260110", "AccessionNumber": "ACC-7", "00080050": "ACC-?", "PatientName": "müller^j*",
        "StudyInstanceUID": film_uid, "ModalitiesInStudy": "DX", "PatientID": one.PatientID,
    }.items():  # fmt: skip
        assert film_uid in found(**{key: value}), key
        assert scan_uid not in found(**{key: value}), key
    assert found(StudyDate="20260115-") == found(StudyDate="20260115-20260301") == [scan_uid]
    assert found(StudyDate="-20260115", PatientName="*ller*") == [film_uid]
    assert found(PatientName="Ju%rgen") == found(PatientID="NOBODY") == []
    assert found(PatientName="山田*") == [scan_uid]


def test_series_and_instances_and_pages(client: DICOMwebClient, held: Any) -> None:
    scan = held[1][0].StudyInstanceUID
    (series,) = client.search_for_series(scan, search_filters={"Modality": "CT"})
    assert series["00201209"]["Value"] == [len(SYNTAXES)] and series["00080060"]["Value"] == ["CT"]
    first = client.search_for_instances(scan, limit=4)
    rest = client.search_for_instances(scan, limit=4, offset=4)
    uids = [i["00080018"]["Value"][0] for i in [*first, *rest]]
    assert uids == [ds.SOPInstanceUID for ds in held[1]]
    found = client.search_for_instances(search_filters={"SOPInstanceUID": uids[2]})
    assert [i["00200013"]["Value"][0] for i in found] == [held[1][2].InstanceNumber]
    assert client.search_for_series(search_filters={"Modality": "MR"}) == []


def test_every_syntax_comes_back_whole_as_stored_and_uncompressed(client: DICOMwebClient, held: Any) -> None:
    slices = held[1]
    study, series = slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID

    plain = client.retrieve_series(study, series)
    stored = client.retrieve_series(study, series, media_types=(("application/dicom", "*"),))

    assert [ds.file_meta.TransferSyntaxUID for ds in stored] == list(SYNTAXES)
    assert {ds.file_meta.TransferSyntaxUID for ds in plain} == {ExplicitVRLittleEndian}
    for sent, one, other in zip(slices, plain, stored, strict=True):
        assert one.SOPInstanceUID == other.SOPInstanceUID == sent.SOPInstanceUID
        assert one.PatientName == sent.PatientName
        np.testing.assert_array_equal(one.pixel_array, np.frombuffer(sent.PixelData, "<i2").reshape(64, 64))
    one = client.retrieve_instance(study, series, slices[4].SOPInstanceUID)
    assert one.SOPInstanceUID == slices[4].SOPInstanceUID
    assert len(client.retrieve_study(study)) == len(SYNTAXES)


def test_frames_and_bulk_data_are_the_pixels(client: DICOMwebClient, held: Any) -> None:
    for ds in held[1]:
        at = (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
        (frame,) = client.retrieve_instance_frames(*at, frame_numbers=[1])
        assert frame == ds.PixelData
        metadata = client.retrieve_instance_metadata(*at)
        # This client names its host without the port, so the address that we give lacks it too.
        uri = metadata["7FE00010"]["BulkDataURI"].replace(
            "http://127.0.0.1", client.base_url.removesuffix("/dicom-web")
        )
        (bulk,) = client.retrieve_bulkdata(uri)
        assert bulk == ds.PixelData
    (stream,) = client.retrieve_instance_frames(
        held[1][4].StudyInstanceUID, held[1][4].SeriesInstanceUID, held[1][4].SOPInstanceUID, frame_numbers=[1],
        media_types=(("image/jls", JPEGLSLossless),),
    )  # fmt: skip
    assert stream.startswith(b"\xff\xd8")


def test_metadata_say_what_was_sent_without_its_pixels(client: DICOMwebClient, held: Any) -> None:
    one = held[0]
    (found,) = client.retrieve_study_metadata(one.StudyInstanceUID)
    back = Dataset.from_json(found, bulk_data_uri_handler=lambda _: b"")
    assert back.PatientName == "Müller^Jürgen" and back.ViewPosition == "PA"
    assert found["7FE00010"].keys() == {"vr", "BulkDataURI"}
    assert (
        len(client.retrieve_series_metadata(held[1][0].StudyInstanceUID, held[1][0].SeriesInstanceUID)) == 6
    )


def test_rendered_through_a_window(client: DICOMwebClient, held: Any) -> None:
    slices = held[1]
    at = (slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID, slices[3].SOPInstanceUID)
    png = client.retrieve_instance_rendered(
        *at, media_types=("image/png",), params={"window": "-1000,2,linear"}
    )
    shown = np.asarray(Image.open(io.BytesIO(png)))
    assert shown.shape == (64, 64) and shown[0, 0] > shown[1, 1]  # 24 + 3 - 1024 above the rest at -1000
    one = held[0]
    jpeg = client.retrieve_instance_rendered(one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID)
    picture = Image.open(io.BytesIO(jpeg))
    assert picture.format == "JPEG" and picture.size == (256, 240)


def test_what_is_asked_wrongly_or_not_there(bearer: Bearer, held: Any, sown: Sown) -> None:
    asked = bearer("dicom:read")
    scan = held[1][0]
    at = f"/dicom-web/studies/{scan.StudyInstanceUID}/series/{scan.SeriesInstanceUID}/instances/{scan.SOPInstanceUID}"

    def status(path: str, **headers: str) -> int:
        return asked.get(path, headers=headers).status_code

    assert status("/dicom-web/studies?NoSuchKeyword=1") == 400
    assert status("/dicom-web/studies?StudyDate=yesterday") == 400
    assert status("/dicom-web/studies?limit=-1") == 400
    assert status("/dicom-web/studies?PatientID=NOBODY") == 204
    assert status("/dicom-web/studies/1.2.3") == status("/dicom-web/studies/1.2.3/metadata") == 404
    assert status(at + "/frames/2") == 404
    assert status(at + "/frames/x") == status(at + "/rendered?window=a,b") == 400
    assert status(at, Accept="text/html") == status(at + "/rendered", Accept="video/mp4") == 406
    assert status("/dicom-web/studies", Accept="text/html") == 406
    said = asked.get("/dicom-web/studies?fuzzymatching=true&PatientComments=x&limit=1").headers.getlist(
        "Warning"
    )
    assert "not matched" in said[0] and "fuzzymatching" in said[1] and "additional results" in said[2]
    assert bearer("dicom:write").get("/dicom-web/studies").status_code == 403
    status(at)
    status(at)
    with sown.database.read() as tx:
        acts = [e["act"] for e in audit.events(tx)]
    assert acts.count("study.retrieved") == 1
