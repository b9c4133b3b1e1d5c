"""Who does what: generators over the real workflow functions. Every `yield` is a point where the process may die.

What stands between two yields happens at once: one unit of work, or one effect on disk, broker or network.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.world import OPERATOR_ROUTES, ROUTES, SITE, Grant, Steps, World, digest_of
from triage.channels.protocol import Answer, Outcome
from triage.detectors.protocol import Detection
from triage.domain.errors import Conflict, Refused, Unavailable
from triage.domain.finding import Band, Finding, PriorityClass
from triage.domain.run import LEASE
from triage.domain.study import CT_CLASSES, InstanceHeader
from triage.domain.suitability import NotSuitable, ReasonCode
from triage.store import alerts, completeness, deliveries, events, instances, leases, listing, studies
from triage.store.narrowing import Filters
from triage.workflow import assess, constancy, intake, relay, sweep
from triage.workflow.assess import Result
from triage.workflow.complete import complete_series
from triage.workflow.read import answers, claims, reported, verdicts

RECEIVER, SCHEDULER = "receiver", "scheduler"
LEADER_LEASE = timedelta(seconds=30)
CALM_POLL_SECONDS = 12.0


@dataclass
class Object:
    """One object that a modality holds: header, and bytes that say what a detector will find in it."""

    header: InstanceHeader
    content: str
    after_ms: int = 0  # not sent before: a late slice

    @property
    def digest(self) -> str:
        return digest_of(self.content)


@dataclass
class Plan:
    """What one sender wants to get rid of. It resends until each object was answered with success."""

    name: str
    objects: list[Object]
    resends: int = 0  # objects that it sends again although they were acknowledged
    ae_title: str = "MODALITY"
    pending: list[Object] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pending = list(self.objects)


# --- outside: modalities and readers ------------------------------------------------------------------------


def sender(world: World, plan: Plan) -> Steps:
    """Opens associations until nothing is pending; a connection that breaks is tried again."""
    number = 0
    while plan.pending or plan.resends:
        due = [o for o in plan.pending if o.after_ms <= world.ms]
        if plan.resends and not plan.pending:
            due, plan.resends = plan.objects[: plan.resends], 0
        if not due:
            wait_ms = min(o.after_ms for o in plan.pending) - world.ms
            yield 5.0 if world.calm else wait_ms / 1000
            continue
        if not (world.receiving and world.is_up(RECEIVER)):
            yield 2.0 + 3.0 * world.draw(plan.name)
            continue
        number += 1
        name = f"{plan.name}/a{number}"
        world.add(name, RECEIVER, association(world, name, plan, due))
        while name in world.actors:
            yield 0.5
        yield 0.5 + 2.0 * world.draw(plan.name)


def association(world: World, name: str, plan: Plan, due: list[Object]) -> Steps:
    """The receiver's side of one association: bytes durable, rows committed, then success (P1)."""
    association_id = f"node:{name}"
    aborted = False
    for number, item in enumerate(due):
        yield 0.02
        if world.draw(name) < 0.02:  # the modality gives up half way
            aborted = True
            break
        if "success_first" in world.mistakes:
            _hear_success(world, plan, item)
            yield 0.0
        try:
            yield from _keep(world, f"incoming/{name}-{number}", item, association_id, plan.ae_title)
        except Unavailable:
            continue  # A700: still pending, the sender comes again
        yield 0.0
        if world.draw(name) < 0.95:  # else the answer is lost on its way
            _hear_success(world, plan, item)
    yield 0.05
    try:
        with world.database.write() as tx:
            touched = completeness.association_ended(tx, association_id, aborted, world.now())
        for series_id in touched:
            yield 0.0
            with world.database.write() as tx:
                wake = complete_series(tx, series_id, SITE, world.now(), world.ids(name))
            yield 0.0
            world.broker.put(wake, world.ms)
    except Unavailable:
        pass  # the sweeper judges what this association left


def _hear_success(world: World, plan: Plan, item: Object) -> None:
    world.acknowledged.add((item.header.sop_instance_uid, item.digest))
    if item in plan.pending:
        plan.pending.remove(item)
    world.touched = True


def _keep(world: World, temporary: str, item: Object, association_id: str, ae_title: str) -> Steps:
    world.disk.write(temporary, item.content)
    yield 0.0
    world.disk.fsync(temporary)
    yield 0.0
    world.disk.rename(temporary, f"objects/{item.digest}")
    yield 0.0
    world.disk.fsync_dir("objects/")
    yield 0.0
    arrival = intake.arrival_of(item.header, item.digest, len(item.content), ae_title, association_id)
    with world.database.write() as tx:
        taken = intake.intake(tx, arrival, SITE, world.now())
    yield 0.0
    world.broker.put(taken.wake, world.ms)


