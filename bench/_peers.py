"""Receivers to compare with: a plain pynetdicom handler, and the limit: sockets straight to a file.

    python -m bench._peers limit PORT FOLDER none|flush|rename
    python -m bench._peers pynetdicom PORT FOLDER

The limit accepts every context, checks nothing and trusts every length: a floor of time, not code to keep. One
process for each association. "flush": fdatasync before the answer, the syncs that triage makes; "rename": then a
rename and the folder's fsync as well, what a receiver without our seal would need.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import sys


def limit(port: int, folder: str, syncs: str) -> None:
    signal.signal(signal.SIGCHLD, _reap)  # their processor time counts as ours
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    while True:
        peer, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            try:
                _association(peer, folder, syncs)
            finally:
                os._exit(0)
        peer.close()


def _reap(*_: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _association(peer: socket.socket, folder: str, syncs: str) -> None:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray(1 << 21)
    view = memoryview(buffer)
    start = have = 0
    syntaxes: dict[int, bytes] = {}
    command, asked, handle, number = b"", {}, -1, 0
    parent = os.open(folder, os.O_RDONLY)
    while True:
        while have - start < 6 or have - start < 6 + struct.unpack_from(">I", buffer, start + 2)[0]:
            if (start and have == start) or len(buffer) - have < 1 << 18:
                buffer[: have - start] = buffer[start:have]
                start, have = 0, have - start
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            count = peer.recv_into(view[have:])
            if not count:
                return
            have += count
        kind, length = buffer[start], struct.unpack_from(">I", buffer, start + 2)[0]
        body = view[start + 6 : start + 6 + length]
        start += 6 + length
        if kind == 1:
            peer.sendall(_accept(bytes(body), syntaxes))
        elif kind == 5:
            peer.sendall(b"\6\0\0\0\0\4\0\0\0\0")
            return
        elif kind != 4:
            return
        at = 0
        while kind == 4 and at < len(body):
            size, context, flags = struct.unpack_from(">IBB", body, at)
            piece = body[at + 6 : at + 4 + size]
            at += 4 + size
            if flags & 1:
                command += bytes(piece)
                if not flags & 2:
                    continue
                asked, command = _elements(command), b""
                if asked[0x0100] == b"\x30\0":
                    peer.sendall(_reply(context, 0x8030, asked))
                    continue
                name = f"{folder}/{os.getpid()}-{number}"
                number += 1
                handle = os.open(name + ".part", os.O_CREAT | os.O_WRONLY, 0o600)
                continue
            os.write(handle, piece)
            if flags & 2:
                if syncs != "none":
                    os.fdatasync(handle)
                os.close(handle)
                if syncs == "rename":
                    os.replace(name + ".part", name + ".dcm")  # noqa: PTH105 (as few calls as can be)
                    os.fsync(parent)
                peer.sendall(_reply(context, 0x8001, asked))


def _accept(body: bytes, syntaxes: dict[int, bytes]) -> bytes:
    at, contexts = 68, b""
    while at < len(body):
        kind, length = body[at], struct.unpack_from(">H", body, at + 2)[0]
        item = body[at + 4 : at + 4 + length]
        at += 4 + length
        if kind != 0x20:
            continue
        sub, first = 4, b""
        while sub < len(item):
            inner, size = item[sub], struct.unpack_from(">H", item, sub + 2)[0]
            if inner == 0x40 and not first:
                first = item[sub + 4 : sub + 4 + size]
            sub += 4 + size
        syntaxes[item[0]] = first
        syntax = _item(0x40, first)
        contexts += _item(0x21, bytes([item[0], 0, 0, 0]) + syntax)
    information = _item(0x51, struct.pack(">I", 1 << 20)) + _item(0x52, b"2.25")
    out = body[:68] + _item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + _item(0x50, information)
    return b"\2\0" + struct.pack(">I", len(out)) + out


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def _elements(data: bytes) -> dict[int, bytes]:
    at, found = 0, {}
    while at < len(data):
        _, element, size = struct.unpack_from("<HHI", data, at)
        found[element] = data[at + 8 : at + 8 + size]
        at += 8 + size
    return found


def _reply(context: int, field: int, asked: dict[int, bytes]) -> bytes:
    def element(tag: int, value: bytes) -> bytes:
        return struct.pack("<HHI", 0, tag, len(value)) + value

    out = element(2, asked[2]) + element(0x100, struct.pack("<H", field)) + element(0x120, asked[0x110])
    out += element(0x800, b"\1\1") + element(0x900, b"\0\0")
    if 0x1000 in asked:
        out += element(0x1000, asked[0x1000])
    out = element(0, struct.pack("<I", len(out))) + out
    head = struct.pack(">BBI", 4, 0, 6 + len(out)) + struct.pack(">IBB", 2 + len(out), context, 3)
    return head + out


def plain_pynetdicom(port: int, folder: str) -> None:
    from pynetdicom import AE, AllStoragePresentationContexts, evt

    def store(event):  # type: ignore[no-untyped-def]
        with open(f"{folder}/{event.request.AffectedSOPInstanceUID}.dcm", "wb") as file:
            file.write(event.encoded_dataset())
        return 0

    ae = AE("TRIAGE")
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context("1.2.840.10008.1.1")
    ae.maximum_associations = 50
    ae.start_server(("127.0.0.1", port), block=True, evt_handlers=[(evt.EVT_C_STORE, store)])


if __name__ == "__main__":
    if sys.argv[1] == "limit":
        limit(int(sys.argv[2]), sys.argv[3], sys.argv[4])
    else:
        plain_pynetdicom(int(sys.argv[2]), sys.argv[3])
