"""Every answer is heard by who asked, however slowly the reactor of pynetdicom gets its turns."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context

from triage.dicom.associate import Remote, associate
from triage.dicom.reactor import Checkpoint
from triage.dicom.services import VERIFICATION


@pytest.fixture
def remote() -> Iterator[Remote]:
    ae = AE("ARCHIVE")
    ae.add_supported_context(VERIFICATION)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    yield Remote(host="127.0.0.1", port=server.server_address[1], timeout_seconds=2)
    server.shutdown()


class Greedy(Checkpoint):
    """Let through, the reactor looks for a message for a while before it goes on: with a plain Event it takes answers."""

    def wait(self, timeout: float | None = None) -> bool:
        passed = super().wait(timeout)
        until = time.monotonic() + 0.02
        while not self._association.dimse.msg_queue.qsize() and time.monotonic() < until:
            pass
        return passed


def test_an_answer_is_never_taken_by_the_reactor(remote: Remote) -> None:
    association = associate(remote, [build_context(VERIFICATION)])
    association._reactor_checkpoint = Greedy(association)
    answers = [association.send_c_echo().get("Status") for _ in range(20)]
    association.release()
    assert answers == [0] * 20
    assert association.is_released


def test_an_association_of_ours_has_the_gap_closed_and_ends_as_ever(remote: Remote) -> None:
    association = associate(remote, [build_context(VERIFICATION)])
    assert isinstance(association._reactor_checkpoint, Checkpoint)
    association.abort()
    association.join(5)
    assert not association.is_alive()
    association._reactor_checkpoint.clear()  # nobody is left to be waited for


def test_who_sends_after_the_connection_went_does_not_wait_for_an_answer(remote: Remote) -> None:
    association = associate(remote, [build_context(VERIFICATION)])
    association.dul.socket.socket.shutdown(socket.SHUT_RDWR)  # as a peer that was killed
    association.join(5)
    while association.dimse.msg_queue.qsize():
        association.dimse.get_msg()  # the reactor may have taken the word of it
    association._reactor_checkpoint.clear()
    assert association.dimse.msg_queue.get_nowait() == (None, None)
    association.is_established = True  # a sender that looked just before
    association.dimse_timeout = None
    assert "Status" not in association.send_c_echo()


def test_a_flag_that_was_left_down_holds_no_release_up(remote: Remote) -> None:
    association = associate(remote, [build_context(VERIFICATION)])
    association._reactor_checkpoint.clear()
    association._is_paused = False
    association.release()
    assert association.is_released


def test_the_reactor_itself_is_not_made_to_wait_for_itself(remote: Remote) -> None:
    association = associate(remote, [build_context(VERIFICATION)])
    association.network_timeout = 0.2  # then the reactor releases or aborts by itself
    association.join(10)
    assert not association.is_alive()


def test_who_clears_waits_until_the_reactor_rests() -> None:
    class Reactor(threading.Thread):
        rounds = 0
        dimse = SimpleNamespace(msg_queue=queue.SimpleQueue())
        dul = SimpleNamespace(is_alive=lambda: True)
        acse = SimpleNamespace(is_aborted=lambda: False)

        def run(self) -> None:
            while self.rounds < 2_000:
                checkpoint.wait()
                self.rounds += 1

    reactor = Reactor(daemon=True)
    checkpoint = Checkpoint(reactor)  # type: ignore[arg-type]
    reactor.start()
    while reactor.is_alive():
        checkpoint.clear()
        before = reactor.rounds
        time.sleep(0.0005)
        assert reactor.rounds == before
        checkpoint.set()
        time.sleep(0)
