"""Images that are no slices of their series."""

from __future__ import annotations

from triage.domain.odd_images import notes_on


def test_what_was_left_out_is_counted_by_its_reason() -> None:
    found = notes_on({3: "image type SCREENSAVE", 7: "image type SCREENSAVE", 9: "in colour"})
    assert found == ["2 images left out: image type SCREENSAVE", "1 images left out: in colour"]
