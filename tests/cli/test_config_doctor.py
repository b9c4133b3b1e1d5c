"""`triage config` and `triage doctor`: what they find, say and hide."""

from __future__ import annotations

import re
import socket
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest

from tests.cli.program import triage
from triage.cli import doctor
from triage.cli.config import example_toml, unknown_variables
from triage.settings import Settings, load
from triage.store import events
from triage.store.database import Database
from triage.workflow.parts.common import clock


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIAGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_example_with_its_comment_signs_taken_away_is_the_defaults(tmp_path: Path) -> None:
    bare = re.sub(r"(?m)^# ", "", example_toml())
    values = tomllib.loads(bare)
    assert [r["name"] for r in values.pop("routes")] == ["ris", "oncall", "page"]
    assert [p["name"] for p in values.pop("pull")] == ["pacs"]
    assert [p["name"] for p in values.pop("perform")] == ["ris"]
    path = tmp_path / "all.toml"
    path.write_text(bare)
    assert load(path).model_copy(update={"routes": (), "pull": (), "perform": ()}) == Settings()
    assert tomllib.loads(example_toml()) == {}


def test_the_example_names_every_setting_and_says_what_the_source_says() -> None:
    text = example_toml()
    for table, field in Settings.model_fields.items():
        assert re.search(rf"(?m)^# \[?\[?{table}\b", text), field
    assert "11112  # 104 needs privileges" in text


