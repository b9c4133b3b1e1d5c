"""What must hold after every step (I..) and what must have come about when all is calm (L..): assurance 4.2.

The rows are read with plain SQL of our own, the rules are said a second time here, and what senders and peers
know is taken from them: nothing is judged by the code that is under test. A violation is an AssertionError whose
text begins with the number.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from tests.factories import NOON
from tests.simulation.world import OPERATOR_ROUTES, ROUTES, SITE, World, digest_of
from triage.domain.study import CT_CLASSES
from triage.store import listing
from triage.store.narrowing import Filters
from triage.workflow.read.claims import CLAIM_LENGTH

ALIVE = ("open", "acknowledged", "exhausted")
STEPS = {  # the ways of a run, one unit of work at a time
    "": {"requested", "not_analysed"},
    "requested": {"running", "not_analysed", "failed", "superseded"},
    "running": {"completed", "not_analysed", "failed", "superseded", "requested"},
    "completed": {"superseded"},
    "not_analysed": {"superseded"},
    "failed": {"superseded"},
    "superseded": set(),
}
ACROSS = ("running", "requested", "failed", "not_analysed", "completed")
WITHIN = ("running", "requested", "failed", "completed", "not_analysed")
NOT_WHOLE = ("INCOMPLETE_AT_LIMIT", "GAP_IN_SERIES")  # ends nothing that was found before
CLASS_OF_ORDER = {"STAT": 2, "URGENT": 1, "ROUTINE": 0}


class Checker:
    """Holds what the invariants must remember from step to step."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sql = world.database.raw()
        self.runs: dict[int, dict[str, Any]] = {}
        self.superseded: dict[int, str] = {}  # run id -> when
        self.alerts: dict[int, dict[str, Any]] = {}
        self.inputs: dict[int, set[str]] = defaultdict(set)  # series id -> digests of sets it once held
        self.keys: dict[tuple[Any, ...], str] = {}
        self.payloads: dict[str, bytes] = {}
        self.heard = dict.fromkeys(ROUTES, 0)
        self.deliveries = 0
        self.policies: set[int] = set()
        self.fence = 0
        self.audit = (0, "0" * 64)

    def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        cursor = self.sql.execute(statement, values)
        names = [d[0] for d in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def check(self) -> None:
        """After a step: every safety invariant."""
        if not self.world.touched:
            return
        self.world.touched = False
        self.i1_i2_acknowledged_is_kept()
        self.i3_one_patient_a_study()
        runs = self.rows("SELECT r.*, l.detector FROM run r JOIN release l ON l.id = r.release_id")
        self.i5_inputs_once_current(runs)
        self.i4_i7_i20_runs_move_by_the_table(runs)
        self.i4_superseded_once(runs)
        self.i6_findings_under_their_runs()
        self.i8_i9_alerts_equal_findings(runs)
        self.i10_i11_i21_deliveries()
        self.i12_i13_ladder()
        self.i14_i17_i19_items(runs)
        self.i22_audit()
        self.i23_stamps()
        self.i26_fence()
        self.constancy_is_loud()

    def i1_i2_acknowledged_is_kept(self) -> None:
        indexed = {(r["sop_instance_uid"], r["digest"]) for r in self.rows(
            "SELECT sop_instance_uid, digest FROM instance UNION SELECT sop_instance_uid, digest FROM quarantine"
        )}  # fmt: skip
        for uid, digest in self.world.acknowledged - indexed:
            raise AssertionError(f"I1: {uid} was acknowledged with {digest[:8]} and has no row")
        for uid, digest in self.world.acknowledged:
            inode = self.world.disk.durable.get(f"objects/{digest}")
            assert inode is not None, f"I1: {uid} was acknowledged and is not durable"
            assert inode.synced and digest_of(inode.content) == digest, f"I1: {uid} is torn on disk"
        for uid, digest in indexed:
            inode = self.world.disk.seen.get(f"objects/{digest}")
            assert inode is not None, f"I2: the row of {uid} points to no object"
            assert digest_of(inode.content) == digest, f"I2: the object of {uid} has other bytes"

    def i3_one_patient_a_study(self) -> None:
        for r in self.rows(
            "SELECT i.header, p.patient_id, s.instance_count, s.id, count(*) held FROM instance i "
            "JOIN series s ON s.id = i.series_id JOIN study t ON t.id = s.study_id "
            "JOIN patient p ON p.id = t.patient_id GROUP BY s.id"
        ):
            assert json.loads(r["header"])["patient_id"] == r["patient_id"], "I3: study of another patient"
            wrong = f"I3: series {r['id']} counts {r['instance_count']} of {r['held']}"
            assert r["held"] == r["instance_count"], wrong

    def i5_inputs_once_current(self, runs: list[dict[str, Any]]) -> None:
        by_series = defaultdict(list)
        for r in self.rows("SELECT series_id, sop_instance_uid, digest, sop_class_uid FROM instance"):
            by_series[r["series_id"]].append(r)
        for series_id, held in by_series.items():
            scan = held[0]["sop_class_uid"] in CT_CLASSES
            for group in [held] if scan else [[one] for one in held]:
                self.inputs[series_id].add(input_digest(group))
        for r in runs:
            assert r["input_digest"] in self.inputs[r["series_id"]], f"I5: run {r['id']} saw a set never held"

    def i4_superseded_once(self, runs: list[dict[str, Any]]) -> None:
        """With its time, which stays: the QA charts ask which flags stood when a reader looked."""
        for r in runs:
            at, is_superseded = r["superseded_at"], r["state"] == "superseded"
            assert (at is not None) == is_superseded, f"I4: run {r['id']} is {r['state']}, superseded at {at}"
            if is_superseded:
                assert self.superseded.setdefault(r["id"], at) == at, (
                    f"I4: run {r['id']} was superseded twice"
                )

    def i4_i7_i20_runs_move_by_the_table(self, runs: list[dict[str, Any]]) -> None:
        active = {r["version"] for r in self.rows("SELECT version FROM policy WHERE active")}
        for r in runs:
            before = self.runs.get(r["id"], {"state": "", "lease_token": ""})
            was, now = before["state"], r["state"]
            if was == "":
                assert r["policy_version"] in self.policies | active, f"I20: run {r['id']} names no policy"
            if was != now:
                twice = {later for middle in STEPS[was] for later in STEPS[middle]}
                assert now in STEPS[was] or now in twice - {"completed"}, f"I4: run {r['id']} {was} to {now}"
            worked = now in ("completed", "not_analysed", "failed") and r["reason_code"] != "crashed"
            if was == "running" and worked:
                token = before["lease_token"]
                assert token == self.world.acting_token, f"I7: run {r['id']} ended by another's lease"
            assert now != "not_analysed" or r["reason_code"], f"I4: run {r['id']} without a reason"
            assert r["attempts"] <= 3, f"I4: run {r['id']} tried {r['attempts']} times"
        self.runs = {r["id"]: r for r in runs}
        self.policies |= active

    def i6_findings_under_their_runs(self) -> None:
        for r in self.rows(
            "SELECT f.run_id FROM finding f JOIN run r ON r.id = f.run_id "
            "WHERE r.state NOT IN ('completed', 'superseded') LIMIT 1"
        ):
            raise AssertionError(f"I6: run {r['run_id']} has findings and is not completed")

    def counting(self, runs: list[dict[str, Any]]) -> dict[int, set[str]]:
        """study -> names of actionable findings that count."""
        current = {
            r["id"]: r["study_id"] for r in runs if r["state"] == "completed" and r["queue"] != "shadow"
        }
        counting = defaultdict(set)
        for f in self.rows("SELECT run_id, name FROM finding WHERE actionable"):
            if f["run_id"] in current:
                counting[current[f["run_id"]]].add(f["name"])
        return counting

    def i8_i9_alerts_equal_findings(self, runs: list[dict[str, Any]]) -> None:
        wanted = {s for s, names in self.counting(runs).items() if "pneumothorax" in names}
        rows = self.rows("SELECT a.*, s.constancy FROM alert a JOIN study s ON s.id = a.study_id")
        alive = [a["study_id"] for a in rows if a["state"] in ALIVE]
        ended_by_person = {a["study_id"] for a in rows if a["state"] == "closed"}
        assert len(alive) == len(set(alive)), "I9: two alerts of one finding"
        for study_id in wanted - set(alive) - ended_by_person:
            raise AssertionError(f"I8: the critical finding of study {study_id} has no alert")
        for study_id in set(alive) - wanted:
            raise AssertionError(f"I9: the alert of study {study_id} outlived its finding")
        sent = {
            (d["alert_id"], d["route"], d["rung"])
            for d in self.rows("SELECT alert_id, route, rung FROM delivery WHERE kind = 'result'")
        }
        for a in rows:
            assert self.runs[a["run_id"]]["queue"] != "shadow", f"I19: alert {a['id']} by a shadow release"
            for rung in range(a["step"] + 1):
                for route in SITE.ladder[rung].routes:
                    if not a["constancy"]:
                        assert (a["id"], route, rung) in sent, f"I8: alert {a['id']} tells {route} nothing"

    def i10_i11_i21_deliveries(self) -> None:
        for route, peer in self.world.peers.items():
            for message in peer.heard[self.heard[route] :]:
                known = self.keys.setdefault(message.key, message.control_id)
                assert known == message.control_id, f"I10: {message.key} came under two keys"
                first = self.payloads.setdefault(message.control_id, message.payload)
                assert first == message.payload, f"I10: {message.control_id} came with other bytes"
            self.heard[route] = len(peer.heard)
        rows = self.rows("SELECT route, control_id, state FROM delivery")
        assert len(rows) >= self.deliveries, "I21: a delivery was deleted"
        self.deliveries = len(rows)
        for r in rows:
            if r["state"] == "delivered":
                accepted = self.world.peers[r["route"]].accepted
                assert r["control_id"] in accepted, f"I11: {r['control_id']} delivered, the peer never agreed"

    def i12_i13_ladder(self) -> None:
        rows = {r["id"]: r for r in self.rows("SELECT * FROM alert")}
        for number, a in rows.items():
            before = self.alerts.get(number)
            if before is None:
                continue
            risen = a["step"] - before["step"]
            assert 0 <= risen <= 1, f"I12: alert {number} went {risen} rungs"
            if risen:
                assert before["state"] == "open", f"I12: alert {number} climbed while {before['state']}"
                since = self.world.now() - time_of(before["raised_at"])
                early = since < SITE.ladder[a["step"]].after
                assert not early or self._failed(number, a["step"] - 1), (
                    f"I12: alert {number} climbed too early"
                )
            if before["acknowledged_by"]:
                assert a["acknowledged_by"] == before["acknowledged_by"], (
                    f"I13: alert {number} re-acknowledged"
                )
                assert a["state"] in ("acknowledged", "closed", "withdrawn"), f"I13: alert {number} reopened"
        assert rows.keys() >= self.alerts.keys(), "I9: an alert was deleted"
        self.alerts = rows

    def _failed(self, alert_id: int, rung: int) -> bool:
        """Did a route of this rung refuse for good?"""
        query = (
            "SELECT 1 FROM delivery WHERE alert_id = ? AND rung = ? AND kind = 'result' AND state = 'parked'"
        )
        return bool(self.rows(query, alert_id, rung))

    def i14_i17_i19_items(self, runs: list[dict[str, Any]]) -> None:
        counting = self.counting(runs)
        claimed = {
            c["worklist_item_id"]
            for c in self.rows("SELECT worklist_item_id, expires_at FROM claim")
            if time_of(c["expires_at"]) > self.world.now()
        }
        for item in self.rows("SELECT * FROM worklist_item"):
            study_id = item["study_id"]
            base = max(CLASS_OF_ORDER[item["ordered_priority"]], item["override_class"] or 0)
            assert item["base_class"] == base, f"I14: study {study_id} stands below its order"
            assert item["priority_class"] >= base, f"I14: study {study_id} was lowered"
            assert item["due_at"] <= item["bound_at"], f"I14: study {study_id} waits longer with AI"
            names = counting.get(study_id, set())
            if "pneumothorax" in names:
                assert item["priority_class"] == 3, f"I14: critical study {study_id} was not raised"
            told = {r["code"][3:].lower() for r in json.loads(item["reasons"]) if r["code"].startswith("AI_")}
            assert told == names, f"I19: study {study_id} is raised for {told}, found is {names}"
            mine = [r for r in runs if r["study_id"] == study_id and r["queue"] != "shadow"]
            assert item["ai_status"] == _fold(mine), f"I17: study {study_id} says {item['ai_status']!r}"
            if item["id"] in claimed:
                assert item["state"] == "claimed", f"I14: study {study_id} moved under its reader's hand"

    def i22_audit(self) -> None:
        number, previous = self.audit
        for r in self.rows("SELECT * FROM audit_event WHERE number > ? ORDER BY number", number):
            text = json.dumps(
                [r[k] for k in (
                    "number", "at", "actor", "act", "object_kind", "object_id", "detail", "previous_hash",
                )],
                separators=(",", ":"), ensure_ascii=False,
            )  # fmt: skip
            assert r["number"] == number + 1 and r["previous_hash"] == previous, f"I22: chain at {number + 1}"
            assert r["hash"] == hashlib.sha256(text.encode()).hexdigest(), f"I22: hash of {r['number']}"
            number, previous = r["number"], r["hash"]
        self.audit = (number, previous)
        for a in self.rows(
            "SELECT id FROM alert a WHERE acknowledged_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM audit_event e "
            "WHERE e.act = 'alert.acknowledged' AND e.object_id = CAST(a.id AS TEXT))"
        ):
            raise AssertionError(f"I22: alert {a['id']} was acknowledged without a trail")

    def i23_stamps(self) -> None:
        latest = self.world.latest_wall.strftime("%Y-%m-%d %H:%M:%S.%f")
        for r in self.rows(
            "SELECT max(received_at) t FROM instance UNION SELECT max(requested_at) FROM run "
            "UNION SELECT max(finished_at) FROM run UNION SELECT max(raised_at) FROM alert "
            "UNION SELECT max(created_at) FROM delivery UNION SELECT max(arrived_at) FROM worklist_item"
        ):
            assert r["t"] is None or r["t"] <= latest, (
                f"I23: a stamp of {r['t']}, never was it later than {latest}"
            )

    def i26_fence(self) -> None:
        for r in self.rows("SELECT fencing_token FROM lease WHERE name = 'relay'"):
            assert r["fencing_token"] >= self.fence, "I26: the fence went down"
            self.fence = r["fencing_token"]

    def constancy_is_loud(self) -> None:
        missed = self.rows("SELECT count(*) n FROM constancy_check WHERE NOT ok")[0]["n"]
        told = self.rows("SELECT count(*) n FROM operator_notice")[0]["n"]
        assert told == missed * len(OPERATOR_ROUTES), f"P11: {missed} checks missed, {told} notices"

    # --- when all is calm -----------------------------------------------------------------------------------

    def unfinished(self) -> str:
        """What is still to come about, in words; empty when every liveness property holds."""
        for plan in self.world.patients:
            if plan.pending:
                return f"L1: {plan.name} still holds {len(plan.pending)} objects"
        waiting = self.rows("SELECT id FROM series WHERE judge_at IS NOT NULL OR "
                            "(state = 'receiving' AND instance_count > 0)")  # fmt: skip
        if waiting:
            return f"L2: series {waiting[0]['id']} is never judged"
        for r in self.runs.values():
            if r["state"] in ("requested", "running"):
                return f"L2: run {r['id']} is {r['state']} for ever"
        return self._told() or self._assessed()

    def _assessed(self) -> str:
        """L2, P5: what counts has seen exactly what we hold."""
        by_series = defaultdict(list)
        for r in self.rows("SELECT series_id, sop_instance_uid, digest, sop_class_uid FROM instance"):
            by_series[r["series_id"]].append(r)
        for series_id, held in by_series.items():
            current = [
                r for r in self.runs.values()
                if r["series_id"] == series_id and r["queue"] != "shadow" and r["state"] != "superseded"
            ]  # fmt: skip
            if held[0]["sop_class_uid"] in CT_CLASSES:
                completed = [r for r in current if r["state"] == "completed"]
                if not any(r["input_digest"] == input_digest(held) for r in current):
                    return f"L2: nobody has seen all of series {series_id}"
                unheard = any(r["state"] == "failed" or r["reason_code"] in NOT_WHOLE for r in current)
                if not unheard and any(r["input_digest"] != input_digest(held) for r in completed):
                    return f"L2: the result of series {series_id} is of other images (P5)"
            else:
                for one in held:
                    if not any(r["input_digest"] == input_digest([one]) for r in current):
                        return f"L2: film {one['sop_instance_uid']} has neither run nor reason"
        return ""

    def _told(self) -> str:
        for a in self.rows("SELECT a.id, a.state FROM alert a WHERE a.state IN ('open', 'exhausted')"):
            return f"L3: nobody acknowledges alert {a['id']}"
        for d in self.rows("SELECT control_id FROM delivery WHERE state = 'waiting'"):
            return f"L4: delivery {d['control_id']} is never sent"
        for d in self.rows("SELECT control_id FROM delivery WHERE state = 'parked' AND detail = ''"):
            return f"L4: delivery {d['control_id']} failed without a name"
        if self.rows("SELECT id FROM constancy_check WHERE ok IS NULL"):
            return "P11: a constancy check has no verdict"
        if self.world.broker.calls:
            return "L6: the broker is not empty"
        for item in self.rows("SELECT study_id FROM worklist_item WHERE state = 'arriving'"):
            return f"L2: study {item['study_id']} arrives for ever"
        return ""

    def i15_pages(self) -> None:
        """The order is total, and pages of two show each item once."""
        now = self.world.now()
        with self.world.database.read() as tx:
            whole = listing.rows(tx, Filters(), now, limit=100)
            after, paged = None, []
            while page := listing.rows(tx, Filters(), now, limit=2, after=after):
                paged += page
                after = page[-1]["key"]
        assert [r["id"] for r in paged] == [r["id"] for r in whole], "I15: pages differ from the list"

    def l5_nothing_of_the_dead(self) -> None:
        """A quarter of an hour later no lease and no claim of anybody who is gone is left."""
        claims = self.rows("SELECT reader, expires_at FROM claim")
        now = self.world.now()
        for c in claims:
            until = time_of(c["expires_at"])
            assert now < until <= now + CLAIM_LENGTH + timedelta(seconds=10), f"L5: claim of {c['reader']}"


def input_digest(held: list[dict[str, Any]]) -> str:
    lines = sorted(f"{r['sop_instance_uid']} {r['digest']}" for r in held)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _fold(runs: list[dict[str, Any]]) -> str:
    """The word of the list; "images are missing" speaks before what their series said without them."""
    current = [r for r in runs if r["state"] != "superseded"]
    analysed = {r["series_id"] for r in current if r["state"] == "completed"}
    by_detector = defaultdict(list)
    for r in current:
        late = r["reason_code"] in NOT_WHOLE and r["series_id"] in analysed
        by_detector[r["detector"]].append((2.5 if late else WITHIN.index(r["state"]), r["state"]))
    spoken = [min(places)[1] for places in by_detector.values()]
    return min(spoken, key=ACROSS.index) if spoken else ""


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=NOON.tzinfo)
