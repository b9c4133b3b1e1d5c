"""PACS-integrated radiology triage. Research and demonstration software, not a medical device."""

__version__ = "0.1.0"