def reader(world: World, name: str) -> Steps:
    """Takes the next study, acknowledges alerts, reports, lets claims run out, takes over."""
    while True:
        yield CALM_POLL_SECONDS if world.calm else 5.0 + 40.0 * world.draw(name)
        act = world.draw(name)
        try:
            if world.calm or act < 0.3:
                _acknowledge(world, name)
            elif act < 0.75:
                yield from _read_next(world, name)
            elif act < 0.85:
                _take_over(world, name)
            elif act < 0.92:
                _raise_by_hand(world, name)
        except (Refused, Conflict, Unavailable):
            continue


def _acknowledge(world: World, name: str) -> None:
    if not world.any("SELECT 1 FROM alert WHERE state IN ('open', 'exhausted')"):
        return
    with world.database.read() as tx:
        waiting = alerts.listing(tx)
    if not waiting:  # a constancy study's alert is told to nobody
        return
    chosen = waiting[int(world.draw(name) * len(waiting))]
    with world.database.write() as tx:
        answers.acknowledge(tx, chosen["id"], name, world.now())


def _read_next(world: World, name: str) -> Steps:
    now = world.now()
    with world.database.write() as tx:
        uid = claims.next_study(tx, name, now)
        study_id = studies.find_study(tx, uid) if uid else None
    if uid is None:
        return
    _grant(world, study_id, name, now)
    yield 20.0 + 100.0 * world.draw(name)
    ending = world.draw(name)
    with world.database.write() as tx:
        if ending < 0.2:
            reported.report(tx, uid, name, world.now(), state="final")
            world.grants.pop(study_id, None)
        elif ending < 0.6:
            claims.release(tx, uid, name, world.now())
        # else the reader goes for lunch: the claim runs out by itself
        else:
            return
    if study_id in world.grants and world.grants[study_id].reader == name:
        del world.grants[study_id]


def _grant(world: World, study_id: int, name: str, now: datetime, *, taken_over: bool = False) -> None:
    """What the reader now believes; nobody else may believe the same (I16)."""
    held = world.grants.get(study_id)
    if held is not None and held.reader != name and not taken_over:
        live = held.until > now and held.until_ms > world.ms
        assert not live, f"I16: study {study_id} given to {name} while {held.reader} holds it"
    length_ms = int(claims.CLAIM_LENGTH.total_seconds() * 1000)
    world.grants[study_id] = Grant(name, now + claims.CLAIM_LENGTH, world.ms + length_ms)


def _take_over(world: World, name: str) -> None:
    if not world.grants:
        return
    study_id = sorted(world.grants)[0]
    now = world.now()
    with world.database.write() as tx:
        uid = studies.get_study(tx, study_id)["study_instance_uid"]
        claims.claim(tx, uid, name, now, take_over_reason="urgent")
    _grant(world, study_id, name, now, taken_over=True)


def _raise_by_hand(world: World, name: str) -> None:
    with world.database.read() as tx:
        rows = listing.rows(tx, Filters(), world.now(), limit=5)
    if rows:
        chosen = rows[int(world.draw(name) * len(rows))]["study_instance_uid"]
        wanted = PriorityClass(int(1 + 3 * world.draw(name)))
        with world.database.write() as tx:
            verdicts.override(tx, chosen, name, world.now(), priority_class=wanted, reason="ward called")


# --- receiver and workers -----------------------------------------------------------------------------------


def receiver(world: World) -> Steps:
    """At its start it closes what its predecessor had open; then its associations do the work."""
    world.receiving = False
    for name in [n for n in world.disk.seen if n.startswith("incoming/")]:
        del world.disk.seen[name]
    while not world.receiving:
        try:
            with world.database.write() as tx:
                completeness.forget_associations(tx, "node", world.now())
            world.receiving = True
        except Unavailable:
            yield 1.0
    while True:
        yield 3600.0


def worker(world: World, name: str) -> Steps:
    """Takes calls from the broker; the row says whether anything is left to do."""
    new_token = world.ids(name)
    while True:
        run_id = world.broker.take(world.draw(name), world.ms)
        if run_id is None:
            yield world.poll_seconds / 2
            continue
        yield 0.0
        try:
            with world.database.write() as tx:
                leased = assess.lease(tx, run_id, new_token(), world.now())
            yield 0.0
            if leased is None:
                continue
            with world.database.read() as tx:
                held = instances.held_by_uid(tx, list(leased.sop_instance_uids))
            result = look(world, leased, held)
            if result is None:  # an object that kills its reader
                world.doomed.append(name)
                yield 0.0
                continue
            for _ in range(int(3 * world.draw(name))):
                yield 1.0 + 20.0 * world.draw(name)
                with world.database.write() as tx:
                    leases.renew(tx, run_id, leased.token, world.now() + LEASE)
            yield 0.3
            world.acting_token = leased.token
            with world.database.write() as tx:
                assess.finish(tx, leased, result, SITE, world.ids(name), world.now())
            yield 0.0
        except Unavailable:
            yield 1.0


