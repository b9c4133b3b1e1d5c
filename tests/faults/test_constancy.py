"""If triage stops, somebody is told: a frozen worker turns /health red and rings the operator (P11)."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import threading
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from tests.system.product import running, wait_until

pytestmark = pytest.mark.faults
INTERVAL = 20.0


class Pager(http.server.BaseHTTPRequestHandler):
    """An operator's webhook that keeps what it is told."""

    told: ClassVar[list[dict[str, str]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).told.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_a_frozen_worker_turns_health_red_and_rings_the_operator(tmp_path: Path) -> None:
    pager = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pager)
    threading.Thread(target=pager.serve_forever, daemon=True).start()
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef")
    route = {
        "name": "operators", "kind": "webhook", "url": f"http://127.0.0.1:{pager.server_port}/page",
        "secret_file": str(secret), "allow_private": True, "operator": True,
    }  # fmt: skip
    with running(tmp_path / "home", constancy_seconds=INTERVAL, routes=[route]) as product:

        def health() -> tuple[int, str]:
            answer = httpx.get(f"{product.address}/health", timeout=5, trust_env=False)
            return answer.status_code, answer.text

        wait_until(
            lambda: health()[0] == 200 and "last check passed" in health()[1], 180, "the first check passes"
        )
        stopped = product.pids("worker-stat") + product.pids("worker-routine")
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: health()[0] == 503, INTERVAL + 70, "health turns red")
            wait_until(
                lambda: any(t["kind"] == "constancy.missed" for t in Pager.told),
                INTERVAL + 120,
                "the operator is told",
            )
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        assert all("MANY" not in json.dumps(t) for t in Pager.told)
    pager.shutdown()
