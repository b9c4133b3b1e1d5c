"""The same product on PostgreSQL and Redis, with several workers: what a hospital runs (issue 7, item 12)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.product import a_film, a_scan, another, running, wait_until
from triage.cli.up import as_toml, free_port

pytestmark = [pytest.mark.system, pytest.mark.postgres, pytest.mark.xdist_group("system")]


def test_the_product_runs_on_postgresql_and_redis(tmp_path: Path, postgres_url: str) -> None:
    redis = shutil.which("redis-server")
    if redis is None:
        pytest.skip("redis-server is not installed: not shown on servers")
    port = free_port()
    broker = subprocess.Popen(
        [redis, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"],
        stdout=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    try:
        values = {
            "database": {"url": postgres_url},
            "broker": {"url": f"redis://127.0.0.1:{port}/0"},
            "workers": 2,
        }
        home = tmp_path / "home"
        home.mkdir()
        config = tmp_path / "migrate.toml"
        config.write_text(as_toml({"home": str(home), "database": {"url": postgres_url}}))
        command = [sys.executable, "-m", "triage.cli.main", "--config", str(config), "migrate", "up"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with running(home, **values) as product:
            plain, _ = a_film(tmp_path / "source", 61)
            flagged, _ = a_film(tmp_path / "source", 20261, "pneumothorax", size_px=2000)
            films = [another(flagged if n == 0 else plain, tmp_path / "films", n) for n in range(6)]
            slices, scan_uid = a_scan(tmp_path / "source", 62)
            product.store([p for p, _ in films] + slices)
            for _, uid in films:
                product.wait_row(uid, within_seconds=120, ai_status="completed")
            assert product.wait_row(films[0][1])["rank"] == 1
            assert product.inbox.wait(1, within_seconds=30)
            wait_until(
                lambda: (product.row(scan_uid) or {}).get("ai_status") in ("completed", "not_analysed"),
                120,
                "the scan",
            )
            verify = subprocess.run(
                [sys.executable, "-m", "triage.cli.main", "--config", str(home / "triage.toml"), "audit", "verify"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert verify.returncode == 0, verify.stderr
            assert product.stop() == 0
    finally:
        broker.terminate()
        broker.wait()
