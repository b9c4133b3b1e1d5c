"""The web process: gunicorn with threads, one per open event stream and fifty for plain requests (libraries 8).

`python -m triage.web.serve` is what the supervisor starts. No access log: paths hold Study Instance UIDs.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from triage.domain.errors import TriageError
from triage.log import get_logger
from triage.settings import Settings
from triage.store.database import Database
from triage.web.app import create_app
from triage.web.context import CHANNELS
from triage.workflow.parts.common import Beat, settings_of_process

PLAIN_THREADS = 50
GRACEFUL_SECONDS = 5

log = get_logger()


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with our options; the application is made in the worker, after the fork."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        web = self.settings.web
        host = f"[{web.host}]" if ":" in web.host else web.host
        options = {
            "bind": f"{host}:{web.port}",
            "workers": 1,  # the feed has one poller per process; more processes by more `--only web`
            "worker_class": "gthread",
            "threads": web.listeners_max + CHANNELS + PLAIN_THREADS,
            "worker_connections": web.listeners_max + CHANNELS + 4 * PLAIN_THREADS,
            "graceful_timeout": GRACEFUL_SECONDS,
            "timeout": 60,
            "keepalive": 5,
            "limit_request_line": 4094,
            "limit_request_fields": 60,
            "loglevel": "warning",
            "accesslog": None,
            "proc_name": "triage-web",
            "control_socket_disable": True,
            "post_worker_init": _started,
            "worker_exit": _ended,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return create_app(self.settings, Database(self.settings.database_url))


def _started(worker: Any) -> None:
    """In the worker: beat for /health, and end the open streams at SIGTERM, since gunicorn waits for them."""
    web = worker.wsgi.extensions["triage"]
    worker.triage_beat = Beat(web.database, "web", alive=lambda: not web.feed.stopped)
    worker.triage_beat.start()
    before = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: Any) -> None:
        web.feed.stop()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, stop)
    addresses = ", ".join(f"http://{s.getsockname()[0]}:{s.getsockname()[1]}" for s in worker.sockets)
    log.info("web.listening", address=addresses)


def _ended(_: Any, worker: Any) -> None:
    beat = getattr(worker, "triage_beat", None)
    if beat is not None:
        beat.leave()
        worker.wsgi.extensions["triage"].previewer.close()


def run(settings: Settings) -> None:
    """Serve until SIGTERM."""
    _Server(settings).run()


if __name__ == "__main__":
    try:
        run(settings_of_process())
    except TriageError as error:
        log.error("web.not_started", error=str(error))
        sys.exit(1)
