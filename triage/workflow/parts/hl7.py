"""The HL7 process: orders, patients and reports in by MLLP."""

from __future__ import annotations

import os

from triage.domain.errors import TriageError, Unavailable
from triage.hl7.mllp import MllpListener
from triage.log import get_logger
from triage.store.database import Database
from triage.workflow.inbox import Inbox
from triage.workflow.parts.common import Beat, Stop, clock, settings_of_process
from triage.workflow.routes import server_context
from triage.workflow.site import site_of

log = get_logger()
LEFT_EVERY_SECONDS = 10.0


def main() -> int:
    settings = settings_of_process()
    database = Database(settings.database_url)
    inbox = Inbox(database, site_of(settings), clock)
    listener = MllpListener(
        settings.hl7.host, settings.hl7.port, of_peer=inbox.of_peer, tls=server_context(settings.hl7)
    )
    stop = Stop()
    beat = Beat(database, f"hl7@{os.uname().nodename[:24]}")
    try:
        listener.start()
    except Unavailable as error:
        log.error("hl7.not_listening", error=str(error), fix="hl7.port in the settings")
        return 3
    beat.start()
    while True:
        try:
            inbox.work_left()
        except TriageError as error:
            log.warning("message.not_worked", error=str(error))
        if stop.wait(LEFT_EVERY_SECONDS):
            break
    listener.stop()
    beat.leave()
    return 0
