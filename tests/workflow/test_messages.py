"""A message as a person reads it: segments on lines of their own, in its own characters, and empty where nothing came."""

from __future__ import annotations

from triage.workflow.messages import raw_text


def test_a_message_is_read_in_its_own_character_set() -> None:
    raw = "MSH|^~\\&|RIS|H|T|S|20260314||ADT^A08|1|P|2.5.1||||||8859/1\rPID|1||P1||MÜLLER^ZOË\r".encode(
        "latin-1"
    )
    assert raw_text(raw).splitlines()[1].endswith("MÜLLER^ZOË")


def test_what_is_no_message_is_shown_as_it_came_and_nothing_as_nothing() -> None:
    assert raw_text(b"MSH|broken") == "MSH|broken"
    assert raw_text(b'{"a": 1}\r\n') == '{"a": 1}\n'
    assert (raw_text(b""), raw_text(None)) == ("", "")