def test_show_gives_value_and_origin_and_hides_secrets(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "t.toml"
    file.write_text('site = "NORTH"\n[dicom]\nport = 4000\nae_title = "FROMFILE"\n')
    monkeypatch.setenv("TRIAGE_DICOM__PORT", "4001")
    monkeypatch.setenv("TRIAGE_DATABASE__URL", "postgresql+psycopg://triage:hunter2@db/triage")
    ran = triage("--config", str(file), "config", "show", "--json")
    rows = {r["name"]: (r["value"], r["origin"]) for r in ran.json()}
    assert rows["site"] == ("NORTH", "file")
    assert rows["dicom.port"] == (4001, "environment TRIAGE_DICOM__PORT")
    assert rows["dicom.ae_title"] == ("FROMFILE", "file")
    assert rows["web.port"] == (8080, "default")
    assert rows["database.url"][0].startswith("•••")
    assert "hunter2" not in ran.out + ran.err
    assert "hunter2" not in triage("--config", str(file), "config", "show").out


def test_check_says_yes_or_what_is_wrong(home: Path, tmp_path: Path) -> None:
    assert triage("config", "check").code == 0
    file = tmp_path / "t.toml"
    file.write_text('[dicom]\nhost = "0.0.0.0"\n')
    open_door = triage("--config", str(file), "config", "check")
    assert (open_door.code, "insecure_plain" in open_door.err) == (1, True)
    file.write_text("[dicom]\nport = 99999\n")
    wrong = triage("--config", str(file), "config", "check")
    assert (wrong.code, "dicom.port" in wrong.err) == (1, True)
    file.write_text('detectors = ["chest_xray", "brain"]\n')
    assert "brain" in triage("--config", str(file), "config", "check").err


def test_a_name_that_cannot_be_one_is_told_in_words(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text('[[pull]]\nname = "Old PACS"\npeer = "old"\n')
    ran = triage("--config", str(file), "config", "check")
    assert ran.code == 1 and "pull.0.name" in ran.err and "up to 40 lower-case letters" in ran.err


def test_a_key_that_others_may_read_is_wrong(home: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    key.chmod(0o644)
    file = tmp_path / "t.toml"
    file.write_text(f'[[routes]]\nname="a"\nkind="webhook"\nurl="https://x.example"\nsecret_file="{key}"\n')
    ran = triage("--config", str(file), "config", "check")
    assert (ran.code, "chmod 600" in ran.err) == (1, True)
    key.chmod(0o600)
    assert triage("--config", str(file), "config", "check").code == 0


def test_a_mistyped_variable_is_named_with_the_one_that_was_meant() -> None:
    assert unknown_variables({"TRIAGE_WORKER": "3"}) == [
        "TRIAGE_WORKER is no setting; did you mean TRIAGE_WORKERS?"
    ]
    assert unknown_variables({"TRIAGE_DICOM__PORT": "1", "TRIAGE_CONFIG": "", "HOME": "/"}) == []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heavy libraries are imported for real once, by hand; here a light one stands for them."""
    monkeypatch.setattr(doctor, "HEAVY", ("click",))


def _by_name(ran_json: dict[str, list[dict[str, str]]]) -> dict[str, dict[str, str]]:
    return {c["name"]: c for c in ran_json["checks"]}


def test_doctor_finds_a_library_that_does_not_load(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "HEAVY", ("not_there",))
    ran = triage("doctor", "--json")
    assert ran.code == 1
    found = _by_name(ran.json())["not_there"]
    assert (found["level"], found["fix"]) == ("wrong", "make install")


@pytest.mark.parametrize("where", ["/proc/x", "{tmp}/file", "{tmp}/file/below"])
def test_doctor_says_that_a_home_cannot_be_made_and_not_that_space_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, where: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRIAGE_HOME", where.format(tmp=tmp_path))
    ran = triage("doctor", "--json")
    assert ran.code == 1
    found = _by_name(ran.json())
    assert found["home"]["level"] == "wrong"
    assert "cannot be" in found["home"]["detail"]
    assert "TRIAGE_HOME" in found["home"]["fix"]
    assert "disk" not in found


def test_doctor_names_a_taken_port_and_the_setting_that_moves_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("TRIAGE_DICOM__PORT", str(other.getsockname()[1]))
        ran = triage("doctor", "--json")
    found = _by_name(ran.json())["port dicom"]
    assert (ran.code, found["level"]) == (1, "wrong")
    assert "dicom.port" in found["fix"]


def test_doctor_knows_a_database_of_another_revision(home: Path, quick: None) -> None:
    assert triage("migrate", "up").code == 0
    assert _by_name(triage("doctor", "--json").json())["database"]["level"] == "ok"
    assert triage("migrate", "down").code == 0
    found = _by_name(triage("doctor", "--json").json())["database"]
    assert (found["level"], found["fix"]) == ("wrong", "triage migrate up")


def test_doctor_knows_a_database_that_is_away(
    home: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    monkeypatch.setenv("TRIAGE_DATABASE__URL", "postgresql+psycopg://t:hunter2@127.0.0.1:1/t")
    monkeypatch.setenv("TRIAGE_BROKER__URL", "redis://:hunter3@127.0.0.1:1/0")
    ran = triage("doctor", "--json")
    found = _by_name(ran.json())
    assert (found["database"]["level"], found["broker"]["level"]) == ("wrong", "wrong")
    assert "hunter" not in ran.out + ran.err


def test_doctor_says_which_setting_is_wrong(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAGE_WORKERS", "0")
    ran = triage("doctor")
    assert ran.code == 1
    assert "workers" in ran.out


def test_doctor_finds_a_release_whose_file_was_changed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    folder = tmp_path / "1.0.0"
    folder.mkdir()
    (folder / "release.json").write_text(
        '{"detector": "chest_xray", "version": "1.0.0", "files": {"model.bin": "' + "0" * 64 + '"}}'
    )
    (folder / "model.bin").write_bytes(b"other bytes")
    monkeypatch.setattr(doctor, "active_release", lambda _: folder)
    found = _by_name(triage("doctor", "--json").json())["release chest_xray"]
    assert found["level"] == "wrong"
    assert "not the file of this release" in found["detail"]


def test_doctor_tells_our_own_port_from_anothers_and_passes_on_what_the_product_says(
    home: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    assert triage("migrate", "up").code == 0
    database = Database(load().database_url)
    with socket.socket() as ours, database.write() as tx:
        ours.bind(("127.0.0.1", 0))
        ours.listen()
        monkeypatch.setenv("TRIAGE_DICOM__PORT", str(ours.getsockname()[1]))
        monkeypatch.setenv("TRIAGE_WEB__PORT", "0")
        events.beat(tx, "receiver@here", 1, clock())
        events.beat(tx, "relay@here", 1, clock() - timedelta(minutes=5))
    with socket.socket() as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ours.bind(("127.0.0.1", load().dicom.port))
        ours.listen()
        found = _by_name(triage("doctor", "--json").json())
    assert (found["port dicom"]["level"], "this triage" in found["port dicom"]["detail"]) == ("ok", True)
    assert found["running: receiver@here"]["level"] == "ok"
    assert (found["running: relay@here"]["level"], "silent" in found["running: relay@here"]["detail"]) == (
        "wrong",
        True,
    )
    assert _by_name(triage("doctor", "--json").json())["port dicom"]["level"] == "look"


def test_doctor_says_that_an_old_redis_gets_no_more_fixes() -> None:
    assert doctor._redis_check("6.2.14", "here").level == "look"
    assert doctor._redis_check("7.0.15", "here").level == "ok"


def test_doctor_sees_a_clock_that_is_off() -> None:
    assert doctor._skew(timedelta(seconds=5)).level == "wrong"
    assert doctor._skew(timedelta(seconds=-0.2)).level == "ok"


def test_the_example_is_printed_alone_on_stdout(home: Path) -> None:
    assert triage("config", "example").out == example_toml()


def test_a_command_that_reads_makes_no_home_and_its_advice_repeats_the_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "my settings.toml"
    file.write_text(f'home = "{tmp_path / "elsewhere"}"\n')
    ran = triage("--config", str(file), "peer", "list")
    assert ran.code == 1
    assert f"triage --config '{file}' migrate up" in ran.err
    assert not (tmp_path / "elsewhere").exists()
    assert triage("--config", str(file), "migrate", "up").code == 0
    added = triage(
        "--config", str(file), "peer", "add", "pacs", "--aet", "PACS", "--host", "10.0.0.9", "--port", "104"
    )
    assert f"triage --config '{file}' echo pacs" in added.err


def test_a_home_that_cannot_be_made_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAGE_HOME", "/proc/nowhere")
    for command in ("up", "migrate"):
        done = triage(command)
        assert done.code == 1
        assert "home /proc/nowhere cannot be made" in done.err
