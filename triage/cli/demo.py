"""`triage demo`: the whole product in a temporary home, sample studies over real C-STORE, the list with its reasons."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import httpx
from argon2 import PasswordHasher
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from triage.cli.common import result, say
from triage.cli.main import State
from triage.cli.up import start, temporary_home, with_free_ports
from triage.domain.errors import Unavailable
from triage.hl7.mllp import Inbox, MllpListener
from triage.settings import Settings
from triage.store import constancy, deliveries, events, orders, outputs, runs, studies, users
from triage.store.database import Database
from triage.workflow.parts.names import parts_of
from triage.workflow.samples import SAMPLES, Written, write_sample
from triage.workflow.supervisor import Supervisor
from triage.workflow.upload import send_study

READY_SECONDS = 600.0  # a slow machine takes minutes; what keeps dying ends the wait
STUDY_SECONDS = 600.0
ROLES = ("reader", "qa", "admin")
FOOTER = "Research and demonstration software. Not a medical device. Not for clinical use."


@dataclass
class Demo:
    """One running demo: where it lives and how to reach it."""

    settings: Settings
    home: Path
    token: str
    passwords: dict[str, str]
    inbox: Inbox
    database: Database
    supervisor: Supervisor

    @property
    def address(self) -> str:
        return f"http://{self.settings.web.host}:{self.settings.web.port}"

    def get(self, path: str) -> Any:
        answer = httpx.get(
            f"{self.address}{path}",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=10,
            trust_env=False,
        )
        answer.raise_for_status()
        return answer.json()


@click.command()
@click.option("--once", is_flag=True, help="End after the list was printed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="Live here, and keep it.")
@click.option("--port", type=int, default=0, help="Port of the pages (default: a free one).")
@click.option("--dicom-port", type=int, default=0, help="Port of the DICOM receiver (default: a free one).")
@click.pass_obj
def demo(state: State, once: bool, as_json: bool, home: Path | None, port: int, dicom_port: int) -> int:
    """Start everything embedded, send sample studies, print the reordered list and the messages that went out."""
    folder = home or temporary_home()
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    # Ends like Ctrl-C: drained, nothing left behind. Both, since a shell script starts `triage demo &` with SIGINT ignored.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    os.environ["TRIAGE_LOG_FORMAT"] = state.log_format
    try:
        with _running(state, folder, port, dicom_port) as running:
            document = _play(running, console)
            if as_json:
                result(document)
            else:
                _print(running, document)
            if not once:
                say(f"\nOpen {running.address}/worklist. Ctrl-C ends the demo.")
                _until_interrupted()
            return 0 if _as_promised(document) else 1
    finally:
        if home is None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(state: State, folder: Path, port: int, dicom_port: int) -> Iterator[Demo]:
    """The product up, with its own receiving hospital; drained at the end whatever happens."""
    inbox = Inbox()
    listener = MllpListener("127.0.0.1", 0, inbox)
    mllp_port = listener.start()
    base = state.settings()
    route = {"name": "hospital", "kind": "mllp", "host": "127.0.0.1", "port": mllp_port, "processing_id": "T"}
    wanted = base.model_dump(mode="json", exclude={"database", "broker"}) | {
        "home": str(folder.resolve()),
        "site": "DEMO",
        "quiet_seconds": min(base.quiet_seconds, 1.0),
        "routes": [route],
    }
    wanted["web"] |= {"port": port}
    wanted["dicom"] |= {"port": dicom_port}
    wanted["hl7"] |= {"port": 0}
    _forget_environment()
    settings, config = with_free_ports(Settings(**wanted), folder)
    supervisor = start(settings, config)
    database = Database(settings.database_url)
    token, passwords = _make_users(database)
    ended = threading.Event()
    supervisor.start()
    keeper = threading.Thread(target=_keep, args=(supervisor, ended), name="keeper")
    keeper.start()
    try:
        yield Demo(settings, folder, token, passwords, inbox, database, supervisor)
    finally:
        ended.set()
        keeper.join()
        supervisor.stop()
        listener.stop()
        database.close()


def _forget_environment() -> None:
    """What the environment said is in the settings by now; from here on it may not lead the demo into a real home."""
    for name in [n for n in os.environ if n.startswith("TRIAGE_") and n != "TRIAGE_LOG_FORMAT"]:
        del os.environ[name]


def _keep(supervisor: Supervisor, ended: threading.Event) -> None:
    while not ended.wait(0.2):
        supervisor.turn()


def _make_users(database: Database) -> tuple[str, dict[str, str]]:
    """One local user of each role and a token for this command; a kept home keeps its users."""
    now = datetime.now(UTC)
    passwords = {}
    with database.write() as tx:
        for role in ROLES:
            if users.find_user(tx, role) is None:
                passwords[role] = secrets.token_urlsafe(9)
                users.add_user(
                    tx, role, role, PasswordHasher().hash(passwords[role]), now, display_name=f"Demo {role}"
                )
        token = secrets.token_urlsafe(32)
        users.add_token(
            tx,
            f"demo-{secrets.token_hex(4)}",
            token,
            ["worklist:read", "qa:read", "alerts:act", "metrics:read"],
            now,
        )
    return token, passwords


def _play(running: Demo, console: Console) -> dict[str, Any]:
    """Write the sample studies, send them as they are ready, wait for every answer."""
    now = datetime.now(UTC)
    folder = running.home / "samples"
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(), console=console, transient=True,
    )  # fmt: skip
    with progress as bar, _drawing() as pool:
        starting = bar.add_task("starting", total=1)
        making: list[Future[Written]] = [pool.submit(write_sample, s, folder, now) for s in SAMPLES]
        _wait_until_ready(running)
        bar.update(starting, completed=1)
        sending = bar.add_task("sending studies", total=len(SAMPLES))
        sent = []
        for future in making:
            written = future.result()
            _order(running, written)
            send_study(running.settings, written.paths)
            sent.append(written)
            bar.advance(sending)
        waiting = bar.add_task("waiting for answers", total=len(SAMPLES) + 1)
        seconds = []
        for written in sent:
            seconds += _seconds_to_answer(running, written)
            bar.advance(waiting)
        check = _constancy(running)
        bar.advance(waiting)
        _deliveries_done(running)
        _outputs_done(running)
    return _document(running, seconds, check)


@contextmanager
def _drawing() -> Iterator[ProcessPoolExecutor]:
    """Processes that draw phantoms; what is not begun when the demo fails is not drawn."""
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _order(running: Demo, written: Written) -> None:
    with running.database.write() as tx:
        orders.add(
            tx,
            datetime.now(UTC),
            study_instance_uid=written.study_instance_uid,
            accession_number=written.accession_number,
            priority=written.sample.ordered,
            patient_location=written.sample.location,
        )


def _wait_until_ready(running: Demo) -> None:
    """Pages answer and every part beats. raises Unavailable naming what did not come up."""
    deadline = time.monotonic() + READY_SECONDS
    missing = "the pages"
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{running.address}/ready", timeout=2, trust_env=False).raise_for_status()
            with running.database.read() as tx:
                beating = {b["part"].split("@")[0] for b in events.beats(tx)}
            missing = ", ".join(part for part in parts_of(running.settings) if part not in beating)
            if not missing:
                return
        except (httpx.HTTPError, Unavailable):
            missing = "the pages"
        if flapping := [part.name for part in running.supervisor.parts if part.flaps]:
            raise Unavailable(f"{', '.join(flapping)} keeps dying; the lines above say why")
        time.sleep(0.1)
    raise Unavailable(
        f"not up within {READY_SECONDS:.0f} s: {missing} does not answer; the lines above say why"
    )


def _seconds_to_answer(running: Demo, written: Written) -> list[float]:
    """Seconds from the study's last object to the end of each completed run."""
    deadline = time.monotonic() + STUDY_SECONDS
    while time.monotonic() < deadline:
        with running.database.read() as tx:
            study_id = studies.find_study(tx, written.study_instance_uid)
            found = runs.current(tx, study_id) if study_id is not None else []
            received = studies.get_study(tx, study_id)["last_received_at"] if study_id is not None else None
        if found and all(runs.is_terminal(r["state"]) for r in found):
            assert received is not None
            return [(r["finished_at"] - received).total_seconds() for r in found if r["state"] == "completed"]
        time.sleep(0.05)
    raise Unavailable(
        f"no answer about sample {written.sample.seed} within {STUDY_SECONDS:.0f} s; see the lines above"
    )


