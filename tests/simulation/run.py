"""seed -> schedule -> first violation; replay; shrink."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from tests.simulation import faults
from tests.simulation.actors import reader
from tests.simulation.faults import Event
from tests.simulation.invariants import Checker
from tests.simulation.world import Actor, SimDatabase, World
from triage.store import schema

CALM_TICK_MS = 4000
CALM_LIMIT_MS = 90 * 60 * 1000  # what has not happened then will not
AFTERWARDS_MS = 15 * 60 * 1000  # claims of readers who left end within it


@dataclass(frozen=True)
class History:
    """How one seed went. violation: "" or a text that begins with the number of what was broken."""

    seed: int
    violation: str
    schedule: tuple[Event, ...]
    trace: str  # digest over every event and every row at the end
    steps: int

    @property
    def broken(self) -> str:
        return self.violation.partition(":")[0]

    def line(self) -> str:
        return (
            f"SIM FAIL {self.violation} seed={self.seed} steps={self.steps} "
            f"-> make test-simulation SEED={self.seed}"
        )

    def last_events(self, count: int = 40) -> str:
        rows = list(enumerate(self.schedule))[-count:]
        return "\n".join(f"{i:5d}  {' '.join(map(str, event))}" for i, event in rows)


@functools.cache
def database() -> SimDatabase:
    """One for all seeds of a process: rows go, compiled statements stay."""
    made = SimDatabase("sqlite://")
    schema.metadata.create_all(made.engine)
    return made


def run(
    seed: int, mistakes: frozenset[str] = frozenset(), schedule: Sequence[Event] | None = None
) -> History:
    """One history: a storm by the seed's own schedule (or the given one), then calm."""
    database().empty()
    world = World(seed, database(), mistakes)
    config = faults.draw_config(world)
    faults.furnish(world, config)
    checker = Checker(world)
    played: list[Event] = []
    violation = ""
    try:
        for number in range(config.events if schedule is None else len(schedule)):
            event = faults.draw_event(world, config) if schedule is None else schedule[number]
            played.append(event)
            faults.apply(world, event)
            checker.check()
        calm(world, checker)
    except AssertionError as error:
        violation = str(error)
    return History(seed, violation, tuple(played), _trace(world, played), len(played))


def calm(world: World, checker: Checker) -> None:
    """No faults, peers up, clocks right, each actor in turn, until everything that must happen has happened."""
    world.calm = True
    world.database.busy = 0
    world.disk.full = False
    world.set_skew(timedelta(0))
    for peer in world.peers.values():
        peer.mode = "up"
    if not any(name.startswith("reader") for name in world.actors):
        world.add("reader-of-last-resort", "outside", reader(world, "reader-of-last-resort"))
    end = world.ms + CALM_LIMIT_MS
    while world.ms < end:
        _rotate(world, checker)
        if not checker.unfinished():
            break
        tick = max(1, world.next_wake_ms() - world.ms)
        world.advance(-(-tick // CALM_TICK_MS) * CALM_TICK_MS)  # together, so that few rotations do
    missing = checker.unfinished()
    assert not missing, missing
    checker.i15_pages()
    world.advance(AFTERWARDS_MS)
    for _ in range(3):
        _rotate(world, checker)
        world.advance(30_000)
    checker.l5_nothing_of_the_dead()


def _rotate(world: World, checker: Checker) -> None:
    """Every actor that is awake, in fair turn, until all sleep."""
    for _ in range(10_000):
        awake: list[Actor] = [a for a in world.actors.values() if a.wake_ms <= world.ms]
        if not awake:
            return
        for actor in awake:
            world.step(actor.name)
            checker.check()
    raise AssertionError("L6: somebody works for ever")


def shrink(history: History, mistakes: frozenset[str] = frozenset(), tries: int = 400) -> History:
    """The same violation from fewer events: cut halves, quarters ... single events while it still fails."""
    best = history
    size = max(1, len(best.schedule) // 2)
    while tries > 0:
        start, cut = 0, False
        while start < len(best.schedule) and tries > 0:
            tries -= 1
            shorter = best.schedule[:start] + best.schedule[start + size :]
            again = run(best.seed, mistakes, shorter)
            if again.broken == best.broken:
                best, cut = again, True
            else:
                start += size
        if size == 1 and not cut:
            break
        size = max(1, size // 2) if not cut or size > 1 else 1
    return best


def _trace(world: World, played: list[Event]) -> str:
    digest = hashlib.sha256(repr(played).encode())
    for table in sorted(schema.metadata.tables):
        for row in world.database.raw().execute(f'SELECT * FROM "{table}" ORDER BY 1'):
            digest.update(repr(row).encode())
    return digest.hexdigest()
