"""The one place where networks meet hardware: OpenVINO on CPU by default, torch on CUDA and for comparison.

Measured (libraries.md 4): OpenVINO float32 is 2.2 x torch eager on one core at under half its memory, and
starts without torch. The precision is pinned to f32 so that two hospitals get the same numbers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from triage.domain.errors import Misconfigured

Array = NDArray[np.float32]
RUNTIMES = ("openvino", "torch", "cuda")
# Largest difference of a raw probability from the one computed with OpenVINO; tests hold every runtime to it.
BOUND = {"openvino": 1e-3, "torch-cpu": 1e-3, "torch-cuda": 0.03}
_library: Any = None  # a torch Library that is collected takes its operators with it


class Network(Protocol):
    runtime: str

    def __call__(self, batch: Array) -> tuple[Array, ...]:
        """Outputs of one batch, in the order of the exported network."""
        ...


class OpenVinoNetwork:
    """An OpenVINO IR compiled for this CPU; the input may have dynamic spatial size.

    precision  "f32", or "bf16" for measurements: half the time where the processor has it, other numbers
    """

    runtime = "openvino"

    def __init__(self, xml: Path, threads: int, precision: str = "f32") -> None:
        import openvino  # heavy: detectors alone may load it (architecture 3)

        core = openvino.Core()
        self._compiled = core.compile_model(
            core.read_model(xml),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
        self._request = self._compiled.create_infer_request()

    def __call__(self, batch: Array) -> tuple[Array, ...]:
        self._request.infer([np.ascontiguousarray(batch)])
        return tuple(
            np.array(self._request.get_output_tensor(i).data) for i in range(len(self._compiled.outputs))
        )


class TorchNetwork:
    """A torch module on CPU or CUDA; bf16 autocast on CUDA only (no AMX here, so no gain on CPU)."""

    def __init__(self, module: Any, device: str, threads: int) -> None:
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise Misconfigured(
                'runtime = "cuda", but torch sees no CUDA device here: set runtime = "openvino"'
            )
        torch.set_num_threads(threads)
        self._torch, self._device = torch, device
        self._module = module.eval().to(device)
        self.runtime = f"torch-{device}"

    def __call__(self, batch: Array) -> tuple[Array, ...]:
        torch = self._torch
        with (
            torch.inference_mode(),
            torch.autocast(self._device, torch.bfloat16, enabled=self._device == "cuda"),
        ):
            out = self._module(torch.from_numpy(np.ascontiguousarray(batch)).to(self._device))
        outputs = out if isinstance(out, tuple | list) else (out,)
        return tuple(o.float().cpu().numpy() for o in outputs)


def open_network(runtime: str, xml: Path, weights: Path, build: Callable[[], Any]) -> Network:
    """One network of a release on the runtime that the site chose.

    xml      OpenVINO IR; weights: the same network's safetensors for the module that `build` makes
    raises   Misconfigured for a runtime that is unknown, or that this machine or this release has not
    """
    if runtime == "openvino":
        return OpenVinoNetwork(xml, inference_threads())
    if runtime not in RUNTIMES:
        raise Misconfigured(f"runtime {runtime!r} is not known; choose one of {', '.join(RUNTIMES)}")
    if not weights.exists():
        raise Misconfigured(f'{weights.parent.name} has no weights for torch: set runtime = "openvino"')
    module = load_safetensors(build(), weights)
    return TorchNetwork(module, "cuda" if runtime == "cuda" else "cpu", inference_threads())


def inference_threads() -> int:
    """Threads of one worker: TRIAGE_INFERENCE_THREADS as the supervisor sets it, else every core."""
    return int(os.environ.get("TRIAGE_INFERENCE_THREADS", "0")) or os.cpu_count() or 1


def load_safetensors(module: Any, weights: Path) -> Any:
    """`module` with the weights of a safetensors file (fp16 on disk, float32 in memory). Never pickle (T23)."""
    from safetensors.torch import load_file

    state = load_file(str(weights))
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return module


def torchvision() -> Any:
    """torchvision beside a CPU torch, where its compiled operators cannot load.

    Its wheel is linked to CUDA; the import then stops at a fake kernel for an operator that is not there.
    Declaring the two operators before a second attempt mends it (libraries.md 2).
    """
    global _library
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        import torch

        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _library = torch.library.Library("torchvision", "DEF")
        for op in ("nms", "qnms"):
            _library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision
