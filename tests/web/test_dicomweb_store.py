"""STOW-RS through the real application: each instance its own outcome, the same object the same bytes as by C-STORE."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
from flask.testing import FlaskClient
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import select

from tests.dicom.builders import film
from tests.web.seed import Sown
from triage.dicom.incoming import part10_preamble
from triage.store import schema

Bearer = Callable[..., FlaskClient]
DX = "1.2.840.10008.5.1.4.1.1.1.1"
UID = "1.2.826.0.1.3680043.10.9999.7.{}"


def bytes_of(ds: Dataset, **how: Any) -> bytes:
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True, **how)
    return out.getvalue()


def a_film(number: int, **changes: Any) -> Dataset:
    study = UID.format("1")
    ds = film(
        SOPInstanceUID=UID.format(number), StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1", **changes
    )
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = DX, ds.SOPInstanceUID
    return ds


def body(*parts: bytes, kind: str = "application/dicom") -> tuple[bytes, str]:
    raw = b"".join(b"--bb\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + p + b"\r\n" for p in parts)
    return raw + b"--bb--\r\n", f'multipart/related; type="{kind}"; boundary=bb'


def post(client: FlaskClient, *parts: bytes, study: str = "", **headers: str) -> Any:
    raw, kind = body(*parts)
    address = "/dicom-web/studies" + (f"/{study}" if study else "")
    return client.post(address, data=raw, content_type=kind, headers=headers)


@pytest.fixture
def modality(bearer: Bearer) -> FlaskClient:
    return bearer("dicom:write", name="GATEWAY")


def instances(sown: Sown) -> list[Any]:
    with sown.database.read() as tx:
        query = select(schema.instance).where(schema.instance.c.sop_instance_uid.startswith(UID.format("")))
        return list(tx.execute(query))


def test_all_stored_is_200_and_the_files_are_those_of_a_c_store(
    modality: FlaskClient, sown: Sown, settings: Any
) -> None:
    one, two = a_film(1), a_film(2)

    said = post(modality, bytes_of(one), bytes_of(two))

    assert said.status_code == 200, said.text
    answer = Dataset.from_json(said.get_data(as_text=True))
    assert [i.ReferencedSOPInstanceUID for i in answer.ReferencedSOPSequence] == [
        UID.format(1),
        UID.format(2),
    ]
    assert answer.RetrieveURL.endswith(f"/dicom-web/studies/{UID.format(1)}")
    raw = bytes_of(one)
    dataset = raw[144 + int.from_bytes(raw[140:144], "little") :]
    stored = part10_preamble(DX, UID.format(1), "1.2.840.10008.1.2.1") + dataset
    row = instances(sown)[0]
    assert row.digest == hashlib.sha256(stored).hexdigest()
    assert (settings.spool / "objects" / row.digest[:2] / f"{row.digest}.dcm").read_bytes() == stored
    assert not list((settings.spool / "inlet").iterdir())


def test_twice_is_once(modality: FlaskClient, sown: Sown) -> None:
    assert [post(modality, bytes_of(a_film(1))).status_code for _ in range(2)] == [200, 200]
    assert len(instances(sown)) == 1


def test_some_stored_is_202_with_the_reason_of_each(modality: FlaskClient, sown: Sown) -> None:
    strange = a_film(3)
    strange.SOPClassUID = strange.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    other = bytes_of(a_film(4)).replace(
        UID.format(4).encode(), UID.format(5).encode(), 1
    )  # the file meta alone
    syntax = a_film(6)
    raw = bytes_of(syntax).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0", 1)

    said = post(modality, bytes_of(a_film(1)), bytes_of(strange), other, raw, b"no dicom at all")

    assert said.status_code == 202
    answer = Dataset.from_json(said.get_data(as_text=True))
    assert [(i.ReferencedSOPInstanceUID, i.FailureReason) for i in answer.FailedSOPSequence] == [
        (UID.format(3), 0x0122), (UID.format(4), 0xA900), (UID.format(6), 0xC122)
    ]  # fmt: skip
    assert [i.FailureReason for i in answer.OtherFailuresSequence] == [0xC000]
    assert len(instances(sown)) == 1


def test_none_stored_is_409_also_of_another_study(modality: FlaskClient) -> None:
    said = post(modality, bytes_of(a_film(1)), study=UID.format(9))
    assert said.status_code == 409 and "00081198" in said.get_json(force=True)
    assert post(modality, bytes_of(a_film(1)), study=UID.format(1)).status_code == 200


def test_another_object_of_one_uid_and_another_patient_of_one_study_are_failures(
    modality: FlaskClient,
) -> None:
    post(modality, bytes_of(a_film(1)))
    said = post(
        modality, bytes_of(a_film(1, PatientComments="changed")), bytes_of(a_film(2, PatientID="ELSE"))
    )
    answer = Dataset.from_json(said.get_data(as_text=True))
    assert [i.FailureReason for i in answer.FailedSOPSequence] == [0x0111, 0x0110]


def test_xml_where_it_is_asked_for(modality: FlaskClient) -> None:
    said = post(modality, bytes_of(a_film(1)), Accept="application/dicom+xml")
    assert said.content_type == "application/dicom+xml"
    root = ElementTree.fromstring(said.data)
    assert root.find(".//DicomAttribute[@keyword='ReferencedSOPInstanceUID']/Value").text == UID.format(1)  # type: ignore[union-attr]
    assert post(modality, bytes_of(a_film(1)), Accept="text/html").status_code == 406


def test_metadata_and_bulk_data_make_the_object(modality: FlaskClient, sown: Sown) -> None:
    ds = a_film(1)
    document = ds.to_json_dict()
    document["7FE00010"] = {"vr": "OW", "BulkDataURI": "http://here/pixels"}
    raw = b"--bb\r\nContent-Type: application/dicom+json\r\n\r\n" + json.dumps([document]).encode() + (
        b"\r\n--bb\r\nContent-Type: application/octet-stream\r\nContent-Location: http://here/pixels\r\n\r\n"
        + ds.PixelData + b"\r\n--bb--\r\n"
    )  # fmt: skip
    kind = 'multipart/related; type="application/dicom+json"; boundary=bb'

    said = modality.post("/dicom-web/studies", data=raw, content_type=kind)

    assert said.status_code == 200, said.text
    assert (
        post(modality, bytes_of(ds)).status_code == 200
    )  # the same data set: the same bytes, no contradiction
    assert len(instances(sown)) == 1
    missing = raw.replace(b"Content-Location: http://here/pixels", b"Content-Location: http://else")
    missing = missing.replace(UID.format(1).encode(), UID.format(8).encode())
    assert modality.post("/dicom-web/studies", data=missing, content_type=kind).status_code == 409


def test_what_is_no_store_request_is_refused(modality: FlaskClient) -> None:
    related = 'multipart/related; type="application/dicom"'
    for raw, kind, status in (
        (b"--bb\r\nA: 1", f"{related}; boundary=bb", 400),
        (b"", f"{related}; boundary=bb", 400),
        (b"--bb--", f"{related}; boundary=bb", 400),
        (b"x", related, 400),
        (b"x", "multipart/form-data; boundary=bb", 415),
        (b"x", "application/json", 415),
    ):
        said = modality.post("/dicom-web/studies", data=raw, content_type=kind)
        assert (said.status_code, said.content_type) == (status, "application/problem+json")


def test_too_long_an_object_fails_alone_and_a_full_spool_is_503(
    modality: FlaskClient, app: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = settings.dicom.model_copy(update={"object_bytes_max": 100_000})
    web = app.extensions["triage"]
    for owner in (web, web.inlet):
        name = "settings" if owner is web else "_settings"
        object.__setattr__(owner, name, settings.model_copy(update={"dicom": small}))
    said = post(modality, bytes_of(a_film(1)), bytes_of(a_film(2, PatientComments="")))
    assert said.status_code == 503 and said.headers["Retry-After"]
    monkeypatch.setattr(web.inlet._spool, "_reserve_bytes", 1 << 60)
    assert post(modality, bytes_of(a_film(1))).status_code == 503


def test_the_scope_is_asked_for(bearer: Bearer) -> None:
    assert post(bearer("dicom:read"), bytes_of(a_film(1))).status_code == 403
