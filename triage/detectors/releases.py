"""A Release: one immutable folder of weights, preprocessing, calibration and thresholds, bound by digests.

    models/<detector>/<version>/
        release.json   everything but the numbers of the network (see `Release`), with the sha256 of each file
        model.xml, model.bin   OpenVINO IR, weights in fp16: what workers load
        weights.safetensors    the same weights for torch (CUDA, training, comparison)
        card.md        what it was trained on, what it can and cannot, measured
        golden.npz     fixed inputs and their outputs: `models verify` and a test compare them

No pickle anywhere. A file whose digest differs makes the release unusable, and the Runs say so (F17).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triage.domain.errors import Misconfigured, Refused

MODELS = Path(__file__).resolve().parents[2] / "models"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}")  # a folder's name and a column's width


@dataclass(frozen=True)
class Release:
    """One loaded and verified release.json; `content` is the whole document as parsed."""

    detector: str
    version: str
    folder: Path
    digest: str  # sha256 over release.json, which holds the sha256 of every other file
    content: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{self.detector} {self.version}"

    @property
    def loader(self) -> str:
        """Entry point of the group `triage.detectors` whose code reads this release: its detector's own unless stated."""
        return str(self.content.get("loader", self.detector))

    @property
    def calibrated(self) -> bool:
        """False for imported weights whose probabilities nobody fitted yet: they may run in shadow alone."""
        return bool(self.content.get("calibrated", True))

    @property
    def not_covered(self) -> tuple[str, ...]:
        return tuple(self.content.get("not_covered", ()))

    @property
    def preferred_kernels(self) -> tuple[str, ...]:
        """First values of Convolution Kernel (0018,1210) that it reads rather than others, all else being equal."""
        return tuple(self.content.get("preferred_kernels", ()))


def load_release(folder: Path, *, verify: bool = True) -> Release:
    """The release in `folder`.

    raises  Misconfigured when a file is absent or is not the file that the release was made with
    """
    document = folder / "release.json"
    try:
        text = document.read_bytes()
    except OSError as error:
        raise Misconfigured(
            f"no release in {folder}: {document.name} cannot be read ({error.strerror})"
        ) from error
    content = json.loads(text)
    if verify:
        for name, expected in content["files"].items():
            found = _sha256(folder / name)
            if found != expected:
                raise Misconfigured(
                    f"{folder / name} is not the file of this release: sha256 {found[:12]}, expected "
                    f"{expected[:12]}. Restore it from the distribution."
                )
    return Release(
        detector=content["detector"],
        version=content["version"],
        folder=folder,
        digest=hashlib.sha256(text).hexdigest(),
        content=content,
    )


def active_release(detector: str, models: Path = MODELS) -> Path:
    """Folder of the release that `models/<detector>/ACTIVE` names."""
    pointer = models / detector / "ACTIVE"
    try:
        return models / detector / pointer.read_text().strip()
    except OSError as error:
        raise Misconfigured(f"no active release of {detector}: {pointer} is missing") from error


def seal_release(folder: Path, content: dict[str, Any]) -> Release:
    """Write release.json with the digests of every file in `folder`; the last step of a training."""
    files = {
        p.name: _sha256(p)
        for p in sorted(folder.iterdir())
        if p.is_file() and p.name not in {"release.json", "card.md"}
    }
    document = {**content, "files": files}
    (folder / "release.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return load_release(folder)


@contextmanager
def new_folder(models: Path, detector: str, version: str) -> Iterator[Path]:
    """An empty folder that becomes models/<detector>/<version> when the block ends well, and read-only with it.

    raises  Refused when the version is no version or exists: a release never changes
    """
    if not _VERSION.fullmatch(version):
        raise Refused(
            f"{version!r} is no version: 1 to 40 letters, digits, dots, pluses, dashes and underscores"
        )
    target = models / detector / version
    if target.exists():
        raise Refused(f"{detector} {version} exists and releases do not change: choose another version")
    target.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    try:
        yield making
        for file in making.iterdir():
            file.chmod(0o444)
        making.chmod(0o755)
        making.rename(target)
        target.chmod(0o555)
    finally:
        if making.exists():
            shutil.rmtree(making)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise Misconfigured(f"a release file cannot be read: {path} ({error.strerror})") from error
