"""`triage simulate`: the queue once more, under first come, the order's priority, and the policy."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import NoResultFound

from triage.cli.common import open_database, result, say
from triage.cli.main import State
from triage.cli.report import moment
from triage.domain.errors import Refused
from triage.domain.priority import Policy
from triage.qa.replay.model import Model, replay_model
from triage.qa.replay.rules import RULES
from triage.qa.replay.site import replay_site
from triage.store import policies

TITLES = {"first_come": "first come", "order": "order priority", "policy": "policy",
          "policy_without_bound": "policy without bound"}  # fmt: skip


def flag_rates(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """0.02 (pneumothorax) or NAME=0.1, several times."""
    del ctx
    rates = {}
    for value in values:
        name, _, share = value.rpartition("=")
        try:
            rates[name or "pneumothorax"] = float(share)
        except ValueError as error:
            raise click.BadParameter(
                f"{value!r} is no share like 0.02 or effusion=0.1", param=param
            ) from error
    return rates


@click.command()
@click.option(
    "--from", "start", callback=moment, help="First arrival replayed (ISO; default 30 days before the end)."
)
@click.option("--to", "end", callback=moment, help="End of the replay (ISO; default now).")
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Policy to judge (JSON as in the QA report); default: the one in force.",
)
@click.option(
    "--readers", type=click.IntRange(1, 1000), help="Site: default as many as read at once in each hour."
)
@click.option(
    "--reading-minutes", type=click.FloatRange(0.01, 600), help="Mean; site: default its own times."
)
@click.option(
    "--arrivals-per-hour", type=click.FloatRange(0.01, 10_000), help="A model instead of the site's arrivals."
)
@click.option(
    "--flag-rate",
    "rates",
    multiple=True,
    callback=flag_rates,
    help="Model: share flagged, e.g. effusion=0.1.",
)
@click.option("--stat-rate", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="Model.")
@click.option("--urgent-rate", type=click.FloatRange(0, 1), default=0.15, show_default=True, help="Model.")
@click.option("--hours", type=click.FloatRange(1, 10_000), default=120.0, show_default=True, help="Model.")
@click.option("--replications", type=click.IntRange(2, 1000), default=10, show_default=True, help="Model.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj  # type: ignore[arg-type] # mypy cannot follow **o
def simulate(
    state: State, as_json: bool, policy_file: Path | None, arrivals_per_hour: float | None, **o: Any
) -> None:
    """Replay the site's own arrivals and reading times, or those of a model, and compare the waits."""
    if arrivals_per_hour is None:
        found = _site(state, policy_file, o)
    else:
        if o["readers"] is None or o["reading_minutes"] is None:
            raise click.UsageError("a model needs --readers and --reading-minutes")
        model = Model(
            arrivals_per_hour=arrivals_per_hour, readers=o["readers"], reading_minutes=o["reading_minutes"],
            stat_rate=o["stat_rate"], urgent_rate=o["urgent_rate"], hours=o["hours"],
            replications=o["replications"], seed=o["seed"], **({"flag_rates": o["rates"]} if o["rates"] else {}),
        )  # fmt: skip
        found = replay_model(model, _policy_of(policy_file) if policy_file else Policy())
    if as_json:
        result(found)
    else:
        _print(found)


def _site(state: State, policy_file: Path | None, o: dict[str, Any]) -> dict[str, Any]:
    end = o["end"] or datetime.now(UTC)
    start = o["start"] or end - timedelta(days=30)
    database = open_database(state.settings())
    with database.read() as tx:
        try:
            policy = _policy_of(policy_file) if policy_file else policies.active(tx)
        except NoResultFound as error:  # made at the first start
            raise Refused("triage was never started on this database: there is nothing to replay") from error
        found = replay_site(
            tx, start, end, policy, readers=o["readers"], reading_minutes=o["reading_minutes"], seed=o["seed"]
        )
    database.close()
    return found


def _policy_of(path: Path) -> Policy:
    try:
        return Policy.from_json(0, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{path} is no policy: {type(error).__name__} {error}") from error


def _print(found: dict[str, Any]) -> None:
    rate = found["flags_per_reader_hour"]
    say(
        f"{found['studies']} studies, {found['flagged']} flagged, {rate['value']:.2f} flags per reader-hour "
        f"({rate['low']:.2f} to {rate['high']:.2f})"
    )
    if found.get("load", 0) >= 1:
        say("look: the readers cannot keep up; waits grow with the hours that are simulated")
    table = Table(title="Minutes until reading begins: mean (95 %); 90 % within, longest", show_lines=True)
    table.add_column("studies")
    table.add_column("n", justify="right")
    for rule in RULES:
        table.add_column(TITLES[rule], justify="right")
    for group, first in found["rules"][RULES[0]].items():
        table.add_row(group, str(first["n"]), *(_cell(found["rules"][rule][group]) for rule in RULES))
    Console(width=140, highlight=False).print(table)
    say("Open at the end counts with the wait so far (+). Raised by hand is not replayed.")


def _cell(f: dict[str, Any]) -> str:
    mean = f["mean"]
    spread = "" if mean["low"] is None else f" ({mean['low']:.1f} to {mean['high']:.1f})"
    return f"{mean['value']:.1f}{spread}\n{f['p90']['value']:.0f}, {f['longest']:.0f}{'+' if f['longest_is_open'] else ''}"
