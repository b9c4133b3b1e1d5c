"""Which kinds of object we make, under which SOP class, in the order in which peers should get them."""

from __future__ import annotations

from collections.abc import Mapping

from triage.dicom.objects import gsps, kos, note, sc, seg, sr

SOP_CLASSES: Mapping[str, str] = {
    sr.KIND: sr.COMPREHENSIVE_3D_SR,
    kos.KIND: kos.KEY_OBJECT_SELECTION,
    seg.KIND: seg.SEGMENTATION,
    gsps.KIND: gsps.PRESENTATION_STATE,
    sc.KIND: sc.SECONDARY_CAPTURE,
    note.KIND: kos.KEY_OBJECT_SELECTION,
}
