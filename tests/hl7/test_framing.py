"""MLLP bytes: the same messages however the network cuts them, and limits before memory."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triage.hl7.framing import FrameCutOff, FrameReader, FrameTimeout, FrameTooLarge, frame


class Chunks:
    """A stream that gives what it was told, cut where it was told, and then closes."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = [c for c in chunks if c]

    def recv(self, bufsize: int, /) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""

    def settimeout(self, value: float | None, /) -> None:
        assert value is None or value > 0


def soon() -> float:
    return time.monotonic() + 5


def read_all(stream: Chunks, max_bytes: int = 1000) -> list[bytes | str]:
    reader = FrameReader(stream, max_bytes=max_bytes)
    seen: list[bytes | str] = []
    while True:
        try:
            message = reader.read(start_by=soon())
        except FrameCutOff:
            return [*seen, "cut off"]
        if message is None:
            return seen
        seen.append(message)


messages = st.binary(max_size=60).map(lambda b: b.replace(b"\x0b", b"").replace(b"\x1c", b""))
noise = st.binary(max_size=20).map(lambda b: b.replace(b"\x0b", b""))


@given(st.lists(messages, max_size=5))
def test_framed_messages_come_out_as_they_went_in(sent: list[bytes]) -> None:
    assert read_all(Chunks(b"".join(frame(m) for m in sent))) == sent


@given(
    st.binary(max_size=200) | st.lists(st.sampled_from([b"\x0b", b"\x1c", b"\r", b"a"])).map(b"".join),
    st.data(),
)
def test_any_cut_of_any_stream_gives_the_same_messages(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]
    assert read_all(Chunks(*pieces)) == read_all(Chunks(stream))


@given(noise, messages, noise)
def test_bytes_between_frames_are_skipped_and_counted(before: bytes, message: bytes, after: bytes) -> None:
    reader = FrameReader(Chunks(before + frame(message) + after))
    assert reader.read(start_by=soon()) == message
    assert reader.skipped == len(before)
    assert reader.pending == bool(after)


def test_a_second_start_block_begins_the_message_anew() -> None:
    assert read_all(Chunks(b"\x0bhalf a mess\x0bwhole\x1c\r")) == [b"whole"]


def test_a_wrong_end_block_does_not_end_a_message() -> None:
    assert read_all(Chunks(b"\x0bone\x1c\ntwo\x1c\r")) == [b"one\x1c\ntwo"]


def test_a_message_that_holds_a_byte_of_the_framing_is_not_framed() -> None:
    for byte in (b"\x0b", b"\x1c"):
        with pytest.raises(ValueError, match="0B or 1C"):
            frame(b"MSH|" + byte)


def test_a_message_over_the_limit_is_refused_before_it_is_whole() -> None:
    endless = Chunks(b"\x0b", *[b"x" * 100] * 1000)
    with pytest.raises(FrameTooLarge):
        FrameReader(endless, max_bytes=1000).read(start_by=soon())
    assert endless.recv(1), "read no further than needed"


def test_a_message_of_exactly_the_limit_passes() -> None:
    assert FrameReader(Chunks(frame(b"x" * 1000)), max_bytes=1000).read(start_by=soon()) == b"x" * 1000


def test_endless_noise_without_a_start_block_is_refused() -> None:
    with pytest.raises(FrameTooLarge):
        FrameReader(Chunks(*[b"x" * 100] * 1000), max_bytes=1000).read(start_by=soon())


def test_a_peer_that_closes_inside_a_frame_is_told_from_one_that_closes_between() -> None:
    assert read_all(Chunks(frame(b"a"))) == [b"a"]
    assert read_all(Chunks(frame(b"a") + b"\x0bb\x1c")) == [b"a", "cut off"]


def test_a_peer_that_drips_does_not_move_the_deadline() -> None:
    class Drip(Chunks):
        def recv(self, bufsize: int, /) -> bytes:
            time.sleep(0.01)
            return b"x"

    drip = Drip()
    began = time.monotonic()
    with pytest.raises(FrameTimeout):
        FrameReader(drip).read(start_by=began + 0.1)
    reader = FrameReader(drip)
    reader._buffer += b"\x0b"
    with pytest.raises(FrameTimeout):
        reader.read(start_by=began + 60, frame_seconds=0.1)
    assert time.monotonic() - began < 2
