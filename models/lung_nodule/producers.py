"""Processes that draw what the networks learn from, beside the one that learns.

They are forked from a process that has read all scans (and not yet touched a GPU), so that the scans lie in memory
once. The finder runs in the learning process alone: a producer lays lungs into memory that both share and waits.
"""

from __future__ import annotations

import mmap
import multiprocessing as mp
import os
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from queue import Empty, Full
from typing import Any

import numpy as np
from insertion import Lesion
from looks import hard_places, looks_of
from luna16 import LUNA16_TRAIN, Hosts, luna16_scans
from sampler import Sample, Sampler

from triage.detectors.lung_nodule import FINDER_STEP_MM

BLOCK = 56  # voxels of a stored block; the finder sees 48, so that a random part is another view
MARKS = 24  # lesions and ignored places kept of one block, the nearest
AT_ONCE = 8  # blocks in one message
DRAWS_A_SCAN = 40  # then one of the scans that take turns goes
DRAWS_A_LOOK = 120  # then the finder is asked about one scan as it is
MOST_VOXELS = 24_000_000  # of lungs on the finder's grid at once; a tall chest has 18 million
KINDS = ("lungs", "blocks", "looks")  # for the pre-training, the finder and the judges
PATIENCE_S = 240.0  # after this a trainer that does not answer is taken for dead


def to_bytes(hu: Any) -> Any:
    """HU as 8 bits of 6 HU each: a fifth of the lung's noise, an eighth of the memory."""
    return np.clip((hu + 1100) / 6, 0, 255).astype(np.uint8)


def marks_of(sample: Sample) -> Any:
    """(MARKS, 5) float32: z, y, x in voxels, diameter in mm, kind 1 (lesion), -1 (ignored) or 0 (none)."""

    def gap(lesion: Lesion) -> float:
        return max(abs(c - BLOCK / 2) for c in lesion.centre)

    both = [
        (gap(le), le, kind) for kind, group in ((1, sample.lesions), (-1, sample.ignored)) for le in group
    ]
    near = sorted((b for b in both if b[0] < BLOCK), key=lambda b: b[0])[:MARKS]
    marks = np.zeros((MARKS, 5), np.float32)
    for row, (_, lesion, kind) in zip(marks, near, strict=False):
        row[:] = (*lesion.centre, lesion.diameter_mm, kind)
    return marks


class _Room:
    """Memory shared by one producer and the trainer: lungs going in, the finder's output coming back."""

    def __init__(self) -> None:
        count = MOST_VOXELS + 5 * MOST_VOXELS // 8
        whole = np.frombuffer(mmap.mmap(-1, 2 * count), np.float16)
        self.lungs, self.output = whole[:MOST_VOXELS], whole[MOST_VOXELS:]


class _Remote:
    """The finder as a producer has it: runs in the trainer's process."""

    runtime = "remote"

    def __init__(self, end: Any, room: _Room) -> None:
        self.end, self.room = end, room

    def __call__(self, batch: Any) -> tuple[Any, ...]:
        self.room.lungs[: batch.size] = batch.ravel()
        self.end.send(batch.shape)
        if not self.end.poll(PATIENCE_S):
            raise SystemExit("the trainer does not answer")
        shape = self.end.recv()
        out = self.room.output[: int(np.prod(shape))].reshape(shape)
        return (out.astype(np.float32),)


class Producers:
    """`count` processes that draw blocks, or what `want` said last."""

    def __init__(self, sampler: Sampler, hosts: Hosts, luna16: Path | None, count: int, seed: int) -> None:
        context = mp.get_context("fork")
        self.queue: Any = context.Queue(maxsize=6 * count)
        self.wanted, self.ready = context.Value("i", KINDS.index("blocks")), context.Value("i", 0)
        self.rooms = [_Room() for _ in range(count)]
        pipes = [context.Pipe() for _ in range(count)]
        self.ends = [ours for ours, _ in pipes]
        self.processes = []
        for k in range(count):
            sampler.rng = np.random.default_rng([seed, k])
            remote = _Remote(pipes[k][1], self.rooms[k])
            given = (sampler, hosts, luna16, remote, self.queue, self.wanted, self.ready, seed + k)
            self.processes.append(context.Process(target=_produce, args=given, daemon=True))
            self.processes[-1].start()

    def want(self, kind: str) -> None:
        """From now on draw this one of KINDS; what was drawn before still comes."""
        self.wanted.value = KINDS.index(kind)

    def take(self, timeout_s: float = 0.0) -> list[tuple[str, tuple[Any, ...]]]:
        """Messages that have come: ("lungs", (hu,)), ("blocks", (hu, marks)) and ("looks", (looks, labels)).

        timeout_s  how long to wait for the first; raises RuntimeError when no producer is left to send it
        """
        messages = []
        try:
            while len(messages) < 8:
                messages.append(self.queue.get(timeout=timeout_s) if timeout_s else self.queue.get_nowait())
                timeout_s = 0.0
        except Empty:
            if timeout_s and not any(p.is_alive() for p in self.processes):
                raise RuntimeError("all producers have died; their errors are above") from None
        return messages

    def serve(self, finder: Callable[[Any], Any]) -> int:
        """Runs the finder (16 bits in and out) for the producers that wait for it. Returns how many did."""
        waiting = wait(self.ends, 0)
        for end in waiting:
            k = self.ends.index(end)
            try:
                shape = end.recv()
            except EOFError:
                continue
            lungs = self.rooms[k].lungs[: int(np.prod(shape))].reshape(shape)
            out = finder(lungs)
            self.rooms[k].output[: out.size] = out.ravel()
            end.send(out.shape)
        return len(waiting)

    def alive(self) -> int:
        return sum(p.is_alive() for p in self.processes)

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join(5)


def _produce(
    sampler: Sampler,
    hosts: Hosts,
    luna16: Path | None,
    finder: _Remote,
    queue: Any,
    wanted: Any,
    ready: Any,
    seed: int,
) -> None:
    parent, drawn = os.getppid(), 0
    if hosts.waiting is not None and luna16 is not None:
        hosts.waiting = luna16_scans(
            luna16, LUNA16_TRAIN, seed
        )  # another order than the other producers have
    while os.getppid() == parent:  # a trainer that was killed takes its producers along
        kind = KINDS[wanted.value]
        if kind == "looks":
            found = looks_of(sampler, sampler.host(), finder)
            _put(queue, ("looks", found), parent)
            hosts.turn()
            continue
        _put(queue, (kind, _lungs(sampler) if kind == "lungs" else _blocks(sampler)), parent)
        drawn += AT_ONCE
        if drawn % DRAWS_A_SCAN == 0:
            hosts.turn()
        if kind == "blocks" and drawn % DRAWS_A_LOOK == 0 and ready.value:
            scan = sampler.host()
            scan.hard = hard_places(finder, scan)


def _lungs(sampler: Sampler) -> tuple[Any, ...]:
    return (np.stack([to_bytes(sampler.draw_lung(BLOCK, FINDER_STEP_MM)) for _ in range(AT_ONCE)]),)


def _blocks(sampler: Sampler) -> tuple[Any, ...]:
    samples = [sampler.draw(BLOCK, FINDER_STEP_MM) for _ in range(AT_ONCE)]
    return np.stack([to_bytes(s.hu) for s in samples]), np.stack([marks_of(s) for s in samples])


def _put(queue: Any, message: Any, parent: int) -> None:
    while os.getppid() == parent:
        try:
            queue.put(message, timeout=5)
            break
        except Full:
            continue
