"""The processes that make up the product, and which of them an installation needs."""

from __future__ import annotations

from triage.settings import Settings

PARTS = (
    "receiver", "hl7", "worker-stat", "worker-routine", "relay", "scheduler", "publisher", "collector", "web",
)  # fmt: skip


def parts_of(settings: Settings) -> tuple[str, ...]:
    """Every part but the collector where nothing is collected."""
    collects = settings.folder.path is not None or bool(settings.pull or settings.perform)
    return tuple(part for part in PARTS if part != "collector" or collects)
