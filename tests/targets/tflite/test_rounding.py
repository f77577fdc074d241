"""Ties of models that arrive quantized: ONNX Runtime's integer kernels, LiteRT's kernels, and what edgec makes of both.

ONNX Runtime is the reference throughout: single operators of its own domain for the formulas, whole graphs on its
integer kernels for what is lowered.  Its kernels for other processors round otherwise, so these tests are for x86-64.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.ir.types import DataType
from edgec.runtime.onnxruntime import open_session
from edgec.targets.tflite.integer.rounding import (
    Addition,
    Average,
    IntegerSum,
    Product,
    RealSum,
    all_integers,
    best_sum,
    nudged,
    real,
    whole,
)
from edgec.targets.tflite.integer.storage import Quantization
from tests.targets.tflite.lowered import counts, lower, run

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="ONNX Runtime's kernels for this processor round otherwise"
)

PROPORTIONS = (1.0, 0.5, 0.25, 2.0, 1 / 3, 0.75)
"""Ratios of scales at which many results are ties."""


def quantization(scale: float, zero: int, dtype: DataType = DataType.INT8) -> Quantization:
    return Quantization(dtype, (float(np.float32(scale)),), (zero,))


def kernel(operator: str, forms: list[Quantization], feeds: list[Any], **attributes: Any) -> Any:
    """One of ONNX Runtime's own integer operators; ``forms`` of operands and, last, of the result, as it takes them."""
    element = TensorProto.UINT8 if forms[0].dtype is DataType.UINT8 else TensorProto.INT8
    names, constants = [], []
    for number, form in enumerate(forms):
        last = number == len(forms) - 1
        constants += [
            helper.make_tensor(f"s{number}", TensorProto.FLOAT, [], form.scale),
            helper.make_tensor(f"z{number}", element, [], form.zero_point),
        ]
        names += [*([] if last else [f"x{number}"]), f"s{number}", f"z{number}"]
    node = helper.make_node(operator, names, ["y"], domain="com.microsoft", **attributes)
    inputs = [helper.make_tensor_value_info(f"x{n}", element, feed.shape) for n, feed in enumerate(feeds)]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", element, None)], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {f"x{number}": feed for number, feed in enumerate(feeds)})
    return found.astype(np.int64)


def forms(generator: np.random.Generator, dtype: DataType, count: int) -> list[Quantization]:
    """Random parameters, the scales in simple proportions half of the time."""
    low = 0 if dtype is DataType.UINT8 else -128
    scales = [float(np.float32(generator.uniform(0.01, 0.1)))] * count
    for number in range(count - 1):
        simple = generator.choice(PROPORTIONS) if generator.random() < 0.5 else generator.uniform(0.3, 3)
        scales[number] = float(np.float32(scales[-1] * simple))
    return [quantization(scale, int(generator.integers(low, low + 256)), dtype) for scale in scales]


def shifted(form: Quantization) -> Quantization:
    """uint8 as it is held here."""
    return Quantization(DataType.INT8, form.scale, (form.zero_point[0] - 128,))


