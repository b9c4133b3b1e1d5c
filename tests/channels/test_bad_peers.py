"""Only the right acknowledgement counts, whatever a peer does (P10, F27)."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.channels import peers
from tests.channels.peers import TIMEOUT_SECONDS, BadPeer, Behaviour, says
from tests.hl7.notices import a_notice
from triage.channels.mllp import MllpChannel, read_acknowledgement
from triage.channels.protocol import Outcome
from triage.domain.finding import Mode
from triage.hl7.results import build_oru


def an_oru(control_id: str) -> bytes:
    return build_oru(a_notice(control_id=control_id), mode=Mode.TRIAGE_ONLY, processing_id="T")


BEHAVIOURS: list[tuple[Behaviour, Outcome]] = [
    (peers.accepts, Outcome.DELIVERED),
    (says("CA"), Outcome.DELIVERED),
    (peers.accepts_twice, Outcome.DELIVERED),
    (peers.accepts_again_later, Outcome.DELIVERED),
    (peers.accepts_another_then_this, Outcome.DELIVERED),
    (says("AE"), Outcome.REFUSED),
    (says("CE"), Outcome.REFUSED),
    (says("AR"), Outcome.RETRY),
    (says("CR"), Outcome.RETRY),
    (says("XX"), Outcome.RETRY),
    (says(""), Outcome.RETRY),
    (peers.rejects_then_accepts, Outcome.RETRY),
    (peers.hangs, Outcome.RETRY),
    (peers.closes, Outcome.RETRY),
    (peers.closes_half_way, Outcome.RETRY),
    (peers.half_frame, Outcome.RETRY),
    (peers.wrong_end_block, Outcome.RETRY),
    (peers.accepts_late, Outcome.RETRY),
    (peers.accepts_another, Outcome.RETRY),
    (peers.accepts_the_one_before, Outcome.RETRY),
    (peers.accepts_nobody, Outcome.RETRY),
    (peers.garbage, Outcome.RETRY),
    (peers.framed_garbage, Outcome.RETRY),
    (peers.ten_megabytes, Outcome.RETRY),
    (peers.flood_of_others, Outcome.RETRY),
    (peers.echo, Outcome.RETRY),
    (peers.two_opinions, Outcome.RETRY),
]


@pytest.mark.parametrize(("behaviour", "expected"), BEHAVIOURS, ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_peer_is_believed_only_when_it_names_this_message(behaviour: Behaviour, expected: Outcome) -> None:
    patience = 2 if expected is Outcome.DELIVERED else TIMEOUT_SECONDS
    with BadPeer(itertools.chain([behaviour], itertools.repeat(peers.accepts))) as peer:
        channel = MllpChannel("127.0.0.1", peer.port, timeout_seconds=patience)
        began = time.monotonic()
        answer = channel.send(an_oru("FIRST"), "FIRST")
        assert answer.outcome is expected
        assert time.monotonic() - began < patience + 1
        assert (channel._socket is None) == (expected is not Outcome.DELIVERED)
        # And the next message is not confused by what this one left behind.
        channel._timeout_seconds = 5.0
        assert channel.send(an_oru("SECOND"), "SECOND").outcome is Outcome.DELIVERED
        assert peer.received[-1] == "SECOND"
        channel.close()


def test_a_late_answer_of_one_message_is_no_answer_to_the_next() -> None:
    with BadPeer(itertools.chain([peers.accepts_late], itertools.repeat(peers.hangs))) as peer:
        channel = MllpChannel("127.0.0.1", peer.port, timeout_seconds=TIMEOUT_SECONDS)
        assert channel.send(an_oru("FIRST"), "FIRST").outcome is Outcome.RETRY
        for _ in range(3):
            assert channel.send(an_oru("SECOND"), "SECOND").outcome is Outcome.RETRY
        channel.close()


def test_a_connection_that_the_peer_closed_meanwhile_is_replaced_without_a_failure() -> None:
    def accepts_and_closes(turn: peers.Turn) -> None:
        turn.ack("AA")
        turn.close()

    with BadPeer(itertools.repeat(accepts_and_closes)) as peer:
        channel = MllpChannel("127.0.0.1", peer.port, timeout_seconds=5)
        assert channel.send(an_oru("FIRST"), "FIRST").outcome is Outcome.DELIVERED
        kept = channel._socket
        assert kept is not None
        kept.settimeout(5)
        assert kept.recv(1, socket.MSG_PEEK) == b"", "the peer closed"
        assert channel.send(an_oru("SECOND"), "SECOND").outcome is Outcome.DELIVERED
        channel.close()


def test_a_refusal_says_the_code_and_never_the_words_of_the_peer() -> None:
    def refuses_with_words(turn: peers.Turn) -> None:
        text = (
            peers.an_ack("AE", turn.control_id) + b"ERR||PID^1^5|101^Required^HL70357|E||||DOE JANE unknown\r"
        )
        turn.say(peers.frame(text))

    with BadPeer(itertools.repeat(refuses_with_words)) as peer:
        channel = MllpChannel("127.0.0.1", peer.port, timeout_seconds=5)
        answer = channel.send(an_oru("FIRST"), "FIRST")
        assert (answer.outcome, answer.detail) == (Outcome.REFUSED, "AE 101")


def test_a_peer_that_takes_nothing_in_does_not_hold_us_longer_than_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        channel = MllpChannel("127.0.0.1", server.getsockname()[1], timeout_seconds=0.3)
        began = time.monotonic()
        assert channel.send(b"MSH|^~\\&|" + b"x" * 15_000_000, "BIG").outcome is Outcome.RETRY
        assert time.monotonic() - began < 2


def test_a_port_where_nobody_listens_and_a_name_that_is_none_are_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert MllpChannel("127.0.0.1", port, timeout_seconds=1).send(b"MSH|", "A").outcome is Outcome.RETRY
    assert MllpChannel("a..b", port, timeout_seconds=1).send(b"MSH|", "A").outcome is Outcome.RETRY


def test_a_name_that_later_points_elsewhere_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """F29: resolved once; the second server would be a stranger."""
    with (
        BadPeer(itertools.repeat(peers.closes)) as known,
        BadPeer(itertools.repeat(peers.accepts)) as stranger,
    ):
        ports = iter([known.port, stranger.port, stranger.port])

        def rebinding(host: str, port: int, **_: object) -> list[object]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", next(ports)))]

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        channel = MllpChannel("hospital.example", known.port, timeout_seconds=1)
        for _ in range(2):
            assert channel.send(an_oru("FIRST"), "FIRST").outcome is Outcome.RETRY
        assert not stranger.received


def test_two_senders_take_turns_on_one_connection() -> None:
    with BadPeer(itertools.repeat(peers.accepts)) as peer:
        channel = MllpChannel("127.0.0.1", peer.port, timeout_seconds=5)
        ids = [f"ID{n}" for n in range(40)]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda i: channel.send(an_oru(i), i).outcome, ids))
        assert answers == [Outcome.DELIVERED] * 40
        assert sorted(peer.received) == sorted(ids)
        channel.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r",
        b"MSH",
        b"MSH|",
        b"MSA|AA|X",
        b"PID|\rMSA|AA|X",
        b"MSH|^~\\&\rMSA|AA",
        b"MSH|^~\\&\rMSA",
        b"\n\n\n",
    ],
)
def test_what_is_no_acknowledgement_is_read_as_none(raw: bytes) -> None:
    assert read_acknowledgement(raw) == ("", "", "")


def test_an_acknowledgement_with_line_feeds_and_other_delimiters_is_read() -> None:
    assert read_acknowledgement(b"MSH#^~\\&#EHR\nMSA#AA#X1#fine\n") == ("AA", "X1", "")


ROUND_BEHAVIOURS = [b for b, _ in BEHAVIOURS if b is not peers.ten_megabytes]


def false_deliveries(seed: int, rounds: int) -> tuple[int, int]:
    """(delivered although the peer never accepted that id, delivered) over a peer that changes its mind."""
    rng = random.Random(seed)
    false = delivered = 0
    mood = iter(lambda: rng.choice(ROUND_BEHAVIOURS), None)
    with BadPeer(mood, seed) as peer:
        channel = MllpChannel("127.0.0.1", peer.port, timeout_seconds=0.03)
        for n in range(rounds):
            control_id = f"S{seed}R{n}"
            for _ in range(2):  # as the relay: the same bytes again
                outcome = channel.send(an_oru(control_id), control_id).outcome
                if outcome is Outcome.DELIVERED:
                    delivered += 1
                    false += control_id not in peer.accepted
                if outcome is not Outcome.RETRY:
                    break
        channel.close()
    return false, delivered


@pytest.mark.parametrize("rounds", [1_000, pytest.param(10_000, marks=pytest.mark.faults)])
def test_no_false_delivered_in_many_rounds_with_a_lying_peer(rounds: int) -> None:
    """P10. Eight peers at once; seeds 0 to 7."""
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(false_deliveries, range(8), [rounds // 8] * 8))
    assert sum(false for false, _ in results) == 0, f"by seed: {results}"
    assert sum(delivered for _, delivered in results) > rounds / 8, "the peer must have accepted some"
    assert threading.active_count() < 50
