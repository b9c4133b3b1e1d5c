"""Our own DICOM upper layer for Verification and Storage (PS3.8): the acceptor's side alone."""
