"""The test of a peer against real ones: TLS with its certificate, a store with a warning, DICOMweb beside DIMSE."""

from __future__ import annotations

import io
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE, evt

from tests.certificates import Authority
from tests.pacs import VERIFICATION, a_pacs
from triage.domain.study import DX_FOR_PRESENTATION
from triage.settings import DicomSettings, OutletSettings, Settings
from triage.workflow.peer_check import check_peer


def checked(
    port: int, settings: Settings | None = None, *, tls: bool = False, store: bool = True
) -> dict[str, Any]:
    peer = {"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "tls": tls}
    return check_peer(settings or Settings(), peer, store=store).as_json("PACS")


def details(said: dict[str, Any]) -> dict[str, str]:
    return {s["name"]: s["detail"] for s in said["steps"]}


@contextmanager
def a_tls_pacs(authority: Authority, days: int) -> Iterator[int]:
    certificate, key = authority.issue("pacs", days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    ae = AE("PACS")
    ae.add_supported_context(VERIFICATION)
    ae.add_supported_context(DX_FOR_PRESENTATION)
    handlers = [(evt.EVT_C_STORE, lambda _: 0)]
    server = ae.start_server(("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=handlers)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@pytest.mark.parametrize(("days", "soon"), [(300, False), (20, True)])
def test_over_tls_the_end_of_the_peers_certificate_is_said(tmp_path: Path, days: int, soon: bool) -> None:
    authority = Authority(tmp_path)
    with a_tls_pacs(authority, days) as port:
        said = checked(port, Settings(dicom=DicomSettings(tls_ca=authority.ca)), tls=True)
    assert said["ok"], said
    assert details(said)["TLS"].startswith("TLSv1.")
    assert ("certificate ends SOON" in details(said)["TLS"]) is soon


def test_a_peer_whose_certificate_nobody_here_trusts_fails_at_tls_with_what_to_do(tmp_path: Path) -> None:
    trusted = Authority(tmp_path / "ours")
    with a_tls_pacs(Authority(tmp_path / "theirs"), 300) as port:
        said = checked(port, Settings(dicom=DicomSettings(tls_ca=trusted.ca)), tls=True)
    assert "the TLS handshake failed" in details(said)["TLS"]
    assert [s["state"] for s in said["steps"]][2:] == ["failed", "not tried", "not tried", "not tried"]
    assert "dicom.tls_ca" in said["next"]


def test_a_store_with_a_warning_is_a_store_that_says_so() -> None:
    with a_pacs(statuses=[0xB000]) as pacs:
        said = checked(pacs.port)
    assert said["ok"] and details(said)["C-STORE of a phantom"] == "stored with warning B000"


class Web:
    """A small DICOMweb archive: answers a query, stores what comes or refuses it."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.stored: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                self.send_response(204)
                self.end_headers()

            def do_POST(self) -> None:
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                part = body.split(b"\r\n\r\n", 1)[1]
                uid = str(pydicom.dcmread(io.BytesIO(part), stop_before_pixels=True).SOPInstanceUID)
                one: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid]}}
                if refuses:
                    one["00081197"] = {"vr": "US", "Value": [0xA700]}
                else:
                    web.stored.append(uid)
                self.send_response(409 if refuses else 200)
                self.end_headers()
                listed = "00081198" if refuses else "00081199"
                self.wfile.write(json.dumps({listed: {"vr": "SQ", "Value": [one]}}).encode())

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.settings = Settings(
            outlets=(
                OutletSettings(peer="PACS", url=f"http://127.0.0.1:{self._server.server_port}/dicom-web"),
            )
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_dicomweb_is_tried_beside_dimse_with_the_same_phantom() -> None:
    web = Web()
    with a_pacs() as pacs:
        said = checked(pacs.port, web.settings)
        looked = checked(pacs.port, web.settings, store=False)
    web.close()
    assert said["ok"] and details(said)["STOW-RS of a phantom"] == "stored"
    assert web.stored == list(pacs.stored)
    assert [s["name"] for s in looked["steps"]] == ["name", "connect", "C-ECHO", "services", "QIDO-RS"]


def test_dicomweb_that_refuses_is_said_though_dimse_works() -> None:
    web = Web(refuses=True)
    with a_pacs() as pacs:
        said = checked(pacs.port, web.settings)
    web.close()
    assert {s["name"] for s in said["steps"] if s["state"] == "failed"} == {"STOW-RS of a phantom"}
    assert "status A700" in details(said)["STOW-RS of a phantom"] and "token" in said["next"]
