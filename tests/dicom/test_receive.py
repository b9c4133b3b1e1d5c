"""The receiver: durable before success, the right status for each failure."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.dicom import builders, wire
from tests.dicom.hospital import QUICK, Hospital, data_set, eventually, film, hospital
from triage.dicom import incoming
from triage.dicom.folder import IncomingFolder
from triage.dicom.receive import Receiver
from triage.dicom.receiver_config import Caller
from triage.dicom.send import echo
from triage.domain.errors import Unavailable

__all__ = ["film", "hospital"]


def test_a_known_caller_is_answered_and_a_stranger_is_turned_away(hospital: Hospital) -> None:
    hospital.echo()
    with pytest.raises(Unavailable, match="Calling AE title not recognised"):
        hospital.echo(calling="STRANGER")
    with pytest.raises(Unavailable, match="Called AE title not recognised"):
        hospital.echo(called="ELSEWHERE")


def test_when_nobody_can_say_who_may_call_the_door_stays_shut_for_now(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)

    def unanswered(caller: Caller) -> bool:
        raise Unavailable("the database does not answer")

    object.__setattr__(hospital.receiver.config, "may_call", unanswered)
    with wire.connect(hospital.port) as peer:
        peer.sendall(wire.associate_rq())
        assert wire.read_pdu(peer) == (3, bytes([0, 2, 3, 1]))  # transient, temporary congestion
    hospital.receiver.stop()


def test_what_was_acknowledged_lies_on_the_disk_byte_for_byte(hospital: Hospital, film: Path) -> None:
    assert hospital.send(film) == [0]

    [received] = hospital.received
    [kept] = hospital.kept.iterdir()
    assert data_set(kept) == data_set(film)
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == received.digest == kept.stem
    assert kept.stat().st_size == received.size
    assert received.calling_ae_title == "MODALITY"
    assert dcmread(kept).file_meta.MediaStorageSOPInstanceUID == received.sop_instance_uid
    assert hospital.left_over() == []


def test_the_file_is_flushed_before_it_is_handed_on(
    hospital: Hospital, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    flush = os.fdatasync
    monkeypatch.setattr(incoming.os, "fdatasync", lambda d: (order.append("flush"), flush(d)))
    keep = hospital._keep
    hospital.receiver._storing._on_object = lambda received: (order.append("keep"), keep(received))[1]
    hospital.send(film)
    assert order == ["flush", "keep"]


def test_one_object_from_many_senders_has_one_digest(hospital: Hospital, film: Path) -> None:
    for calling in ("ONE", "TWO", "ONE"):
        assert hospital.send(film, calling=calling) == [0]
    assert len({r.digest for r in hospital.received}) == 1
    assert len({r.association_id for r in hospital.received}) == 3


def test_the_end_of_an_association_is_told_with_its_series(hospital: Hospital, tmp_path: Path) -> None:
    hospital.send(*builders.save_all(builders.ct_slices(9), tmp_path / "ct"))
    eventually(lambda: hospital.ended)
    [(association_id, aborted, series)] = hospital.ended
    assert not aborted
    assert series == [f"{builders.ROOT}.2.1"]
    assert {r.association_id for r in hospital.received} == {association_id}


def _raw_store(port: int, sop_instance_uid: str, data: bytes) -> int:
    with wire.associated(port) as peer:
        peer.sendall(wire.fragment(3, wire.c_store_rq(wire.DX, sop_instance_uid), command=True, last=True))
        peer.sendall(wire.fragment(3, data, command=False, last=True))
        kind, body = wire.read_pdu(peer)
        assert kind == 4
        return wire.status_of(body)


def test_an_object_that_is_not_what_the_command_says_is_a900(hospital: Hospital, tmp_path: Path) -> None:
    small = builders.film()
    small.PixelData = b"\0\0"
    path = builders.save(small, tmp_path / "small.dcm")
    assert _raw_store(hospital.port, "1.2.3.4.5", data_set(path)) == 0xA900
    assert _raw_store(hospital.port, small.SOPInstanceUID, data_set(path)) == 0
    assert hospital.left_over() == []


def test_bytes_that_are_no_data_set_are_c000(hospital: Hospital) -> None:
    assert _raw_store(hospital.port, "1.2.3.4.5", b"GIF89a" + b"\xff" * 400) == 0xC000
    assert hospital.received == []
    assert hospital.left_over() == []


def test_out_of_resources_is_a700_and_the_retry_succeeds(hospital: Hospital, film: Path) -> None:
    for refusal in (Unavailable("the database does not answer"), OSError(errno.ENOSPC, "full")):
        hospital.refuse = refusal
        assert hospital.send(film) == [0xA700]
        assert hospital.left_over() == []
    hospital.refuse = None
    assert hospital.send(film) == [0]


def test_a_bug_behind_the_door_answers_0110_and_the_association_lives(
    hospital: Hospital, tmp_path: Path
) -> None:
    slices = builders.save_all(builders.ct_slices(3), tmp_path / "ct")
    hospital.refuse = KeyError("a bug")
    assert hospital.send(*slices) == [0x0110] * 3
    hospital.refuse = None
    assert hospital.send(*slices) == [0] * 3


def test_below_the_reserve_of_free_space_nothing_is_taken(tmp_path: Path, film: Path) -> None:
    hospital = Hospital(
        tmp_path / "h" if (tmp_path / "h").mkdir() is None else tmp_path,
        replace(QUICK, reserve_bytes=1 << 60),
    )
    assert hospital.send(film) == [0xA700]
    assert hospital.left_over() == []
    hospital.receiver.stop()


def test_a_full_disk_refuses_and_the_retry_succeeds_when_there_is_room(tmp_path: Path, film: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system: a real full disk not shown")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "triage-test", small], check=True)
    try:
        hospital = Hospital(small, replace(QUICK, reserve_bytes=0))
        filler = small / "filler"
        filler.write_bytes(bytes(150_000))
        assert hospital.send(film) == [0xA700]
        assert hospital.left_over() == []
        filler.unlink()
        assert hospital.send(film) == [0]
        hospital.receiver.stop()
    finally:
        subprocess.run(["umount", small], check=True)


def test_two_receivers_share_one_port(tmp_path: Path, film: Path) -> None:
    first = Hospital(tmp_path)
    config = replace(first.receiver.config, share_port=True)
    first.receiver.stop()
    pair = [
        Receiver(
            config, on_object=first._keep, on_association_end=lambda *_: None, on_broken_disk=lambda _: None
        )
    ]
    pair[0].start()
    config = replace(config, port=pair[0].port)
    pair.append(
        Receiver(
            config, on_object=first._keep, on_association_end=lambda *_: None, on_broken_disk=lambda _: None
        )
    )
    pair[1].start()
    for _ in range(8):
        echo("127.0.0.1", config.port, called="TRIAGE", timeout_seconds=5)
    for receiver in pair:
        receiver.stop()


def test_too_long_an_object_is_drained_and_the_next_one_taken(tmp_path: Path, film: Path) -> None:
    (tmp_path / "h").mkdir()
    hospital = Hospital(tmp_path / "h", replace(QUICK, object_bytes=100_000))
    slices = builders.save_all(builders.ct_slices(1), tmp_path / "ct")
    assert hospital.send(film, *slices) == [0xA700, 0]
    hospital.receiver.stop()


def test_a_failed_flush_refuses_discards_and_tells_the_process(
    hospital: Hospital, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def broken(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(incoming.os, "fdatasync", broken)
    assert hospital.send(film) == [0xA700]
    assert len(calls) == 1, "a failed flush may lie when asked again"
    assert [e.errno for e in hospital.broken] == [errno.EIO]
    assert hospital.left_over() == []


def test_leftovers_of_a_killed_process_are_swept_at_start(tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming/999-dead.0.part").write_bytes(b"half")
    sibling = IncomingFolder(tmp_path / "incoming")
    theirs = sibling.new_file()
    theirs.write_bytes(b"still arriving")
    hospital = Hospital(tmp_path)
    assert hospital.left_over() == [theirs]
    hospital.receiver.stop()
    sibling.close()


@pytest.mark.interop
@pytest.mark.parametrize("program", ["storescu", "dcmsend"])
def test_dcmtk_as_modality_delivers_a_series(program: str, hospital: Hospital, tmp_path: Path) -> None:
    if shutil.which(program) is None:
        pytest.skip("dcmtk is not installed (apt-get install dcmtk)")
    builders.save_all(builders.ct_slices(12), tmp_path / "ct")
    options = ["+sd", "-xe"] if program == "storescu" else ["+sd"]
    done = subprocess.run(
        [program, "-aet", "MODALITY", "-aec", "TRIAGE", *options, "127.0.0.1", str(hospital.port), str(tmp_path / "ct")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    eventually(lambda: hospital.ended)
    assert len({r.sop_instance_uid for r in hospital.received}) == 12
    assert not hospital.ended[0][1]


def test_stop_lets_nobody_in_and_ends(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    port = hospital.port
    idle = wire.associated(port)
    begin = time.monotonic()
    hospital.receiver.stop(grace_seconds=0.2)
    assert time.monotonic() - begin < 5
    with pytest.raises(OSError):
        wire.connect(port, 1)
    assert wire.read_pdu(idle)[0] in (0, 7)
    ours = [t for t in threading.enumerate() if t.name.startswith(("dicom-", "AcceptorThread"))]
    for thread in ours:  # an association's thread announces its end just before it returns
        thread.join(2)
    assert not [t for t in ours if t.is_alive()]


def test_a_port_that_is_taken_is_said(hospital: Hospital, tmp_path: Path) -> None:
    config = replace(hospital.receiver.config, port=hospital.port)
    second = Receiver(
        config, on_object=lambda _: 0, on_association_end=lambda *_: None, on_broken_disk=lambda _: None
    )
    with pytest.raises(Unavailable, match=str(hospital.port)):
        second.start()