def _constancy(running: Demo) -> dict[str, Any]:
    deadline = time.monotonic() + STUDY_SECONDS
    while time.monotonic() < deadline:
        with running.database.read() as tx:
            checks, waiting = constancy.last_finished(tx), constancy.pending(tx)
        if len(checks) == len(running.settings.detectors) and not waiting:
            seconds = max((c["finished_at"] - c["started_at"]).total_seconds() for c in checks)
            return {
                "ok": all(c["ok"] for c in checks),
                "seconds": round(seconds, 2),
                "checks": [{"detector": c["detector"], "ok": c["ok"], "detail": c["detail"]} for c in checks],
            }
        time.sleep(0.1)
    return {"ok": False, "seconds": None, "checks": []}


def _deliveries_done(running: Demo) -> None:
    """The alerts of this demo have left, or had their time."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and any(d["state"] == "waiting" for d in _deliveries(running)):
        time.sleep(0.1)


def _outputs_done(running: Demo) -> None:
    """The DICOM objects of this demo are written, or had their time."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with running.database.read() as tx:
            if not outputs.waiting(tx, 0, 1):
                return
        time.sleep(0.1)


def _deliveries(running: Demo) -> list[dict[str, Any]]:
    with running.database.read() as tx:
        return deliveries.rows(tx)


