"""The TLS port: only what BCP 195 allows, only who shows a certificate, and nobody who can hold the door."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.dicom import builders, wire
from tests.dicom.hospital import QUICK, eventually
from triage.dicom.receive import Receiver
from triage.dicom.receiver_config import Caller, ReceivedObject, ReceiverConfig
from triage.dicom.tls import ServerContexts, TlsFiles, fingerprint, not_after
from triage.domain.errors import Misconfigured


@dataclass
class Door:
    """A receiver with both ports; `callers` are those that asked to be let in."""

    receiver: Receiver
    authority: Authority
    files: TlsFiles
    callers: list[Caller]
    received: list[ReceivedObject]

    def client(self, name: str = "ct1") -> ssl.SSLContext:
        certificate, key = self.authority.issue(name)
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        context.load_cert_chain(certificate, key)
        return context

    def associate(self, context: ssl.SSLContext) -> float:
        """Seconds from connect to A-ASSOCIATE-AC."""
        begin = time.monotonic()
        with (
            socket.create_connection(("127.0.0.1", self.receiver.tls_port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="triage.hospital") as peer,
        ):
            peer.sendall(wire.associate_rq())
            assert wire.read_pdu(peer)[0] == 2
            took = time.monotonic() - begin
            peer.sendall(wire.pdu(5, bytes(4)))
            assert wire.read_pdu(peer)[0] == 6
        return took


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    authority = Authority(tmp_path / "ca")
    files = TlsFiles(*authority.issue("triage.hospital"), authority.ca)
    callers: list[Caller] = []
    received: list[ReceivedObject] = []
    config = ReceiverConfig(
        incoming=tmp_path / "incoming",
        port=0,
        tls_port=0,
        tls=ServerContexts(files),
        may_call=lambda caller: callers.append(caller) is None,
        limits=replace(QUICK, request_seconds=3.0),
    )
    receiver = Receiver(
        config,
        on_object=lambda r: received.append(r) or 0,  # type: ignore[func-returns-value]
        on_association_end=lambda *_: None,
        on_broken_disk=pytest.fail,
    )
    receiver.start()
    yield Door(receiver, authority, files, callers, received)
    receiver.stop(grace_seconds=1)


def test_both_ports_serve_side_by_side_and_a_certificate_says_who_calls(door: Door) -> None:
    door.associate(door.client("ct1"))
    wire.associated(door.receiver.port).close()
    over_tls, plain = door.callers
    assert over_tls.certificate is not None and plain.certificate is None
    assert over_tls.certificate.names == ("ct1",)
    assert over_tls.certificate.sha256 == fingerprint((door.authority.folder / "ct1.pem").read_bytes())


def test_a_hundred_idle_peers_do_not_delay_a_real_one(door: Door) -> None:
    context = door.client()
    alone = door.associate(context)
    idle = [wire.connect(door.receiver.tls_port) for _ in range(100)]
    for peer in idle[::2]:
        peer.sendall(b"\x16\x03\x01\x02\x00")  # a ClientHello that never comes
    assert door.associate(context) < max(2.0, 10 * alone)
    eventually(
        lambda: _closed(idle[0]) and _closed(idle[1]), within_seconds=10
    )  # the handshake has a deadline
    for peer in idle:
        peer.close()


def _closed(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(100) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_who_shows_no_certificate_or_a_strange_one_is_not_heard(door: Door, tmp_path: Path) -> None:
    nobody = ssl.create_default_context(cafile=str(door.authority.ca))
    stranger = ssl.create_default_context(cafile=str(door.authority.ca))
    stranger.load_cert_chain(*Authority(tmp_path / "other").issue("ct1"))
    for context in (nobody, stranger):
        with pytest.raises((ssl.SSLError, OSError, AssertionError)):
            door.associate(context)
    assert door.callers == []


@pytest.mark.parametrize(
    "offer",
    [
        ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "AES128-SHA:AES256-GCM-SHA384"],  # no forward secrecy
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"],  # no AEAD
        ["-tls1_2", "-cipher", "NULL:@SECLEVEL=0"],
    ],
)
def test_what_bcp_195_does_not_allow_is_refused(offer: list[str], door: Door) -> None:
    assert "Cipher is (NONE)" in _s_client(door, *offer)


@pytest.mark.parametrize(
    "offer", [["-tls1_2"], ["-tls1_3"], ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]]
)
def test_what_bcp_195_asks_for_is_served(offer: list[str], door: Door) -> None:
    text = _s_client(door, *offer)
    assert "Cipher is (NONE)" not in text and "Verify return code: 0" in text
    assert "Compression: NONE" in text


def _s_client(door: Door, *offer: str) -> str:
    certificate, key = door.authority.issue("ct1")
    command = [
        "openssl",
        "s_client",
        "-connect",
        f"127.0.0.1:{door.receiver.tls_port}",
        "-CAfile",
        str(door.authority.ca),
    ]
    command += ["-cert", str(certificate), "-key", str(key), *offer]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


@pytest.mark.interop
def test_dcmtk_delivers_over_tls(door: Door, tmp_path: Path) -> None:
    if shutil.which("storescu") is None:
        pytest.skip("dcmtk is not installed (apt-get install dcmtk)")
    slices = builders.save_all(builders.ct_slices(5), tmp_path / "ct")
    certificate, key = door.authority.issue("ct1")
    done = subprocess.run(
        ["storescu", "+tls", key, certificate, "+cf", door.authority.ca, "-aec", "TRIAGE", "127.0.0.1",
         str(door.receiver.tls_port), *slices],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(door.received) == 5
    assert {c.certificate.names for c in door.callers if c.certificate} == {("ct1",)}


def test_a_renewed_certificate_is_used_without_a_restart(door: Door) -> None:
    context = door.client()
    before = _serial(door, context)
    door.authority.issue("triage.hospital")
    assert _serial(door, context) != before
    door.files.key.write_text("half a file")  # while somebody is writing it the old one serves
    door.associate(context)


def _serial(door: Door, context: ssl.SSLContext) -> object:
    with (
        socket.create_connection(("127.0.0.1", door.receiver.tls_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="triage.hospital") as peer,
    ):
        return (peer.getpeercert() or {})["serialNumber"]


def test_the_end_of_a_certificate_is_read_from_it(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).issue("x", days=40)
    left = not_after(certificate.read_bytes()) - datetime.now(UTC)
    assert timedelta(days=39) < left < timedelta(days=41)
    with pytest.raises(Misconfigured):
        not_after(key.read_bytes())
    with pytest.raises(Misconfigured):
        not_after(b"-----BEGIN CERTIFICATE-----\nMAAwAA==\n-----END CERTIFICATE-----")
