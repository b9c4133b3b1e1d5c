"""The settings file that the demo and the supervisor write for their parts says what it was given."""

from __future__ import annotations

from pathlib import Path

from triage.cli.up import as_toml
from triage.settings import OidcSettings, RouteSettings, Settings, load


def test_settings_written_as_toml_are_read_back_the_same(tmp_path: Path) -> None:
    route = RouteSettings(name="ris", kind="mllp", host="127.0.0.1", port=2575)
    oidc = OidcSettings(issuer="https://id.example", roles={"Rad Readers": "reader", 'odd "group"': "admin"})
    for made in (Settings(home=tmp_path), Settings(home=tmp_path, routes=(route,), oidc=oidc)):
        file = tmp_path / "triage.toml"
        file.write_text(as_toml(made.model_dump(mode="json", exclude={"database", "broker"})))
        assert load(file) == made


def test_no_report_names_a_segmentation_that_one_of_its_peers_does_not_get() -> None:
    def cites(*objects: tuple[str, ...]) -> bool:
        outlets = [{"peer": f"p{i}", "objects": o} for i, o in enumerate(objects)]
        return Settings.model_validate({"outlets": outlets}).reports_cite_segmentations

    assert cites() and cites(("sr", "kos", "seg")) and cites(("kos",))
    assert not cites(("sr", "seg"), ("sr", "kos"))
