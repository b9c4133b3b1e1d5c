"""`triage audit verify|export`: does the trail hold, and the trail itself as JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from triage.cli.common import open_database, result, say
from triage.cli.main import State
from triage.domain.errors import Refused
from triage.store import audit as trail
from triage.workflow.anchors import anchor_key, read_anchors

PAGE = 1000


@click.group()
def audit() -> None:
    """Verify or export the audit trail."""


@audit.command()
@click.option(
    "--anchors",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A copy of anchors.log kept where the database administrator cannot write.",
)
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def verify(state: State, anchors: Path | None, as_json: bool) -> int:
    """Walk the whole chain; exit 1 naming the first row that was changed, removed or reordered."""
    settings = state.settings()
    held = _anchors_in(anchors) if anchors else read_anchors(settings.home)
    key = anchor_key(settings.home) if held else b""
    database = open_database(settings)
    with database.read() as tx:
        found = trail.verify(tx, held, key)
        last = trail.head(tx)
    database.close()
    if found.ok:
        say(
            f"the audit chain holds: {found.count} events, {len(held)} anchors"
            + (f", head {last[0]} {last[1]}" if last else "")
        )
    else:
        say(f"the audit chain is broken: {found.why} (first bad row {found.first_bad})")
    if as_json:
        result(
            {
                "ok": found.ok,
                "events": found.count,
                "anchors": len(held),
                "first_bad": found.first_bad,
                "why": found.why,
            }
        )
    return 0 if found.ok else 1


def _anchors_in(path: Path) -> list[trail.Anchor]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return [trail.Anchor.parse(line) for line in lines if line.strip()]
    except ValueError as error:
        raise Refused(f"{path} is no log of anchors (number, hash, signature in each line)") from error


@audit.command()
@click.option(
    "--after",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Only events behind this number.",
)
@click.pass_obj
def export(state: State, after: int) -> None:
    """Every event as one line of JSON, oldest first, with its hashes."""
    database = open_database(state.settings())
    count = 0
    while True:
        with database.read() as tx:  # a page at a time: a long reader would hold back SQLite's checkpoint
            page = trail.events(tx, after=after, limit=PAGE)
        for event in page:
            sys.stdout.write(json.dumps(event, ensure_ascii=False) + "\n")
        count += len(page)
        if len(page) < PAGE:
            break
        after = page[-1]["number"]
    database.close()
    say(f"{count} events")
