"""A model of 2.7 GB whose weights lie in an external file; the file is sparse, so that it takes no room on the disk."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

LAYERS, WIDTH = 40, 4096


def write_large(path: Path) -> None:
    """Write `path` and `path`.data: 40 layers of MatMul, Add and Relu with zero weights of 4096 x 4096 float32."""
    location = f"{path.name}.data"
    weight_bytes, bias_bytes = WIDTH * WIDTH * 4, WIDTH * 4
    nodes, initializers = [], []
    offset, value = 0, "input"
    for layer in range(LAYERS):
        for name, shape, length in (("weight", [WIDTH, WIDTH], weight_bytes), ("bias", [WIDTH], bias_bytes)):
            initializers.append(_external(f"layer.{layer}.{name}", shape, location, offset, length))
            offset += length
        last = layer == LAYERS - 1
        nodes.append(helper.make_node("MatMul", [value, f"layer.{layer}.weight"], [f"product_{layer}"]))
        nodes.append(helper.make_node("Add", [f"product_{layer}", f"layer.{layer}.bias"], [f"sum_{layer}"]))
        value = "output" if last else f"value_{layer}"
        nodes.append(helper.make_node("Relu", [f"sum_{layer}"], [value]))
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, WIDTH])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, WIDTH])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="edgec-benchmarks")
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    with open(path.with_name(location), "wb") as file:
        file.truncate(offset)


def _external(name: str, shape: list[int], location: str, offset: int, length: int) -> onnx.TensorProto:
    tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, entry in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=entry)
    return tensor
