"""Queue replay: exact where a formula exists, in kind with the published simulation, and true to the site's rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sqlalchemy import Connection

from tests.cli.program import triage
from tests.qa.rows import Department, at
from triage.domain.errors import Refused
from triage.domain.finding import PriorityClass
from triage.domain.priority import Policy
from triage.qa.batches import mean_by_batch, quantile_by_batch
from triage.qa.replay.model import Model, replay_model
from triage.qa.replay.site import READING_MAX, readers_by_hour, replay_site
from triage.store import measures as facts
from triage.store.database import Database
from triage.store.schema import metadata

FLAGS = {"pneumothorax": 0.04, "consolidation": 0.1, "effusion": 0.15}


def test_means_are_those_of_cobham_under_order_priority_and_under_flags() -> None:
    model = Model(
        arrivals_per_hour=8.4,
        readers=2,
        reading_minutes=10,
        flag_rates=FLAGS,
        flag_seconds=0,
        hours=75,
        replications=40,
    )
    got = replay_model(model, Policy(raised_per_hour=10_000))
    for rule in ("order", "policy_without_bound"):
        for word, mean in got["formula"][rule].items():
            group = _by_standing(got, rule, word)
            if mean is None or group is None:
                continue
            width = group["mean"]["high"] - group["mean"]["value"]
            assert abs(group["mean"]["value"] - mean) < 1.7 * width, (
                rule,
                word,
            )  # 1.7 * t interval: about 4 errors
    assert got["formula"]["order"]["critical"] is None  # nobody is critical by order alone


def _by_standing(got: dict[str, Any], rule: str, word: str) -> dict[str, Any] | None:
    """The group whose place under this rule is that of the class: orders under `order`, classes under flags."""
    words = {"high": "ordered STAT", "elevated": "ordered URGENT", "routine": "ordered ROUTINE"}
    name = words.get(word, "") if rule == "order" else f"class {word}"
    found: dict[str, Any] | None = got["rules"][rule].get(name)
    return found


def test_flagging_halves_the_wait_of_the_flagged_and_without_a_bound_somebody_pays() -> None:
    """Baltruschat 2021 in kind: means fall; the longest wait rises without a bound and comes back with it."""
    bound = {c: timedelta(minutes=280) for c in PriorityClass}
    model = Model(
        arrivals_per_hour=11.2,
        readers=2,
        reading_minutes=10,
        flag_rates=FLAGS,
        hours=150,
        replications=8,
        seed=3,
    )
    rules = replay_model(model, Policy(longest_wait=bound))["rules"]
    plain, bounded, free = rules["first_come"], rules["policy"], rules["policy_without_bound"]
    assert bounded["class critical"]["mean"]["value"] < 0.5 * plain["class critical"]["mean"]["value"]
    assert bounded["class critical"]["mean"]["high"] < plain["class critical"]["mean"]["low"]
    assert free["all"]["longest"] > 1.2 * plain["all"]["longest"]
    assert bounded["all"]["longest"] < 0.85 * free["all"]["longest"]


def test_the_same_seed_gives_the_same_figures_and_the_order_of_studies_moves_no_mean_of_all() -> None:
    model = Model(arrivals_per_hour=6, readers=1, reading_minutes=8, hours=100, replications=3)
    got = replay_model(model, Policy())
    assert got == replay_model(model, Policy())
    means = [got["rules"][rule]["all"]["mean"]["value"] for rule in got["rules"]]
    assert max(means) - min(means) < 0.2 * max(means)  # no rule reads faster: work is conserved
    assert got["flags_per_reader_hour"]["value"] == pytest.approx(6 * 0.02, rel=0.5)
    assert got["reader_hours"] == 270  # 3 times 100 h, less a tenth of warming up


def test_a_flood_of_flags_stops_lifting_at_the_hourly_cap() -> None:
    model = Model(
        arrivals_per_hour=11.5,
        readers=2,
        reading_minutes=10,
        flag_rates={"effusion": 0.6},
        hours=100,
        replications=4,
    )
    capped = replay_model(model, Policy(raised_per_hour=1))["rules"]["policy"]
    free = replay_model(model, Policy(raised_per_hour=1000))["rules"]["policy"]
    assert capped["flagged"]["mean"]["value"] > free["flagged"]["mean"]["value"]
    assert capped["unflagged"]["mean"]["value"] < free["unflagged"]["mean"]["value"]


@pytest.mark.parametrize(
    "wrong",
    [{"flag_rates": {"dragon": 0.1}}, {"stat_rate": 0.7, "urgent_rate": 0.7}, {"hours": 1e6}, {"readers": 0}],
)
def test_a_model_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        Model(**{"arrivals_per_hour": 5, "readers": 1, "reading_minutes": 5, **wrong})


def test_intervals_over_batches_cover_what_they_should() -> None:
    """200 worlds of 12 batches that hang together: nineteen in twenty intervals hold the truth."""
    dice = np.random.default_rng(0)
    hit_mean = hit_median = 0
    for _ in range(200):
        sizes = dice.integers(5, 40, 12)
        batch = np.repeat(np.arange(12), sizes)
        values = 100 + np.repeat(dice.normal(0, 10, 12), sizes) + dice.normal(0, 5, sizes.sum())
        mean, median = mean_by_batch(values, batch), quantile_by_batch(values, batch, 0.5)
        hit_mean += mean["low"] <= 100 <= mean["high"]
        hit_median += median["low"] <= 100 <= median["high"]
    for hits in (hit_mean, hit_median):
        assert stats.binomtest(hits, 200, 0.93).pvalue > 0.001


@pytest.fixture
def tx() -> Iterator[Connection]:
    database = Database("sqlite://")
    metadata.create_all(database.engine)
    with database.write() as connection:
        yield connection
    database.close()


def test_the_sites_own_rows_are_replayed_as_they_were(tx: Connection) -> None:
    """One reader, first come, no flags: the replay repeats what happened to the minute."""
    d = Department(tx)
    for i in range(
        30
    ):  # every 10 minutes one arrives; reading takes 12: each waits 2 minutes more than the one before
        d.study(10 * i, opened_after=2 * i, read_after=2 * i + 12)
    got = replay_site(tx, at(0), at(600), Policy(), readers=1)
    expected = [2 * i for i in range(30)]
    for rule in ("first_come", "order", "policy"):
        assert got["rules"][rule]["all"]["mean"]["value"] == pytest.approx(np.mean(expected))
        assert got["rules"][rule]["all"]["longest"] == 58
    assert got["measured"] == {"opened": 30, "mean_minutes": pytest.approx(29.0), "longest_minutes": 58}


def test_a_flag_moves_a_study_to_the_front_from_the_moment_it_came(tx: Connection) -> None:
    d = Department(tx)
    for i in range(25):
        d.study(
            1,
            opened_after=10 * i,
            read_after=10 * i + 10,
            flags=("pneumothorax",) if i == 20 else (),
            flagged_after=25,
        )
    rules = replay_site(tx, at(0), at(600), Policy(), readers=1)["rules"]
    assert rules["first_come"]["flagged"]["longest"] == 200
    assert rules["policy"]["flagged"]["longest"] == 30  # the third is being read when the flag comes
    assert rules["policy"]["unflagged"]["longest"] == 240


def test_who_is_not_begun_by_the_end_is_counted_as_open(tx: Connection) -> None:
    d = Department(tx)
    for i in range(25):
        d.study(i, opened_after=0, read_after=10)
    got = replay_site(tx, at(0), at(100), Policy(), readers=1)["rules"]["first_come"]["all"]
    assert (got["n"], got["open"]) == (25, 15)
    assert got["longest_is_open"]


def test_readers_are_counted_by_what_was_in_work_at_once(tx: Connection) -> None:
    d = Department(tx)
    d.study(0, opened_after=5, read_after=15)
    d.study(0, opened_after=10, read_after=20)
    d.study(0, opened_after=130, read_after=130 + 24 * 60)  # left open overnight: an hour of work, no more
    shifts = readers_by_hour(facts.studies_between(tx, at(0), at(600)), at(0), at(600))
    assert [(s.at, s.readers) for s in shifts] == [(at(0), 2), (at(60), 0), (at(120), 1), (at(240), 0)]
    assert timedelta(minutes=60) == READING_MAX


def test_a_period_that_says_too_little_is_refused_with_what_to_do(tx: Connection) -> None:
    d = Department(tx)
    with pytest.raises(Refused, match="no study"):
        replay_site(tx, at(0), at(600), Policy())
    d.study(1, opened_after=1, read_after=2)
    with pytest.raises(Refused, match="--reading-minutes"):
        replay_site(tx, at(0), at(600), Policy())
    assert replay_site(tx, at(0), at(600), Policy(), reading_minutes=5)["studies"] == 1


def test_the_command_prints_a_table_or_json_and_judges_a_policy_of_a_file(tmp_path: Path) -> None:
    words = (
        "simulate",
        "--arrivals-per-hour",
        "5",
        "--readers",
        "1",
        "--reading-minutes",
        "6",
        "--hours",
        "20",
    )
    told = triage(*words)
    assert told.code == 0
    assert "class critical" in told.out
    assert "flags per reader-hour" in told.err
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({**Policy().as_json(), "raised_per_hour": 3}))
    got = triage(
        *words, "--policy", str(policy), "--flag-rate", "0.1", "--flag-rate", "effusion=0.2", "--json"
    ).json()
    assert got["policy"]["raised_per_hour"] == 3
    assert got["model"]["flag_rates"] == {"pneumothorax": 0.1, "effusion": 0.2}
    policy.write_text("{}")
    assert triage(*words, "--policy", str(policy)).code == 4
    assert triage("simulate", "--arrivals-per-hour", "5").code == 2
    assert triage(*words, "--flag-rate", "many").code == 2


def test_the_command_replays_a_home_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAGE_HOME", str(tmp_path))
    triage("migrate", "up")
    assert triage("simulate").code == 4  # nothing to replay yet
    database = Database(f"sqlite:///{tmp_path / 'triage.db'}")
    with database.write() as tx:
        d = Department(tx)
        for i in range(25):
            d.study(i, opened_after=1, read_after=5)
    got = triage("simulate", "--from", "2026-11-01", "--to", "2026-11-02", "--json").json()
    assert (got["source"], got["studies"]) == ("site", 25)
    page = triage("report", "qa", "--from", "2026-11-01", "--to", "2026-11-02")
    assert page.code == 0
    assert page.out.startswith("<!doctype html>")
    numbers = triage(
        "report", "qa", "--from", "2026-11-01T00:00", "--to", "2026-11-02", "--format", "json"
    ).json()
    assert numbers["coverage"]["studies"] == 25
    table = triage("report", "qa", "--from", "2026-11-01", "--to", "2026-11-02", "--format", "csv")
    assert table.out.splitlines()[0] == "figure,value,low,high,count,n,note"
    assert triage("report", "qa", "--from", "yesterday").code == 2
    assert triage("report", "qa", "--from", "2026-11-02", "--to", "2026-11-01").code == 4
