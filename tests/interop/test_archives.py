"""Foreign archives take what we made: Orthanc by C-STORE with commitment and by STOW-RS, dcmtk plainly and with TLS."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest

from tests.certificates import certificate_files
from tests.interop.programs import a_storescp, an_orthanc
from tests.system.product import wait_until
from tests.workflow.test_publish import Bench
from triage.dicom import commitment
from triage.dicom.send import echo_to
from triage.domain.errors import Unavailable
from triage.settings import DicomSettings, OutletSettings, Settings
from triage.store import dispatches, peers
from triage.store.database import Database
from triage.workflow.peer_check import check_peer
from triage.workflow.remotes import find_peer, remote_of
from triage.workflow.sending import Sender

pytestmark = pytest.mark.interop


def _published(database: Database, home: Path) -> Bench:
    bench = Bench(database, home)
    bench.completed()
    bench.publisher.turn()
    return bench


def _states(bench: Bench) -> set[str]:
    with bench.database.read() as tx:
        rows = dispatches.of_outputs(tx, [r["id"] for r in bench.rows()])
    return {d["state"] for found in rows.values() for d in found}


def _add(database: Database, port: int, tls: bool = False) -> dict[str, Any]:
    with database.write() as tx:
        peers.add(tx, "PACS", "ORTHANC", "127.0.0.1", port, tls=tls)
        return find_peer(tx, "PACS")


def test_orthanc_stores_and_commits_what_we_send(database: Database, tmp_path: Path) -> None:
    outlet = OutletSettings(peer="PACS", commitment=True, timeout_seconds=20)
    bench = _published(database, tmp_path)
    sender = Sender(database, Settings(home=tmp_path), outlet, bench.clock)
    listener = commitment.serve("127.0.0.1", 0, "TRIAGE", sender.hear)  # Orthanc reports by a call of its own
    try:
        with an_orthanc(tmp_path / "orthanc", listener.server_address[1], web=False) as orthanc:
            _add(database, orthanc.dicom_port)
            sender.turn()
            wait_until(lambda: _states(bench) == {"committed"}, 60, "Orthanc commits")
            held = httpx.get(f"{orthanc.address}/instances", timeout=10, trust_env=False).json()
            assert len(held) == len(bench.rows())
            raw = httpx.get(
                f"{orthanc.address}/instances/{held[0]}/file", timeout=10, trust_env=False
            ).content
            theirs = pydicom.dcmread(io.BytesIO(raw))
            assert theirs in [pydicom.dcmread(bench.folder / r["path"]) for r in bench.rows()]
    finally:
        listener.shutdown()


def test_orthanc_takes_the_same_by_stow(database: Database, tmp_path: Path) -> None:
    with an_orthanc(tmp_path / "orthanc") as orthanc:
        outlet = OutletSettings(peer="PACS", by="stow", url=orthanc.dicomweb, timeout_seconds=20)
        settings = Settings(home=tmp_path, outlets=(outlet,))
        bench = _published(database, tmp_path)
        peer = _add(database, orthanc.dicom_port)
        Sender(database, settings, outlet, bench.clock).turn()
        assert _states(bench) == {"sent"}
        held = httpx.get(f"{orthanc.address}/instances", timeout=10, trust_env=False).json()
        assert len(held) == 2
        check = check_peer(settings, peer)
        assert [(s.name, s.ok) for s in check.steps] == [
            ("name", True), ("connect", True), ("C-ECHO", True), ("C-STORE of a phantom", True),
            ("services", True), ("QIDO-RS", True), ("STOW-RS of a phantom", True),
        ]  # fmt: skip
        assert check.steps[4].detail == "storage commitment: yes; study queries: yes"


def test_dcmtk_with_tls_takes_what_we_send_and_knows_us_by_our_certificate(
    database: Database, tmp_path: Path
) -> None:
    server, client = certificate_files("pacs.test", tmp_path), certificate_files("triage.test", tmp_path)
    options = ["+tls", str(server.key), str(server.certificate), "+cf", str(client.certificate), "-rc"]
    outlet = OutletSettings(peer="PACS", timeout_seconds=20)
    dicom = DicomSettings(tls_certificate=client.certificate, tls_key=client.key, tls_ca=server.certificate)
    settings = Settings(home=tmp_path, outlets=(outlet,), dicom=dicom)
    bench = _published(database, tmp_path)
    with a_storescp(tmp_path / "scp", *options) as (port, kept):
        peer = _add(database, port, tls=True)
        Sender(database, settings, outlet, bench.clock).turn()
        assert _states(bench) == {"sent"}
        stored = {pydicom.dcmread(p).SOPInstanceUID for p in kept.iterdir()}
        assert stored == {r["sop_instance_uid"] for r in bench.rows()}
        check = check_peer(settings, peer, store=False)
        (tls,) = [s for s in check.steps if s.name == "TLS"]
        assert tls.ok and tls.detail.startswith("TLSv1.") and "certificate ends" in tls.detail
        stranger = certificate_files("stranger.test", tmp_path)
        wrong = settings.model_copy(
            update={"dicom": dicom.model_copy(update={"tls_ca": stranger.certificate})}
        )
        with pytest.raises(Unavailable):
            echo_to(remote_of(wrong, peer, 5))
        failed = check_peer(wrong, peer)
        assert not failed.ok and isinstance(failed.error, Unavailable)
        assert [(s.name, s.ok) for s in failed.steps][2:] == [
            ("TLS", False), ("C-ECHO", None), ("C-STORE of a phantom", None), ("services", None),
        ]  # fmt: skip