def look(world: World, leased: leases.Leased, held: list[instances.Held]) -> Result | None:
    """The scripted detector: findings follow from the bytes on disk and the release alone."""
    contents = []
    for one in held:
        inode = world.disk.seen.get(f"objects/{one.digest}")
        assert inode is not None and digest_of(inode.content) == one.digest, "I2: a row without its bytes"
        contents.append(inode.content)
    marks = {mark for c in contents for mark in c.split("|")[1:]}
    if "poison" in marks:
        return None
    if "corrupt" in marks:
        return Result(not_suitable=NotSuitable(ReasonCode.CORRUPT_PIXELS))
    if "raises" in marks:
        return Result(failure="valueerror")
    is_scan = held[0].header.sop_class_uid in CT_CLASSES
    names = ("nodule", "pneumothorax") if is_scan else ("pneumothorax", "consolidation", "effusion")
    wanted = marks - ({"pneumothorax"} if "clear" in marks else set())
    findings = [scripted(n, n in wanted, leased.release_digest, contents[0]) for n in names]
    return Result(detection=Detection(tuple(findings)), runtime="scripted")


def scripted(name: str, present: bool, release_digest: str, content: str) -> Finding:
    share = int(digest_of(f"{name} {release_digest} {content}")[:6], 16) / 0xFFFFFF
    probability = 0.5 + share / 2 if present else share / 2.01
    band = Band.HIGH if probability > 0.8 else Band.MODERATE if present else Band.LOW
    return Finding(name, probability, probability, band, present, 0.5)


# --- relay and scheduler ------------------------------------------------------------------------------------


def clockwork(world: World, process: str) -> Steps:
    """The leader's loop: renew the lease, then each duty."""
    holder = f"{process}:{world.incarnations[process]}"
    new_id = world.ids(f"{process}/clock")
    while True:
        try:
            before = world.raw.total_changes
            with world.database.write() as tx:
                token = events.take_lease(tx, "relay", holder, world.now(), LEADER_LEASE)
            led, world.leads[process] = world.leads.get(process), token is not None
            if led == world.leads[process]:  # a renewal, or another try: nothing an invariant looks at
                world.lease_writes = world.raw.total_changes - before
            yield 0.0
            if world.leads[process]:
                wake = sweep.judge_due(world.database, SITE, world.now, new_id)
                yield 0.0
                world.broker.put(wake, world.ms)
                if "no_sweeper" not in world.mistakes:
                    sweep.climb_due(world.database, SITE, world.now, new_id)
                    yield 0.0
                    with world.database.write() as tx:
                        wake = sweep.sweep(tx, SITE, new_id, world.now())
                    yield 0.0
                    world.broker.put(wake, world.ms)
                with world.database.write() as tx:
                    constancy.judge(tx, OPERATOR_ROUTES, new_id, world.now())
        except Unavailable:
            world.leads[process] = False
        yield CALM_POLL_SECONDS if world.calm else world.sweep_seconds


def courier(world: World, process: str, route: str) -> Steps:
    """Delivers one route, one message at a time, while its process leads."""
    name = f"{process}/{route}"
    while True:
        yield world.poll_seconds
        if not world.leads.get(process):
            continue
        if not world.any("SELECT 1 FROM delivery WHERE state = 'waiting' AND route = ?", route):
            continue
        try:
            with world.database.read() as tx:
                due = deliveries.due(tx, route, world.now())
            if due is None:
                continue
            yield 0.0
            if "mark_then_send" in world.mistakes:
                yield from _mark_then_send(world, due)
                continue
            with world.database.write() as tx:
                row = relay.prepare(tx, ROUTES[route], SITE, world.now())
            yield 0.0
            if row is None:
                continue
            lost = not world.calm and world.draw(name) < world.loss
            answer = world.peers[route].send(row, lost)
            world.touched = True
            yield 0.0
            with world.database.write() as tx:
                relay.record(
                    tx, row, answer, world.draw(name), world.now(), ids=world.ids(name), ladder=SITE.ladder
                )
        except Unavailable:
            continue


def _mark_then_send(world: World, due: dict[str, Any]) -> Steps:
    with world.database.write() as tx:
        row = relay.prepare(tx, ROUTES[due["route"]], SITE, world.now())
        if row is None:
            return
        relay.record(tx, row, Answer(Outcome.DELIVERED), 0.0, world.now())
    yield 0.0
    world.peers[due["route"]].send(row, False)


def scheduler(world: World, template: Object) -> Steps:
    """A constancy phantom through the real door, now and then."""
    for number in range(1, 4):
        yield 20.0 + 60.0 * world.draw(SCHEDULER)
        name = f"constancy-{number}.{world.incarnations[SCHEDULER]}"
        header = replace(
            template.header,
            **{
                uid: f"{getattr(template.header, uid)}.{number}.{world.incarnations[SCHEDULER]}"
                for uid in ("study_instance_uid", "series_instance_uid", "sop_instance_uid")
            },
        )
        item = Object(header, f"{header.sop_instance_uid}|pneumothorax")
        try:
            with world.database.write() as tx:
                constancy.begin(tx, "chest_xray", header.study_instance_uid, world.now())
        except Unavailable:
            continue
        yield 0.0
        plan = Plan(name, [item])
        world.patients.append(plan)
        world.add(name, "outside", sender(world, plan))
