"""What was an attribute and became an operand, and defaults that changed.

Source: onnx/docs/Changelog.md, the versions named at each function.
"""

from __future__ import annotations

import numpy as np

from edgec.converter.importers.onnx.upgrades.table import (
    attribute_to_input,
    become,
    int64s,
    malformed,
    refuse,
    trim_outputs,
    upgrades,
)
from edgec.ir.graph import Graph, Node, Tensor
from edgec.ir.types import DataType

_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare".split()
)


@upgrades("Squeeze", "Unsqueeze", "ReduceSum", before=13)
@upgrades(*_REDUCTIONS, before=18)
def axes(graph: Graph, node: Node) -> None:
    """Squeeze-13, Unsqueeze-13, ReduceSum-13, others-18: axes are an operand; an empty list meant all axes."""
    if node.attributes.get("axes") == [] and node.op != "Unsqueeze":
        del node.attributes["axes"]
    attribute_to_input(graph, node, "axes", 1)


@upgrades("Split", before=13)
def split(graph: Graph, node: Node) -> None:
    """Split-13: the sizes are an operand."""
    attribute_to_input(graph, node, "split", 1)


@upgrades("Split", before=18)
def split_evenly(graph: Graph, node: Node) -> None:
    """Split-18: an even split says into how many parts."""
    if node.input(1) is None:
        node.attributes["num_outputs"] = len(node.outputs)


@upgrades("Slice", before=10)
def slice_bounds(graph: Graph, node: Node) -> None:
    """Slice-10: starts, ends and axes are operands."""
    if not isinstance(node.attributes.get("starts"), list) or not isinstance(node.attributes.get("ends"), list):
        raise malformed(node, "starts or ends are missing")
    for position, name in enumerate(("starts", "ends", "axes"), 1):
        attribute_to_input(graph, node, name, position)


@upgrades("Pad", before=2)
def pad_name(graph: Graph, node: Node) -> None:
    """Pad-2: the attribute ``paddings`` is called ``pads``."""
    if "paddings" in node.attributes:
        node.attributes["pads"] = node.attributes.pop("paddings")


@upgrades("Pad", before=11, typed=True)
def pad(graph: Graph, node: Node) -> None:
    """Pad-11: pads and the value are operands; the value has the data's element type."""
    value = float(node.attributes.pop("value", 0.0))
    if not isinstance(node.attributes.get("pads"), list):
        raise malformed(node, "pads are missing")
    attribute_to_input(graph, node, "pads", 1)
    if value:
        node.set_input(2, graph.constant(_scalar(node, value), f"{node.name}_value"))


@upgrades("Clip", before=11, typed=True)
def clip(graph: Graph, node: Node) -> None:
    """Clip-11: the bounds are operands of the data's element type; without them there is no bound."""
    for position, name in enumerate(("min", "max"), 1):
        value = node.attributes.pop(name, None)
        if value is not None:
            node.set_input(position, graph.constant(_scalar(node, float(value)), f"{node.name}_{name}"))


def _scalar(node: Node, value: float) -> Tensor:
    dtype = node.operand(0).dtype
    if dtype is DataType.UNDEFINED:
        raise refuse(node, f"the element type of '{node.operand(0).name}' is unknown")
    if not dtype.is_float:
        value = float(min(max(value, -(2.0**53)), 2.0**53))
    return Tensor.of(np.array(value, dtype.numpy), dtype)


@upgrades("TopK", before=10)
def top_k(graph: Graph, node: Node) -> None:
    """TopK-10: k is an operand."""
    attribute_to_input(graph, node, "k", 1)


@upgrades("DFT", before=20)
def dft(graph: Graph, node: Node) -> None:
    """DFT-20: the axis is an operand, and its default changed from 1 to -2."""
    axis = int(node.attributes.pop("axis", 1))
    node.set_input(2, graph.constant(np.array(axis, np.int64), f"{node.name}_axis"))


@upgrades("Dropout", before=12)
def dropout(graph: Graph, node: Node) -> None:
    """Dropout-12: the ratio is an operand.  Nothing is dropped; the mask, zeros in old versions, is built."""
    for name in ("ratio", "is_test", "consumed_inputs"):
        node.attributes.pop(name, None)
    if len(node.outputs) > 1:
        mask = node.outputs[1]
        node.outputs = node.outputs[:1]
        if mask.use_count:
            shape = graph.build(node, "Shape", [node.operand(0)])
            dtype = mask.dtype if mask.dtype is not DataType.UNDEFINED else DataType.BOOL
            zeros = Node(
                "ConstantOfShape",
                [shape.output],
                [mask],
                {"value": Tensor.of(np.zeros(1, dtype.numpy), dtype)},
                name=f"{node.name}_mask",
                sources=node.sources,
            )
            graph.insert_before(node, zeros)


@upgrades("BatchNormalization", before=14)
def batch_normalization(graph: Graph, node: Node) -> None:
    """BatchNormalization-9 always normalises per channel; -14 has training in an attribute and other outputs."""
    if int(node.attributes.pop("spatial", 1)) != 1:
        raise refuse(node, "spatial=0 (one mean per position) has no newer form")
    for name in ("is_test", "consumed_inputs"):
        node.attributes.pop(name, None)
    trim_outputs(node, 1)


@upgrades("Scatter", before=27)
def scatter(graph: Graph, node: Node) -> None:
    """Scatter is ScatterElements since opset 11."""
    become(node, "ScatterElements", node.inputs, axis=node.attr_int("axis", 0))


@upgrades("Cast", before=6)
def cast(graph: Graph, node: Node) -> None:
    """Cast-6: the element type is a number, not its name."""
    to = node.attributes.get("to")
    if isinstance(to, str):
        if to not in DataType.__members__:
            raise malformed(node, f"there is no element type '{to}'")
        node.attributes["to"] = int(DataType[to])


@upgrades("Reshape", before=5)
def reshape(graph: Graph, node: Node) -> None:
    """Reshape-5: the shape is an operand."""
    attribute_to_input(graph, node, "shape", 1)


@upgrades("RoiAlign", before=16)
def roi_align(graph: Graph, node: Node) -> None:
    """RoiAlign-16: half-pixel coordinates became the default."""
    node.attributes.setdefault("coordinate_transformation_mode", "output_half_pixel")


@upgrades("GridSample", before=20)
def grid_sample(graph: Graph, node: Node) -> None:
    """GridSample-20: the modes are called linear and cubic."""
    mode = node.attr_str("mode", "bilinear")
    node.attributes["mode"] = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)


@upgrades("GroupNormalization", before=21, typed=True)
def group_normalization(graph: Graph, node: Node) -> None:
    """GroupNormalization-21: scale and bias are per channel, not per group."""
    data, groups = node.operand(0), node.attr_int("num_groups")
    channels = data.shape[1] if data.shape is not None and len(data.shape) > 1 else None
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise refuse(node, "the number of channels is unknown or no multiple of num_groups")
    for position in (1, 2):
        operand = node.operand(position)
        if operand.const is not None and operand.const.size == groups:
            spread = np.repeat(operand.numpy().reshape(-1), channels // groups)
            node.set_input(position, graph.constant(Tensor.of(spread, operand.dtype), f"{operand.name}_channels"))
            continue
        column = graph.build(node, "Reshape", [operand, int64s(graph, node, "column", [groups, 1])])
        wide = graph.build(
            node, "Expand", [column.output, int64s(graph, node, "expanded", [groups, channels // groups])]
        )
        flat = graph.build(node, "Reshape", [wide.output, int64s(graph, node, "channels", [channels])])
        node.set_input(position, flat.output)