def _document(running: Demo, seconds: list[float], check: dict[str, Any]) -> dict[str, Any]:
    written = (
        sorted(str(p) for p in running.settings.outputs.rglob("*.dcm"))
        if running.settings.outputs.exists()
        else []
    )
    return {
        "worklist": running.get("/api/v1/worklist?limit=500")["items"],
        "alerts": running.get("/api/v1/alerts")["alerts"],
        "deliveries": [
            {"route": d["route"], "state": d["state"], "control_id": d["control_id"]}
            for d in _deliveries(running)
        ],
        "messages": [m.decode("utf-8").replace("\r", "\n") for m in running.inbox.messages],
        "outputs": written,
        "constancy": check,
        "seconds": {"arrival_to_flag": [round(s, 3) for s in seconds]},
    }


def _as_promised(document: dict[str, Any]) -> bool:
    """The pneumothorax is first, its alert has left, and the constancy check passed."""
    items = document["worklist"]
    delivered = any(d["state"] == "delivered" for d in document["deliveries"])
    return (
        bool(items) and items[0]["priority_class"] == "critical" and delivered and document["constancy"]["ok"]
    )


def _print(running: Demo, document: dict[str, Any]) -> None:
    table = Table(
        "#", "priority", Column("why", min_width=24), "mod", "ordered", "from",
        Column("AI", max_width=13, overflow="fold"), "without\nAI", title="Reading worklist", padding=(0, 0),
    )  # fmt: skip
    for item in document["worklist"]:
        ai = item["ai_status"] or "-"
        if item["ai_reason"]:
            ai += f": {item['ai_reason']}"
        why = "; ".join(r["text"] for r in item["reasons"])
        table.add_row(
            str(item["rank"]), item["priority_class"].upper(), why, item["modality"], item["ordered_priority"],
            item["location"], ai, f"#{item['rank_without_ai']}",
        )  # fmt: skip
    Console().print(table)
    for message in document["messages"]:
        click.echo(f"\nORU received by the demo's own hospital over MLLP:\n{message}")
    check = document["constancy"]
    say(f"\nConstancy check: {'passed' if check['ok'] else 'FAILED'}, slowest {check['seconds']} s")
    say(f"Arrival to flag, seconds: {document['seconds']['arrival_to_flag']}")
    say(f"DICOM: {running.settings.dicom.ae_title} at 127.0.0.1:{running.settings.dicom.port}")
    for role, password in running.passwords.items():
        say(f"Sign in as {role} with password {password}")
    say(FOOTER)


def _until_interrupted() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        say("ending")
