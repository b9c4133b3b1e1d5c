"""Parts come out as they went in, however the bytes are cut; what is no multipart is refused."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triage.dicom import multipart
from triage.dicom.multipart import Parts, boundary_of
from triage.domain.errors import Refused


def body_of(parts: list[tuple[bytes, bytes]], boundary: bytes = b"b0") -> bytes:
    made = b"".join(b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + body + b"\r\n" for head, body in parts)
    return made + b"--" + boundary + b"--\r\n"


def read(raw: bytes, step: int = 7, boundary: bytes = b"b0") -> list[tuple[dict[str, str], bytes]]:
    stream = io.BytesIO(raw)
    return [(h, b"".join(c)) for h, c in Parts(lambda _: stream.read(step), boundary)]


@given(
    st.lists(st.binary(max_size=60).filter(lambda b: b"\r\n--b0" not in b), max_size=4), st.integers(1, 40)
)
def test_any_content_in_any_cut(bodies: list[bytes], step: int) -> None:
    found = read(body_of([(b"Content-Type: application/dicom", b) for b in bodies]), step)
    assert [b for _, b in found] == bodies
    assert all(h == {"content-type": "application/dicom"} for h, _ in found)


@given(st.binary(max_size=200))
def test_whatever_comes_is_parts_or_refused(raw: bytes) -> None:
    with contextlib.suppress(Refused):
        read(b"--b0\r\n" + raw)


def test_a_preamble_an_epilogue_and_a_part_that_nobody_reads_are_passed_over() -> None:
    stream = io.BytesIO(b"hello\r\n" + body_of([(b"A: 1", b"x" * 100), (b"A: 2", b"y")]) + b"bye")
    heads = [h["a"] for h, _ in Parts(lambda _: stream.read(5), b"b0")]
    assert heads == ["1", "2"]


@pytest.mark.parametrize(
    "raw", [b"", b"--b0\r\nA: 1\r\n\r\nx", b"--b0\r\nno colon\r\n\r\nx\r\n--b0--", b"--b0\r\n" + b"A" * 9000]
)
def test_what_is_cut_short_or_too_long_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused):
        read(raw)


def test_many_parts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "MAX_PARTS", 2)
    with pytest.raises(Refused):
        read(body_of([(b"A: 1", b"")] * 3))


@pytest.mark.parametrize(
    "said", ["multipart/related", 'multipart/related; boundary=""', "text/plain; boundary=" + "x" * 71]
)
def test_a_boundary_must_be_one(said: str) -> None:
    with pytest.raises(Refused):
        boundary_of(said)
    assert boundary_of('multipart/related; type="application/dicom"; boundary="a b c"') == b"a b c"
