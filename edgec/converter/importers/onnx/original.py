"""How an ONNX file is run for reference.

ONNX Runtime runs a float model without optimisations, and with all of them for the floor.  A model that arrives
quantized runs on its integer kernels, whose results do not depend on the order of sums, and in float arithmetic for the
floor.  Operators that are integer kernels by themselves (QLinearConv and others) have no float form, and give exact
products on all processors with the optimisations only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgec.converter.importers.imported import Original, Way, static_shapes
from edgec.ir.graph import Graph, Node
from edgec.ir.types import DataType, Shape
from edgec.targets.base import SessionSpec

FACTORY = "edgec.runtime.onnxruntime:open_session"
UPGRADING_FACTORY = "edgec.runtime.upgraded:open_session"
FIRST_OPSET = 7
"""Models older than this are upgraded for ONNX Runtime where it has no kernels for them."""


EIGHT_BITS = (DataType.INT8, DataType.UINT8)

INTEGER_KERNELS = {"configuration": {"session.qdqisint8allowed": "1"}}
"""On x86-64 ONNX Runtime otherwise computes most of a model with int8 data in float.  Source: ``kOrtSessionOptions``
of onnxruntime_session_options_config_keys.h."""


def original(path: Path, graph: Graph, opset: int, overrides: Mapping[str, Shape]) -> Original:
    """The file in ONNX Runtime; only the declared extents of its inputs are replaced, where the user asked for it.

    Args:
        graph: of the file, as it was read.
    """
    integers = arrives_quantized(graph)
    shapes = static_shapes(overrides)
    common: dict[str, Any] = {"input_shapes": shapes} if shapes else {}

    def way(factory: str, note: str = "") -> Way:
        plain = SessionSpec(factory, {"optimise": False, **common})
        optimised = SessionSpec(factory, {"optimise": True, **common, **(INTEGER_KERNELS if integers else {})})
        return Way(optimised, plain, note) if integers else Way(plain, optimised, note)

    ways = [way(FACTORY)]
    if opset < FIRST_OPSET:
        note = "the reference was upgraded by onnx.version_converter: ONNX Runtime lacks kernels below opset 7"
        ways.append(way(UPGRADING_FACTORY, note))
    return Original(path, "ONNX Runtime", "onnxruntime", tuple(ways))


def arrives_quantized(graph: Graph) -> bool:
    """Whether a model computes on 8-bit integers: between QuantizeLinear and DequantizeLinear, or in operators that do
    nothing else."""
    return any(
        _is_integer_kernel(node)
        or (node.op == "QuantizeLinear" and node.operand(0).const is None and _quantized(node) in EIGHT_BITS)
        for node in graph.nodes
    )


def _is_integer_kernel(node: Node) -> bool:
    return node.op.startswith("QLinear") or node.op.endswith("Integer") or node.op == "QGemm"


def _quantized(node: Node) -> DataType:
    """The type that a QuantizeLinear makes; types are not inferred yet.  Source: ONNX QuantizeLinear-25."""
    zero = node.input(2)
    return zero.dtype if zero is not None else DataType(node.attr_int("output_dtype", 0) or DataType.UINT8)
