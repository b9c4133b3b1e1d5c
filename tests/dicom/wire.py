"""DICOM upper layer by hand: what a well-behaved library would never send."""

from __future__ import annotations

import socket
import struct

VERIFICATION = "1.2.840.10008.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def associate_rq(
    called: str = "TRIAGE", calling: str = "RAW", contexts: tuple[str, ...] = (VERIFICATION, DX)
) -> bytes:
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, abstract in enumerate(contexts):
        context = (
            bytes([2 * number + 1, 0, 0, 0]) + item(0x30, abstract.encode()) + item(0x40, EXPLICIT.encode())
        )
        body += item(0x20, context)
    body += item(0x50, item(0x51, struct.pack(">L", 16_384)) + item(0x52, b"1.2.3.4"))
    return pdu(1, body)


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body) if length is None else length) + body


def fragment(context: int, data: bytes, *, command: bool, last: bool) -> bytes:
    control = (1 if command else 0) | (2 if last else 0)
    return pdu(4, struct.pack(">LBB", len(data) + 2, context, control) + data)


def command_set(**values: bytes | int) -> bytes:
    """Implicit VR Little Endian; keys are `e0002` for (0000,0002)."""
    elements = b""
    for key, value in sorted(values.items()):
        raw = struct.pack("<H", value) if isinstance(value, int) else value + b"\0" * (len(value) % 2)
        elements += struct.pack("<HHL", 0, int(key[1:], 16), len(raw)) + raw
    return struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements


def c_store_rq(sop_class_uid: str, sop_instance_uid: str) -> bytes:
    return command_set(
        e0002=sop_class_uid.encode(), e0100=1, e0110=7, e0700=0, e0800=0, e1000=sop_instance_uid.encode()
    )


def read_pdu(peer: socket.socket) -> tuple[int, bytes]:
    """(type, body) of the next PDU; (0, b"") when the peer has closed."""
    head = _exactly(peer, 6)
    if len(head) < 6:
        return 0, b""
    kind, length = struct.unpack(">BxL", head)
    return kind, _exactly(peer, length)


def status_of(body: bytes) -> int:
    """Status (0000,0900) of a response that stands in one fragment."""
    at = body.index(struct.pack("<HHL", 0, 0x0900, 2))
    return int(struct.unpack_from("<H", body, at + 8)[0])


def connect(port: int, seconds: float = 5) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=seconds)


def associated(port: int, **names: str) -> socket.socket:
    peer = connect(port)
    peer.sendall(associate_rq(**names))  # type: ignore[arg-type]
    kind, _ = read_pdu(peer)
    assert kind == 2, f"PDU {kind} instead of A-ASSOCIATE-AC"
    return peer


def _exactly(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        try:
            more = peer.recv(count - len(data))
        except ConnectionResetError:
            return data
        if not more:
            return data
        data += more
    return data
