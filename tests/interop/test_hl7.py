"""HL7 with engines of other makes: node-hl7-server as receiver, hl7apy and python-hl7 as senders and parsers."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import hl7
import hl7.mllp
import pytest
from hl7.client import MLLPClient
from hl7apy.core import Message
from hl7apy.parser import parse_message
from hl7apy.validation import Validator

from tests.hl7.messages import an_orm
from tests.hl7.notices import a_notice
from tests.workflow.desk import Desk
from triage.channels.mllp import MllpChannel
from triage.channels.protocol import Outcome
from triage.domain.finding import Mode
from triage.hl7.mllp import MllpListener
from triage.hl7.results import build_oru
from triage.store import orders
from triage.store.database import Database
from triage.workflow.inbox import Inbox

pytestmark = pytest.mark.interop
NODE = Path(__file__).resolve().parents[1] / "node"


@pytest.fixture
def listening(database: Database) -> Iterator[tuple[Desk, int]]:
    desk = Desk(database)
    listener = MllpListener("127.0.0.1", 0, of_peer=Inbox(database, desk.site, desk.clock, desk.ids).of_peer)
    yield desk, listener.start()
    listener.stop()


@pytest.fixture
def node() -> Iterator[tuple[subprocess.Popen[str], int]]:
    if shutil.which("node") is None or not (NODE / "node_modules" / "node-hl7-server").is_dir():
        pytest.skip("node or node-hl7-server is not installed (tests/install-programs.sh): not shown with it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["node", str(NODE / "receive.js"), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None and "ready" in process.stdout.readline()
    yield process, port
    process.kill()
    process.wait()


def test_an_alert_reaches_node_hl7_server_and_its_answer_counts(
    node: tuple[subprocess.Popen[str], int],
) -> None:
    """On a kept connection this engine answers its first message again: that answer is foreign, and is not counted."""
    process, port = node
    channel = MllpChannel("127.0.0.1", port, timeout_seconds=20.0)
    assert process.stdout is not None
    for control_id in ("NODE0000000000000001", "NODE0000000000000002"):
        notice = a_notice(control_id=control_id, patient_name="MÜLLER^ZOË")
        payload = build_oru(notice, mode=Mode.TRIAGE_ONLY, processing_id="T")
        assert channel.send(payload, control_id).outcome is Outcome.DELIVERED
        heard = json.loads(process.stdout.readline())
        while heard["control"] != control_id:
            heard = json.loads(process.stdout.readline())
        assert (heard["type"], heard["name"]) == ("ORU", "MÜLLER")
    channel.close()


@pytest.fixture
def python_receiver() -> Iterator[tuple[list[hl7.Message], int]]:
    """python-hl7's own MLLP server, which answers with the acknowledgement that it makes itself."""
    heard: list[hl7.Message] = []

    async def take(reader: hl7.mllp.HL7StreamReader, writer: hl7.mllp.HL7StreamWriter) -> None:
        while not writer.is_closing():
            try:
                heard.append(await reader.readmessage())
            except asyncio.IncompleteReadError:
                break
            writer.writemessage(heard[-1].create_ack())
            await writer.drain()
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(hl7.mllp.start_hl7_server(take, "127.0.0.1", 0, encoding="utf-8"))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield heard, server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


def test_an_alert_reaches_python_hl7_s_server_in_its_own_characters(
    python_receiver: tuple[list[hl7.Message], int],
) -> None:
    heard, port = python_receiver
    channel = MllpChannel("127.0.0.1", port, timeout_seconds=20.0)
    for control_id in ("PYTHON00000000000001", "PYTHON00000000000002"):
        notice = a_notice(control_id=control_id, patient_name="MÜLLER^ZOË")
        payload = build_oru(notice, mode=Mode.TRIAGE_ONLY, processing_id="T")
        assert channel.send(payload, control_id).outcome is Outcome.DELIVERED
        assert str(heard[-1].segment("MSH")[10]) == control_id
        assert str(heard[-1].segment("PID")[5][0][0]) == "MÜLLER"
    channel.close()


def test_python_hl7_sends_an_order_and_reads_our_answer(listening: tuple[Desk, int]) -> None:
    desk, port = listening
    with MLLPClient("127.0.0.1", port) as client:
        answer = hl7.parse(client.send_message(hl7.parse(an_orm(control_id="PY1").decode())).decode())
    assert (str(answer.segment("MSA")[1]), str(answer.segment("MSA")[2])) == ("AA", "PY1")
    with desk.database.read() as tx:
        assert orders.of_study(tx, "", "A1")[0]["priority"] == "STAT"


def test_hl7apy_writes_an_omi_and_accepts_our_answers_strictly(listening: tuple[Desk, int]) -> None:
    desk, port = listening
    omi = Message("OMI_O23", version="2.5.1")
    omi.msh.msh_3, omi.msh.msh_4, omi.msh.msh_9, omi.msh.msh_10 = "RIS", "HOSP", "OMI^O23^OMI_O23", "APY1"
    omi.msh.msh_11 = "P"
    segments = [
        "PID|1||P1^^^HOSP^MR||DOE^JANE",
        "ORC|NW|7^HIS",
        "TQ1|1||||||||S",
        "OBR|1|7^HIS||X^Chest^L",
        "IPC|A7|R|1.2.3|S|DX",
    ]
    text = "\r".join([omi.msh.to_er7(), *segments])
    bad = text.replace("APY1", "APY2").replace("|NW|", "|QQ|")
    with MLLPClient("127.0.0.1", port) as client:
        for sent, code in ((text, "AA"), (bad, "AE")):
            raw = client.send(b"\x0b" + sent.encode() + b"\x1c\r").strip(b"\x0b\x1c\r").decode()
            answer = parse_message(raw + "\r", find_groups=False)
            assert Validator.validate(answer) and answer.msa.msa_1.value == code
    with desk.database.read() as tx:
        assert orders.of_study(tx, "1.2.3", "")[0]["accession_number"] == "A7"


def test_a_report_of_ten_megabytes_is_taken_and_half_a_frame_harms_nobody(
    listening: tuple[Desk, int],
) -> None:
    desk, port = listening
    with socket.create_connection(("127.0.0.1", port)) as half:
        half.sendall(b"\x0b" + an_orm(control_id="HALF")[:100])
    with socket.create_connection(("127.0.0.1", port)) as wrong:
        wrong.sendall(
            b"\x0b"
            + an_orm(control_id="WRONG")
            + b"\x1c\n"
            + b"\x0b"
            + an_orm(control_id="RIGHT")
            + b"\x1c\r"
        )
        assert b"|AA|RIGHT" in wrong.recv(4096)  # a second 0B begins anew
    document = "OBX|2|ED|PDF^Report^L||^AP^^Base64^" + "QUJD" * 2_600_000 + "||||||F\r"
    report = an_orm(control_id="BIG").decode().replace("ORM^O01", "ORU^R01") + document
    report = report.replace("||||||DX|", "||||||DX|F", 1)
    with MLLPClient("127.0.0.1", port) as client:
        answer = client.send(b"\x0b" + report.encode() + b"\x1c\r")
    assert b"|AA|BIG" in answer
    with desk.database.read() as tx:
        assert [o["accession_number"] for o in orders.of_study(tx, "", "A1")] == ["A1"]
