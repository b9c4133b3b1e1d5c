"""A link in a notice works once, for a quarter of an hour after it arrived, and only its digest is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tests.factories import a_finding
from tests.workflow.desk import Desk
from triage.channels.protocol import Answer, Outcome
from triage.settings import RouteSettings
from triage.store import deliveries
from triage.workflow import links, relay
from triage.workflow.routes import build

LINK = "https://triage.hospital.example/m"
HOOK = RouteSettings(name="hook", kind="webhook", url="https://hook", secret_file=Path("key"), link=LINK)
PAGER = RouteSettings(name="pager", kind="mail", host="localhost", port=25, sender="t@h.example", link=LINK)


def sent(desk: Desk) -> str:
    """The word of the link in the message to the hook, which arrived."""
    with desk.database.write() as tx:
        row = relay.prepare(tx, HOOK, desk.site, desk.clock())
        assert row is not None
        relay.record(tx, row, Answer(Outcome.DELIVERED), 0.0, desk.clock(), ids=desk.ids)
    link = json.loads(row["payload"])["link"]
    assert link.startswith(f"{LINK}/")
    return str(link.rpartition("/")[2])


def follow(desk: Desk, word: str) -> int | None:
    with desk.database.write() as tx:
        return links.follow(tx, word, "ann", desk.clock())


def test_a_link_leads_to_its_alert_once(any_desk: Desk) -> None:
    any_desk.flagged(a_finding())
    word = sent(any_desk)
    assert len(word) == links.CHARACTERS
    assert word not in str(any_desk.rows("delivery")[1]["link_digest"])
    any_desk.clock.advance(14 * 60)
    assert [follow(any_desk, word), follow(any_desk, word), follow(any_desk, "x" * 32)] == [1, None, None]
    assert any_desk.acts()[-1] == "link.used"
    assert any_desk.alerts()[0]["state"] == "open"  # it gives no right and acknowledges nothing


def test_a_link_is_over_a_quarter_of_an_hour_after_it_arrived(desk: Desk) -> None:
    desk.flagged(a_finding())
    word = sent(desk)
    desk.clock.advance(15 * 60 + 1)
    assert follow(desk, word) is None


def test_mail_says_how_long_it_lives_and_a_withdrawal_has_no_link(desk: Desk) -> None:
    desk.flagged(a_finding())
    with desk.database.write() as tx:
        row = deliveries.rows(tx)[0]
        notice = relay.notice_of(tx, row, desk.site)
        assert notice.link == ""
        made = links.make(tx, row["id"], LINK + "/", lambda: "W" * 32)
    assert made == f"{LINK}/{'W' * 32}"
    mail = build(PAGER, replace(notice, link=made), desk.site.mode, desk.site.name).decode()
    assert made in mail and "works once" in mail and "hernia" not in mail
