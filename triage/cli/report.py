"""`triage report qa`: the QA report of a period, on stdout."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta

import click

from triage.cli.common import open_database, say
from triage.cli.main import State
from triage.qa.page import to_html
from triage.qa.report import build, to_csv

FORMATS = ("html", "csv", "json", "pdf")


@click.group()
def report() -> None:
    """QA reports."""


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """A date (its midnight) or a time in ISO form; UTC unless it has a zone."""
    del ctx
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is no date like 2026-11-01 or 2026-11-01T07:30", param=param
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@report.command()
@click.option("--from", "start", callback=moment, help="First moment (ISO; default 30 days before the end).")
@click.option("--to", "end", callback=moment, help="Moment after the last (ISO; default now).")
@click.option("--format", "form", type=click.Choice(FORMATS), default="html", show_default=True)
@click.option("--identified", is_flag=True, help="With study UIDs and small cells: stays in the department.")
@click.pass_obj
def qa(state: State, start: datetime | None, end: datetime | None, form: str, identified: bool) -> None:
    """Coverage, flags, times, alerts and agreement of the studies that arrived in a period."""
    settings = state.settings()
    now = datetime.now(UTC)
    end = end or now
    start = start or end - timedelta(days=30)
    database = open_database(settings)
    with database.read() as tx:
        document = build(tx, start, end, settings, now, deidentified=not identified)
    database.close()
    if form == "pdf":
        from triage.qa.pdf import to_pdf  # its typesetter loads for a second: only who prints waits for it

        sys.stdout.buffer.write(to_pdf(document))
        return
    if form == "html":
        text = to_html(document)
    elif form == "csv":
        text = to_csv(document)
    else:
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    sys.stdout.buffer.write(text.encode())
    say(f"{document['coverage']['studies']} studies from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M %Z}")
