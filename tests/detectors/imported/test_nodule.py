"""MONAI's lung nodule bundle, with random weights in its layout, against MONAI's own transforms and detector."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.program import Ran, triage
from triage.detectors._grid import canonical
from triage.detectors._runtime import torchvision
from triage.detectors.imported import nodule
from triage.detectors.imported.importing_scan import add_scan
from triage.detectors.imported.nodule import ImportedNodule, boxed, load
from triage.detectors.imported.retinanet import Boxes
from triage.domain.errors import Refused
from triage.domain.image import Volume

pytestmark = pytest.mark.skipif(
    find_spec("monai") is None, reason='MONAI is not installed: pip install "triage[monai]"'
)

WINDOW = (64, 64, 32)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """State dict of the bundle's network, built here from its configuration, shaken so that it finds things."""
    torchvision()  # before the first import of MONAI, which imports it
    from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
    from monai.networks.nets.resnet import resnet50

    torch.manual_seed(5)
    backbone = resnet50(spatial_dims=3, n_input_channels=1, conv1_t_stride=[2, 2, 1], conv1_t_size=[7, 7, 7])
    extractor = resnet_fpn_feature_extractor(backbone, 3, False, [1, 2], None)
    network = RetinaNet(3, 1, 3, extractor, size_divisible=[16, 16, 8])
    for head in (network.classification_head, network.regression_head):
        for part in head.conv:
            if isinstance(part, torch.nn.Conv3d):
                torch.nn.init.kaiming_normal_(part.weight)
    network.classification_head.cls_logits.weight.data.normal_(0, 0.15)
    network.classification_head.cls_logits.bias.data.fill_(-1.0)
    network.regression_head.bbox_reg.weight.data.normal_(0, 0.01)
    return network.state_dict()


@pytest.fixture(scope="module")
def file(weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "model.pt"
    torch.save({"model": weights}, path)
    return path


@pytest.fixture(scope="module")
def added(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    """What `models add` said, and the release that it made."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIAGE_HOME", str(home))
        triage("migrate", "up")
        done = triage("models", "add", str(file), "--kind", "monai-retinanet", "--version", "monai-1")
    return done, home / "models" / "lung_nodule" / "monai-1"


@pytest.fixture(scope="module")
def detector(added: tuple[Ran, Path]) -> ImportedNodule:
    return load(added[1])


def a_chest() -> Volume:
    """Two lungs of 85 ml in a body, one with a ball of 12 mm; the rows run to the right, the slices down."""
    z, y, x = np.mgrid[0:60, 0:124, 0:180].astype(np.float32)
    z, y, x = (z - 30) * 1.25, (y - 62) * 0.703125, (x - 90) * 0.703125
    hu = np.where((x / 61) ** 2 + (y / 43) ** 2 < 1, 40.0, -1000.0)
    for side in (-27, 27):
        hu[((x - side) / 22) ** 2 + (y / 28) ** 2 + (z / 33) ** 2 < 1] = -850.0
    hu[(x - 27) ** 2 + (y - 4) ** 2 + (z - 6) ** 2 < 36] = 30.0
    hu += np.random.default_rng(2).normal(0, 15, hu.shape)
    affine = np.diag([-0.703125, 0.703125, -1.25, 1.0])
    affine[:3, 3] = (60.0, -40.0, 300.0)
    return Volume(hu.astype(np.int16), affine)


def test_boxes_and_scores_are_those_of_monai(
    detector: ImportedNodule, weights: dict[str, torch.Tensor]
) -> None:
    """Windows small enough for a test, which the configuration's are not (192 x 192 x 80 was seen to agree, too).

    Their reading: RAS, scaling, RetinaNetDetector with its inferer, boxes to the world.
    `Orientation("RAS")` needs nibabel, which nothing else does here; on this scan it is the `Flip` of rows and slices.
    """
    from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
    from monai.apps.detection.transforms.dictionary import AffineBoxToWorldCoordinated
    from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
    from monai.data import MetaTensor
    from monai.transforms import Flip, ScaleIntensityRange

    chest = a_chest()
    scan = Volume(chest.hu[14:46, 30:94, 90:170], chest.affine)
    ours_of = Boxes(detector._boxes._detector.network, "cpu", 1, patch=WINDOW)
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    image = MetaTensor(
        torch.from_numpy(scan.hu.astype(np.float32).transpose(2, 1, 0)[None]), affine=to_ras @ scan.affine
    )
    image = ScaleIntensityRange(-1024, 300, 0, 1, clip=True)(Flip(spatial_axis=[1, 2])(image))
    assert (np.diag(image.affine)[:3] > 0).all()
    network = detector._boxes._detector.network
    theirs = RetinaNetDetector(
        network, AnchorGeneratorWithAnchorShape((1, 2, 4), ((6, 8, 4), (8, 6, 5), (10, 10, 6)))
    ).eval()
    theirs.set_box_selector_parameters(0.02, 1000, 0.22, 300)
    theirs.set_sliding_window_inferer(roi_size=WINDOW, overlap=0.25, sw_batch_size=1, mode="constant")
    with torch.inference_mode():
        found = theirs([image.as_tensor()], use_inferer=True)[0]
    world = AffineBoxToWorldCoordinated(
        box_keys="box", box_ref_image_keys="image", affine_lps_to_ras=True
    )({"box": found["boxes"], "image": image})["box"].numpy()  # fmt: skip

    ours = boxed(ours_of, canonical(scan.hu, scan.affine))

    assert len(ours) == len(world) > 20
    assert all(torch.equal(network.state_dict()[name], value) for name, value in weights.items())
    scores = np.array([detector.probability(p)[0] for p in ours])
    assert np.abs(scores - found["labels_scores"].numpy()).max() < 1e-4
    middles = (world[:, :3] + world[:, 3:]) / 2
    assert np.abs(np.array([p.center_lps_mm for p in ours]) - middles).max() < 1e-3
    sides = np.abs(world[:, 3:] - world[:, :3]).mean(1)
    assert np.abs(np.array([p.diameter_mm for p in ours]) - sides).max() < 1e-3


def test_a_scan_becomes_findings_that_are_not_pushed(
    detector: ImportedNodule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodule, "_MARGIN_MM", 2.0)  # less to compute
    detection = detector.detect(a_chest())

    assert detection.findings
    assert detector.verify() < 1e-4
    for finding in detection.findings:
        assert not finding.actionable and finding.threshold is None
        assert finding.measurements is not None and finding.measurements.long_axis_mm > 0
        assert finding.location is not None and finding.location.side in {"left", "right"}


def test_it_is_added_by_command_and_other_layouts_are_refused(
    added: tuple[Ran, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, folder = added
    assert done.code == 0, done.err
    assert "shadow lung_nodule monai-1" in done.err and not folder.stat().st_mode & 0o222
    monkeypatch.setenv("TRIAGE_HOME", str(folder.parents[2]))
    assert triage("models", "shadow", "lung_nodule", "monai-1").code == 0
    early = triage("models", "activate", "lung_nodule", "monai-1")
    assert early.code == 4, early.err

    other = tmp_path / "other.pt"
    torch.save({"conv.weight": torch.zeros(3)}, other)
    with pytest.raises(Refused, match="layout"):
        add_scan(tmp_path / "models", "monai-2", other)
    assert not list((tmp_path / "models").glob("lung_nodule/*"))
