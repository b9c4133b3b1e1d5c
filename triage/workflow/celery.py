"""Binds the assess step to Celery, and no logic: a message is a wake-up call with a run's id (libraries 6).

Late acknowledgement with reject on worker loss, one message reserved at a time, no result backend, JSON only, remote
control off (T21). What a lost, doubled or late message would cost is nothing: rows are the queue.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from triage.log import get_logger

ASSESS = "triage.assess"
QUEUES = ("stat", "routine", "shadow")
log = get_logger()


def make_app(broker_url: str) -> Celery:
    """The Celery application on this broker."""
    options: dict[str, Any] = {"visibility_timeout": 3600}
    if broker_url.startswith("filesystem://"):
        folder = broker_url.removeprefix("filesystem://")
        options = {
            "data_folder_in": f"{folder}/messages",
            "data_folder_out": f"{folder}/messages",
            "control_folder": f"{folder}/control",
            "polling_interval": 0.1,
        }
        for name in ("messages", "control"):
            Path(folder, name).mkdir(parents=True, exist_ok=True)
        broker_url = "filesystem://"
    else:
        options |= {"unacked_restore_throttle": 1, "socket_timeout": 5, "socket_connect_timeout": 2,
                    "queue_order_strategy": "priority"}  # fmt: skip
    app = Celery("triage", broker=broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=options,
        task_default_queue="routine",
        task_create_missing_queues=True,
    )
    return app


class Waker:
    """Sends wake-up calls from a thread of its own: a broker that is away delays no receiver and no relay."""

    def __init__(self, broker_url: str) -> None:
        self._app = make_app(broker_url)
        self._calls: queue.Queue[tuple[int, str]] = queue.Queue(maxsize=10_000)
        threading.Thread(target=self._send_all, name="waker", daemon=True).start()

    def wake(self, calls: Iterable[tuple[int, str]]) -> None:
        """Best effort; the sweeper repeats what gets lost."""
        for call in calls:
            with contextlib.suppress(queue.Full):
                self._calls.put_nowait(call)

    def _send_all(self) -> None:
        while True:
            run_id, name = self._calls.get()
            try:
                self._app.send_task(ASSESS, args=[run_id], queue=name, retry=False)
            except (OperationalError, OSError) as error:
                log.warning("broker.unreachable", run_id=run_id, error=type(error).__name__)
