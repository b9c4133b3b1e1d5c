"""From a foreign checkpoint to findings: add, look, calibrate, shadow, two persons, in force."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.program import triage
from tests.networks import shaken
from triage.detectors.imported.densenet import DenseNet121
from triage.detectors.releases import load_release, seal_release
from triage.phantom import make_thorax, render_radiograph
from triage.settings import load
from triage.store import releases
from triage.store.database import Database

PLUGIN = Path(__file__).parents[1] / "detectors" / "example_plugin.py"


CARD = {
    "labels": ["Effusion", "Edema", "Enlarged Cardiomediastinum"],
    "result": "logits",
    "input": {"side": 64, "channels": 1, "range": [0, 1], "fit": "squash"},
}


@pytest.fixture
def classifier(tmp_path: Path) -> tuple[Path, Path]:
    """(model, card) of an ONNX classifier of a few thousand weights: the chain is tested, not the network."""
    pytest.importorskip("onnx", reason="torch needs the onnx package to export")
    torch.manual_seed(3)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 5, 4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 15 * 15, 3)
    ).eval()
    model, card = tmp_path / "model.onnx", tmp_path / "card.json"
    torch.onnx.export(network, torch.zeros(1, 1, 64, 64), model, dynamo=False, input_names=["x"])
    card.write_text(json.dumps(CARD))
    return model, card


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "densenet.pt"
    torch.save(shaken(DenseNet121(1, 18)).state_dict(), file)
    return file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIAGE_HOME", str(tmp_path / "home"))
    triage("migrate", "up")
    return tmp_path / "home"


def cases_file(folder: Path, films: int) -> Path:
    """Phantoms as pictures, every second one said to have an effusion; each film is listed many times."""
    for seed in range(2):
        if not (folder / f"{seed}.png").exists():
            pixels = render_radiograph(make_thorax(seed, ()), size_px=400).pixels
            Image.fromarray((pixels * 255).astype(np.uint8)).save(folder / f"{seed}.png")
    file = folder / f"{films}.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "patient_id", "effusion", "edema"])
        writer.writerows([f"{i % 2}.png", f"p{i}", i % 2, int(i < 3)] for i in range(films))
    return file


def test_weights_go_from_a_file_to_force_step_by_step(
    home: Path, classifier: tuple[Path, Path], tmp_path: Path
) -> None:
    model, card = map(str, classifier)
    words = ("models", "add", model, "--kind", "onnx", "--card", card, "--version", "site-1")
    done = triage(*words)
    assert done.code == 0, done.err
    assert "not covered: " in done.err and "enlarged cardiomediastinum" in done.err
    again = triage(*words)
    assert again.code == 4 and "exists" in again.err

    film = triage("phantom", "cxr", str(tmp_path / "film"), "--seed", "3")
    assert film.code == 0, film.err
    run = triage(
        "assess", str(tmp_path / "film"), "--detector", "chest_xray", "--release", "site-1", "--json"
    ).json()
    (run,) = run["studies"][0]["runs"]
    assert (run["status"], run["release"], len(run["findings"])) == ("completed", "chest_xray site-1", 2)
    assert not any(f["actionable"] for f in run["findings"])

    early = triage("models", "activate", "chest_xray", "site-1")
    assert early.code == 4 and "triage models calibrate" in early.err
    few = triage("models", "calibrate", "chest_xray", "site-1", "--cases", str(cases_file(tmp_path, 10)))
    assert few.code == 4 and "effusion 5 of 10" in few.err

    cases = str(cases_file(tmp_path, 40))
    done = triage("models", "calibrate", "chest_xray", "site-1", "--cases", cases, "--json")
    assert done.code == 0, done.err
    told = done.json()
    assert (told["release"], told["findings"]["effusion"]["positives"]) == ("chest_xray site-1-site1", 20)
    assert not told["findings"]["edema"]["calibrated"]
    made = load_release(home / "models" / "chest_xray" / "site-1-site1")
    assert made.calibrated and made.content["site_calibration"]["of"] == "chest_xray site-1"

    assert triage("models", "shadow", "chest_xray", "site-1-site1").code == 0
    with Database(load().database_url).read() as tx:
        answers = {r["version"]: r["constancy"] for r in releases.in_states(tx)}
    assert answers["site-1-site1"]["finding"] == "effusion"  # an administrator may now propose it on the page
    for name in ("ada", "grace"):
        triage("user", "add", name, "--role", "admin", "--password-stdin", typed=f"{name}-has-a-word\n")
    nobody = triage("models", "activate", "chest_xray", "site-1-site1")
    assert nobody.code == 4 and "propose it" in nobody.err
    wrong = triage(
        "models", "activate", "chest_xray", "site-1-site1", "--by", "ada", "--password-stdin", typed="guess\n"
    )
    assert wrong.code == 4 and "is wrong" in wrong.err
    words = ("models", "activate", "chest_xray", "site-1-site1", "--password-stdin", "--by")
    first = triage(*words, "ada", typed="ada-has-a-word\n")
    assert first.code == 1 and "proposed by ada" in first.err
    second = triage(*words, "grace", typed="grace-has-a-word\n")
    assert second.code == 0, second.err
    listed = {r["version"]: r["state"] for r in json.loads(triage("models", "list", "--json").out)}
    assert listed["site-1-site1"] == "active"
    assert triage("audit", "verify").code == 0


def test_a_wrong_digest_and_wrong_shapes_leave_nothing_behind(home: Path, checkpoint: Path) -> None:
    words = ("models", "add", str(checkpoint), "--version", "bad-1", "--kind")
    assert triage(*words, "torchxrayvision", "--sha256", "0" * 64).code == 4
    shapes = triage(*words, "chexnet")
    assert shapes.code == 4 and "for 3 channels and 14 labels" in shapes.err
    bare = triage(*words, "onnx")
    assert bare.code == 4 and "--card" in bare.err
    assert not list(home.glob("models/chest_xray/*"))


def test_a_detector_from_an_outside_package_runs_through_assess(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages"
    (package / "example_plugin-1.0.dist-info").mkdir(parents=True)
    (package / "example_plugin.py").write_bytes(PLUGIN.read_bytes())
    information = package / "example_plugin-1.0.dist-info"
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: example-plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[triage.detectors]\nexample = example_plugin:load\n")
    monkeypatch.syspath_prepend(str(package))
    folder = tmp_path / "example-1"
    folder.mkdir()
    point = {"low": 0.0, "moderate": 0.1, "high": 0.5, "actionable": 0.2}
    seal_release(
        folder,
        {
            "detector": "chest_xray", "version": "example-1", "loader": "example", "not_covered": ["pneumothorax"],
            "calibration": {"effusion": {"slope": 1.0, "intercept": 0.0}}, "thresholds": {"effusion": point},
        },
    )  # fmt: skip

    added = triage("models", "add", str(folder), "--kind", "release")
    assert added.code == 0, added.err
    triage("phantom", "cxr", str(tmp_path / "film"), "--seed", "3")
    told = triage(
        "assess", str(tmp_path / "film"), "--detector", "chest_xray", "--release", "example-1", "--json"
    ).json()

    (run,) = told["studies"][0]["runs"]
    assert (run["status"], run["release"], run["not_covered"]) == (
        "completed",
        "chest_xray example-1",
        ["pneumothorax"],
    )
    assert [f["name"] for f in run["findings"]] == ["effusion"]
    sys.modules.pop("example_plugin", None)


def test_a_release_folder_that_was_changed_is_refused(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "example-2"
    folder.mkdir()
    (folder / "weights").write_bytes(b"first")
    seal_release(folder, {"detector": "chest_xray", "version": "example-2"})
    (folder / "weights").write_bytes(b"other")

    done = triage("models", "add", str(folder), "--kind", "release")
    assert done.code == 4 and "not the file of this release" in done.err
