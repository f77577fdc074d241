"""A small int8 graph for every rule: its last operator is what the rule is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.ir.types import DataType
from edgec.targets.base import Verdict
from edgec.targets.tflite.program import T
from tests.targets.edgetpu.synthetic import Net

OK, UNSUPPORTED, UNCERTAIN = Verdict.OK, Verdict.UNSUPPORTED, Verdict.UNCERTAIN
SAME, VALID = 0, 1

Build = Callable[[Net], T]


@dataclass(frozen=True)
class Case:
    """What the rules say of the last operator: on U55 and U65, and on the U85; `code` is that of a refusal or doubt.

    `alone`: Vela compiles no model that holds it.
    """

    name: str
    code: str
    u55: Verdict
    u85: Verdict
    build: Build
    alone: bool = False


def options(kind: str, **members: Any) -> Any:
    made = getattr(schema, f"{kind}OptionsT")()
    for name, value in members.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    return made


def unary(
    code: str, before: tuple[int, ...], after: tuple[int, ...], *parameters: Any, made: Any = None, **types: DataType
) -> Build:
    def build(net: Net) -> T:
        x = net.input(*before, dtype=types.get("source", DataType.INT8))
        rest = [net.constant(np.asarray(item, np.int32)) for item in parameters]
        return net.add(code, [x, *rest], after, made, dtype=types.get("result", DataType.INT8))

    return build


def scaled(build: Build, scale: float | None, zero: int = 0) -> Build:
    """The same with another scale of the result."""

    def again(net: Net) -> T:
        result = build(net)
        result.scale, result.zero_point = (None, None) if scale is None else (np.float32([scale]), np.int64([zero]))
        return result

    return again


def binary(code: str, made: Any = None, dtype: DataType = DataType.INT8) -> Build:
    def build(net: Net) -> T:
        x, y = net.input(1, 4, 4, 4, dtype=dtype), net.input(1, 4, 4, 4, dtype=dtype, name="y")
        if dtype is DataType.INT32:
            for item in (x, y):
                item.scale, item.zero_point = np.float32([0.1]), np.int64([0])
        result = net.add(code, [x, y], (1, 4, 4, 4), made, dtype=dtype)
        if dtype is DataType.INT32:
            result.scale, result.zero_point = np.float32([0.1]), np.int64([0])
        return result

    return build


def convolution(
    code: str = "CONV_2D",
    *,
    stride: int = 1,
    padding: int = VALID,
    kernel: int = 1,
    weights: DataType = DataType.INT8,
    bias_at_run_time: bool = False,
) -> Build:
    depthwise = code == "DEPTHWISE_CONV_2D"

    def build(net: Net) -> T:
        x = net.input(1, 16, 16, 4)
        values = net.constant(np.ones((1 if depthwise else 4, kernel, kernel, 4)), weights)
        values.scale, values.zero_point = np.float32([0.1]), np.int64([0])
        bias = net.input(4, dtype=DataType.INT32, name="b") if bias_at_run_time else net.constant(np.zeros(4))
        bias.scale, bias.zero_point = np.float32([0.01]), np.int64([0])
        kind = "DepthwiseConv2D" if depthwise else "Conv2D"
        made = options(kind, strideH=stride, strideW=stride, padding=padding, dilationHFactor=1, dilationWFactor=1)
        if depthwise:
            made.depthMultiplier = 1
        extent = -(-16 // stride) if padding == SAME else (16 - kernel) // stride + 1
        return net.add(code, [x, values, bias], (1, extent, extent, 4), made)

    return build


def transposed(stride: int) -> Build:
    def build(net: Net) -> T:
        extent = 4 * stride
        shape = net.constant(np.asarray([1, extent, extent, 4], np.int32))
        kernel = net.constant(np.ones((4, stride, stride, 4)), DataType.INT8)
        made = options("TransposeConv", strideH=stride, strideW=stride, padding=SAME)
        return net.add("TRANSPOSE_CONV", [shape, kernel, net.input(1, 4, 4, 4)], (1, extent, extent, 4), made)

    return build


def pool(code: str, window: int, stride: int = 1, padding: int = VALID, extent: int = 32) -> Build:
    after = -(-extent // stride) if padding == SAME else (extent - window) // stride + 1
    made = options("Pool2D", filterHeight=window, filterWidth=window, strideH=stride, strideW=stride, padding=padding)
    return unary(code, (1, extent, extent, 4), (1, after, after, 4), made=made)


def resize(factor: tuple[float, float], code: str = "RESIZE_BILINEAR", extent: int = 4, **made: bool) -> Build:
    after = (round(extent * factor[0]), round(extent * factor[1]))
    kind = "ResizeBilinear" if code == "RESIZE_BILINEAR" else "ResizeNearestNeighbor"
    return unary(code, (1, extent, extent, 4), (1, *after, 4), after, made=options(kind, **made))


def custom(net: Net) -> T:
    return net.add("CUSTOM", [net.input(1, 4)], (1, 4), custom="Mine")


def quantized_input(net: Net) -> T:
    return net.add("QUANTIZE", [net.input(1, 4, dtype=DataType.FLOAT)], (1, 4))


def reshaped_by_input(net: Net) -> T:
    x, paddings = net.input(1, 4, 4, 4), net.input(4, 2, dtype=DataType.INT32, name="p")
    return net.add("PAD", [x, paddings], (1, 6, 6, 4))


def reshaped_by_shape(net: Net) -> T:
    """The shape of a RESHAPE from SHAPE and PACK, as Keras writes it: Vela drops them."""
    x = net.input(1, 4, 4, 4)
    shape = net.add("SHAPE", [x], (4,), options("Shape", outType=schema.TensorType.INT32), dtype=DataType.INT32)
    parameters = [net.constant(np.asarray([item], np.int32)) for item in (0, 1, 1)]
    batch = net.add(
        "STRIDED_SLICE", [shape, *parameters], (), options("StridedSlice", shrinkAxisMask=1), dtype=DataType.INT32
    )
    made = options("Pack", valuesCount=2)
    joined = net.add("PACK", [batch, net.constant(np.asarray(64, np.int32))], (2,), made, dtype=DataType.INT32)
    return net.add("RESHAPE", [x, joined], (1, 64), options("Reshape"))


def matrix_of_inputs(net: Net) -> T:
    x, weights = net.input(1, 4), net.input(8, 4, name="w")
    return net.add("FULLY_CONNECTED", [x, weights, None], (1, 8), options("FullyConnected"))


def compared(net: Net) -> T:
    x, y = net.input(1, 4, 4, 4), net.input(1, 4, 4, 4, name="y")
    return net.add("GREATER", [x, y], (1, 4, 4, 4), dtype=DataType.BOOL)


def best(channels: int, axis: int = 3) -> Build:
    shape = (1, 4, 4, channels)
    after = tuple(extent for index, extent in enumerate(shape) if index != axis)
    made = options("ArgMax", outputType=schema.TensorType.INT32)
    return unary("ARG_MAX", shape, after, axis, made=made, result=DataType.INT32)


def mean(before: tuple[int, ...], axes: list[int]) -> Build:
    after = tuple(1 if index in axes else extent for index, extent in enumerate(before))
    return unary("MEAN", before, after, axes, made=options("Reducer", keepDims=True))


def softmax(before: tuple[int, ...]) -> Build:
    return scaled(unary("SOFTMAX", before, before, made=options("Softmax", beta=1.0)), 1 / 256, -128)


def slices(stride: int) -> Build:
    parameters = [[0, 0, 0, 0], [1, 4, 4, 4], [1, stride, stride, 1]]
    extent = 4 // stride
    return unary("STRIDED_SLICE", (1, 4, 4, 4), (1, extent, extent, 4), *parameters, made=options("StridedSlice"))


CASES = [
    Case("a convolution", "", OK, OK, convolution()),
    Case("a custom operator", "EDG430", UNSUPPORTED, UNSUPPORTED, custom),
    Case("a rounding", "EDG430", UNSUPPORTED, UNSUPPORTED, unary("FLOOR", (1, 4, 4, 4), (1, 4, 4, 4))),
    Case("a comparison", "EDG430", UNSUPPORTED, OK, compared, alone=True),
    Case("an addition", "", OK, OK, binary("ADD", options("Add"))),
    Case("an addition of int32", "", OK, OK, binary("ADD", options("Add"), DataType.INT32)),
    Case("a maximum of int32", "EDG431", UNSUPPORTED, OK, binary("MAXIMUM", dtype=DataType.INT32)),
    Case("a float input", "EDG431", UNSUPPORTED, UNSUPPORTED, quantized_input),
    Case("a result without a scale", "EDG433", UNSUPPORTED, UNSUPPORTED, scaled(binary("ADD", options("Add")), None)),
    Case("paddings at run time", "EDG434", UNSUPPORTED, UNSUPPORTED, reshaped_by_input, alone=True),
    Case("a shape that is computed", "", OK, OK, reshaped_by_shape),
    Case("weights at run time", "EDG434", UNCERTAIN, UNCERTAIN, matrix_of_inputs),
    Case("a bias at run time", "EDG434", UNSUPPORTED, UNSUPPORTED, convolution(bias_at_run_time=True)),
    Case("weights of 16 bits", "EDG435", UNSUPPORTED, UNSUPPORTED, convolution(weights=DataType.INT16)),
    Case("a convolution that strides by 4", "", OK, OK, convolution(stride=4)),
    Case("the same with nothing to pad", "", OK, OK, convolution(stride=4, padding=SAME)),
    Case("over padded borders", "EDG436", UNSUPPORTED, OK, convolution(stride=4, padding=SAME, kernel=5)),
    Case("a depthwise stride of 3", "", OK, OK, convolution("DEPTHWISE_CONV_2D", stride=3)),
    Case("a depthwise stride of 4", "EDG436", UNSUPPORTED, OK, convolution("DEPTHWISE_CONV_2D", stride=4)),
    Case("an average of 8 by 8", "", OK, OK, pool("AVERAGE_POOL_2D", 8, padding=SAME)),
    Case("an average of 9 by 9", "EDG436", UNSUPPORTED, UNSUPPORTED, pool("AVERAGE_POOL_2D", 9, padding=SAME)),
    Case("the same inside", "", OK, OK, pool("AVERAGE_POOL_2D", 9)),
    Case("a maximum of 9 by 9", "", OK, OK, pool("MAX_POOL_2D", 9, padding=SAME)),
    Case("a maximum of 257 by 257", "EDG436", UNSUPPORTED, UNSUPPORTED, pool("MAX_POOL_2D", 257, extent=260)),
    Case("a pooling that strides by 4", "EDG436", UNSUPPORTED, OK, pool("MAX_POOL_2D", 5, 4, SAME)),
    Case("bilinear by 2", "", OK, OK, resize((2, 2))),
    Case("bilinear by 8", "", OK, OK, resize((8, 8))),
    Case("bilinear by 16", "EDG437", UNSUPPORTED, OK, resize((16, 16))),
    Case("bilinear by 3", "EDG437", UNSUPPORTED, UNSUPPORTED, resize((3, 3))),
    Case("bilinear by 2 and 4", "EDG437", UNSUPPORTED, OK, resize((2, 4))),
    Case("bilinear by 4 with half centers", "EDG437", UNSUPPORTED, OK, resize((4, 4), halfPixelCenters=True)),
    Case("bilinear to twice less one", "", OK, OK, resize((7 / 4, 7 / 4), alignCorners=True)),
    Case("nearest by 4", "", OK, OK, resize((4, 4), "RESIZE_NEAREST_NEIGHBOR")),
    Case("nearest by 3", "EDG437", UNSUPPORTED, OK, resize((3, 3), "RESIZE_NEAREST_NEIGHBOR")),
    Case("a mean over an image", "", OK, OK, mean((1, 8, 8, 4), [1, 2])),
    Case("a mean of two images", "EDG438", UNSUPPORTED, UNSUPPORTED, mean((2, 8, 8, 4), [1, 2])),
    Case("a mean over 4096 rows", "", OK, OK, mean((1, 4096, 1, 4), [1])),
    Case("a mean over 4097 rows", "EDG438", UNSUPPORTED, UNSUPPORTED, mean((1, 4097, 1, 4), [1])),
    Case("a mean over channels", "EDG438", UNSUPPORTED, UNSUPPORTED, mean((1, 8, 8, 4), [3])),
    Case("the best of 127", "", OK, OK, best(127)),
    Case("the best of 128", "EDG438", UNSUPPORTED, OK, best(128)),
    Case("the best row", "EDG438", UNSUPPORTED, OK, best(8, 1)),
    Case("a maximum", "", OK, OK, binary("MAXIMUM")),
    Case("a maximum with another scale", "EDG439", UNSUPPORTED, UNSUPPORTED, scaled(binary("MAXIMUM"), 0.2)),
    Case("a transposed convolution by 2", "", OK, OK, transposed(2)),
    Case("a transposed convolution by 3", "EDG440", UNSUPPORTED, OK, transposed(3)),
    Case("a softmax", "", OK, OK, softmax((1, 10))),
    Case("a softmax of 65792 rows", "EDG441", UNSUPPORTED, UNSUPPORTED, softmax((1, 257, 256, 2))),
    Case("a slice", "", OK, OK, slices(1)),
    Case("every second pixel", "EDG442", UNCERTAIN, UNCERTAIN, slices(2)),
]
