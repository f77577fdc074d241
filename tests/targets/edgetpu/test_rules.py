"""Each rule on a small graph of its own, and what follows for the operators behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgec.ir.types import DataType
from edgec.targets import rules as registry
from edgec.targets.base import Verdict
from edgec.targets.edgetpu.mapping import alone, predict
from edgec.targets.edgetpu.rules import RULES
from edgec.targets.tflite.program import T
from tests.targets.edgetpu.synthetic import Net

OK, UNSUPPORTED, UNCERTAIN = Verdict.OK, Verdict.UNSUPPORTED, Verdict.UNCERTAIN
Case = tuple[str, str, Verdict, Callable[[Net], T]]


def options(kind: str, **members: Any) -> Any:
    made = getattr(schema, f"{kind}OptionsT")()
    for name, value in members.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    return made


def unary(code: str, before: tuple[int, ...], after: tuple[int, ...], *parameters: Any, **more: Any) -> Any:
    def build(net: Net) -> T:
        x = net.input(*before)
        return net.add(code, [x, *(net.constant(item) for item in parameters)], after, more.get("options"))

    return build


def custom(net: Net) -> T:
    return net.add("CUSTOM", [net.input(1, 4)], (1, 4), custom="Mine")


def floating(net: Net) -> T:
    x = net.input(1, 4, dtype=DataType.FLOAT)
    return net.add("RELU", [x], (1, 4), dtype=DataType.FLOAT)


def quantized_input(net: Net) -> T:
    return net.add("QUANTIZE", [net.input(1, 4, dtype=DataType.FLOAT)], (1, 4))


def weights_at_run_time(net: Net) -> T:
    x, weights = net.input(1, 4), net.input(8, 4, name="w")
    return net.add("FULLY_CONNECTED", [x, weights, None], (1, 8), options("FullyConnected"))


def shape_at_run_time(net: Net) -> T:
    x, shape = net.input(1, 4, 4), net.input(2, name="shape", dtype=DataType.INT8)
    return net.add("RESHAPE", [x, shape], (1, 16))


def two_rows(net: Net) -> T:
    weights = net.constant(np.ones((8, 4)), DataType.INT8)
    return net.add("FULLY_CONNECTED", [net.input(2, 4), weights, None], (2, 8), options("FullyConnected"))


def boxes(count: int, values: int) -> Callable[[Net], T]:
    def build(net: Net) -> T:
        x, y = net.input(1, count - 1, values), net.input(1, 1, values, name="y")
        return net.add("CONCATENATION", [x, y], (1, count, values), options("Concatenation", axis=1))

    return build


def transposed(size: int) -> Callable[[Net], T]:
    def build(net: Net) -> T:
        shape, weights = [1, size, size, 32], net.constant(np.ones((32, 2, 2, 8)), DataType.INT8)
        kept = options("TransposeConv", strideH=2, strideW=2)
        return net.add(
            "TRANSPOSE_CONV", [net.constant(shape), weights, net.input(1, size // 2, size // 2, 8)], shape, kept
        )

    return build


def concatenated(*, zero: bool, more: bool = False) -> Callable[[Net], T]:
    def build(net: Net) -> T:
        x = net.input(1, 4, 4, 2)
        constant = net.constant(np.zeros((1, 4, 4, 2)) if zero else np.ones((1, 4, 4, 2)), DataType.INT8)
        inputs = [x, constant, *([x] if more else [])]
        return net.add("CONCATENATION", inputs, (1, 4, 4, 2 * len(inputs)), options("Concatenation", axis=3))

    return build


def dilated(height: int, width: int) -> Callable[[Net], T]:
    return lambda net: net.convolution(net.input(1, 8, 8, 4), 4, dilation=(height, width))


def prelu(*shape: int) -> Callable[[Net], T]:
    def build(net: Net) -> T:
        return net.add("PRELU", [net.input(1, 4, 4, 8), net.constant(np.ones(shape), DataType.INT8)], (1, 4, 4, 8))

    return build


def shuffled(net: Net) -> T:
    x, weights = net.input(1, 4), net.constant(np.ones((8, 4)), DataType.INT8)
    return net.add("FULLY_CONNECTED", [x, weights, None], (1, 8), options("FullyConnected", weightsFormat=1))


def split(axis: int, shape: tuple[int, ...], part: tuple[int, ...]) -> Callable[[Net], T]:
    def build(net: Net) -> T:
        return net.add("SPLIT", [net.constant(axis), net.input(*shape)], part, options("Split", numSplits=1))

    return build


def resize(height: int, width: int, code: str = "RESIZE_BILINEAR") -> Callable[[Net], T]:
    return unary(code, (1, 4, 4, 8), (1, height, width, 8), [height, width])


def packed(axis: int) -> Callable[[Net], T]:
    def build(net: Net) -> T:
        x = net.input(4, 4, 2)
        return net.add("PACK", [x], (1, 4, 4, 2), options("Pack", axis=axis, valuesCount=1))

    return build


ONES = [1, 1, 1, 1]
CASES: list[Case] = [
    ("relu", "", OK, unary("RELU", (1, 4, 4, 8), (1, 4, 4, 8))),
    ("unknown operator", "EDG411", UNSUPPORTED, unary("HARD_SWISH", (1, 4), (1, 4))),
    ("custom operator", "EDG411", UNSUPPORTED, custom),
    ("float", "EDG410", UNSUPPORTED, floating),
    ("quantize of a float input", "EDG410", UNSUPPORTED, quantized_input),
    ("open batch", "", OK, unary("RELU", (-1, 4), (-1, 4))),
    ("open height", "EDG413", UNSUPPORTED, unary("RELU", (1, -1, 4, 8), (1, -1, 4, 8))),
    ("shape computed at run time", "EDG413", UNSUPPORTED, shape_at_run_time),
    ("operator younger than the compiler", "EDG411", UNSUPPORTED, unary("GELU", (1, 4), (1, 4))),
    ("normalization", "EDG428", UNCERTAIN, unary("L2_NORMALIZATION", (1, 1, 1, 128), (1, 1, 1, 128))),
    ("weights at run time", "EDG413", UNSUPPORTED, weights_at_run_time),
    ("batch of 2", "EDG414", UNSUPPORTED, unary("RELU", (2, 4, 4, 8), (2, 4, 4, 8))),
    ("five dimensions, outer ones 1", "", OK, unary("RELU", (1, 1, 4, 4, 8), (1, 1, 4, 4, 8))),
    ("resize by 1", "", OK, resize(4, 4)),
    ("resize by 2", "", OK, resize(8, 8)),
    ("resize by 4", "EDG412", UNCERTAIN, resize(16, 16)),
    ("resize by 2 and 16", "EDG412", UNSUPPORTED, resize(8, 64)),
    ("resize to half", "EDG412", UNCERTAIN, resize(2, 2)),
    ("nearest resize by 2", "", OK, resize(8, 8, "RESIZE_NEAREST_NEIGHBOR")),
    ("nearest resize by 16", "EDG412", UNCERTAIN, resize(64, 64, "RESIZE_NEAREST_NEIGHBOR")),
    (
        "pooling",
        "",
        OK,
        unary("MAX_POOL_2D", (1, 4, 4, 8), (1, 2, 2, 8), options=options("Pool2D", filterHeight=2, filterWidth=2)),
    ),
    (
        "pooling with an activation",
        "EDG415",
        UNSUPPORTED,
        unary("AVERAGE_POOL_2D", (1, 4, 4, 8), (1, 2, 2, 8), options=options("Pool2D", fusedActivationFunction=1)),
    ),
    ("dilation", "", OK, dilated(2, 2)),
    ("uneven dilation", "EDG416", UNSUPPORTED, dilated(2, 1)),
    ("mean over the plane", "", OK, unary("MEAN", (1, 7, 7, 6), (1, 6), [1, 2])),
    ("mean over the batch", "EDG417", UNSUPPORTED, unary("MEAN", (1, 7, 7, 8), (7, 7, 8), [0])),
    ("mean over 8 channels", "", OK, unary("MEAN", (1, 7, 7, 8), (1, 7, 7), [3])),
    ("mean over 6 channels", "EDG417", UNSUPPORTED, unary("MEAN", (1, 7, 7, 6), (1, 7, 7), [-1])),
    ("padding", "", OK, unary("PAD", (1, 4, 4, 8), (1, 6, 6, 8), [[0, 0], [1, 1], [1, 1], [0, 0]])),
    ("padded batch", "EDG414", UNSUPPORTED, unary("PAD", (1, 4, 4, 8), (2, 4, 4, 8), [[0, 1], [0, 0], [0, 0], [0, 0]])),
    ("split of channels", "", OK, split(3, (1, 4, 4, 8), (1, 4, 4, 8))),
    ("split of the batch", "EDG417", UNSUPPORTED, split(0, (1, 4, 4, 8), (1, 4, 4, 8))),
    ("packed batch", "EDG417", UNSUPPORTED, packed(0)),
    ("softmax", "", OK, unary("SOFTMAX", (1, 1000), (1, 1000), options=options("Softmax", beta=1.0))),
    ("softmax of a plane", "EDG418", UNCERTAIN, unary("SOFTMAX", (1, 4, 4, 8), (1, 4, 4, 8))),
    ("two rows of a fully connected layer", "EDG418", UNCERTAIN, two_rows),
    ("softmax of 20000", "EDG418", UNSUPPORTED, unary("SOFTMAX", (1, 20000), (1, 20000))),
    ("slice", "", OK, unary("STRIDED_SLICE", (1, 4, 4, 8), (1, 2, 4, 8), [0] * 4, [1, 2, 4, 8], ONES)),
    (
        "slice with stride 2",
        "EDG420",
        UNCERTAIN,
        unary("STRIDED_SLICE", (1, 4, 4, 8), (1, 2, 4, 8), [0] * 4, [1, 4, 4, 8], [1, 2, 1, 1]),
    ),
    (
        "slice with stride 2 along the channels",
        "EDG420",
        UNSUPPORTED,
        unary("STRIDED_SLICE", (1, 4, 4, 8), (1, 4, 4, 4), [0] * 4, [1, 4, 4, 8], [1, 1, 1, 2]),
    ),
    (
        "slice with a new axis",
        "EDG420",
        UNSUPPORTED,
        unary(
            "STRIDED_SLICE",
            (4, 8),
            (1, 4, 8),
            [0] * 3,
            [0] * 3,
            [1] * 3,
            options=options("StridedSlice", newAxisMask=1),
        ),
    ),
    ("transpose", "EDG421", UNCERTAIN, unary("TRANSPOSE", (1, 4, 4, 8), (1, 8, 4, 4), [0, 3, 1, 2])),
    ("mean over 256 x 128", "EDG422", UNSUPPORTED, unary("MEAN", (1, 256, 128, 4), (1, 4), [1, 2])),
    ("mean over 64 x 128", "", OK, unary("MEAN", (1, 64, 128, 4), (1, 4), [1, 2])),
    ("mean over 100 x 100", "EDG422", UNCERTAIN, unary("MEAN", (1, 100, 100, 4), (1, 4), [1, 2])),
    ("boxes of SSD MobileNet", "", OK, unary("RESHAPE", (1, 19, 19, 273), (1, 1083, 91), [1, 1083, 91])),
    ("boxes of YOLO", "EDG422", UNCERTAIN, unary("RESHAPE", (1, 3, 784, 85), (1, 2352, 85), [1, 2352, 85])),
    ("reshape that moves nothing", "", OK, unary("RESHAPE", (1, 640, 640, 3), (640, 640, 3), [640, 640, 3])),
    ("scores of SSD MobileNet", "", OK, unary("LOGISTIC", (1, 2034, 91), (1, 2034, 91))),
    ("scores of EfficientDet", "EDG422", UNCERTAIN, unary("LOGISTIC", (1, 19206, 90), (1, 19206, 90))),
    ("activation of a large map", "", OK, unary("LOGISTIC", (1, 320, 320, 32), (1, 320, 320, 32))),
    ("activation of a huge map", "EDG422", UNCERTAIN, unary("LOGISTIC", (1, 640, 640, 16), (1, 640, 640, 16))),
    ("list of 3087 boxes", "EDG422", UNCERTAIN, boxes(3087, 85)),
    ("list of 1917 boxes", "", OK, boxes(1917, 91)),
    ("transposed convolution", "", OK, transposed(64)),
    ("large transposed convolution", "EDG422", UNCERTAIN, transposed(512)),
    ("recurrence over 28 features", "", OK, unary("UNIDIRECTIONAL_SEQUENCE_LSTM", (1, 28, 28), (1, 28, 20))),
    ("recurrence over 1280 features", "EDG422", UNCERTAIN, unary("LSTM", (1, 5, 1280), (1, 5, 32))),
    ("zeros behind", "", OK, concatenated(zero=True)),
    ("ones behind", "EDG423", UNSUPPORTED, concatenated(zero=False)),
    ("zeros among three", "EDG423", UNSUPPORTED, concatenated(zero=True, more=True)),
    ("shuffled weights", "EDG424", UNSUPPORTED, shuffled),
    ("slopes per channel", "", OK, prelu(1, 1, 8)),
    ("slopes per position", "EDG424", UNSUPPORTED, prelu(4, 4, 8)),
    ("squeeze of leading ones", "", OK, unary("SQUEEZE", (1, 1, 1, 8), (8,))),
    ("squeeze that moves data", "EDG426", UNCERTAIN, unary("SQUEEZE", (1, 4, 1, 8), (4, 8))),
]


@pytest.mark.parametrize(("rule", "verdict", "build"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_one_operator(rule: str, verdict: Verdict, build: Callable[[Net], T], tmp_path: Path) -> None:
    net = Net()
    node = predict(net.graph(tmp_path, build(net))).nodes[0]
    assert (node.rule, node.verdict) == (rule, verdict)
    assert bool(node.reason) is (verdict is not OK)


@pytest.mark.parametrize(
    ("code", "version", "verdict"),
    [
        ("QUANTIZE", 2, OK),
        ("QUANTIZE", 3, UNSUPPORTED),
        ("CONV_2D", 5, OK),
        ("CONV_2D", 6, UNSUPPORTED),
        ("FULLY_CONNECTED", 6, OK),
        ("FULLY_CONNECTED", 9, UNCERTAIN),
        ("RELU", 4, UNCERTAIN),
    ],
)
def test_operator_versions(code: str, version: int, verdict: Verdict, tmp_path: Path) -> None:
    net = Net()
    x = net.input(1, 1, 1, 4)
    made = net.convolution(x, 4) if code == "CONV_2D" else net.add(code, [x], x.shape)
    graph = net.graph(tmp_path, made)
    node = alone(replace(graph.operators[0], version=version))
    assert (node.verdict, node.rule) == (verdict, "" if verdict is OK else "EDG425")


def test_every_rule_has_its_own_case_and_documentation() -> None:
    codes = {rule.code for rule in RULES}
    assert codes == {case[1] for case in CASES if case[1]} | {"EDG425"}
    for code in codes | {"EDG419", "EDG427"}:
        assert registry.RULES[code].target == "edgetpu"
        assert "\nSource: " in registry.RULES[code].documentation


def chain(folder: Path, *codes: str) -> list[str]:
    """Rules (or `-` for ok) of operators one after the other."""
    net = Net()
    x = net.input(1, 8, 8, 4)
    for code in codes:
        if code == "TRANSPOSE":
            x = net.add(code, [x, net.constant([0, 1, 2, 3])], (1, 8, 8, 4))
        else:
            x = net.add(code, [x], (1, 8, 8, 4))
    return [node.rule or "-" for node in predict(net.graph(folder, x)).nodes]


def test_what_follows_the_first_unsupported_operator_is_stranded(tmp_path: Path) -> None:
    assert chain(tmp_path, "RELU", "ELU", "RELU", "ELU", "RELU") == ["-", "EDG411", "EDG419", "EDG411", "EDG419"]


def test_unsupported_operators_at_the_start_strand_nothing(tmp_path: Path) -> None:
    assert chain(tmp_path, "ELU", "ELU", "RELU", "RELU") == ["EDG411", "EDG411", "-", "-"]


def test_doubt_spreads_but_does_not_condemn(tmp_path: Path) -> None:
    assert chain(tmp_path, "RELU", "TRANSPOSE", "RELU") == ["-", "EDG421", "EDG419"]
    assert chain(tmp_path, "TRANSPOSE", "RELU") == ["EDG421", "-"]


def test_branches_are_stranded_one_by_one(tmp_path: Path) -> None:
    """x -> relu -> elu -> relu, and relu -> tanh, which stays; their sum needs both."""
    net = Net()
    x = net.add("RELU", [net.input(1, 4, 4, 4)], (1, 4, 4, 4))
    left = net.add("RELU", [net.add("ELU", [x], (1, 4, 4, 4))], (1, 4, 4, 4))
    right = net.add("TANH", [x], (1, 4, 4, 4))
    total = net.add("ADD", [left, right], (1, 4, 4, 4))
    found = predict(net.graph(tmp_path, total))
    assert [node.rule or "-" for node in found.nodes] == ["-", "EDG411", "EDG419", "-", "EDG419"]
    assert "ELU" in found.nodes[4].reason
    assert found.nodes[4].reason.startswith("single-subgraph")


def test_costs_of_the_cpu_part(tmp_path: Path) -> None:
    net = Net()
    x = net.convolution(net.input(1, 8, 8, 4), 8)
    y = net.convolution(net.add("ELU", [x], (1, 8, 8, 8)), 16)
    found = predict(net.graph(tmp_path, y))
    assert found.multiplications == 8 * 8 * (4 * 8 + 8 * 16)
    assert found.multiplications_on_cpu == 8 * 8 * 8 * 16
    assert found.boundary_bytes == 8 * 8 * 4 + 8 * 8 * 8
