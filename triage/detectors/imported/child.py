"""`python -m triage.detectors.imported.child KIND INPUT OUTPUT`: opens a foreign model file, confined; see `convert`.

A checkpoint is a pickle, which is a program. Two walls: no class that it names is ever looked up, and the process
has no right to open, connect or start anything; so all that is needed is imported and run once before `confine`. An
ONNX file is data; its parser wants files of its own, so it gets bounds on time and memory alone, and this process.

Answer on OUTPUT: one line of JSON, {"parts": [bytes of each]} or {"error": text}, then the parts.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any, BinaryIO

from triage.sandbox import confine, limit

SECONDS = 240
LARGEST = 1 << 30  # bytes of a model file: a DenseNet-121 has 30 MB, a 3-D RetinaNet 80
ADDRESS_SPACE = 24 << 30  # torch and OpenVINO reserve far more than they touch
_REFUSED = 300  # characters of an error that are passed on

# What a checkpoint needs to become tensors; every other name in a pickle becomes a `_Stub` and runs nothing.
_NEEDED = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
}


class Unreadable(Exception):
    """The file is not what it was said to be; the text is for the administrator."""


class _Stub:
    """Stands for any class or function of a pickle: takes what the pickle does to it and keeps the state."""

    def __new__(cls, *_: Any, **__: Any) -> _Stub:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(module, name) if (module, name) in _NEEDED else _Stub


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


# torch.load takes a module with these names instead of pickle.
_PICKLE = types.SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__="pickle")


def tensors(file: BinaryIO) -> bytes:
    """The safetensors form of a checkpoint: state dict, a dict around one, or a pickled module."""
    import torch
    from safetensors.torch import save

    content = torch.load(file, map_location="cpu", pickle_module=_PICKLE, weights_only=False)
    if isinstance(content, torch.jit.ScriptModule):
        raise Unreadable("it is a TorchScript program; export its state dict with torch.save")
    found = _state(content)
    if not found:
        raise Unreadable("there are no weights in it: neither a state dict nor a module")
    saved: bytes = save({k: v.detach().clone().contiguous() for k, v in found.items()})
    return saved


def _state(content: Any) -> dict[str, Any]:
    """Names and tensors, in whatever they are wrapped."""
    import torch

    if isinstance(content, _Stub):
        return _of_module(content, "")
    if not isinstance(content, dict):
        return {}
    own = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if own:
        return own
    inner = [_state(v) for v in content.values()]
    return max(inner, key=len, default={})  # beside the weights an optimizer or a second copy may lie


def _of_module(module: _Stub, prefix: str) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {}
    state = getattr(module, "state", {})
    for group in ("_parameters", "_buffers"):
        for name, value in dict(state.get(group) or {}).items():
            if isinstance(value, torch.Tensor):
                found[f"{prefix}{name}"] = value
    for name, inner in dict(state.get("_modules") or {}).items():
        if isinstance(inner, _Stub):
            found |= _of_module(inner, f"{prefix}{name}.")
    return found


def onnx(file: BinaryIO) -> tuple[bytes, bytes]:
    """OpenVINO IR (xml, bin) of an ONNX file that holds its own weights."""
    import openvino

    model = openvino.Core().read_model(io.BytesIO(file.read()))
    if len(model.inputs) != 1:
        raise Unreadable(f"it has {len(model.inputs)} inputs; one picture is expected")
    openvino.serialize(
        model, "model.xml", "model.bin"
    )  # in the folder that we were started in; it goes with us
    return Path("model.xml").read_bytes(), Path("model.bin").read_bytes()


def _warm_up() -> None:
    import torch

    torch.set_num_threads(1)
    for zipped in (True, False):
        sample = io.BytesIO()
        torch.save({"w": torch.zeros(2)}, sample, _use_new_zipfile_serialization=zipped)
        sample.seek(0)
        tensors(sample)


def main(kind: str, source: int, target: int) -> None:
    file = os.fdopen(source, "rb")
    if kind == "onnx":
        limit(SECONDS, ADDRESS_SPACE, LARGEST)
    else:
        _warm_up()
        confine(SECONDS, ADDRESS_SPACE)
    parts: tuple[bytes, ...] = ()
    try:
        parts = onnx(file) if kind == "onnx" else (tensors(file),)
        head: dict[str, Any] = {"parts": [len(p) for p in parts]}
    except Unreadable as error:
        head = {"error": str(error)}
    except MemoryError:
        head = {"error": "it needs more memory than an import may have"}
    except Exception as error:  # noqa: BLE001 (the process's door)
        head = {"error": f"{type(error).__name__}: {error}"[:_REFUSED]}
    _send(target, json.dumps(head).encode() + b"\n", *parts)


def _send(target: int, *parts: bytes) -> None:
    for part in parts:
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(target, rest[: 1 << 20]) :]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    os._exit(0)  # what torch and OpenVINO do at exit needs rights that are gone
