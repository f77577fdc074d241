"""Operators of com.microsoft that have a standard form are rewritten exactly, all others refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgec.converter.importers.onnx import import_model
from edgec.ir.contrib import DOMAIN
from edgec.ir.graph import Node
from edgec.ir.proto import model_to_proto
from tests.converter.importers.building import assert_import_keeps_function, model, refusal, run, saved

SEQUENCE = {"x": [2, 3, 8]}
EIGHT = np.linspace(-1, 1, 8, dtype=np.float32)
SQUARE = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
KERNEL = np.linspace(-1, 1, 72, dtype=np.float32).reshape(4, 2, 3, 3)

CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, list[int]]]] = [
    ("Gelu", {}, {}, SEQUENCE),
    ("BiasGelu", {}, {"b": EIGHT}, SEQUENCE),
    ("FastGelu", {}, {"b": EIGHT}, SEQUENCE),
    ("FastGelu", {}, {}, SEQUENCE),
    ("QuickGelu", {"alpha": 1.5}, {}, SEQUENCE),
    ("FusedMatMul", {"alpha": 0.5}, {"b": SQUARE}, SEQUENCE),
    ("FusedMatMul", {"transB": 1}, {"b": SQUARE}, SEQUENCE),
    ("FusedMatMul", {"transA": 1, "alpha": 2.0}, {}, {"x": [2, 3, 4], "b": [2, 3, 5]}),
    ("TransposeMatMul", {"transA": 1, "transB": 1}, {}, {"x": [2, 3, 4], "b": [2, 5, 3]}),
    ("FusedMatMul", {"transBatchA": 1}, {}, {"x": [3, 2, 4], "b": [2, 4, 5]}),
    ("FusedMatMul", {"transA": 1, "transBatchA": 1, "transBatchB": 1}, {}, {"x": [4, 2, 3], "b": [4, 2, 5]}),
    ("FusedGemm", {"activation": "Relu", "alpha": 0.5}, {"b": SQUARE, "c": EIGHT}, {"x": [3, 8]}),
    ("FusedGemm", {"activation": "LeakyRelu", "activation_alpha": 0.2}, {"b": SQUARE, "c": EIGHT}, {"x": [3, 8]}),
    ("FusedConv", {"activation": "Relu", "pads": [1, 1, 1, 1]}, {"w": KERNEL, "b": EIGHT[:4]}, {"x": [1, 2, 5, 5]}),
    ("FusedConv", {"activation": "Clip", "activation_params": [0.0, 6.0]}, {"w": KERNEL}, {"x": [1, 2, 5, 5]}),
    ("FusedConv", {"activation": "HardSigmoid", "activation_params": [0.1, 0.4]}, {"w": KERNEL}, {"x": [1, 2, 5, 5]}),
    (
        "FusedConv",
        {"activation": "Relu"},
        {"w": KERNEL, "b": EIGHT[:4], "z": np.ones((1, 4, 3, 3), np.float32)},
        {"x": [1, 2, 5, 5]},
    ),
    (
        "SkipLayerNormalization",
        {"epsilon": 1e-5},
        {"g": EIGHT, "h": EIGHT, "b": EIGHT},
        {"x": [2, 3, 8], "skip": [2, 3, 8]},
    ),
    ("SkipLayerNormalization", {}, {"g": EIGHT, "h": EIGHT}, {"x": [2, 3, 8], "skip": [2, 3, 8]}),
    ("ExpandDims", {}, {"axis": np.array(1, np.int32)}, SEQUENCE),
    ("Pad", {"mode": "constant"}, {"p": np.array([0, 1, 0, 0, 2, 0]), "v": np.array([0.5], np.float32)}, SEQUENCE),
    ("Trilu", {}, {}, {"x": [4, 4]}),
    ("QuantizeLinear", {}, {"s": np.float32(0.1), "z": np.uint8(7)}, SEQUENCE),
]


@pytest.mark.parametrize(
    ("op", "attributes", "constants", "inputs"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)]
)
def test_a_fused_operator_computes_the_same_in_standard_ones(
    tmp_path: Path, op: str, attributes: dict[str, Any], constants: dict[str, Any], inputs: dict[str, list[int]]
) -> None:
    node = helper.make_node(op, [*inputs, *constants], ["y"], name="fused", domain=DOMAIN, **attributes)
    proto = model([node], inputs, ["y"], opset=17, constants=constants, domains={DOMAIN: 1})
    imported = assert_import_keeps_function(tmp_path, proto)
    nodes: list[Node] = list(imported.model.graph.nodes)
    assert {item.domain for item in nodes} == {""}
    assert {item.sources for item in nodes} == {("fused",)}
    assert imported.model.domains == {}


def test_the_sum_that_skip_layer_normalization_hands_out_is_kept(tmp_path: Path) -> None:
    node = helper.make_node(
        "SkipLayerNormalization", ["x", "skip", "g", "h"], ["y", "", "", "sum"], domain=DOMAIN, epsilon=1e-5
    )
    inputs = {"x": [2, 3, 8], "skip": [2, 3, 8]}
    proto = model([node], inputs, ["y", "sum"], opset=17, constants={"g": EIGHT, "h": EIGHT}, domains={DOMAIN: 1})
    assert_import_keeps_function(tmp_path, proto)


def test_simplified_layer_normalization_becomes_rms_normalization(tmp_path: Path) -> None:
    node = helper.make_node("SimplifiedLayerNormalization", ["x", "g"], ["y"], axis=-1, epsilon=1e-5)
    proto = model([node], SEQUENCE, ["y"], opset=17, constants={"g": EIGHT})
    imported = assert_import_keeps_function(tmp_path, proto)
    assert [item.op for item in imported.model.graph.nodes] == ["RMSNormalization"]


@pytest.mark.parametrize("op", ["QAttention", "MoE", "NoSuchOperator"])
def test_what_has_no_standard_form_is_refused_by_name(tmp_path: Path, op: str) -> None:
    node = helper.make_node(op, ["x"], ["y"], name="strange", domain=DOMAIN)
    error = refusal("EDG201", saved(tmp_path, model([node], SEQUENCE, ["y"], opset=17, domains={DOMAIN: 1})))
    assert op in error.message and "strange" in error.message


A, B, Y = ("xs", "xz"), ("bs", "bz"), ("ys", "yz")
PARAMETERS: dict[str, Any] = {
    "xs": np.float32(0.04),
    "xz": np.uint8(120),
    "bs": np.float32(0.02),
    "bz": np.uint8(100),
    "ys": np.float32(0.05),
    "yz": np.uint8(90),
}
WEIGHTS = np.random.default_rng(0).integers(-127, 128, (6, 4)).astype(np.int8)
QUANTIZED: list[tuple[str, list[str], dict[str, Any], dict[str, Any], list[int]]] = [
    ("QLinearAdd", ["x", *A, "b", *B, *Y], {}, {"b": np.arange(24, dtype=np.uint8).reshape(4, 6)}, [4, 6]),
    ("QLinearMul", ["x", *A, "b", *B, *Y], {}, {"b": np.arange(6, dtype=np.uint8)}, [4, 6]),
    ("QLinearSigmoid", ["x", *A, "fs", "fz"], {}, {"fs": np.float32(1 / 256), "fz": np.uint8(0)}, [4, 6]),
    ("QLinearLeakyRelu", ["x", *A, *Y], {"alpha": 0.2}, {}, [4, 6]),
    (
        "QLinearSoftmax",
        ["x", *A, "fs", "fz"],
        {"axis": -1, "opset": 13},
        {"fs": np.float32(1 / 256), "fz": np.uint8(0)},
        [4, 6],
    ),
    ("QLinearAveragePool", ["x", *A, *Y], {"kernel_shape": [2, 2], "strides": [2, 2]}, {}, [1, 3, 6, 6]),
    ("QLinearGlobalAveragePool", ["x", *A, *Y], {"channels_last": 0}, {}, [1, 3, 6, 6]),
    ("QLinearConcat", [*Y, "x", *A, "b", *B], {"axis": 0}, {"b": np.arange(6, dtype=np.uint8)[None]}, [4, 6]),
    (
        "QGemm",
        ["x", *A, "w", "ws", "wz", "c", *Y],
        {"alpha": 1.0},
        {
            "w": WEIGHTS,
            "ws": np.array([0.01, 0.02, 0.005, 0.03], np.float32),
            "wz": np.zeros(4, np.int8),
            "c": np.array([100, -2000, 3000, -50], np.int32),
        },
        [3, 6],
    ),
    (
        "QGemm",
        ["x", *A, "w", "ws", "wz", "c"],
        {"transB": 1},
        {"w": WEIGHTS.T.copy(), "ws": np.float32(0.02), "wz": np.int8(0), "c": np.zeros(4, np.int32)},
        [3, 6],
    ),
    (
        "QLinearWhere",
        ["k", "x", *A, "b", *B, *Y],
        {},
        {"b": np.arange(6, dtype=np.uint8), "k": np.array([True, False, True, True, False, False])},
        [4, 6],
    ),
]


@pytest.mark.parametrize(
    ("op", "operands", "attributes", "constants", "shape"),
    QUANTIZED,
    ids=[f"{i}-{case[0]}" for i, case in enumerate(QUANTIZED)],
)
def test_a_quantized_operator_is_a_float_one_between_dequantizing_and_quantizing(
    tmp_path: Path,
    op: str,
    operands: list[str],
    attributes: dict[str, Any],
    constants: dict[str, Any],
    shape: list[int],
) -> None:
    held = {key: value for key, value in {**PARAMETERS, **constants}.items() if key in operands}
    node = helper.make_node(op, operands, ["y"], name="fused", domain=DOMAIN, **attributes)
    proto = model([node], {"x": shape}, ["y"], opset=17, constants=held, domains={DOMAIN: 1}, dtype=TensorProto.UINT8)
    imported = import_model(saved(tmp_path, proto))
    assert {item.domain for item in imported.model.graph.nodes} == {""}
    for seed in range(3):
        feeds = {"x": np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)}
        (wanted,), (found,) = run(proto, feeds), run(model_to_proto(imported.model), feeds)
        assert wanted.dtype == found.dtype and wanted.shape == found.shape
        limit = 1 if wanted.dtype == np.uint8 else 1e-4
        assert np.abs(wanted.astype(np.float64) - found.astype(np.float64)).max() <= limit