@pytest.mark.parametrize("dtype", [DataType.UINT8, DataType.INT8])
@pytest.mark.parametrize("seed", range(10))
def test_additions_are_those_of_onnx_runtime(dtype: DataType, seed: int) -> None:
    given = forms(np.random.default_rng(seed), dtype, 3)
    first, second = (array.reshape(-1) for array in np.meshgrid(*[all_integers(given[0])] * 2))
    found = kernel("QLinearAdd", given, [first.astype(dtype.numpy), second.astype(dtype.numpy)])
    np.testing.assert_array_equal(Addition(*given)(first, second), found)
    if dtype is DataType.UINT8:
        moved = Addition(*map(shifted, given), shift=128)
        np.testing.assert_array_equal(moved(first - 128, second - 128) + 128, found)


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("seed", range(6))
def test_additions_of_one_number_are_those_of_onnx_runtime(position: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    given = forms(generator, DataType.INT8, 3)
    numbers = all_integers(given[0])
    for alone in generator.integers(-128, 128, 4):
        feeds = [numbers.astype(np.int8), numbers.astype(np.int8)]
        feeds[position] = np.array([alone], np.int8)
        found = kernel("QLinearAdd", given, feeds)
        pair = (feeds[0].astype(np.int64), feeds[1].astype(np.int64))
        np.testing.assert_array_equal(Addition(*given, scalar=position)(*pair), found)


@pytest.mark.parametrize("seed", range(6))
def test_products_are_those_of_onnx_runtime(seed: int) -> None:
    given = forms(np.random.default_rng(seed), DataType.INT8, 3)
    first, second = (array.reshape(-1) for array in np.meshgrid(*[all_integers(given[0])] * 2, indexing="ij"))
    found = kernel("QLinearMul", given, [first.astype(np.int8), second.astype(np.int8)])
    np.testing.assert_array_equal(Product(*given)().reshape(-1), found)


@pytest.mark.parametrize("seed", range(6))
def test_averages_are_those_of_onnx_runtime_and_litert(seed: int) -> None:
    generator = np.random.default_rng(seed)
    operand, result = forms(generator, DataType.INT8, 2)
    x = generator.integers(-128, 128, (1, 500, 6, 7)).astype(np.int8)
    average, sums = Average(operand, result, 42), x.astype(np.int64).sum(axis=(2, 3)).reshape(-1)
    found = kernel("QLinearGlobalAveragePool", [operand, result], [x], channels_last=0)
    np.testing.assert_array_equal(average(sums), found.reshape(-1))
    text = between("GlobalAveragePool (a)", [operand], result, (1, 500, 6, 7), (1, 500, 1, 1))
    mean = lower(text, precision="int8")
    assert counts(mean) == {"MEAN": 1}
    np.testing.assert_array_equal(average.mean(sums), run(mean, {"x": x})["y"].reshape(-1))


def test_dequantizing_and_quantizing_are_those_of_litert() -> None:
    header = '<ir_version: 10, opset_import: ["" : 22]> g'
    for seed in range(6):
        operand, result = forms(np.random.default_rng(seed), DataType.INT8, 2)
        numbers = all_integers(operand)
        stored = {"x": numbers.astype(np.int8).reshape(1, 4, 8, 8)}
        constants = f"<float s = {{{operand.scale[0]!r}}}, int8 z = {{{operand.zero_point[0]}}}>"
        text = f"(int8[1,4,8,8] x) => (float[1,4,8,8] y) {constants} {{ y = DequantizeLinear (x, s, z) }}"
        reals = run(lower(f"{header} {text}"), stored)["y"]
        np.testing.assert_array_equal(real(numbers, operand), reals.reshape(-1))
        constants = f"<float s = {{{result.scale[0]!r}}}, int8 z = {{{result.zero_point[0]}}}>"
        text = f"(float[1,4,8,8] x) => (int8[1,4,8,8] y) {constants} {{ y = QuantizeLinear (x, s, z) }}"
        plain = run(lower(f"{header} {text}", precision="int8"), {"x": reals})["y"]
        np.testing.assert_array_equal(whole(real(numbers, operand), result), plain.reshape(-1))


def between(text: str, operands: list[Quantization], result: Quantization, *shapes: tuple[int, ...]) -> str:
    """A function of quantized operands a and b, quantized again."""
    names = [("x", "a"), ("w", "b")][: len(operands)]
    inputs = ", ".join(f"int8[{','.join(map(str, shapes[0]))}] {name}" for name, _ in names)
    held = [*zip("abr"[: len(operands)], operands), ("r", result)]
    constants = ", ".join(
        f"float {name}s = {{{form.scale[0]!r}}}, int8 {name}z = {{{form.zero_point[0]}}}" for name, form in held
    )
    steps = "\n".join(f"{inner} = DequantizeLinear ({name}, {inner}s, {inner}z)" for name, inner in names)
    return f"""<ir_version: 10, opset_import: ["" : 22]>
    g ({inputs}) => (int8[{",".join(map(str, shapes[-1]))}] y) <{constants}, float three = {{3.0}}> {{
      {steps}
      r = {text}
      y = QuantizeLinear (r, rs, rz)
    }}"""


def reference(text: str, feeds: dict[str, Any]) -> Any:
    """On ONNX Runtime's integer kernels."""
    data = onnx.parser.parse_model(text).SerializeToString()
    session = open_session(data, optimise=True, configuration={"session.qdqisint8allowed": "1"})
    return session.run(feeds)["y"]


IMAGE = (1, 4, 128, 128)
PAIRS = {
    name: array.reshape(IMAGE).astype(np.int8)
    for name, array in zip("xw", np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
}
"""Every pair of integers."""


@pytest.mark.parametrize("zero", [-10, -9])
def test_a_sum_of_equal_scales_has_ties_everywhere(zero: int) -> None:
    """Residual connections whose branches were calibrated alike; the result's scale is twice theirs."""
    alike = quantization(6.09282, -10)
    text = between("Add (a, b)", [alike, alike], quantization(12.18564, zero), IMAGE)
    lowered = lower(text)
    np.testing.assert_array_equal(run(lowered, PAIRS)["y"], reference(text, PAIRS))
    assert counts(lowered)["ADD"] >= 1


SCALES = [
    (0.0473, 0.0211, 0.0301),
    (0.0301, 0.0301, 0.0301),
    (0.02, 0.04, 0.08),
    (0.06, 0.02, 0.04),
    (0.0923, 0.0157, 0.0787),
    (0.0612, 0.0588, 0.1011),
]


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("zeros", [(3, -7, 10), (-128, 5, -3)])
def test_sums_round_as_onnx_runtime_for_all_pairs(scales: tuple[float, ...], zeros: tuple[int, ...]) -> None:
    first, second, result = (quantization(scale, zero) for scale, zero in zip(scales, zeros))
    text = between("Add (a, b)", [first, second], result, IMAGE)
    assert (run(lower(text), PAIRS)["y"] != reference(text, PAIRS)).sum() <= 2  # of 65536


@pytest.mark.parametrize("seed", range(8))
def test_what_is_left_of_a_sum_is_known_when_the_model_is_converted(seed: int) -> None:
    """Thirds are not whole in float32, so that a few pairs in a thousand are ties by the kernel's last bit only."""
    first, second, result = forms(np.random.default_rng(seed), DataType.INT8, 3)
    text = between("Add (a, b)", [first, second], result, IMAGE)
    found, expected = run(lower(text), PAIRS)["y"], reference(text, PAIRS)
    exact, grid = Addition(first, second, result), (all_integers(first)[:, None], all_integers(second)[None])
    known = best_sum(exact)(*grid)
    assert (found != expected).sum() == (known != exact(*grid)).sum() <= 400
    assert np.abs(found.astype(np.int64) - expected).max() <= 1


def test_sums_of_computed_operands_hardly_ever_need_integers() -> None:
    scales = np.random.default_rng(3).uniform(0.01, 0.1, (40, 3))
    kernels = [Addition(*(quantization(scale, zero) for scale, zero in zip(row, (3, -7, 11)))) for row in scales]
    found = [best_sum(kernel) for kernel in kernels]
    assert sum(isinstance(way, IntegerSum) for way in found) <= 4
    assert sum(isinstance(way, RealSum) and not way.tip for way in found) >= 10
    grid = all_integers(kernels[0].first)[:, None], all_integers(kernels[0].second)[None]
    left = [int((way(*grid) != kernel(*grid)).sum()) for way, kernel in zip(found, kernels)]
    assert sum(left) <= 4, "of 40 times 65536 pairs"


@pytest.mark.parametrize("result", [6 / 255, 0.0235, 0.0301, 6 / 256])
@pytest.mark.parametrize("position", [0, 1])
def test_a_sum_with_a_constant_rounds_as_onnx_runtime(result: float, position: int) -> None:
    """x + 3 of a hard sigmoid: with scales of 6/255 on both sides every result is a tie."""
    operands = [quantization(6 / 255, -1), quantization(3 / 255, -128)]
    text = between("Add (a, c)" if position else "Add (c, a)", operands[:1], quantization(result, -128), IMAGE)
    constant = """c = DequantizeLinear (q, qs, qz)
      r = Add"""
    text = text.replace("r = Add", constant).replace(
        "float three = {3.0}", f"int8 q = {{127}}, float qs = {{{operands[1].scale[0]!r}}}, int8 qz = {{-128}}"
    )
    feeds = {"x": PAIRS["x"]}
    np.testing.assert_array_equal(run(lower(text), feeds)["y"], reference(text, feeds))


def test_a_constant_is_moved_by_a_few_units_at_most() -> None:
    exact = Addition(quantization(0.31577882, 15), quantization(3 / 255, -128), quantization(6 / 255, -128), scalar=1)
    found = nudged(exact, 1, 127)
    assert found.wrong == 0 and abs(float(found.addend) - 3.0) < 64 * np.spacing(np.float32(3))
    plain = whole(real(all_integers(exact.first), exact.first) + np.float32(3), exact.result)
    assert (plain != exact(all_integers(exact.first), np.array(127))).any(), "the constant would have done"


@pytest.mark.parametrize("zero", [3, 4])
def test_a_product_adds_the_zero_point_before_it_rounds(zero: int) -> None:
    operands, result = [quantization(0.05, -7), quantization(0.5, 1)], quantization(0.05, zero)
    text = between("Mul (a, b)", operands, result, IMAGE)
    np.testing.assert_array_equal(run(lower(text), PAIRS)["y"], reference(text, PAIRS))
    assert ("CAST" in counts(lower(text))) == (zero % 2 == 1), "ties go to even integers, zero point and all"
    differing = run(lower(text, precision="int8"), PAIRS)["y"] != reference(text, PAIRS)
    assert differing.any() == (zero % 2 == 1)


@pytest.mark.parametrize("scale", [1 / 255, 0.0028, 1 / 256, 0.0041])
def test_a_softmax_counts_whole_steps_to_one(scale: float) -> None:
    text = between("Softmax <axis = 3> (a)", [quantization(0.11, 4)], quantization(scale, -128), (1, 4, 50, 16))
    x = np.random.default_rng(0).integers(-128, 60, (1, 4, 50, 16)).astype(np.int8)
    x[..., 0] = np.minimum(x[..., 0], x[..., 1:].max(axis=-1))
    found, expected = run(lower(text), {"x": x})["y"], reference(text, {"x": x})
    wrapped = expected.astype(np.int64) < found.astype(np.int64) - 100  # int8 cannot hold 1, and wraps around there
    assert (found != expected)[~wrapped].sum() <= 2  # of 3200; exp() differs in its last bit


def test_averages_of_equal_scales_have_ties() -> None:
    form = quantization(0.05, -7)
    text = between("GlobalAveragePool (a)", [form], form, (1, 64, 20, 20), (1, 64, 1, 1))
    x = np.random.default_rng(0).integers(-128, 128, (1, 64, 20, 20)).astype(np.int8)
    sums = x.astype(np.int64).sum(axis=(2, 3))
    x[0, :, 0, 0] += ((200 - sums[0]) % 400 // 2).astype(np.int8)
    lowered = lower(text)
    np.testing.assert_array_equal(run(lowered, {"x": x})["y"], reference(text, {"x": x}))


def test_products_do_not_saturate_on_any_processor(tmp_path: Path) -> None:
    """Without VNNI instructions ONNX Runtime limits sums of two products of uint8 by int8 to 16 bits."""
    weights = np.full((4, 64, 1, 1), 120, np.int8)
    text = """<ir_version: 10, opset_import: ["" : 22]>
    g (uint8[1,64,8,8] x) => (uint8[1,4,8,8] y) <float s = {0.01}, uint8 z = {0}, int8[4,64,1,1] w, int8 o = {0},
      float t = {90.0}> {
      d = DequantizeLinear (x, s, z)
      e = DequantizeLinear (w, s, o)
      r = Conv (d, e)
      y = QuantizeLinear (r, t, z)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    x = np.full((1, 64, 8, 8), 255, np.uint8)
    (found,) = open_session(model.SerializeToString(), optimise=True).run({"x": x}).values()
    assert np.unique(found).tolist() == [round(255 * 120 * 64 * 1e-4 / 90)]


def transposed(
    weights: tuple[int, ...], attributes: str, extent: int = 9, bias: bool = True, dtype: str = "int8"
) -> str:
    """A ConvTranspose whose result's scale is 128 times that of its sums: ties are everywhere."""
    generator = np.random.default_rng(0)
    group = 2 if "group" in attributes else 1
    outputs = weights[1] * group
    scales = np.float32(0.0173), np.float32(0.0091)
    product = np.float32(scales[0] * scales[1])

    def numbers(low: int, high: int, count: int) -> str:
        return ", ".join(map(str, generator.integers(low, high, count)))

    zero = 131 if dtype == "uint8" else 3
    shape = ",".join(map(str, weights))
    return f"""<ir_version: 10, opset_import: ["" : 22]>
    g ({dtype}[1,{weights[0]},{extent},{extent}] x) => ({dtype}[1,{outputs},H,W] y) <
      float xs = {{{scales[0]!s}}}, {dtype} xz = {{{zero}}}, float ws = {{{scales[1]!s}}}, int8 wz = {{0}},
      int8[{shape}] w = {{{numbers(-127, 128, int(np.prod(weights)))}}}, float bs = {{{product!s}}}, int32 bz = {{0}},
      int32[{outputs}] b = {{{numbers(-3000, 3000, outputs)}}},
      float ys = {{{np.float32(128 * product)!s}}}, {dtype} yz = {{{zero}}}> {{
      a = DequantizeLinear (x, xs, xz)
      v = DequantizeLinear (w, ws, wz)
      d = DequantizeLinear (b, bs, bz)
      r = ConvTranspose <{attributes}> (a, v{", d" if bias else ""})
      c = Relu (r)
      y = QuantizeLinear (c, ys, yz)
    }}"""


def given(weights: tuple[int, ...], dtype: str = "int8", extent: int = 9) -> dict[str, Any]:
    """Integers for :func:`transposed`."""
    limits = np.iinfo(dtype)
    shape = (1, weights[0], extent, extent)
    integers = np.random.default_rng(1).integers(limits.min, limits.max + 1, shape)
    return {"x": integers.astype(dtype)}


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("weights", "attributes"),
    [
        ((24, 24, 2, 2), "strides = [2, 2]"),
        ((24, 1, 2, 2), "strides = [2, 2]"),
        ((128, 4, 3, 3), "strides = [3, 3]"),
        ((5, 7, 1, 1), "strides = [1, 1]"),
        ((24, 6, 2, 2), "strides = [3, 3]"),
        ((24, 6, 3, 2), "strides = [3, 2]"),
        ((24, 6, 4, 4), "strides = [4, 4], pads = [1, 0, 2, 1]"),
        ((24, 6, 2, 2), "strides = [2, 2], output_padding = [1, 0]"),
        ((24, 6, 2, 2), "strides = [2, 2], group = 2"),
        ((24, 6, 2, 2), "strides = [4, 4], dilations = [3, 2]"),
    ],
)
def test_transposed_convolutions_round_the_sums_of_onnx_runtime(
    weights: tuple[int, ...], attributes: str, bias: bool, dtype: str
) -> None:
    text = transposed(weights, attributes, bias=bias, dtype=dtype)
    feeds = given(weights, dtype)
    lowered = lower(text)
    np.testing.assert_array_equal(run(lowered, feeds)["y"], reference(text, feeds))
    assert "ConvTranspose" in " ".join(lowered.notes)


def test_exact_sums_leave_those_of_onnx_runtime_at_ties() -> None:
    weights = (24, 24, 2, 2)
    text, feeds = transposed(weights, "strides = [2, 2]", extent=40), given(weights, extent=40)
    expected = reference(text, feeds).astype(np.int64)
    apart = np.abs(run(lower(text, precision="int8"), feeds)["y"] - expected)
    assert apart.any() and apart.max() == 1


def test_blocks_are_quantized_before_they_are_moved() -> None:
    tiles = counts(lower(transposed((24, 6, 2, 2), "strides = [2, 2]")))
    assert tiles["CONV_2D"] == tiles["DEPTH_TO_SPACE"] == 1 and not tiles["TRANSPOSE_CONV"]
    gaps = counts(lower(transposed((24, 6, 2, 2), "strides = [3, 3]")))
    assert gaps["TRANSPOSE_CONV"] == 1 and not gaps["DEPTH_TO_SPACE"]


@pytest.mark.parametrize(
    ("weights", "attributes"), [((24, 6, 3, 3), "strides = [2, 2]"), ((130, 6, 2, 2), "strides = [2, 2]")]
)
def test_sums_in_an_order_of_their_own_stay_exact(weights: tuple[int, ...], attributes: str) -> None:
    """Overlapping results, and more channels than ONNX Runtime adds in one row: exact sums, a tie away."""
    text, feeds = transposed(weights, attributes), given(weights)
    lowered = lower(text)
    assert not {"DEQUANTIZE", "DIV"} & set(counts(lowered))
    assert np.abs(run(lowered, feeds)["y"] - reference(text, feeds).astype(np.int64)).max() <= 1
