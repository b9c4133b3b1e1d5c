"""The simulation's invariants over a day: what moves is judged by the history that the day's database keeps.

`tests.simulation.invariants` looks after every step of a short history. A day of 600 studies is too long for that:
triggers write down what moved, so that no step is missed, and the whole is looked at now and then and at the end.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from tests.simulation.invariants import STEPS, Checker, input_digest, time_of
from tests.simulation.world import SITE
from tests.system.day.people import Diary
from tests.system.day.world import DayWorld
from triage.domain.study import CT_CLASSES


class DayChecker(Checker):
    """The same invariants; those about movement are read from the history instead of from step to step."""

    def __init__(self, world: DayWorld, diary: Diary) -> None:
        super().__init__(world)
        self.diary = diary
        self._run_seen = self._alert_seen = 0

    def check(self) -> None:
        self.world.touched = True
        super().check()
        self.i16_one_claim()
        self.i24_told_of_the_right_patient()

    def i3_one_patient_a_study(self) -> None:
        """Of the patient that its images name, or of whom that one was merged into."""
        for r in self.rows(
            "SELECT min(i.header) header, p.patient_id, s.instance_count, s.id, count(*) held FROM instance i "
            "JOIN series s ON s.id = i.series_id JOIN study t ON t.id = s.study_id "
            "JOIN patient p ON p.id = t.patient_id GROUP BY s.id"
        ):
            sent_as = json.loads(r["header"])["patient_id"]
            assert self.diary.survivor(sent_as) == r["patient_id"], (
                f"I3: {sent_as} stands as {r['patient_id']}"
            )
            assert r["held"] == r["instance_count"], f"I3: series {r['id']} counts wrong"

    def i5_inputs_once_current(self, runs: list[dict[str, Any]]) -> None:
        """A run's input is what the series held at some time: a run of rows from the first on, in order of arrival."""
        held = defaultdict(list)
        for r in self.rows(
            "SELECT id, series_id, sop_instance_uid, digest, sop_class_uid FROM instance ORDER BY id"
        ):
            held[r["series_id"]].append(r)
        for series_id, rows in held.items():
            scan = rows[0]["sop_class_uid"] in CT_CLASSES
            groups = [rows[: n + 1] for n in range(len(rows))] if scan else [[one] for one in rows]
            self.inputs[series_id] |= {input_digest(group) for group in groups}
        for r in runs:
            assert r["input_digest"] in self.inputs[r["series_id"]], f"I5: run {r['id']} saw a set never held"
        seen = [
            (r["series_id"], r["input_digest"], r["release_id"]) for r in runs if r["state"] == "completed"
        ]
        assert len(seen) == len(set(seen)), "I5: one input was analysed twice"

    def i4_i7_i20_runs_move_by_the_table(self, runs: list[dict[str, Any]]) -> None:
        for m in self.rows("SELECT * FROM moved_run WHERE n > ? ORDER BY n", self._run_seen):
            self._run_seen, run = m["n"], f"run {m['id']}"
            assert m["now"] in STEPS[m["was"]], f"I4: {run} {m['was']} to {m['now']}"
            assert m["was"] or m["policy"] == m["active"], f"I20: {run} names policy {m['policy']}"
            worked = m["now"] in ("completed", "not_analysed", "failed") and m["reason"] != "crashed"
            if m["was"] == "running" and worked:
                assert m["token"] == m["acting"], f"I7: {run} was ended by another's lease"
            assert m["now"] != "not_analysed" or m["reason"], f"I4: {run} has no reason"
            assert m["attempts"] <= 3, f"I4: {run} was tried {m['attempts']} times"
        self.runs = {r["id"]: r for r in runs}

    def i12_i13_ladder(self) -> None:
        for m in self.rows("SELECT * FROM moved_alert WHERE n > ? ORDER BY n", self._alert_seen):
            self._alert_seen, risen = m["n"], m["step_now"] - m["step_was"]
            assert 0 <= risen <= 1, f"I12: alert {m['id']} went {risen} rungs"
            if risen:
                assert m["was"] == "open", f"I12: alert {m['id']} climbed while {m['was']}"
                since = time_of(m["at"]) - time_of(m["raised_at"])
                assert since >= SITE.ladder[m["step_now"]].after, f"I12: alert {m['id']} climbed too early"
            if m["by_was"]:
                assert m["by_now"] == m["by_was"], f"I13: alert {m['id']} was acknowledged again"
                assert m["now"] in ("acknowledged", "closed", "withdrawn"), f"I13: alert {m['id']} reopened"
        known = self.rows("SELECT count(*) n FROM alert")[0]["n"]
        assert known >= len(self.alerts), "I9: an alert was deleted"
        self.alerts = {n: {} for n in range(known)}

    def i16_one_claim(self) -> None:
        """A live claim passes to another only with a reason that its holder could read."""
        taken = {e["detail"].get("from") for e in self.acts("study.taken_over")}
        for m in self.rows("SELECT * FROM moved_claim"):
            ended = m["until_was"] <= m["at"]
            assert ended or m["holder_was"] in taken, (
                f"I16: item {m['item']} was taken from {m['holder_was']}"
            )

    def i18_excluded_inputs_count_nothing(self) -> None:
        for r in self.rows(
            "SELECT f.name, i.header FROM finding f JOIN run r ON r.id = f.run_id JOIN instance i "
            "ON i.series_id = r.series_id WHERE json_array_length(r.sop_instance_uids) = 1 "
            "AND i.sop_instance_uid = json_extract(r.sop_instance_uids, '$[0]')"
        ):
            header = json.loads(r["header"])
            assert header["view_position"] != "LL", "I18: a lateral film has a finding"
            assert header["patient_age_years"] >= 18, "I18: a child has a finding"

    def i24_told_of_the_right_patient(self) -> None:
        """A message names the patient of its study as it stood when the message was made."""
        patients = {
            r["alert_id"]: json.loads(r["header"])["patient_id"]
            for r in self.rows(
                "SELECT a.id alert_id, min(i.header) header FROM alert a JOIN series s ON s.study_id = a.study_id "
                "JOIN instance i ON i.series_id = s.id GROUP BY a.id"
            )
        }
        for message in self.world.peers["hl7"].heard:
            pid = next(s for s in message.payload.decode().split("\r") if s.startswith("PID|"))
            told = pid.split("|")[3].split("^")[0]
            sent_as = patients[message.key[0]]
            assert told in (sent_as, self.diary.survivor(sent_as)), f"I24: {told} was told for {sent_as}"

    def acts(self, act: str) -> list[dict[str, Any]]:
        found = self.rows("SELECT actor, object_id, detail, at FROM audit_event WHERE act = ?", act)
        return [{**r, "detail": json.loads(r["detail"])} for r in found]
