"""What can go wrong, and how one history is drawn: first which faults and how often (swarm), then event by event.

An event is a named tuple; applying it to a world where its actor is gone does nothing, so schedules can be cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from tests.factories import a_header
from tests.simulation import actors
from tests.simulation.actors import RECEIVER, SCHEDULER, Object, Plan
from tests.simulation.world import ROUTES, World
from triage.domain.finding import PriorityClass
from triage.domain.priority import Policy
from triage.domain.study import CONSTANCY_PATIENT_PREFIX
from triage.store import deliveries, orders, policies, releases
from triage.workflow.read.claims import CLAIM_LENGTH

Event = tuple[Any, ...]
FAULTS = (
    "crash", "crash_all", "power", "flush", "duplicate", "delay", "peer", "skew", "busy", "disk", "policy", "release",
)  # fmt: skip
SLICES = 9  # one more than the fewest that make a stack: a late slice can be the one that counts
MARKS = ("", *["pneumothorax"] * 6, "consolidation", "effusion", "corrupt", "raises", "poison")


@dataclass(frozen=True)
class Config:
    """What this seed may meet."""

    rates: dict[str, float]  # of each fault, per event
    events: int
    jump: float  # share of events in which time passes and nobody works: freezes, leases that end
    loss: float  # share of peers' answers that are lost on their way
    films: int
    scans: int
    workers: int
    relays: int
    readers: int
    scheduler: bool
    shadow: bool


def draw_config(world: World) -> Config:
    def number(low: int, high: int) -> int:
        return low + int((high - low + 1) * world.draw("config"))

    rates = {f: 0.001 + 0.01 * world.draw("config") for f in FAULTS if world.draw("config") < 0.35}
    return Config(
        rates=rates,
        events=number(250, 600),
        jump=0.004 + 0.02 * world.draw("config") ** 2,
        loss=max(0.0, world.draw("config") - 0.5),
        films=number(1, 3),
        scans=number(0, 1),
        workers=number(1, 2),
        relays=number(1, 2),
        readers=number(0, 2),
        scheduler=world.draw("config") < 0.25,
        shadow=world.draw("config") < 0.3,
    )


# --- the beginning ------------------------------------------------------------------------------------------


def furnish(world: World, config: Config) -> None:
    """Rows that an installation has, orders, senders, and the processes of the product."""
    world.loss = config.loss
    with world.database.write() as tx:
        now = world.now()
        policies.ensure_first(tx, now)
        deliveries.sync_routes(tx, [(r.name, r.kind) for r in ROUTES.values()])
        for detector in ("chest_xray", "lung_nodule"):
            releases.register(tx, detector, "1.0.0", f"{detector} 1.0.0", [], now)
        if config.shadow:
            releases.register(tx, "chest_xray", "1.1.0", "chest_xray 1.1.0", [], now)
        if world.draw("orders") < 0.5:
            orders.add(tx, now, accession_number="Afilm1", priority="STAT", patient_location="ER")
    plans = [_film_plan(world, n) for n in range(config.films)] + [
        _scan_plan(world, n) for n in range(config.scans)
    ]
    world.patients += plans
    for plan in plans:
        world.add(plan.name, "outside", actors.sender(world, plan))
    for number in range(config.readers):
        world.add(f"reader{number}", "outside", actors.reader(world, f"reader{number}"))
    world.serve(RECEIVER, lambda: world.add(RECEIVER, RECEIVER, actors.receiver(world)))
    for number in range(config.workers):
        serve_worker(world, f"worker{number}")
    for number in range(config.relays):
        serve_relay(world, f"relay{number}")
    if config.scheduler:
        phantom = Object(
            a_header(
                study="constancy", patient_id=f"{CONSTANCY_PATIENT_PREFIX}-DX", quality_control_image="YES"
            ),
            "",
        )
        world.serve(SCHEDULER, lambda: world.add(SCHEDULER, SCHEDULER, actors.scheduler(world, phantom)))


def serve_worker(world: World, name: str) -> None:
    world.serve(name, lambda: world.add(name, name, actors.worker(world, name)))


def serve_relay(world: World, name: str) -> None:
    def start() -> None:
        world.add(f"{name}/clock", name, actors.clockwork(world, name))
        for route in ROUTES:
            world.add(f"{name}/{route}", name, actors.courier(world, name, route))

    world.serve(name, start)


def _film_plan(world: World, number: int) -> Plan:
    """One or two films of a study; sometimes the same object twice, or one UID with two contents."""
    name = f"film{number}"

    def draw() -> float:
        return world.draw(f"plan/{name}")

    objects = []
    for i in range(1 + (draw() < 0.4)):
        view = "LL" if draw() < 0.2 else "PA"
        header = a_header(study=name, series=1, instance=i, view_position=view)
        objects.append(Object(header, f"{header.sop_instance_uid}|{MARKS[int(draw() * len(MARKS))]}"))
    if draw() < 0.15:
        objects.append(Object(objects[0].header, objects[0].content + "|pneumothorax"))
    if draw() < 0.1:
        objects.append(
            Object(a_header(study=name, series=2, instance=7, patient_id="SOMEBODY ELSE"), f"{name} stray|")
        )
    objects[-1].after_ms = int(draw() * 120_000) if draw() < 0.4 else 0
    return Plan(name, objects, resends=int(draw() < 0.2))


def _scan_plan(world: World, number: int) -> Plan:
    """A CT series; some of its slices come seconds or minutes late, and may change what is found."""
    name = f"scan{number}"

    def draw() -> float:
        return world.draw(f"plan/{name}")

    late = 0 if draw() < 0.4 else 1 + int(draw() * 3)
    finding = ("", "nodule", "pneumothorax")[int(draw() * 3)]
    last = ("", "clear", "pneumothorax", "nodule")[int(draw() * 4)]
    objects = []
    for i in range(SLICES + late):
        header = a_header(study=name, series=1, instance=i, modality="CT")
        mark = finding if i == 2 else last if i == SLICES + late - 1 else ""
        objects.append(Object(header, f"{header.sop_instance_uid}|{mark}"))
    inside = draw() < 0.5  # the late ones leave a gap, or only a shorter stack
    for item in objects[3 : 3 + late] if inside else objects[len(objects) - late :]:
        item.after_ms = int(5_000 + draw() * 150_000)
    return Plan(name, objects, resends=int(3 * draw()) if draw() < 0.2 else 0)


# --- event by event -----------------------------------------------------------------------------------------


def draw_event(world: World, config: Config) -> Event:
    """The next event of a storm, by name."""
    chosen = world.draw("schedule")
    for fault, rate in config.rates.items():
        if chosen < rate:
            return (fault, *_details(world, fault))
        chosen -= rate
    if chosen < config.jump:
        return ("jump", int(1000 + 120_000 * world.draw("schedule") ** 3))
    awake = [a.name for a in world.actors.values() if a.wake_ms <= world.ms]
    if not awake:
        return ("jump", max(1, world.next_wake_ms() - world.ms))
    return ("advance", awake[int(world.draw("schedule") * len(awake))], int(20 * world.draw("schedule")))


def _details(world: World, fault: str) -> tuple[Any, ...]:
    def one_of(values: list[Any]) -> Any:
        return values[int(world.draw("schedule") * len(values))]

    if fault == "crash":
        return (one_of(sorted(world.starters)),)
    if fault == "peer":
        return one_of(list(ROUTES)), one_of(["up", "down", "late", "wrong", "refuse"])
    if fault == "skew":
        return (one_of([0, 1, -1, 600, -600, 3600, -3600, 86_400, -86_400]),)
    if fault == "busy":
        return (1 + int(4 * world.draw("schedule")),)
    return ()


def apply(world: World, event: Event) -> None:
    """Make it happen. Unknown or dead actors are no error: a schedule may have been cut."""
    EFFECTS[event[0]](world, *event[1:])


def _advance(world: World, name: str, ms: int) -> None:
    world.advance(ms)
    world.step(name)


def _power(world: World) -> None:
    world.disk.power_loss(lambda: world.draw("power"))
    _crash_all(world)


def _crash_all(world: World) -> None:
    for process in world.starters:
        world.crash(process)


def _flush(world: World) -> None:
    world.broker.calls.clear()


def _duplicate(world: World) -> None:
    world.broker.calls += world.broker.calls


def _delay(world: World) -> None:
    world.broker.calls = [(run, world.ms + 60_000) for run, _ in world.broker.calls]


def _peer(world: World, route: str, mode: str) -> None:
    world.peers[route].mode = mode


def _skew(world: World, seconds: int) -> None:
    world.set_skew(timedelta(seconds=seconds))
    # Set back, claims are brought back with it: set forward again before they end, they have ended.
    latest = world.now() + CLAIM_LENGTH
    world.grants = {i: replace(g, until=min(g.until, latest)) for i, g in world.grants.items()}


def _busy(world: World, units: int) -> None:
    world.database.busy = units


def _disk(world: World) -> None:
    world.disk.full = not world.disk.full


def _policy(world: World) -> None:
    """A site turns consolidation down, and limits the lifts."""
    first = Policy()
    changed = replace(
        first,
        raises_to={**first.raises_to, "consolidation": PriorityClass.ELEVATED},
        raised_per_hour=1,
    )
    with _patient_writer(world) as tx:
        policies.adopt(tx, changed, "admin", "trial", world.now())


def _release(world: World) -> None:
    """The shadow release becomes the active one, or a new one is installed beside it."""
    with _patient_writer(world) as tx:
        shadows = releases.in_states(tx, "shadow")
        if shadows:
            releases.activate(tx, shadows[0]["id"])
        elif not any(r["version"] == "2.0.0" for r in releases.in_states(tx)):
            releases.register(tx, "chest_xray", "2.0.0", "chest_xray 2.0.0", [], world.now())


def _patient_writer(world: World) -> Any:
    """An administrator's hand waits until the database answers."""
    world.database.busy = 0
    return world.database.write()


EFFECTS: dict[str, Callable[..., None]] = {
    "advance": _advance, "jump": World.advance, "crash": World.crash, "crash_all": _crash_all, "power": _power,
    "flush": _flush, "duplicate": _duplicate, "delay": _delay, "peer": _peer, "skew": _skew, "busy": _busy,
    "disk": _disk, "policy": _policy, "release": _release,
}  # fmt: skip
