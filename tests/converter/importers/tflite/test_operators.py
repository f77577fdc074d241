"""Operators on float32 and integers compute in ONNX Runtime what LiteRT computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from .building import Builder, assert_same, operators, options, single

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
RELU, RELU6 = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6


def weights(*shape: int) -> Any:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def convolution(kind: str, padding: int, stride: int = 1, dilation: int = 1, activation: int = 0) -> Any:
    names = {"strideW": stride, "strideH": stride, "padding": padding, "fusedActivationFunction": activation}
    if kind != "TransposeConvOptions":
        names |= {"dilationWFactor": dilation, "dilationHFactor": dilation}
    return options(kind, **names)


@pytest.mark.parametrize("activation", [0, RELU, RELU6, schema.ActivationFunctionType.RELU_N1_TO_1])
@pytest.mark.parametrize(("padding", "stride", "dilation"), [(SAME, 1, 1), (SAME, 2, 1), (VALID, 2, 1), (SAME, 1, 2)])
def test_convolutions(tmp_path: Path, padding: int, stride: int, dilation: int, activation: int) -> None:
    extent = -(-7 // stride) if padding == SAME else (7 - 3) // stride + 1
    table = convolution("Conv2DOptions", padding, stride, dilation, activation)
    constants = [weights(5, 3, 3, 4), weights(5)]
    path = single(tmp_path, "CONV_2D", [(2, 7, 7, 4)], (2, extent, extent, 5), table, constants=constants)
    model = assert_same(path)
    assert operators(model).count("Transpose") == 2


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_convolutions(tmp_path: Path, multiplier: int) -> None:
    table = convolution("DepthwiseConv2DOptions", SAME, 2)
    table.depthMultiplier = multiplier
    constants = [weights(1, 3, 3, 4 * multiplier), weights(4 * multiplier)]
    path = single(tmp_path, "DEPTHWISE_CONV_2D", [(1, 6, 6, 4)], (1, 3, 3, 4 * multiplier), table, constants=constants)
    assert_same(path)


def test_grouped_convolutions(tmp_path: Path) -> None:
    table = convolution("Conv2DOptions", VALID)
    constants = [weights(6, 3, 3, 2), weights(6)]
    path = single(tmp_path, "CONV_2D", [(1, 6, 6, 4)], (1, 4, 4, 6), table, constants=constants, version=6)
    assert_same(path)


@pytest.mark.parametrize(("padding", "stride", "extent"), [(SAME, 2, 10), (SAME, 2, 9), (VALID, 2, 11), (VALID, 1, 7)])
def test_transposed_convolutions(tmp_path: Path, padding: int, stride: int, extent: int) -> None:
    b = Builder()
    x = b.tensor("x", (1, 5, 5, 3))
    y = b.tensor("y", (1, extent, extent, 4))
    shape = b.const("shape", [1, extent, extent, 4], np.int32)
    kernel = b.const("w", weights(4, 3, 3, 3))
    b.op("TRANSPOSE_CONV", [shape, kernel, x], [y], convolution("TransposeConvOptions", padding, stride))
    assert_same(b.save(tmp_path, [x], [y]))


@pytest.mark.parametrize("code", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize(("padding", "extent"), [(SAME, 4), (VALID, 3)])
def test_pooling(tmp_path: Path, code: str, padding: int, extent: int) -> None:
    table = options("Pool2DOptions", padding=padding, strideW=2, strideH=2, filterWidth=3, filterHeight=3)
    assert_same(single(tmp_path, code, [(1, 7, 7, 4)], (1, extent, extent, 4), table))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("shape", "result"), [((2, 5), (2, 4)), ((2, 3, 5), (2, 3, 4)), ((2, 1, 1, 5), (2, 4))])
def test_dense_layers(tmp_path: Path, keep: bool, shape: tuple[int, ...], result: tuple[int, ...]) -> None:
    result = result if keep and len(result) == len(shape) else (int(np.prod(shape)) // 5, 4)
    table = options("FullyConnectedOptions", keepNumDims=keep and len(result) == len(shape))
    assert_same(single(tmp_path, "FULLY_CONNECTED", [shape], result, table, constants=[weights(4, 5), weights(4)]))


@pytest.mark.parametrize("adjoint", [(False, False), (True, False), (False, True)])
def test_matrix_products(tmp_path: Path, adjoint: tuple[bool, bool]) -> None:
    left, right = ((2, 4, 3) if adjoint[0] else (2, 3, 4)), ((2, 5, 4) if adjoint[1] else (2, 4, 5))
    table = options("BatchMatMulOptions", adjX=adjoint[0], adjY=adjoint[1])
    assert_same(single(tmp_path, "BATCH_MATMUL", [left, right], (2, 3, 5), table))


UNARY = {
    "ABS": None, "CEIL": None, "COS": None, "EXP": None, "FLOOR": None, "NEG": None, "ROUND": None, "SIN": None,
    "SQUARE": "SquareOptions", "LOGISTIC": None, "TANH": None, "RELU": None, "RELU6": None, "RELU_N1_TO_1": None,
    "ELU": None, "HARD_SWISH": "HardSwishOptions", "SOFTMAX": "SoftmaxOptions", "LOG_SOFTMAX": "LogSoftmaxOptions",
    "GELU": "GeluOptions", "LEAKY_RELU": "LeakyReluOptions", "L2_NORMALIZATION": "L2NormOptions",
    "ZEROS_LIKE": "ZerosLikeOptions", "SIGN": "SignOptions",
    "LOCAL_RESPONSE_NORMALIZATION": "LocalResponseNormalizationOptions",
}  # fmt: skip
FIELDS: dict[str, dict[str, Any]] = {
    "SOFTMAX": {"beta": 1.5},
    "LEAKY_RELU": {"alpha": 0.3},
    "LOCAL_RESPONSE_NORMALIZATION": {"radius": 2, "bias": 1.5, "alpha": 0.2, "beta": 0.6},
}


@pytest.mark.parametrize("code", UNARY)
def test_operators_of_one_operand(tmp_path: Path, code: str) -> None:
    kind = UNARY[code]
    known = kind is not None and hasattr(schema.BuiltinOptions, kind)
    table = options(kind, **FIELDS.get(code, {})) if known and kind else None
    assert_same(single(tmp_path, code, [(1, 3, 4, 5)], (1, 3, 4, 5), table), tolerance=1e-4)


BINARY = {
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions", "MAXIMUM": None,
    "MINIMUM": None, "SQUARED_DIFFERENCE": "SquaredDifferenceOptions", "FLOOR_DIV": "FloorDivOptions",
    "FLOOR_MOD": "FloorModOptions", "ATAN2": None, "PRELU": None,
}  # fmt: skip


@pytest.mark.parametrize("code", BINARY)
@pytest.mark.parametrize("other", [(1, 3, 4, 5), (5,), (1, 1, 1, 5)])
def test_operators_of_two_operands(tmp_path: Path, code: str, other: tuple[int, ...]) -> None:
    kind = BINARY[code]
    if code == "ATAN2" and len(other) == 1:
        pytest.skip("LiteRT's ATAN2 does not broadcast")
    constants = [weights(*((1, 3, 4, 5) if code == "ATAN2" else other))]
    if code == "PRELU":
        constants = [weights(*other[1:]) if len(other) == 4 else weights(1, 1, 5)]
    table = options(kind) if kind else None
    assert_same(single(tmp_path, code, [(1, 3, 4, 5)], (1, 3, 4, 5), table, constants=constants))


@pytest.mark.parametrize("code", ["EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"])
def test_comparisons(tmp_path: Path, code: str) -> None:
    assert_same(single(tmp_path, code, [(2, 3), (2, 3)], (2, 3), None, dtype=np.int32, result_dtype=np.bool_))


@pytest.mark.parametrize("code", ["FLOOR_DIV", "FLOOR_MOD", "DIV"])
def test_integer_division(tmp_path: Path, code: str) -> None:
    kind = {"FLOOR_DIV": "FloorDivOptions", "FLOOR_MOD": "FloorModOptions", "DIV": "DivOptions"}[code]
    b = Builder()
    x = b.tensor("x", (6,), np.int32)
    shifted = b.tensor("shifted", (6,), np.int32)
    y = b.tensor("y", (6,), np.int32)
    b.op("SUB", [x, b.const("two", [2], np.int32)], [shifted], options("SubOptions"))
    b.op(code, [shifted, b.const("by", [-3, 3, 2, -2, 5, 1], np.int32)], [y], options(kind))
    assert_same(b.save(tmp_path, [x], [y]))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("axes", [[1, 2], [3], [-1], [0, 1, 2, 3], [1]])
@pytest.mark.parametrize("code", ["MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"])
def test_reductions(tmp_path: Path, code: str, axes: list[int], keep: bool) -> None:
    shape = (2, 3, 4, 5)
    dropped = {axis % 4 for axis in axes}
    result = [1 if axis in dropped else extent for axis, extent in enumerate(shape) if keep or axis not in dropped]
    table = options("ReducerOptions", keepDims=keep)
    constants = [np.array(axes, np.int32)]
    assert_same(single(tmp_path, code, [shape], result, table, constants=constants), tolerance=1e-4)


@pytest.mark.parametrize("mode", [schema.MirrorPadMode.REFLECT, schema.MirrorPadMode.SYMMETRIC])
def test_mirrored_padding(tmp_path: Path, mode: int) -> None:
    constants = [np.array([[0, 0], [2, 1], [0, 2], [0, 0]], np.int32)]
    table = options("MirrorPadOptions", mode=mode)
    assert_same(single(tmp_path, "MIRROR_PAD", [(1, 4, 5, 2)], (1, 7, 7, 2), table, constants=constants))


@pytest.mark.parametrize("code", ["PAD", "PADV2"])
def test_padding(tmp_path: Path, code: str) -> None:
    constants: list[Any] = [np.array([[0, 0], [1, 2], [0, 1], [3, 0]], np.int32)]
    if code == "PADV2":
        constants.append(np.array(1.5, np.float32))
    assert_same(
        single(
            tmp_path,
            code,
            [(1, 4, 5, 2)],
            (1, 7, 6, 5),
            options("PadOptions" if code == "PAD" else "PadV2Options"),
            constants=constants,
        )
    )


@pytest.mark.parametrize(
    ("begin", "end", "step", "masks", "result"),
    [
        ([0, 1, 0], [2, 3, 4], [1, 1, 2], {}, (2, 2, 2)),
        ([0, -1, 0], [0, 0, 0], [1, -1, 1], {"beginMask": 5, "endMask": 7}, (2, 3, 4)),
        ([1, 0, 0], [2, 0, 0], [1, 1, 1], {"beginMask": 6, "endMask": 6, "shrinkAxisMask": 1}, (3, 4)),
        ([-1, 0], [0, 2], [1, 1], {"shrinkAxisMask": 1, "ellipsisMask": 0}, (2, 4)),
        ([0, 0], [0, 2], [1, 1], {"ellipsisMask": 1}, (2, 3, 2)),
        ([0, 0, 0], [0, 0, 0], [1, 1, 1], {"newAxisMask": 1, "beginMask": 6, "endMask": 6}, (1, 2, 3, 4)),
    ],
)
def test_strided_slices(
    tmp_path: Path, begin: list[int], end: list[int], step: list[int], masks: dict[str, int], result: tuple[int, ...]
) -> None:
    constants = [np.array(item, np.int32) for item in (begin, end, step)]
    table = options("StridedSliceOptions", **masks)
    assert_same(single(tmp_path, "STRIDED_SLICE", [(2, 3, 4)], result, table, constants=constants, version=4))


@pytest.mark.parametrize("kind", ["bilinear", "nearest"])
@pytest.mark.parametrize("fields", [{}, {"alignCorners": True}, {"halfPixelCenters": True}])
@pytest.mark.parametrize("size", [(7, 9), (3, 2)])
def test_resizing(tmp_path: Path, kind: str, fields: dict[str, bool], size: tuple[int, int]) -> None:
    code = "RESIZE_BILINEAR" if kind == "bilinear" else "RESIZE_NEAREST_NEIGHBOR"
    table = options("ResizeBilinearOptions" if kind == "bilinear" else "ResizeNearestNeighborOptions", **fields)
    constants = [np.array(size, np.int32)]
    path = single(tmp_path, code, [(1, 5, 4, 3)], (1, *size, 3), table, constants=constants, version=3)
    assert_same(path)


@pytest.mark.parametrize("code", ["DEPTH_TO_SPACE", "SPACE_TO_DEPTH"])
def test_blocks_of_channels(tmp_path: Path, code: str) -> None:
    shape, result = ((1, 4, 6, 8), (1, 8, 12, 2)) if code == "DEPTH_TO_SPACE" else ((1, 4, 6, 2), (1, 2, 3, 8))
    kind = "DepthToSpaceOptions" if code == "DEPTH_TO_SPACE" else "SpaceToDepthOptions"
    assert_same(single(tmp_path, code, [shape], result, options(kind, blockSize=2)))


def test_blocks_in_the_batch(tmp_path: Path) -> None:
    b = Builder()
    x = b.tensor("x", (1, 5, 6, 2))
    blocks, margins = b.const("blocks", [2, 2], np.int32), b.const("margins", [[1, 0], [0, 2]], np.int32)
    many, y = b.tensor("many", (4, 3, 4, 2)), b.tensor("y", (1, 5, 6, 2))
    b.op("SPACE_TO_BATCH_ND", [x, blocks, margins], [many], options("SpaceToBatchNDOptions"))
    b.op("BATCH_TO_SPACE_ND", [many, blocks, margins], [y], options("BatchToSpaceNDOptions"))
    assert_same(b.save(tmp_path, [x], [many, y]))


def test_splitting_and_joining(tmp_path: Path) -> None:
    b = Builder()
    x = b.tensor("x", (2, 4, 6))
    parts = [b.tensor(f"p{number}", (2, 2, 6)) for number in range(2)]
    b.op("SPLIT", [b.const("axis", 1, np.int32), x], parts, options("SplitOptions", numSplits=2))
    uneven = [b.tensor("u0", (2, 4, 1)), b.tensor("u1", (2, 4, 5))]
    sizes = b.const("sizes", [1, -1], np.int32)
    b.op("SPLIT_V", [x, sizes, b.const("last", 2, np.int32)], uneven, options("SplitVOptions", numSplits=2))
    rows = [b.tensor(f"r{number}", (4, 6)) for number in range(2)]
    b.op("UNPACK", [x], rows, options("UnpackOptions", num=2, axis=0))
    packed, joined = b.tensor("packed", (4, 2, 6)), b.tensor("joined", (2, 4, 12))
    b.op("PACK", rows, [packed], options("PackOptions", valuesCount=2, axis=1))
    b.op("CONCATENATION", [x, x], [joined], options("ConcatenationOptions", axis=-1))
    assert_same(b.save(tmp_path, [x], [*parts, *uneven, packed, joined]))


def test_picking_and_counting(tmp_path: Path) -> None:
    b = Builder()
    x, indices = b.tensor("x", (5, 3)), b.tensor("i", (4,), np.int32)
    picked, hot = b.tensor("picked", (4, 3)), b.tensor("hot", (4, 4))
    b.op("GATHER", [x, indices], [picked], options("GatherOptions", axis=0))
    values = [b.const("depth", 4, np.int32), b.const("on", 2.0, np.float32), b.const("off", -1.0, np.float32)]
    b.op("ONE_HOT", [indices, *values], [hot], options("OneHotOptions", axis=-1))
    top, places = b.tensor("top", (5, 2)), b.tensor("places", (5, 2), np.int32)
    b.op("TOPK_V2", [x, b.const("k", 2, np.int32)], [top, places])
    largest, sums = b.tensor("largest", (5,), np.int64), b.tensor("sums", (5, 3))
    table = options("ArgMaxOptions", outputType=schema.TensorType.INT64)
    b.op("ARG_MAX", [x, b.const("axis", 1, np.int32)], [largest], table)
    b.op("CUMSUM", [x, b.const("zero", 0, np.int32)], [sums], options("CumsumOptions", exclusive=True))
    assert_same(b.save(tmp_path, [x, indices], [picked, hot, top, places, largest, sums]))


def test_shapes_that_are_computed_are_folded(tmp_path: Path) -> None:
    b = Builder()
    x, shape = b.tensor("x", (2, 3, 4)), b.tensor("shape", (3,), np.int32)
    first, wanted, y = b.tensor("first", (), np.int32), b.tensor("wanted", (2,), np.int32), b.tensor("y", (2, 12))
    b.op("SHAPE", [x], [shape], options("ShapeOptions", outType=schema.TensorType.INT32))
    corners = [b.const(name, [value], np.int32) for name, value in (("i", 0), ("j", 1), ("k", 1))]
    b.op("STRIDED_SLICE", [shape, *corners], [first], options("StridedSliceOptions", shrinkAxisMask=1))
    b.op("PACK", [first, b.const("rest", 12, np.int32)], [wanted], options("PackOptions", valuesCount=2))
    b.op("RESHAPE", [x, wanted], [y])
    assert operators(assert_same(b.save(tmp_path, [x], [y]))) == ["Reshape"]


def test_a_chain_of_images_is_transposed_once_at_either_end(tmp_path: Path) -> None:
    b = Builder()
    x = b.tensor("x", (1, 8, 8, 4))
    table = convolution("Conv2DOptions", SAME, activation=RELU)
    one, two = b.tensor("one", (1, 8, 8, 4)), b.tensor("two", (1, 8, 8, 4))
    b.op("CONV_2D", [x, b.const("w", weights(4, 3, 3, 4)), b.const("b", weights(4))], [one], table)
    b.op("CONV_2D", [one, b.const("v", weights(4, 3, 3, 4)), b.const("c", weights(4))], [two], table)
    total, padded, joined = b.tensor("t", (1, 8, 8, 4)), b.tensor("p", (1, 10, 8, 4)), b.tensor("j", (1, 10, 8, 8))
    b.op("ADD", [one, two], [total], options("AddOptions"))
    b.op("PAD", [total, b.const("pads", [[0, 0], [1, 1], [0, 0], [0, 0]], np.int32)], [padded], options("PadOptions"))
    b.op("CONCATENATION", [padded, padded], [joined], options("ConcatenationOptions", axis=3))
    scaled, mean = b.tensor("s", (1, 10, 8, 8)), b.tensor("m", (1, 8))
    b.op("MUL", [joined, b.const("scale", weights(8))], [scaled], options("MulOptions"))
    b.op("MEAN", [scaled, b.const("axes", [1, 2], np.int32)], [mean], options("ReducerOptions"))
    model = assert_same(b.save(tmp_path, [x], [mean, scaled]))
    assert operators(model).count("Transpose") == 2


def test_scattering(tmp_path: Path) -> None:
    b = Builder()
    updates, y = b.tensor("u", (3, 2)), b.tensor("y", (4, 2))
    places, shape = b.const("i", [[0], [3], [0]], np.int32), b.const("shape", [4, 2], np.int32)
    b.op("SCATTER_ND", [places, updates, shape], [y], options("ScatterNdOptions"))
    sums = b.tensor("sums", (3, 2))
    b.op("UNSORTED_SEGMENT_SUM", [updates, b.const("n", [2, 0, 2], np.int32), b.const("c", 3, np.int32)], [sums])
    assert_same(b.save(tmp_path, [updates], [y, sums]))


def test_selecting(tmp_path: Path) -> None:
    b = Builder()
    x, y = b.tensor("x", (2, 3)), b.tensor("y", (2, 3))
    positive, chosen, rows = (
        b.tensor("positive", (2, 3), np.bool_),
        b.tensor("chosen", (2, 3)),
        b.tensor("rows", (2, 3)),
    )
    b.op("GREATER", [x, b.const("zero", 0.0, np.float32)], [positive])
    b.op("SELECT_V2", [positive, x, b.const("one", [1.0], np.float32)], [chosen], options("SelectV2Options"))
    b.op("SELECT", [b.const("mask", [True, False]), x, y], [rows], options("SelectOptions"))
    assert_same(b.save(tmp_path, [x, y], [chosen, rows]))
