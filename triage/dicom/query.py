"""C-FIND SCU: what an archive says it has (PS3.4 C). Every other query service comes with the workflow that needs it."""

from __future__ import annotations

import ssl

from pydicom.dataset import Dataset
from pynetdicom.presentation import build_context

from triage.dicom.associate import Remote, associate

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PENDING = (0xFF00, 0xFF01)
MOST_ANSWERS = 100  # of one series there is one; an archive that sends more without end is not listened to


def series_instance_count(
    host: str,
    port: int,
    *,
    calling: str,
    called: str,
    study_instance_uid: str,
    series_instance_uid: str,
    timeout_seconds: float = 10.0,
    tls: ssl.SSLContext | None = None,
) -> int | None:
    """How many instances of this series the archive holds; None when it does not know the series or the number.

    raises  Unavailable when it cannot be asked
    source  PS3.4 C.6.2.1, Number of Series Related Instances (0020,1209)
    """
    remote = Remote(
        host=host, port=port, called=called, calling=calling, timeout_seconds=timeout_seconds, tls=tls
    )
    association = associate(remote, [build_context(STUDY_ROOT_FIND)])
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = study_instance_uid
    query.SeriesInstanceUID = series_instance_uid
    query.NumberOfSeriesRelatedInstances = None
    try:
        counts = []
        for number, (status, answer) in enumerate(association.send_c_find(query, STUDY_ROOT_FIND)):
            if number >= MOST_ANSWERS or "Status" not in status:
                break
            if (
                status.Status in PENDING
                and answer is not None
                and answer.get("NumberOfSeriesRelatedInstances")
            ):
                counts.append(int(answer.NumberOfSeriesRelatedInstances))
    finally:
        if association.is_established:
            association.release()
    return max(counts, default=None)
