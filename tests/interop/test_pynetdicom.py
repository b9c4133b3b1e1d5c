"""pynetdicom as another's modality and as another's archive, beside dcmtk and Orthanc."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless
from pynetdicom import AE
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation, UserIdentityNegotiation
from pynetdicom.presentation import build_context, build_role

from tests.dicom.builders import ct_slices, film, save_all
from tests.dicom.hospital import Hospital
from tests.pacs import a_pacs
from triage.dicom.receiver_config import ReceiverLimits
from triage.dicom.send import send
from triage.domain.study import CT, DX_FOR_PRESENTATION

pytestmark = pytest.mark.interop
VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path, ReceiverLimits())  # a program in Python may be slow when others run beside it
    yield made
    made.receiver.stop(grace_seconds=2)


def test_a_modality_that_negotiates_everything_delivers_over_one_association(hospital: Hospital) -> None:
    """Each syntax in its own context, a role, a user name, an operations window: what we do not need costs nothing."""
    syntaxes = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless, JPEGLSLossless)
    ae = AE("MODALITY")
    ae.maximum_pdu_size = 4096  # of what we send back
    contexts = [build_context(VERIFICATION), build_context(DX_FOR_PRESENTATION)]
    contexts += [build_context(CT, syntax) for syntax in syntaxes]
    contexts += [build_context("1.2.3.4.5.6")]  # nobody's SOP class
    user, window = UserIdentityNegotiation(), AsynchronousOperationsWindowNegotiation()
    user.user_identity_type, user.primary_field = 1, b"somebody"
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 4
    negotiated = [build_role(CT, scu_role=True), user, window]
    association = ae.associate(
        "127.0.0.1", hospital.port, contexts=contexts, ae_title="TRIAGE", ext_neg=negotiated
    )
    assert association.is_established
    accepted = {(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts}
    assert {(CT, syntax) for syntax in syntaxes} <= accepted
    assert [c.abstract_syntax for c in association.rejected_contexts] == ["1.2.3.4.5.6"]
    assert association.send_c_echo().Status == 0
    slices = ct_slices(6)
    for ds, syntax in zip(slices, [ImplicitVRLittleEndian, ExplicitVRLittleEndian] * 3, strict=True):
        assert association.send_c_store(_encoded(ds, syntax)).Status == 0
    assert association.send_c_store(_encoded(film(), ExplicitVRLittleEndian)).Status == 0
    association.release()
    assert len({r.association_id for r in hospital.received}) == 1
    kept = [r.transfer_syntax_uid for r in hospital.received]
    assert kept == [ImplicitVRLittleEndian, ExplicitVRLittleEndian] * 3 + [ExplicitVRLittleEndian]


def test_an_archive_that_takes_one_syntax_alone_gets_what_fits_and_the_rest_is_named(tmp_path: Path) -> None:
    files = save_all(ct_slices(2), tmp_path / "plain") + save_all([film()], tmp_path / "film")
    with a_pacs(classes=(CT,)) as pacs:
        results = send(files, host="127.0.0.1", port=pacs.port, called="PACS")
    assert [r.ok for r in results] == [True, True, False]
    assert results[2].detail and len(pacs.stored) == 2


def _encoded(ds: Dataset, syntax: UID) -> Dataset:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    return ds
