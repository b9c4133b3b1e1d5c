"""The receiver: durable before success, the right status for each failure, and no peer that can stop it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.dicom import builders, wire
from triage.dicom import incoming
from triage.dicom.folder import IncomingFolder
from triage.dicom.receive import Caller, ReceivedObject, Receiver, ReceiverConfig, ReceiverLimits
from triage.dicom.send import echo, send
from triage.domain.errors import Unavailable

QUICK = ReceiverLimits(request_seconds=1.0, pdu_seconds=2.0, idle_seconds=5.0)


class Hospital:
    """A receiver with what it kept and heard; `refuse` is raised instead of keeping, as long as it is set."""

    def __init__(self, folder: Path, limits: ReceiverLimits = QUICK) -> None:
        self.kept = folder / "objects"
        self.kept.mkdir()
        self.incoming = folder / "incoming"
        self.received: list[ReceivedObject] = []
        self.ended: list[tuple[str, bool, list[str]]] = []
        self.broken: list[OSError] = []
        self.refuse: Exception | None = None
        config = ReceiverConfig(
            incoming=self.incoming,
            port=0,
            may_call=lambda caller: caller.ae_title != "STRANGER",
            limits=limits,
        )
        self.receiver = Receiver(
            config,
            on_object=self._keep,
            on_association_end=lambda *end: self.ended.append(end),
            on_broken_disk=self.broken.append,
        )
        self.receiver.start()

    @property
    def port(self) -> int:
        return self.receiver.port

    def _keep(self, received: ReceivedObject) -> int:
        if self.refuse is not None:
            raise self.refuse
        received.path.rename(self.kept / f"{received.digest}.dcm")
        self.received.append(received)
        return 0

    def send(self, *paths: Path, calling: str = "MODALITY") -> list[int | None]:
        results = send(
            list(paths),
            host="127.0.0.1",
            port=self.port,
            calling=calling,
            called="TRIAGE",
            timeout_seconds=10,
        )
        return [r.status for r in results]

    def echo(self, **names: str) -> float:
        begin = time.monotonic()
        echo(
            "127.0.0.1",
            self.port,
            called=names.get("called", "TRIAGE"),
            calling=names.get("calling", "MODALITY"),
            timeout_seconds=5,
        )
        return time.monotonic() - begin

    def left_over(self) -> list[Path]:
        """Files with bytes in them; names made ahead have none."""
        return [path for path in self.incoming.iterdir() if path.stat().st_size]


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.receiver.stop(grace_seconds=1)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return builders.save(builders.film(), tmp_path / "film.dcm")


def eventually(condition: Callable[[], object], within_seconds: float = 5) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def data_set(path: Path) -> bytes:
    whole = path.read_bytes()
    return whole[144 + int.from_bytes(whole[140:144], "little") :]


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
    hospital.receiver._on_object = lambda received: (order.append("keep"), keep(received))[1]
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


def test_an_object_cut_by_a_lost_connection_leaves_nothing(hospital: Hospital) -> None:
    peer = wire.associated(hospital.port)
    peer.sendall(wire.fragment(3, wire.c_store_rq(wire.DX, "1.2.3"), command=True, last=True))
    peer.sendall(wire.fragment(3, b"\x08\0\x05\0" + bytes(5000), command=False, last=False))
    eventually(hospital.left_over)
    peer.close()
    eventually(lambda: hospital.ended and not hospital.left_over())
    assert hospital.ended[0][1:] == (True, [])


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


def test_declared_four_gibibytes_lock_nobody_out(tmp_path: Path) -> None:
    """The measured hole of pynetdicom (assurance 1): three such peers held all three slots."""
    hospital = Hospital(tmp_path, replace(QUICK, associations=3))
    liars = [wire.connect(hospital.port) for _ in range(3)]
    for liar in liars:
        liar.sendall(wire.pdu(1, b"x", length=0xFFFFFFFF))
    assert hospital.echo() < 2
    assert [wire.read_pdu(liar)[0] for liar in liars] == [7, 7, 7]  # A-ABORT, then closed
    within = [wire.associated(hospital.port) for _ in range(2)]
    for liar in within:
        liar.sendall(wire.pdu(4, b"x", length=0xFFFFFFF0))
    assert hospital.echo() < 2
    eventually(lambda: hospital.receiver.associations == 0)
    hospital.receiver.stop()


def test_a_crowd_of_silent_and_trickling_peers_costs_no_slot(hospital: Hospital) -> None:
    threads = threading.active_count()
    crowd = [wire.connect(hospital.port) for _ in range(120)]
    for n, peer in enumerate(crowd):
        peer.sendall(wire.associate_rq()[: n % 60])
    assert hospital.echo() < 2
    assert threading.active_count() <= threads + 2
    eventually(lambda: all(_is_closed(peer) for peer in crowd), within_seconds=10)
    assert hospital.echo() < 2


def _is_closed(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(64) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_peers_that_close_half_way_are_forgotten_at_once(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, replace(QUICK, request_seconds=30.0))
    begin = time.process_time()
    for cut in (3, 6, 40, 120):
        with wire.connect(hospital.port) as peer:
            peer.sendall(wire.associate_rq()[:cut])
            peer.shutdown(socket.SHUT_WR)
            assert wire.read_pdu(peer)[0] == 0
    assert time.process_time() - begin < 2
    assert hospital.echo() < 2
    hospital.receiver.stop()


def test_a_peer_that_stops_inside_a_pdu_is_cut_off(hospital: Hospital) -> None:
    peer = wire.associated(hospital.port)
    peer.sendall(wire.fragment(3, bytes(1000), command=True, last=True)[:300])
    eventually(lambda: hospital.ended, within_seconds=8)
    assert hospital.ended[0][1]


def test_over_the_limit_an_association_is_rejected_for_now(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, replace(QUICK, associations_per_address=2))
    first, second = wire.associated(hospital.port), wire.associated(hospital.port)
    third = wire.connect(hospital.port)
    third.sendall(wire.associate_rq())
    assert wire.read_pdu(third) == (3, bytes([0, 2, 3, 2]))  # transient, local limit exceeded
    first.sendall(wire.pdu(5, bytes(4)))
    assert wire.read_pdu(first)[0] == 6
    eventually(lambda: hospital.receiver.associations == 1)
    wire.associated(hospital.port).close()
    second.close()
    hospital.receiver.stop(grace_seconds=1)


@pytest.mark.parametrize(
    "bad",
    [
        wire.fragment(3, bytes(2000), command=False, last=True),  # a data set without a command
        b"".join(
            wire.fragment(3, bytes(16_000), command=True, last=False) for _ in range(3)
        ),  # a long command
        wire.pdu(4, b"\0\0\0\0\1"),  # a PDV of length 0
        wire.pdu(9, b"what is this"),
        wire.associate_rq(),  # again
    ],
    ids=["no command", "long command", "empty PDV", "unknown PDU", "second request"],
)
def test_what_no_honest_peer_sends_ends_its_association_alone(
    hospital: Hospital, film: Path, bad: bytes
) -> None:
    peer = wire.associated(hospital.port)
    peer.sendall(bad)
    eventually(lambda: hospital.ended)
    assert hospital.ended[0][1]
    assert hospital.send(film) == [0]
    assert hospital.left_over() == []


@pytest.mark.parametrize(
    "associations",
    [150, pytest.param(10_000, marks=pytest.mark.faults)],
    ids=["quick", "full"],
)
def test_mutated_associations_cost_a_healthy_sender_nothing(
    associations: int, hospital: Hospital, tmp_path: Path
) -> None:
    if associations > 1_000 and not os.environ.get("TRIAGE_TEST_FULL"):
        pytest.skip("10,000 associations run under make test-faults")
    slices = builders.save_all(builders.ct_slices(20), tmp_path / "ct")
    sound = wire.associate_rq() + wire.fragment(3, wire.c_store_rq(wire.DX, "1.2.3"), command=True, last=True)
    sound += wire.fragment(3, bytes(range(256)) * 8, command=False, last=True) + wire.pdu(5, bytes(4))
    numbers = iter(range(associations))

    def vandal() -> None:
        for seed in numbers:
            chance = random.Random(seed)
            data = bytearray(sound)
            for _ in range(chance.randint(1, 12)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            with contextlib.suppress(OSError), wire.connect(hospital.port, 3) as peer:
                peer.sendall(data[: chance.randrange(1, len(data))])
                if seed % 20:
                    peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass

    vandals = [threading.Thread(target=vandal) for _ in range(4)]
    for thread in vandals:
        thread.start()
    statuses: list[int | None] = []
    while any(thread.is_alive() for thread in vandals):
        statuses += hospital.send(*slices)
    assert set(statuses) == {0}
    eventually(lambda: not hospital.left_over(), within_seconds=10)


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
