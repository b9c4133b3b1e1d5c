"""The sender: each file leaves as it is, and every failure has a name."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from tests.dicom import builders
from tests.dicom.hospital import Hospital, data_set, hospital
from triage.dicom.send import SendResult, echo, send
from triage.domain.errors import Unavailable

__all__ = ["hospital"]


def test_files_of_several_kinds_leave_in_their_own_syntax_over_one_association(
    hospital: Hospital, tmp_path: Path
) -> None:
    packed = builders.film(SOPInstanceUID=f"{builders.ROOT}.1.1.2")
    builders.save(packed, tmp_path / "b.dcm")  # which tells pydicom how it is encoded
    packed.compress(RLELossless, generate_instance_uid=False)
    files = [
        builders.save(builders.film(), tmp_path / "a.dcm"),
        builders.save(packed, tmp_path / "b.dcm", RLELossless),
        builders.save(builders.ct_slices(1)[0], tmp_path / "c.dcm", ImplicitVRLittleEndian),
    ]
    told: list[SendResult] = []
    results = send(files, host="127.0.0.1", port=hospital.port, called="TRIAGE", progress=told.append)

    assert [r.status for r in results] == [0, 0, 0]
    assert [r.path for r in results] == files
    assert sorted(told, key=lambda r: r.path) == results
    kept = {data_set(p) for p in hospital.kept.iterdir()}
    assert kept == {data_set(p) for p in files}
    assert len({r.association_id for r in hospital.received}) == 1


def test_what_is_no_dicom_object_never_leaves_and_the_rest_does(hospital: Hospital, tmp_path: Path) -> None:
    picture = tmp_path / "picture.dcm"
    picture.write_bytes(b"\x89PNG" + bytes(500))
    film = builders.save(builders.film(), tmp_path / "film.dcm")
    wrong, right = send([picture, film], host="127.0.0.1", port=hospital.port, called="TRIAGE")
    assert (wrong.ok, right.ok) == (False, True)
    assert "not a DICOM file" in wrong.detail


def test_a_refusal_comes_back_with_its_status_and_words(hospital: Hospital, tmp_path: Path) -> None:
    hospital.refuse = Unavailable("the database does not answer")
    film = builders.save(builders.film(), tmp_path / "film.dcm")
    [result] = send([film], host="127.0.0.1", port=hospital.port, called="TRIAGE")
    assert (result.ok, result.status) == (False, 0xA700)
    assert result.detail == "the database does not answer"


def test_warnings_count_as_stored() -> None:
    assert SendResult(Path("x"), 0xB007).ok
    assert not SendResult(Path("x"), 0xC000).ok
    assert not SendResult(Path("x"), None).ok


def test_nobody_there_is_said_with_the_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    film = builders.save(builders.film(), tmp_path / "film.dcm")
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
        echo("127.0.0.1", port, timeout_seconds=1)
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
        send([film], host="127.0.0.1", port=port)
