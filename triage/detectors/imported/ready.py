"""A finished release folder of an outside detector package: its digests are checked, then it is copied as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

from triage.detectors.releases import Release, load_release, new_folder
from triage.domain.errors import Misconfigured, Refused

DETECTORS = ("chest_xray", "lung_nodule")  # what there are inputs for: films and scans
_LARGEST = 4 << 30


def add_folder(models: Path, folder: Path) -> Release:
    """Copy `folder` (release.json beside the files that it names) to models/<detector>/<version>.

    raises  Refused when it is no release, names files outside itself, or they are not the ones it names
    """
    try:
        release = load_release(folder, verify=False)
        files = dict(release.content["files"])
    except (Misconfigured, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{folder} is no release folder: {error}") from error
    if release.detector not in DETECTORS:
        raise Refused(
            f"{release.title} is for {release.detector!r}; there are inputs for {', '.join(DETECTORS)}"
        )
    if any(Path(name).name != name for name in files):
        raise Refused(f"{folder}: release.json names files outside its folder")
    try:
        load_release(folder)
        size = sum((folder / name).stat().st_size for name in files)
    except Misconfigured as error:
        raise Refused(str(error)) from error
    if size > _LARGEST:
        raise Refused(f"{folder} has {size >> 20} MB; a release has at most {_LARGEST >> 20}")
    with new_folder(models, release.detector, release.version) as made:
        for name in (*files, "release.json", *(n for n in ("card.md",) if (folder / n).exists())):
            shutil.copyfile(folder / name, made / name)
    return load_release(models / release.detector / release.version)
