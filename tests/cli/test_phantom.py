"""`triage phantom`: results on stdout, words on stderr, a wrong finding is wrong usage."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
from click.testing import CliRunner

from triage.cli.phantom import phantom


def test_a_film_is_written_and_its_path_printed(tmp_path: Path) -> None:
    result = CliRunner().invoke(phantom, ["cxr", str(tmp_path), "--finding", "pneumothorax", "--seed", "5"])
    assert result.exit_code == 0
    (path,) = result.stdout.split()
    assert pydicom.dcmread(path, stop_before_pixels=True).Modality == "DX"
    assert "pneumothorax" in result.stderr


def test_json_holds_files_and_truth(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        phantom, ["cxr", str(tmp_path), "--finding", "nodule", "--seed", "5", "--json"]
    )
    answer = json.loads(result.stdout)
    assert Path(answer["files"][0]).exists()
    assert answer["truth"]["findings"] == ["nodule"]
    assert len(answer["truth"]["nodules"][0]["center_lps_mm"]) == 3


def test_a_wrong_finding_is_wrong_usage(tmp_path: Path) -> None:
    result = CliRunner().invoke(phantom, ["cxr", str(tmp_path), "--finding", "mumps"])
    assert result.exit_code == 2
    assert "mumps" in result.stderr
