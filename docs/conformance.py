"""Writes docs/dicom-conformance-statement.md from the tables that the code itself uses (PS3.2), so that it cannot lie.

python docs/conformance.py            prints it
python docs/conformance.py --write    replaces the file; a test fails while the file says something else
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_description
from pydicom.uid import UID

from triage.dicom import associate, commitment, ian, mpps, mwl, query, services, ups
from triage.dicom.header import WANTED
from triage.dicom.objects.kinds import SOP_CLASSES
from triage.dicom.workitem import UPS_EVENT, UPS_PUSH
from triage.domain.dispatch import COMMIT_RETRY, SEND_ATTEMPTS_MAX, SEND_RETRY_SECONDS
from triage.settings import DicomSettings, OutletSettings
from triage.web.app import ROUTES
from triage.workflow.committing import ON_THE_SAME_SECONDS

TARGET = Path(__file__).with_name("dicom-conformance-statement.md")
OBJECTS = {
    "sr": "report of one Run, TID 1500; overlay mode adds TID 1410 and 1411 groups",
    "kos": "flag of a Run that found something, TID 2010",
    "seg": "voxels of nodules, one segment each; overlay mode alone",
    "gsps": "outlines and circles; overlay mode alone, sent only where a site asks for it",
    "sc": "picture with words; only with `overview = true`",
    "note": "takes objects of ours that went out of date back (IHE IOCM): 113037 when they name whom the study was of "
    "before or rest on images of another patient, 113001 with 111218 when a newer result took their place or the images "
    "were rejected for quality, 113039 with images that expired; to outlets with `rejection_notes = true`",
}


OTHERS = [
    ("Modality Performed Procedure Step", mpps.MPPS, "N-CREATE, N-SET",
     "the instances that a step lists at its end are what its series wait for"),
    ("Instance Availability Notification", ian.IAN, "N-CREATE",
     "likewise; what is UNAVAILABLE is no longer waited for"),
    ("Storage Commitment Push Model", commitment.STORAGE_COMMITMENT, "N-EVENT-REPORT (the peer is SCP, by role selection)",
     "result of a commitment that we asked for"),
    ("Storage Commitment Push Model", commitment.STORAGE_COMMITMENT, "N-ACTION 1 (we are SCP)",
     "what the spool holds under this class and UID is committed, 0112H and 0119H are told of the rest; kept until "
     "retention removes the study"),
    *(
        (f"Unified Procedure Step - {name}", uid, "C-FIND, N-GET, N-SET, N-ACTION 1 to 5",
         "the reading list; no N-CREATE, no deletion lock (B301H); subscriptions to a step, to all, or to those that match "
         "the keys of a search: state, priority, readiness, study, accession number, patient ID (others: C314H)")
        for name, uid in (("Push", UPS_PUSH), ("Watch", ups.WATCH), ("Pull", ups.PULL), ("Query", ups.QUERY))
    ),
]  # fmt: skip


def statement() -> str:
    d = DicomSettings()
    parts = [
        "# DICOM Conformance Statement",
        "Made by `python docs/conformance.py --write` from the program's own tables; do not edit. Research and "
        "demonstration software. Not a medical device.",
        "## Implementation",
        _table(
            ("what", "value"),
            [
                ("Implementation Class UID", services.IMPLEMENTATION_CLASS_UID),
                ("Implementation Version Name", services.IMPLEMENTATION_VERSION_NAME),
                ("AE title (default)", d.ae_title),
                ("port, plain", f"{d.port}, loopback until configured"),
                ("port, TLS", str(d.tls_port)),
                ("associations at once, in total and of one peer", f"{d.associations_max}, {d.associations_per_peer_max}"),
                ("longest object", f"{d.object_bytes_max >> 20} MiB"),
                ("idle association", f"{d.idle_seconds:.0f} s, then A-ABORT"),
                ("longest PDU that we receive as SCU", f"{associate.PDU_BYTES} bytes"),
            ],
        ),
        "Any calling AE title may associate on loopback; from elsewhere named peers alone, from their own address.",
        "## Networking: as SCP",
        "Verification, and Storage of the classes below in every transfer syntax below. Success (0000) is answered when the "
        "object is on disk and indexed. The first offered syntax in the order of this table is taken.",
        _uids("Storage SOP class", services.STORAGE_CLASSES),
        _uids("Transfer syntax, in order of preference", services.TRANSFER_SYNTAXES),
        "| C-STORE status | when |\n| --- | --- |\n| 0000 | stored and indexed |\n| A700 | disk below its reserve, or the "
        "database does not answer: send again later |\n| A900 | the data set names another object than the command |\n"
        "| C000 | no readable data set, or an identifying UID is missing |",
        "Further services, on an association that proposes no storage class; Explicit and Implicit VR Little Endian:",
        _table(("SOP class", "UID", "messages", "what it does"), OTHERS),
        "Beyond the statuses of each service: 0213H when the database does not answer (send again later), 0120H and "
        "0121H for a missing attribute or value. MPPS and IAN: a message that is repeated word for word is answered 0000, "
        "another one under a known UID 0111H; N-SET of a step that has ended 0110H with Error ID A710H.",
        "## Networking: as SCU",
        _table(
            ("service", "SOP class", "when"),
            [
                ("Verification", services.VERIFICATION, "`triage echo`, the Test button"),
                ("Study Root Query, SERIES level", query.STUDY_ROOT_FIND, "how many slices a CT has (`dicom.archive`)"),
                ("Modality Worklist", mwl.MODALITY_WORKLIST_FIND, "studies without an order (`dicom.worklist`)"),
                ("Storage", "as created, below", "each `[[outlets]]` by C-STORE"),
                ("Storage Commitment Push Model", commitment.STORAGE_COMMITMENT, "each outlet with `commitment = true`"),
                ("Unified Procedure Step - Pull", ups.PULL, "work items of each `[[perform]]` with `by = \"dimse\"`"),
                ("Unified Procedure Step - Event (as its SCP)", UPS_EVENT, "each AE that subscribed and is a peer"),
            ],
        ),
        f"Sending is repeated after {', '.join(map(str, SEND_RETRY_SECONDS))} s and hourly, {SEND_ATTEMPTS_MAX} times in "
        "all, after A7xx, 0110H, silence and a peer that is away. A9xx, Cxxx, 0122H, 0124H, 0117H and a class that the peer "
        "does not accept are not repeated. A commitment report is taken on the association of the request, and by a call of "
        "the peer's own on the DICOM port or at `dicom.commitment_port`; commitment is asked for "
        f"again after {', '.join(f'{w.total_seconds() / 3600:.0f}' for w in COMMIT_RETRY)} hours, "
        "under a new Transaction UID each time. As SCP we report on the association of the request while it is held, "
        f"for {ON_THE_SAME_SECONDS:.0f} s at most, else by a call of our own to the peer of the calling AE title, repeated "
        "as sending is.",
        "## Objects that are created",
        "All in Explicit VR Little Endian and UTF-8 (ISO_IR 192), in new series of the study analysed, with Patient and "
        "Study copied from the image, or as a registry corrected them since: names, ids, issuers, other ids, accession "
        "number and its issuer. After an update, a merge or a move objects are made anew under other UIDs, the report with "
        "the earlier one as its predecessor. UIDs are made from the Run (and how often its study was named anew), so the "
        "same Run gives the same bytes under the same UID. `triage_only` mode tells no place, side or size.",
        _table(
            ("kind", "SOP class", "UID", "content", "sent by default"),
            [
                (kind, UID(uid).name, uid, OBJECTS[kind], "yes" if kind in OutletSettings(peer="x").objects else "no")
                for kind, uid in SOP_CLASSES.items()
            ],
        ),
        "Private codes: scheme `99TRIAGE`, declared in Coding Scheme Identification Sequence.",
        "## DICOMweb",
        _table(
            ("method", "path", "scope", "what"),
            [
                (r.method, f"`{r.path}`", " or ".join(r.scopes), (r.view.__doc__ or "").strip().split("\n")[0])
                for r in sorted(ROUTES, key=lambda r: (r.path, r.method))
                if r.path.startswith("/dicom-web")
            ],
        ),
        "As client: STOW-RS and QIDO-RS (a test of the peer) to each outlet with `by = \"stow\"`; UPS-RS as performer "
        "(search, retrieve, change state, update) of each `[[perform]]` with `by = \"rs\"`; QIDO-RS and WADO-RS of each "
        "`[[pull]]` with `method = \"wado\"`.",
        "## Security",
        f"TLS by BCP 195 (PS3.15 B.12): 1.2 with `{associate.CIPHERS}` and 1.3. Peers' certificates are verified against "
        "`dicom.tls_ca`; we show `dicom.tls_certificate`. DICOMweb: bearer tokens with scopes, TLS by a proxy in front.",
        "## Character sets",
        f"Read: {', '.join(f'`{t}`' for t in sorted(python_encoding) if t.startswith(('ISO', 'GB')))}. "
        "Written: `ISO_IR 192`.",
        "## Attributes that are read",
        "Of a received data set these alone are interpreted (beside pixel data); the file is kept as it came.",
        _table(
            ("tag", "attribute"),
            [(f"({tag >> 16:04X},{tag & 0xFFFF:04X})", dictionary_description(tag)) for tag in sorted(WANTED)],
        ),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _uids(title: str, uids: Sequence[str]) -> str:
    return _table((title, "UID"), [(UID(uid).name, uid) for uid in uids])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


if __name__ == "__main__":
    if "--write" in sys.argv:
        TARGET.write_text(statement(), encoding="utf-8")
    else:
        sys.stdout.write(statement())
