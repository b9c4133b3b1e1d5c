"""The network and box arithmetic of MONAI's lung nodule bundle, by MONAI's own code (the extra `monai`).

Every number is the bundle's public configuration: Project-MONAI/model-zoo, lung_nodule_ct_detection,
configs/inference.json. Images are (x, y, z) with axes towards the patient's right, front and head.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.detectors._runtime import torchvision
from triage.domain.errors import Misconfigured

Array = NDArray[np.float32]

STEP_MM = (1.25, 0.703125, 0.703125)  # (z, y, x)
LOW_HU, HIGH_HU = -1024.0, 300.0  # become 0 and 1
_ANCHORS = ((6, 8, 4), (8, 6, 5), (10, 10, 6))
# The bundle's patch, and the one that it was trained with: on a CPU the large one would need tens of GB.
_PATCH = {"cuda": (512, 512, 192), "cpu": (192, 192, 80)}


def network() -> Any:
    """RetinaNet on a 3-D ResNet-50 with a feature pyramid, one class. raises Misconfigured without MONAI."""
    torchvision()  # MONAI imports it, and beside a CPU torch that needs help
    try:
        from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
        from monai.networks.nets.resnet import resnet50
    except ImportError as error:
        raise Misconfigured('this release needs MONAI: pip install "triage[monai]"') from error
    backbone = resnet50(spatial_dims=3, n_input_channels=1, conv1_t_stride=[2, 2, 1], conv1_t_size=[7, 7, 7])
    return RetinaNet(
        spatial_dims=3,
        num_classes=1,
        num_anchors=len(_ANCHORS),
        feature_extractor=resnet_fpn_feature_extractor(backbone, 3, False, [1, 2], None),
        size_divisible=[16, 16, 8],
    )


class Boxes:
    """Boxes and scores of one image on "cpu" or "cuda", in float32, in windows of `patch` voxels (x, y, z)."""

    def __init__(
        self, module: Any, device: str, threads: int, patch: tuple[int, int, int] | None = None
    ) -> None:
        import torch
        from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
        from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape

        if device == "cuda" and not torch.cuda.is_available():
            raise Misconfigured('runtime = "cuda", but torch sees no CUDA device here: set runtime = "torch"')
        torch.set_num_threads(threads)
        self._torch, self._device, self.runtime = torch, device, f"torch-{device}"
        self._patch = patch or _PATCH[device]
        anchors = AnchorGeneratorWithAnchorShape(feature_map_scales=(1, 2, 4), base_anchor_shapes=_ANCHORS)
        self._detector = RetinaNetDetector(module.eval().to(device), anchors)
        self._detector.eval()
        self._detector.set_box_selector_parameters(
            score_thresh=0.02, topk_candidates_per_level=1000, nms_thresh=0.22, detections_per_img=300
        )
        self._detector.set_sliding_window_inferer(
            roi_size=self._patch, overlap=0.25, sw_batch_size=1, mode="constant", device="cpu"
        )

    def __call__(self, image: Array) -> tuple[Array, Array]:
        """Corners (n, 6), low before high, in voxels and scores (n,) of an image (x, y, z) of 0 to 1."""
        tensor = self._torch.from_numpy(np.ascontiguousarray(image))[None].to(self._device)
        sliding = any(have > window for have, window in zip(image.shape, self._patch, strict=True))
        with self._torch.inference_mode():
            found = self._detector([tensor], use_inferer=sliding)[0]
        scores = found[self._detector.pred_score_key].float().cpu().numpy()
        return found[self._detector.target_box_key].float().cpu().numpy(), scores

    def raw(self, image: Array) -> Array:
        """All that the network answers to one patch, before anchors and selection, in one row."""
        tensor = self._torch.from_numpy(np.ascontiguousarray(image))[None, None].to(self._device)
        with self._torch.inference_mode():
            heads = self._detector.network(tensor)
        parts = [part.float().cpu().numpy().ravel() for maps in heads.values() for part in maps]
        return np.concatenate(parts)
