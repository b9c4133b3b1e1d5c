"""The pictures of the documentation: `python -m tests.web.picture docs/images`. Fake names, a phantom."""

from __future__ import annotations

import hashlib
import io
import shutil
import sys
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright
from werkzeug.serving import make_server

from tests.web.seed import Sown, flag, pneumothorax, sow
from triage.domain.suitability import NotSuitable, ReasonCode
from triage.phantom.identity import identity_for
from triage.phantom.person import make_thorax
from triage.phantom.write import write_radiograph
from triage.settings import Settings
from triage.store import events
from triage.store.spool import Spool
from triage.web.app import create_app
from triage.workflow import accounts
from triage.workflow.read import claims

SIZE = {"width": 1680, "height": 860}
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
PARTS = ("receiver", "hl7", "worker-stat", "worker-routine", "relay", "scheduler", "publisher", "web")
# (file, user, path, size, theme): pages as they come, beside the list with its open panel
PAGES = (
    ("worklist-phone", "ann", "/worklist", PHONE, "light"), ("on-call", "ann", "/m", PHONE, "dark"),
    ("qa", "qa", "/qa", DESK, "light"), ("health", "admin", "/admin/health", DESK, "dark"),
    ("policies", "admin", "/admin/policies", DESK, "light"),
)  # fmt: skip
FILM_PX = 2000
SEED = 11
OTHERS = (
    ("Weber^Anna", "F", 44, ()), ("Moreau^Luc", "M", 70, ("cardiomegaly",)), ("Rossi^Carla", "F", 35, ()),
    ("Kim^Jisoo", "F", 29, ()), ("Nowak^Jan", "M", 77, ("atelectasis",)), ("Green^Paul", "M", 51, ()),
    ("Dahl^Ingrid", "F", 63, ("effusion",)),
)  # fmt: skip


def a_night(sown: Sown, film_digest: str) -> None:
    add = sown.add
    add(patient="Doe^Jane", age=67, view="PA", findings=(pneumothorax(),), minutes_ago=6, description="Chest PA",
        digest=film_digest, rows=FILM_PX, columns=FILM_PX)  # fmt: skip
    add(patient="Roe^Max", sex="M", age=45, modality="CT", view="", location="ED", ordered="STAT", minutes_ago=2,
        images=150, expected=150, state="running", description="CT chest trauma")  # fmt: skip
    held = add(
        patient="Haas^Greta",
        age=81,
        location="ED",
        findings=(flag("edema"), flag("effusion")),
        minutes_ago=14,
    )
    add(patient="Muster^Eva", age=71, location="OPD", view="PA", minutes_ago=25 * 60, description="Chest PA")
    add(patient="Li^Wei=李^伟", sex="M", age=59, modality="CT", view="", location="OPD", findings=(flag("nodule"),),
        minutes_ago=31, images=180, expected=180, description="CT thorax")  # fmt: skip
    add(
        patient="Brandt^Ole",
        sex="M",
        age=54,
        location="ED",
        findings=(flag("consolidation"),),
        minutes_ago=33,
    )
    add(
        patient="Silva^Rui",
        sex="M",
        age=55,
        location="Ward 4",
        ordered="URGENT",
        minutes_ago=4,
        state="running",
    )
    add(patient="Boy^Tom", sex="M", age=12, location="ED", view="PA", minutes_ago=22,
        reason=NotSuitable(ReasonCode.OUT_OF_AGE, "12 years, from 18"))  # fmt: skip
    add(patient="Okafor^Ada", age=38, location="OPD", view="PA", minutes_ago=52, description="Chest PA")
    add(patient="Novak^Petr", sex="M", age=62, location="Ward 4", minutes_ago=35, state="failed")
    add(patient="Sato^Yuki", age=49, modality="CT", view="", location="ED", minutes_ago=1, images=5, expected=312,
        arriving=True, description="CT thorax")  # fmt: skip
    for n, (name, sex, age, found) in enumerate(OTHERS):
        add(patient=name, sex=sex, age=age, location=("OPD", "Ward 2", "ED")[n % 3], view="PA",
            minutes_ago=40 + 11 * n, findings=tuple(flag(f) for f in found), description="Chest PA")  # fmt: skip
    with sown.database.write() as tx:
        claims.claim(tx, held, "ben", sown.now)


def take(target: Path, chromium: str) -> None:
    """Every picture into the folder `target`."""
    folder, now = Path(tempfile.mkdtemp()), datetime.now(UTC)
    settings = Settings(home=folder / "home", site="NORTH")
    film = write_radiograph(
        folder, make_thorax(SEED, ["pneumothorax"]), identity=identity_for(SEED, "DX", now), size_px=FILM_PX
    )
    digest = hashlib.sha256(film.read_bytes()).hexdigest()
    Spool(settings.spool).prepare()
    shutil.copy(film, Spool(settings.spool).path(digest))
    sown = sow(folder / "triage.db", now)
    a_night(sown, digest)
    app = create_app(settings, sown.database)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])

        def page_of(user: str, path: str, size: dict[str, int], theme: str) -> Any:
            context = browser.new_context(viewport=size, color_scheme=theme)  # type: ignore[arg-type]
            with sown.database.write() as tx:
                for part in PARTS:
                    events.beat(tx, part, 4242, datetime.now(UTC))
                secret = accounts.sign_in(tx, user, datetime.now(UTC)).secret
            context.add_cookies([{"name": "triage_session", "value": secret, "url": base}])
            page = context.new_page()
            page.goto(base + path)
            if path == "/worklist":
                page.wait_for_selector(".rows table[data-loaded]")
            page.wait_for_timeout(500)
            return page

        page = page_of("ann", "/worklist", SIZE, "dark")
        for key in "j", "Enter":
            page.keyboard.press(key)
        page.wait_for_selector("#panel header")
        page.keyboard.press("p")
        page.wait_for_selector("#panel img[src]")
        page.wait_for_selector(".toast", state="detached")
        page.wait_for_timeout(500)
        _keep(page.screenshot(), target / "worklist.png")
        for name, user, path, size, theme in PAGES:
            _keep(page_of(user, path, size, theme).screenshot(), target / f"{name}.png")
        browser.close()
    app.extensions["triage"].feed.stop()
    server.shutdown()


def _keep(shot: bytes, target: Path) -> None:
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    # Two bits less a channel: not seen here, and a third of the bytes.
    picture.point(lambda v: min(255, (v + 2) // 4 * 4)).save(target, optimize=True)  # type: ignore[operator]


if __name__ == "__main__":
    take(Path(sys.argv[1]), shutil.which("chromium") or "/usr/bin/chromium")
