"""The weights of MONAI's lung nodule bundle become a Release of `lung_nodule`, by the machinery of `importing`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from triage.detectors._runtime import inference_threads
from triage.detectors.imported.convert import checked, converted
from triage.detectors.imported.retinanet import Boxes, network
from triage.detectors.releases import Release, load_release, new_folder, seal_release
from triage.domain.errors import Refused

KIND = "monai-retinanet"
_GOLDEN = (64, 64, 32)  # voxels (x, y, z)


def add_scan(models: Path, version: str, file: Path, *, sha256: str | None = None) -> Release:
    """Import models/model.pt of the bundle as models/lung_nodule/<version>; not calibrated.

    sha256  of the file, as its publisher states it
    raises  Refused when it has not the bundle's layout or no finite answers; Misconfigured without MONAI
    """
    from safetensors.torch import load as from_bytes  # torch with it
    from safetensors.torch import save_file

    digest = checked(file, sha256)
    module = network()
    with new_folder(models, "lung_nodule", version) as folder:
        (weights,) = converted(file, "torch")
        try:
            module.load_state_dict(from_bytes(weights))
        except RuntimeError as error:
            raise Refused(
                f"{file.name} has not the layout of MONAI's lung_nodule_ct_detection: {str(error)[:300]}"
            ) from error
        save_file(module.state_dict(), folder / "weights.safetensors")
        _golden(Boxes(module, "cpu", inference_threads()), folder)
        content = {
            "detector": "lung_nodule",
            "version": version,
            "loader": "imported_nodule",
            "findings": ["nodule", "mass"],
            "not_covered": [],
            "calibrated": False,
            "bands": {"moderate": 0.2, "high": 0.5},  # nobody fitted them
            "floor": 0.02,
            "most_findings": 40,
            "origin": {
                "kind": KIND, "file": file.name, "sha256": digest,
                "license": "bundle Apache-2.0; trained on LUNA16, which has terms of its own",
                "source": "Project-MONAI/model-zoo, models/lung_nodule_ct_detection",
            },
        }  # fmt: skip
        (folder / "card.md").write_text(_card(version, file.name, digest), encoding="utf-8")
        seal_release(folder, content)
    return load_release(models / "lung_nodule" / version)


def _golden(boxes: Boxes, folder: Path) -> None:
    x, y, z = np.meshgrid(*(np.arange(n) / n for n in _GOLDEN), indexing="ij")
    image = (0.5 + 0.4 * np.cos(7 * x) * np.sin(9 * y) * np.cos(5 * z)).astype(np.float32)
    output = boxes.raw(image)
    if not np.isfinite(output).all():
        raise Refused("its answers are not numbers: the weights are damaged")
    np.savez_compressed(folder / "golden.npz", image=image, output=output)


def _card(version: str, file: str, digest: str) -> str:
    return f"""# lung_nodule {version}: imported weights

* MONAI's lung_nodule_ct_detection, file {file}, sha256 {digest}
* Licence: Apache-2.0 for the bundle; it was trained on LUNA16, which has terms of its own
* Findings: nodule, mass

Nothing was measured here. Its scores mean nothing by themselves, no finding is pushed, and it may run in shadow alone.
"""
