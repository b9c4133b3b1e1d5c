"""deploy/compose.yaml without a Docker engine: it fits the Compose specification, and its own commands run by hand.

Every service of ours is started with the command and the environment that the file gives it; what differs is said in
`_here`: addresses, ports and folders of this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.system.product import a_film, a_scan, wait_until
from triage.cli.up import free_port
from triage.workflow.parts.names import PARTS

pytestmark = pytest.mark.system

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILE = DEPLOY / "compose.yaml"
SERVICES: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image", "").startswith("triage:")}


def test_it_fits_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_runs_in_one_service_and_every_file_it_mounts_is_there() -> None:
    running = [part for service in OURS.values() for part in _parts(service)]
    assert sorted(running) == sorted(
        set(PARTS) - {"collector"}
    )  # the collector pulls, when a peer is to be asked
    sources = [v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])]
    assert all((DEPLOY / source).is_file() for source in sources if source.startswith("."))


@pytest.mark.postgres
@pytest.mark.interop
def test_its_commands_flag_a_film_and_read_a_scan_that_orthanc_forwards(
    tmp_path: Path, postgres_url: str
) -> None:
    film, film_uid = a_film(tmp_path / "source", 20261, "pneumothorax", size_px=2000)
    slices, scan_uid = a_scan(tmp_path / "source", 62)
    with _composed(tmp_path, postgres_url) as ports:
        for path in [film, *slices]:
            answer = httpx.post(
                f"http://127.0.0.1:{ports['orthanc_web']}/instances",
                content=path.read_bytes(), auth=("demo", "demo"), timeout=30, trust_env=False,
            )  # fmt: skip
            assert answer.status_code == 200, answer.text
        token = _triage(
            ports["environment"], "token", "add", "--name", "t", "--scope", "worklist:read"
        ).strip()

        def row(uid: str) -> dict[str, Any] | None:
            list_ = f"http://127.0.0.1:{ports['web']}/api/v1/worklist"
            headers = {"Authorization": f"Bearer {token}"}
            items = httpx.get(list_, headers=headers, timeout=10, trust_env=False).json()["items"]
            return next((i for i in items if i["study_uid"] == uid and i["ai_status"] == "completed"), None)

        found = wait_until(lambda: row(film_uid), 120, "the film is flagged")
        assert (found["rank"], found["priority_class"], found["sender"]) == (1, "critical", "ORTHANC")
        assert wait_until(lambda: row(scan_uid), 120, "the scan is read")["images"]["received"] == len(slices)
        _triage(ports["environment"], "audit", "verify")


def _parts(service: dict[str, Any]) -> list[str]:
    command = service["command"]
    return command[command.index("--only") + 1].split(",") if "--only" in command else []


@contextmanager
def _composed(folder: Path, postgres_url: str) -> Iterator[dict[str, Any]]:
    """Everything of the file, running here: Redis, Orthanc and our services, each in its own process."""
    for program in ("redis-server", "Orthanc"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: compose not shown")
    ports: dict[str, Any] = {
        n: free_port() for n in ("dicom", "web", "hl7", "broker", "orthanc", "orthanc_web")
    }
    ports["environment"] = environment = _here(folder, postgres_url, ports)
    with ExitStack() as stack:
        redis = [*SERVICES["broker"]["command"], "--port", str(ports["broker"])]
        stack.enter_context(_process(redis, folder, environment))
        _migrated(environment, ports)
        for name, service in OURS.items():
            if _parts(service):
                stack.enter_context(_process(_command(service["command"]), folder / name, environment))
        stack.enter_context(_process(["Orthanc", _orthanc(folder, ports)], folder / "orthanc", environment))
        for port, path in ((ports["web"], "ready"), (ports["orthanc_web"], "system")):
            wait_until(lambda port=port, path=path: _answers(port, path), 300, f"{path} on {port}")
        yield ports


def _here(folder: Path, postgres_url: str, ports: dict[str, Any]) -> dict[str, str]:
    """The environment of the file with the addresses and folders of this machine."""
    theirs = {k: str(v) for k, v in OURS["web"]["environment"].items()}
    assert set(theirs) == {"TRIAGE_DATABASE__URL", "TRIAGE_BROKER__URL"}
    return {
        **os.environ,
        "TRIAGE_DATABASE__URL": postgres_url,
        "TRIAGE_BROKER__URL": theirs["TRIAGE_BROKER__URL"].replace(
            "broker:6379", f"127.0.0.1:{ports['broker']}"
        ),
        "TRIAGE_HOME": str(folder / "home"),
        **{f"TRIAGE_{table.upper()}__PORT": str(ports[table]) for table in ("dicom", "web", "hl7")},
    }


def _migrated(environment: dict[str, str], ports: dict[str, Any]) -> None:
    """The shell lines of the `migrate` service."""
    (lines,) = OURS["migrate"]["command"]
    ours = " ".join([sys.executable, "-m", "triage.cli.main"])
    for theirs, here in (
        ("/opt/triage/.venv/bin/triage", ours),
        ("/etc/triage/triage.toml", str(DEPLOY / "triage.compose.toml")),
        ("--host orthanc --port 4242", f"--host 127.0.0.1 --port {ports['orthanc']}"),
        ("$$", "$"),
    ):
        assert theirs in lines
        lines = lines.replace(theirs, here)
    done = subprocess.run(
        [*OURS["migrate"]["entrypoint"], lines], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _orthanc(folder: Path, ports: dict[str, Any]) -> str:
    values = json.loads((DEPLOY / "orthanc" / "orthanc.json").read_text())
    assert values["DicomModalities"]["triage"] == ["TRIAGE", "receiver", 11112]
    values |= {
        "DicomPort": ports["orthanc"], "HttpPort": ports["orthanc_web"], "Plugins": [],
        "StorageDirectory": str(folder / "pacs"), "IndexDirectory": str(folder / "pacs"),
        "DicomModalities": {"triage": ["TRIAGE", "127.0.0.1", ports["dicom"]]},
        "LuaScripts": [str(DEPLOY / "orthanc" / "forward.lua")],
    }  # fmt: skip
    path = folder / "orthanc.json"
    path.write_text(json.dumps(values))
    return str(path)


def _command(arguments: list[str]) -> list[str]:
    config = str(DEPLOY / "triage.compose.toml")
    return [sys.executable, "-m", "triage.cli.main", "--config", config, *arguments]


def _triage(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        _command(list(arguments)), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def _process(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Runs in `folder` until the block ends; then SIGTERM, as `docker compose stop` sends it."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**environment, "PYTHONPATH": str(DEPLOY.parent)}
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
    try:
        yield
        assert process.poll() is None, (folder / "log.txt").read_text(errors="replace")[-2000:]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _answers(port: int, path: str) -> bool:
    try:
        address = f"http://127.0.0.1:{port}/{path}"
        return httpx.get(address, auth=("demo", "demo"), timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
