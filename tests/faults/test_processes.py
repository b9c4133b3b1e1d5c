"""Kill -9 of every part at random moments while studies arrive: nothing acknowledged is lost, nothing is there twice.

The oracle knows what outsiders know: what the sender was answered, what the ward received, what the API says.
Smaller numbers run in `make test`, the full ones with TRIAGE_TEST_FULL=1 (make test-faults).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
import time
from pathlib import Path

import pytest

from tests.system.product import Product, a_film, another, running, wait_until
from triage.hl7.parse import parse

pytestmark = pytest.mark.faults
FULL = os.environ.get("TRIAGE_TEST_FULL") == "1"
STUDIES = 50 if FULL else 16
KILLS = 30 if FULL else 8


def test_fifty_studies_survive_kills_of_every_part(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", "20261121"))
    chance = random.Random(seed)
    print(f"seed {seed}")
    plain, _ = a_film(tmp_path / "source", 41)
    flagged, _ = a_film(tmp_path / "source", 20261, "pneumothorax", size_px=2000)
    sent = {}
    for number in range(STUDIES):
        critical = number % 5 == 0
        path, uid = another(flagged if critical else plain, tmp_path / "studies", number)
        sent[uid] = (path, critical)
    with running(tmp_path / "home") as product:
        killer = threading.Thread(target=_kill_now_and_then, args=(product, chance))
        killer.start()
        for path, _ in sent.values():
            product.store_until_taken([path], within_seconds=180)
        killer.join()
        product.wait_ready()
        _everything_is_there_once(product, sent)


def _kill_now_and_then(product: Product, chance: random.Random) -> None:
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.2, 2.5))
        product.kill(chance.choice(["receiver", "worker-stat", "worker-routine", "relay", "web", "broker"]))


def _everything_is_there_once(product: Product, sent: dict[str, tuple[Path, bool]]) -> None:
    def done() -> bool:
        items = {i["study_uid"]: i for i in product.get("/api/v1/worklist?limit=500")["items"]}
        return sent.keys() <= items.keys() and all(items[u]["ai_status"] == "completed" for u in sent)

    wait_until(done, 240, f"every study has its run; {product.tail()}")
    critical = {uid for uid, (_, flagged) in sent.items() if flagged}

    def told() -> bool:
        return len(_told(product)) >= len(critical)

    wait_until(told, 60, "every alert was delivered")
    assert sorted(_told(product)) == sorted(set(_told(product))), "an alert was delivered under two keys"
    for uid in sent:
        runs = product.get(f"/api/v1/studies/{uid}")["runs"]
        assert [r["status"] for r in runs] == ["completed"], runs
        names = [f["name"] for f in runs[0]["findings"]]
        assert len(names) == len(set(names)), "a finding is there twice"


def _told(product: Product) -> list[str]:
    """Accession numbers of the distinct messages that the ward has."""
    return [parse(m).first("OBR").field(18) for m in product.inbox.messages]


def test_a_flushed_broker_loses_no_run(tmp_path: Path) -> None:
    plain, _ = a_film(tmp_path / "source", 42)
    with running(tmp_path / "home") as product:
        product.kill("worker-stat")
        uids = []
        for number in range(6):
            path, uid = another(plain, tmp_path / "studies", number)
            product.store_until_taken([path])
            uids.append(uid)
        product.kill("broker")  # nothing of it is on disk: this is a flush and a death in one
        for uid in uids:
            product.wait_row(uid, ai_status="completed")


def test_a_full_disk_is_answered_a700_and_the_retry_succeeds(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small tmpfs: A700 on a full disk not shown")
    import subprocess

    plain, _ = a_film(tmp_path / "source", 43)
    home = tmp_path / "home"
    spool = home / "spool"
    spool.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", str(spool)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"mount is not allowed here: {mounted.stderr.decode()}")
    try:
        with running(home, dicom={"reserve_bytes": 8 << 20}) as product:
            filler = spool / "filler"
            path, uid = _refused_for_space(product, plain, tmp_path / "studies", filler)
            assert product.row(uid) is None
            filler.unlink()
            product.store_until_taken([path], within_seconds=20)
            product.wait_row(uid, ai_status="completed")
    finally:
        subprocess.run(["umount", str(spool)], check=False)


def _refused_for_space(product: Product, plain: Path, folder: Path, filler: Path) -> tuple[Path, str]:
    """A film that was answered A700. The constancy check sends 85 MB beside it: what is full now need not be full then."""
    for number in range(20):
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):  # full is full
            while shutil.disk_usage(filler.parent).free > 4 << 20:  # below the reserve of 8 MiB
                file.write(bytes(1 << 20))
        path, uid = another(plain, folder, number)
        if product.store([path])[0].status == 0xA700:
            return path, uid
    raise AssertionError("a full disk was never answered A700")


def test_a_database_that_is_away_for_ten_seconds_loses_nothing(tmp_path: Path) -> None:
    """SQLite held by another writer: stores wait or are told to come again, then all is there."""
    import pysqlite3.dbapi2 as sqlite

    plain, _ = a_film(tmp_path / "source", 44)
    with running(tmp_path / "home") as product:
        blocker = sqlite.connect(str(tmp_path / "home" / "triage.db"), isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        release = threading.Timer(10.0, lambda: None)
        release.start()
        path, uid = another(plain, tmp_path / "studies", 1)
        sender = threading.Thread(target=product.store_until_taken, args=([path], 60))
        sender.start()
        release.join()
        blocker.execute("ROLLBACK")
        blocker.close()
        sender.join()
        product.wait_row(uid, within_seconds=60, ai_status="completed")


def test_sigterm_drains_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with running(tmp_path / "home") as product:
        assert product.stop() == 0
