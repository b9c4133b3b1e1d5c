"""The contract as its own document says it: schemathesis asks every operation, with data that fits and data that does not.

Seeded and bounded: a landing does not depend on luck. A longer search: --hypothesis-profile=nightly and more EXAMPLES.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig

from tests.web.conftest import Clock
from tests.web.seed import a_day, sow
from triage.settings import Settings
from triage.web import openapi
from triage.web.app import ROUTES, create_app
from triage.workflow import accounts

EXAMPLES = 6  # of each operation and mode
SEED = 20_261_126
ENDLESS = "/api/v1/events"
CONFIG: dict[str, Any] = {
    "seed": SEED,
    # Who may is asked by tests/web/test_rights.py, of every path; here the token may everything.
    "generation": {"with-security-parameters": False},
    "checks": {
        "ignored_auth": {"enabled": False},
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "503"]},
        # A form cannot say that a study is read already, or that nobody holds it: 422 says it in words.
        "positive_data_acceptance": {"enabled": False},
    },
}


def _operations() -> list[Any]:
    """(method, path, mode): what fits, and what does not where anything can be wrong."""
    found = []
    document = openapi.document([r for r in ROUTES if r.path.startswith(openapi.DOCUMENTED)])
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            name = f"{method.upper()} {path}"
            if path != ENDLESS:
                found.append(pytest.param(method, path, GenerationMode.POSITIVE, id=name))
            if path != ENDLESS and (said["parameters"] or "requestBody" in said):
                found.append(pytest.param(method, path, GenerationMode.NEGATIVE, id=f"{name} wrongly"))
    return found


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    """The application over one day's rows, asked by a token that may do everything."""
    clock, folder = Clock(), tmp_path_factory.mktemp("contract")
    sown = sow(folder / "triage.db", clock())
    a_day(sown)
    (folder / "home").mkdir()
    seconds = itertools.count(step=10.0)  # no rate limit: each request comes ten seconds after the last
    app = create_app(
        Settings(home=folder / "home", site="NORTH"), sown.database, clock, monotonic=lambda: next(seconds)
    )
    with sown.database.write() as tx:
        secret = accounts.issue_token(tx, "everything", accounts.SCOPES, clock(), by="test")
    headers = {"Authorization": f"Bearer {secret}", "Accept-Encoding": "identity"}
    config = SchemathesisConfig.from_dict({**CONFIG, "headers": headers})
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app, config=config)
    yield schema
    app.extensions["triage"].previewer.close()
    sown.database.close()


@pytest.mark.parametrize(("method", "path", "mode"), _operations())
def test_an_operation_keeps_its_own_contract(
    contract: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    """What fits is answered as the document says; what does not is refused; nothing makes an error of ours."""

    @given(contract[path][method.upper()].as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate()

    ask()
