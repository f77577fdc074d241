"""Quantized, half-precision and sparse models: QuantizeLinear and DequantizeLinear, within one step of LiteRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgec.errors import EdgecError
from edgec.ir.proto import model_to_proto

from .building import Builder, assert_same, both, feeds_of, imported, operators, options

RELU, RELU6 = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6
RANDOM = np.random.default_rng(3)


def dense(folder: Path, activation: int = 0, dtype: Any = np.int8, zero: int = -3, **weights: Any) -> Path:
    """A quantized dense layer; ``weights`` are the parameters of its constants."""
    b = Builder()
    x = b.tensor("x", (2, 8), dtype, scale=0.05, zero_point=zero)
    held = RANDOM.integers(-127, 128, (4, 8)).astype(np.int8)
    w = b.const("w", held, **{"scale": 0.02, **weights})
    scale = np.atleast_1d(np.asarray({"scale": 0.02, **weights}["scale"], np.float32)) * np.float32(0.05)
    wide = np.int64 if dtype is np.int16 else np.int32
    bias = b.const("b", RANDOM.integers(-500, 500, 4).astype(wide), scale=scale)
    y = b.tensor("y", (2, 4), dtype, scale=0.1, zero_point=zero)
    b.op("FULLY_CONNECTED", [x, w, bias], [y], options("FullyConnectedOptions", fusedActivationFunction=activation))
    b.version(4)
    return b.save(folder, [x], [y])


@pytest.mark.parametrize("activation", [0, RELU, RELU6])
def test_integers_of_8_bits(tmp_path: Path, activation: int) -> None:
    model = assert_same(dense(tmp_path, activation), steps=1)
    found = operators(model)
    assert found.count("DequantizeLinear") == 3 and found.count("QuantizeLinear") == 1 and "Gemm" in found


def test_integers_of_16_bits(tmp_path: Path) -> None:
    assert_same(dense(tmp_path, 0, np.int16, zero=0), steps=1)


def test_weights_quantized_per_channel(tmp_path: Path) -> None:
    model = assert_same(dense(tmp_path, scale=[0.01, 0.02, 0.03, 0.04]), steps=1)
    axes = [node.attributes.get("axis") for node in model.model.graph.nodes if node.op == "DequantizeLinear"]
    assert sorted(axis for axis in axes if axis is not None) == [0, 0]


def test_an_activation_that_the_range_implies_is_not_repeated(tmp_path: Path) -> None:
    b = Builder()
    x, y = b.tensor("x", (8,), np.int8, scale=0.05), b.tensor("y", (8,), np.int8, scale=6 / 255, zero_point=-128)
    b.op("ADD", [x, x], [y], options("AddOptions", fusedActivationFunction=RELU6))
    model = assert_same(b.save(tmp_path, [x], [y]), steps=1)
    assert operators(model) == ["DequantizeLinear", "Add", "QuantizeLinear"]


def test_convolutions_of_bytes_with_weights_per_channel(tmp_path: Path) -> None:
    b = Builder()
    x = b.tensor("x", (1, 6, 6, 3), np.int8, scale=0.04, zero_point=5)
    scales = np.linspace(0.01, 0.03, 4).astype(np.float32)
    w = b.const("w", RANDOM.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), scale=scales)
    c = b.const("c", RANDOM.integers(-300, 300, 4).astype(np.int32), scale=scales * np.float32(0.04))
    y = b.tensor("y", (1, 6, 6, 4), np.int8, scale=0.3, zero_point=-7)
    b.op("CONV_2D", [x, w, c], [y], options("Conv2DOptions", strideW=1, strideH=1))
    depth = b.const("d", RANDOM.integers(-127, 128, (1, 3, 3, 4)).astype(np.int8), scale=scales, axis=3)
    e = b.const("e", np.zeros(4, np.int32), scale=scales * np.float32(0.3))
    z = b.tensor("z", (1, 3, 3, 4), np.int8, scale=0.5, zero_point=2)
    table = options("DepthwiseConv2DOptions", strideW=2, strideH=2, depthMultiplier=1)
    b.op("DEPTHWISE_CONV_2D", [y, depth, e], [z], table)
    model = assert_same(b.save(tmp_path, [x], [z]), steps=1)
    assert operators(model).count("Transpose") == 2


def test_unsigned_weights_with_a_zero_point(tmp_path: Path) -> None:
    b = Builder()
    x = b.tensor("x", (2, 8), np.uint8, scale=0.05, zero_point=120)
    w = b.const("w", RANDOM.integers(0, 256, (4, 8)).astype(np.uint8), scale=0.02, zero_point=131)
    bias = b.const("b", np.arange(4, dtype=np.int32), scale=0.001)
    y = b.tensor("y", (2, 4), np.uint8, scale=0.1, zero_point=100)
    b.op("FULLY_CONNECTED", [x, w, bias], [y], options("FullyConnectedOptions"))
    assert_same(b.save(tmp_path, [x], [y]), steps=1)


def test_operators_that_move_elements_leave_integers_alone(tmp_path: Path) -> None:
    b = Builder()
    form = {"scale": 0.1, "zero_point": 9}
    x = b.tensor("x", (1, 4, 4, 2), np.int8, **form)
    padded, joined = b.tensor("p", (1, 6, 4, 2), np.int8, **form), b.tensor("j", (1, 6, 4, 4), np.int8, **form)
    y = b.tensor("y", (6, 16), np.int8, **form)
    b.op("PAD", [x, b.const("pads", [[0, 0], [1, 1], [0, 0], [0, 0]], np.int32)], [padded], options("PadOptions"))
    b.op("CONCATENATION", [padded, padded], [joined], options("ConcatenationOptions", axis=3))
    b.op("RESHAPE", [joined, b.const("s", [6, 16], np.int32)], [y])
    model = assert_same(b.save(tmp_path, [x], [y]))
    assert operators(model) == ["Pad", "Concat", "Reshape"]


def test_joining_numbers_of_different_scales_requantizes(tmp_path: Path) -> None:
    b = Builder()
    x, z = b.tensor("x", (2, 3), np.uint8, scale=0.1, zero_point=4), b.tensor("z", (2, 3), np.uint8, scale=0.2)
    y = b.tensor("y", (2, 6), np.uint8, scale=0.25, zero_point=3)
    b.op("CONCATENATION", [x, z], [y], options("ConcatenationOptions", axis=1))
    model = assert_same(b.save(tmp_path, [x, z], [y]), steps=1)
    assert operators(model) == ["DequantizeLinear", "DequantizeLinear", "Concat", "QuantizeLinear"]


def test_requantizing_and_dequantizing(tmp_path: Path) -> None:
    b = Builder()
    x, middle = b.tensor("x", (5,)), b.tensor("m", (5,), np.int8, scale=0.05, zero_point=-3)
    y, z = b.tensor("y", (5,), np.uint8, scale=0.05, zero_point=125), b.tensor("z", (5,))
    b.op("QUANTIZE", [x], [middle], options("QuantizeOptions"))
    b.op("QUANTIZE", [middle], [y], options("QuantizeOptions"))
    b.op("DEQUANTIZE", [y], [z], options("DequantizeOptions"))
    assert_same(b.save(tmp_path, [x], [y, z]), steps=1)


def test_half_precision_weights_become_single_precision(tmp_path: Path) -> None:
    b = Builder()
    x, w = b.tensor("x", (2, 8)), b.const("w", RANDOM.standard_normal((4, 8)).astype(np.float16))
    wide, y = b.tensor("wide", (4, 8)), b.tensor("y", (2, 4))
    b.op("DEQUANTIZE", [w], [wide], options("DequantizeOptions"))
    b.op("FULLY_CONNECTED", [x, wide, -1], [y], options("FullyConnectedOptions"))
    model = assert_same(b.save(tmp_path, [x], [y]))
    assert operators(model) == ["Gemm"]


def test_integer_weights_beside_float_data_are_dequantized(tmp_path: Path) -> None:
    """LiteRT quantizes the data at run time, which the imported model does not: it is closer to the float model."""
    b = Builder()
    x, y = b.tensor("x", (2, 8)), b.tensor("y", (2, 4))
    held = RANDOM.integers(-127, 128, (4, 8)).astype(np.int8)
    w = b.const("w", held, scale=0.02)
    b.op("FULLY_CONNECTED", [x, w, b.const("b", np.ones(4, np.float32))], [y], options("FullyConnectedOptions"))
    b.version(3)
    model = imported(b.save(tmp_path, [x], [y]))
    assert operators(model) == ["DequantizeLinear", "Gemm"]
    assert any("dynamic-int8" in note for note in model.notes)
    feeds = feeds_of(model)
    ((wanted, found),) = both(model, feeds)
    np.testing.assert_allclose(found, feeds["x"] @ (held * np.float32(0.02)).T + 1, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found, wanted, atol=0.1)


def test_4_bit_weights_are_widened(tmp_path: Path) -> None:
    b = Builder()
    x, y = b.tensor("x", (2, 8), np.int8, scale=0.05), b.tensor("y", (2, 4), np.int8, scale=0.1)
    held = RANDOM.integers(-7, 8, (4, 8)).astype(np.int8)
    flat = held.reshape(-1) & 0xF
    packed = (flat[0::2] | (flat[1::2] << 4)).astype(np.uint8).tobytes()
    w = b.tensor("w", (4, 8), data=packed, scale=0.2, kind=schema.TensorType.INT4)
    bias = b.const("b", np.zeros(4, np.int32), scale=0.01)
    b.op("FULLY_CONNECTED", [x, w, bias], [y], options("FullyConnectedOptions"))
    model = imported(b.save(tmp_path, [x], [y]))
    constants = [value.numpy() for value in model.model.graph.constants() if value.name.startswith("w")]
    assert np.array_equal(constants[0], held)


def sparse(b: Builder, kind: int) -> int:
    """A constant [2, 4] whose second row holds 5 at column 1 and 7 at column 3; compressed along the columns."""
    w = b.tensor("w", (2, 4), data=np.array([5, 7], np.float32))
    form = b.graph.tensors[w].sparsity = schema.SparsityParametersT()
    form.traversalOrder = [0, 1]
    rows, columns = schema.DimensionMetadataT(), schema.DimensionMetadataT()
    rows.format, rows.denseSize = schema.DimensionType.DENSE, 2
    columns.format = schema.DimensionType.SPARSE_CSR
    names = {1: "Int32Vector", 2: "Uint16Vector", 3: "Uint8Vector"}
    for field, values in (("arraySegments", [0, 0, 2]), ("arrayIndices", [1, 3])):
        vector = getattr(schema, f"{names[kind]}T")()
        vector.values = np.array(values, {1: np.int32, 2: np.uint16, 3: np.uint8}[kind])
        setattr(columns, field, vector)
        setattr(columns, f"{field}Type", kind)
    form.dimMetadata = [rows, columns]
    return w


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_sparse_constants_are_dense(tmp_path: Path, kind: int) -> None:
    b = Builder()
    x, whole, y = b.tensor("x", (2, 4)), b.tensor("whole", (2, 4)), b.tensor("y", (2, 4))
    b.op("DENSIFY", [sparse(b, kind)], [whole], options("DensifyOptions"))
    b.op("ADD", [x, whole], [y], options("AddOptions"))
    assert_same(b.save(tmp_path, [x], [y]))


def test_blocks_of_a_sparse_constant(tmp_path: Path) -> None:
    b = Builder()
    values = np.arange(1, 9, dtype=np.float32)
    x, whole, y = b.tensor("x", (4, 4)), b.tensor("whole", (4, 4)), b.tensor("y", (4, 4))
    w = b.tensor("w", (4, 4), data=values)
    form = b.graph.tensors[w].sparsity = schema.SparsityParametersT()
    form.traversalOrder, form.blockMap = [0, 1, 2, 3], [0, 1]
    levels = [schema.DimensionMetadataT() for _ in range(4)]
    for level, size in zip(levels, (2, 0, 2, 2)):
        level.format, level.denseSize = schema.DimensionType.DENSE, size
    levels[1].format = schema.DimensionType.SPARSE_CSR
    for field, numbers in (("arraySegments", [0, 1, 2]), ("arrayIndices", [1, 0])):
        vector = schema.Int32VectorT()
        vector.values = np.array(numbers, np.int32)
        setattr(levels[1], field, vector)
        setattr(levels[1], f"{field}Type", 1)
    form.dimMetadata = levels
    b.op("DENSIFY", [w], [whole], options("DensifyOptions"))
    b.op("ADD", [x, whole], [y], options("AddOptions"))
    assert_same(b.save(tmp_path, [x], [y]))


def test_a_malformed_sparse_constant_is_named(tmp_path: Path) -> None:
    b = Builder()
    x, y = b.tensor("x", (2, 4)), b.tensor("y", (2, 4))
    w = sparse(b, 1)
    b.graph.tensors[w].sparsity.dimMetadata[1].arrayIndices.values = np.array([1, 4], np.int32)
    b.op("ADD", [x, w], [y], options("AddOptions"))
    with pytest.raises(EdgecError) as caught:
        model_to_proto(imported(b.save(tmp_path, [x], [y])).model)
    assert caught.value.code == "EDG109"


def test_constants_behind_the_flatbuffer_are_found(tmp_path: Path) -> None:
    """Files of more than 2 GiB keep their constants behind the tables, where offsets of 32 bits do not reach."""
    b = Builder()
    held = RANDOM.standard_normal((4, 8)).astype(np.float32)
    x, w, y = b.tensor("x", (2, 8)), b.const("w", held), b.tensor("y", (2, 4))
    b.op("FULLY_CONNECTED", [x, w, -1], [y], options("FullyConnectedOptions"))
    buffer = b.model.buffers[b.graph.tensors[w].buffer]
    buffer.data, buffer.offset, buffer.size = None, 2**20, held.nbytes
    size = len(b.content([x], [y]))
    buffer.offset = -(-size // 64) * 64
    content = b.content([x], [y])
    assert len(content) == size
    path = tmp_path / "model.tflite"
    path.write_bytes(content.ljust(buffer.offset, b"\0") + held.tobytes())
    assert_same(path)
    path.write_bytes(content.ljust(buffer.offset, b"\0") + held.tobytes()[:-1])
    with pytest.raises(EdgecError) as caught:
        imported(path)
    assert caught.value.code == "EDG109"
