"""The first thing that a newcomer sees."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.system


def test_the_demo_flags_the_pneumothorax_first_and_leaves_no_process_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "triage.cli.main",
            "demo",
            "--once",
            "--json",
            "--home",
            str(tmp_path / "home"),
        ],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    document = json.loads(done.stdout)
    items = document["worklist"]
    first = items[0]
    assert first["priority_class"] == "critical"
    assert any(r["code"] == "AI_PNEUMOTHORAX" for r in first["reasons"])
    assert first["rank_without_ai"] > 1
    assert all(i["rank_without_ai"] >= 1 for i in items)
    reasons = {i["ai_reason"] for i in items if i["ai_status"] == "not_analysed"}
    assert {"OUT_OF_AGE", "LATERAL_ONLY"} <= reasons
    assert document["constancy"]["ok"], document["constancy"]
    assert [d["state"] for d in document["deliveries"]] == ["delivered"] * len(document["deliveries"])
    assert len(document["messages"]) == len(document["deliveries"]) >= 1
    assert all("MSH|^~\\&|TRIAGE" in m and "|T|2.5.1" in m for m in document["messages"])
    assert document["seconds"]["arrival_to_flag"]
    assert {Path(p).name.partition("-")[0] for p in document["outputs"]} == {"sr", "kos"}
    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline", "environ"]) if _is_of(p, tmp_path)]
    assert not left


def _is_of(process: psutil.Process, home: Path) -> bool:
    """Another test may run a product of its own at the same time."""
    environment = process.info["environ"] or {}
    said = [*(process.info["cmdline"] or []), environment.get("TRIAGE_HOME", "")]
    return any(str(home) in word for word in said)
