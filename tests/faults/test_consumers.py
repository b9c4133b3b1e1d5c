"""A ward system that hangs, closes half way or answers AE: the alert arrives once and nobody else waits (P9, P10)."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.system.product import Product, a_film, another, running, wait_until
from triage.hl7.mllp import Inbox, MllpListener
from triage.hl7.parse import AckCode, build_ack, parse
from triage.store import deliveries

pytestmark = pytest.mark.faults


class Moody:
    """Behaves badly first (each mood once), then as an honest Inbox."""

    def __init__(self, moods: list[str]) -> None:
        self.moods, self.inbox = moods, Inbox()
        self.seen: list[bytes] = []
        self._lock = threading.Lock()

    def __call__(self, raw: bytes) -> bytes:
        with self._lock:
            self.seen.append(raw)
            mood = self.moods.pop(0) if self.moods else "honest"
        if mood == "hang":
            time.sleep(4)  # longer than the route waits for an answer
        if mood == "other id":
            return build_ack(
                raw.replace(parse(raw).control_id.encode(), b"SOMEBODYELSE"), AckCode.AA, now=_now()
            )
        if mood == "try later":
            return build_ack(raw, AckCode.AR, now=_now(), text="busy")
        if mood == "garbage":
            return b"MSH|broken"
        if mood == "refuse":
            return build_ack(raw, AckCode.AE, now=_now(), text="unknown patient")
        return self.inbox(raw)


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def flagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_film(tmp_path_factory.mktemp("source"), 20261, "pneumothorax", size_px=2000)[0]


def _deliveries(product: Product) -> list[dict[str, Any]]:
    database = product.database()
    with database.read() as tx:
        rows = deliveries.rows(tx)
    database.close()
    return rows


def test_a_moody_ward_gets_the_alert_once_in_identical_bytes(tmp_path: Path, flagged: Path) -> None:
    ward = Moody(["hang", "other id", "garbage", "try later"])
    with running(tmp_path / "home", handler=ward) as product:
        path, uid = another(flagged, tmp_path, 1)
        product.store([path])
        product.wait_row(uid, ai_status="completed")
        wait_until(
            lambda: [d["state"] for d in _deliveries(product)] == ["delivered"], 90, "delivered in the end"
        )
    assert len(set(ward.seen)) == 1, "a resend had other bytes"
    assert len(ward.seen) == 5
    assert len(ward.inbox.messages) == 1


def test_a_refused_message_is_parked_and_another_route_does_not_wait(tmp_path: Path, flagged: Path) -> None:
    other = Inbox()
    listener = MllpListener("127.0.0.1", 0, other)
    port = listener.start()
    ward = Moody(["refuse"])
    second = {"name": "second", "kind": "mllp", "host": "127.0.0.1", "port": port, "processing_id": "T"}
    with running(tmp_path / "home", handler=ward, more_routes=[second]) as product:
        path, uid = another(flagged, tmp_path, 2)
        product.store([path])
        product.wait_row(uid, ai_status="completed")
        assert other.wait(1, within_seconds=20)
        states = wait_until(
            lambda: (
                {d["route"]: d["state"] for d in _deliveries(product)}
                if all(d["state"] != "waiting" for d in _deliveries(product))
                else None
            ),
            20,
            "both deliveries ended",
        )
        assert states == {"ward": "parked", "second": "delivered"}
    listener.stop()
