"""Operators of com.microsoft that have a standard form are rewritten exactly, all others refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from edgec.ir.contrib import DOMAIN
from edgec.ir.graph import Node
from tests.converter.importers.building import assert_import_keeps_function, model, refusal, saved

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


@pytest.mark.parametrize("op", ["QLinearAdd", "MoE", "NoSuchOperator"])
def test_what_has_no_standard_form_is_refused_by_name(tmp_path: Path, op: str) -> None:
    node = helper.make_node(op, ["x"], ["y"], name="strange", domain=DOMAIN)
    error = refusal("EDG201", saved(tmp_path, model([node], SEQUENCE, ["y"], opset=17, domains={DOMAIN: 1})))
    assert op in error.message and "strange" in error.message
