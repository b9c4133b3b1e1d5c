"""Well-formed inputs from which mutation begins."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.dicom import builders, wire


def inputs(target: str) -> list[bytes]:
    command = wire.c_store_rq(wire.DX, "1.2.3.4")
    if target == "associate":
        return [wire.associate_rq()[6:]]
    if target == "command":
        return [command]
    if target == "association":
        echo = wire.command_set(e0002=wire.VERIFICATION.encode(), e0100=0x30, e0110=1, e0800=0x0101)
        stored = wire.fragment(3, command, command=True, last=True)
        stored += wire.fragment(3, bytes(300), command=False, last=False)
        stored += wire.fragment(3, bytes(30), command=False, last=True)
        return [
            wire.fragment(1, echo, command=True, last=True) + wire.pdu(5, bytes(4)),
            stored,
            wire.pdu(7, bytes(4)),
        ]
    found = []
    for ds in (builders.film(), builders.ct_slices(1)[0]):
        ds.PixelData = b"\0\0"
        with tempfile.TemporaryDirectory() as folder:
            found.append(builders.save(ds, Path(folder) / "seed.dcm").read_bytes())
    return found


def seeds(target: str, folder: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs(target)):
        Path(folder, f"seed-{number}").write_bytes(data)
