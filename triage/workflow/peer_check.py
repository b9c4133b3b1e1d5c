"""Does speaking with a peer work? Step by step, each with its time and cause: `triage echo`, a page's test button."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pynetdicom.presentation import build_context

from triage.dicom import stow_send
from triage.dicom.associate import Remote, associate
from triage.dicom.commitment import STORAGE_COMMITMENT
from triage.dicom.header import read_header
from triage.dicom.query import STUDY_ROOT_FIND
from triage.dicom.send import SendResult, echo_to, send_to
from triage.domain.errors import Unavailable
from triage.domain.study import CONSTANCY_PATIENT_PREFIX
from triage.phantom.identity import identity_for
from triage.phantom.person import make_thorax
from triage.phantom.write import write_radiograph
from triage.settings import OutletSettings, Settings
from triage.workflow.check_steps import Check, Step, run_steps
from triage.workflow.remotes import remote_of
from triage.workflow.sending import service_of

SEED, SIZE_PX = 7, 512
CONNECT_SECONDS = 5.0
STEP_SECONDS = 30.0
# What to do where a step fails.
ADVICE = {
    "name": "Is the host spelt right, and known to this machine's name server?",
    "connect": "Is the peer running? Check address, port and firewall on the way.",
    "TLS": "Is its certificate in dicom.tls_ca, and ours known there (dicom.tls_certificate)?",
    "C-ECHO": "Does it know our AE title and address, and do we call it by its own?",
    "C-STORE of a phantom": "Its log says why it refuses objects of ours; may our AE title store there?",
    "QIDO-RS": "Check url and token_file of its outlet.",
    "STOW-RS of a phantom": "Its log says why it refuses objects of ours; may our token store there?",
}
END_SOON = timedelta(days=30)  # of a certificate (standards 9.1)


class PeerCheck(Check):
    def as_json(self, peer: str) -> dict[str, Any]:
        steps = [s.as_json() for s in self.steps]
        return {"peer": peer, "ok": self.ok, "steps": steps, "next": ADVICE.get(self.failed, "")}


def check_peer(
    settings: Settings,
    peer: dict[str, Any],
    *,
    store: bool = True,
    said: Callable[[Step], None] = lambda _: None,
) -> PeerCheck:
    """Name, connection, TLS, C-ECHO, a real store of a phantom, what else it offers, and its DICOMweb.

    peer   a row of `store.peers`
    store  False: nothing is stored there
    said   called after each step
    """
    check = PeerCheck([])
    outlet = next((o for o in settings.outlets if o.peer == peer["name"]), None)
    address = (peer["host"], peer["port"])
    with tempfile.TemporaryDirectory() as folder:
        steps: list[tuple[str, Callable[[], str]]] = [
            ("name", lambda: _resolve(peer["host"])),
            ("connect", lambda: _connect(address)),
            *([("TLS", lambda: _handshake(_remote(settings, peer)))] if peer["tls"] else []),
            ("C-ECHO", lambda: _echo(_remote(settings, peer))),
        ]
        if store:
            steps.append(("C-STORE of a phantom", lambda: _store(_remote(settings, peer), Path(folder))))
        steps.append(("services", lambda: _offers(_remote(settings, peer))))
        run_steps(check, steps, said)
        web = outlet is not None and outlet.url != ""
        if web:
            assert outlet is not None
            steps = [("QIDO-RS", lambda: _query(service_of(settings, outlet)))]
            if store:
                steps.append(("STOW-RS of a phantom", lambda: _stow(settings, outlet, Path(folder))))
            run_steps(check, steps, said)  # beside DIMSE: one may work without the other
    return check


def _echo(remote: Remote) -> str:
    echo_to(remote)
    return "answered"


def _query(service: stow_send.Service) -> str:
    stow_send.answers_queries(service)
    return "answered"


def _remote(settings: Settings, peer: dict[str, Any]) -> Remote:
    return remote_of(settings, peer, STEP_SECONDS)


def _resolve(host: str) -> str:
    found = {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    return ", ".join(sorted(found))


def _connect(address: tuple[str, int]) -> str:
    socket.create_connection(address, timeout=CONNECT_SECONDS).close()
    return f"port {address[1]} is open"


def _handshake(remote: Remote) -> str:
    """Version, cipher, and when the peer's certificate ends."""
    assert remote.tls is not None
    try:
        with (
            socket.create_connection((remote.host, remote.port), timeout=CONNECT_SECONDS) as plain,
            remote.tls.wrap_socket(plain) as secured,
        ):
            cipher, certificate = secured.cipher(), secured.getpeercert() or {}
            version = secured.version()
    except ssl.SSLError as error:
        raise Unavailable(f"the TLS handshake failed: {error.reason or error}") from error
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
    soon = " SOON" if ends - datetime.now(UTC) < END_SOON else ""
    return f"{version}, {cipher[0] if cipher else '?'}, certificate ends{soon} {ends:%Y-%m-%d}"


def _store(remote: Remote, folder: Path) -> str:
    return _stored(send_to(remote, [_phantom(folder)[1]])[0], "C-STORE")


def _stow(settings: Settings, outlet: OutletSettings, folder: Path) -> str:
    return _stored(stow_send.store(service_of(settings, outlet), [_phantom(folder)])[0], "STOW-RS")


def _stored(result: SendResult, how: str) -> str:
    if not result.ok:
        status = "no answer" if result.status is None else f"status {result.status:04X}"
        raise Unavailable(f"{how} failed: {status} {result.detail}".rstrip())
    return "stored" if result.status == 0 else f"stored with warning {result.status:04X}"


def _phantom(folder: Path) -> tuple[str, Path]:
    """(SOP Instance UID, file) of a film of nobody, made once for all steps."""
    for made in folder.glob("*.dcm"):
        return read_header(made).sop_instance_uid, made
    thorax = make_thorax(SEED)
    identity = identity_for(
        SEED, "DX", datetime.now(UTC), sex=thorax.body.sex, patient_id=f"{CONSTANCY_PATIENT_PREFIX}-ECHO"
    )
    path = write_radiograph(folder, thorax, identity=identity, size_px=SIZE_PX)
    return read_header(path).sop_instance_uid, path


def _offers(remote: Remote) -> str:
    """Which of the services that we may use it offers; none of them is a must."""
    names = {STORAGE_COMMITMENT: "storage commitment", STUDY_ROOT_FIND: "study queries"}
    association = None
    with contextlib.suppress(Unavailable):
        association = associate(remote, [build_context(uid) for uid in names])
    if association is None:
        return "neither storage commitment nor study queries"
    offered = {str(c.abstract_syntax) for c in association.accepted_contexts}
    association.release()
    return "; ".join(f"{name}: {'yes' if uid in offered else 'no'}" for uid, name in names.items())
