"""Whole models of well-known families: what runs on the Edge TPU of each, and why the rest does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgec.ir.types import DataType
from edgec.targets.base import Verdict
from edgec.targets.edgetpu.mapping import Mapping, predict
from edgec.targets.edgetpu.report import describe
from edgec.targets.tflite.graph import read
from edgec.targets.tflite.program import T
from tests.targets.edgetpu.lookalikes import Layers, mobilenet_v2, mobilenet_v2_blocks, options

Build = Callable[[Layers], list[T]]


def predicted(build: Build, folder: Path) -> Mapping:
    net = Layers()
    return predict(net.graph(folder, *build(net)))


def away(found: Mapping) -> dict[tuple[str, str], int]:
    """Operators that will, or may, stay on the CPU, with the rule."""
    return dict(Counter((node.operator, node.rule) for node in found.nodes if node.verdict is not Verdict.OK))


def mobilenet_v1(net: Layers) -> list[T]:
    """Trained quantized, uint8 throughout, as TOCO wrote it."""
    x = net.convolve(net.input(1, 224, 224, 3, dtype=DataType.UINT8), 32, 3, 2)
    for channels, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (512, 2), (512, 1), (1024, 2)):
        x = net.separable(x, channels, stride=stride)
    kept = options("Pool2D", filterHeight=7, filterWidth=7, strideH=2, strideW=2)
    x = net.add("AVERAGE_POOL_2D", [x], (1, 1, 1, 1024), kept)
    return [net.softmax(net.reshape(net.convolve(x, 1001), 1, 1001))]


def inception(net: Layers) -> list[T]:
    x = net.pool(net.convolve(net.input(1, 224, 224, 3, dtype=DataType.UINT8), 64, 7, 2), 3)
    for channels in (64, 96):
        kept = options("Pool2D", filterHeight=3, filterWidth=3, strideH=1, strideW=1)
        pooled = net.add("AVERAGE_POOL_2D", [x], x.shape, kept)
        tower = net.convolve(net.convolve(net.convolve(x, 64), 96, 3), 96, 3)
        parts = [net.convolve(x, channels), net.convolve(net.convolve(x, 48), 64, 5), tower, net.convolve(pooled, 32)]
        x = net.concatenate(parts, 3)
    kept = options("Pool2D", filterHeight=56, filterWidth=56, strideH=1, strideW=1)
    x = net.convolve(net.add("AVERAGE_POOL_2D", [x], (1, 1, 1, x.shape[-1]), kept), 1001)
    return [net.softmax(net.add("SQUEEZE", [x], (1, 1001), options("Squeeze", squeezeDims=[1, 2])))]


def resnet(net: Layers) -> list[T]:
    """Keras' ResNet-50 after post-training quantization; the batch is open, as Keras leaves it."""
    x = net.quantize(net.input(1, 223, 223, 3, dtype=DataType.UINT8))
    x = net.pool(net.pad(net.convolve(net.pad(x), 64, 7, 2)), 3)
    for channels in (64, 128):
        y = net.convolve(net.convolve(net.convolve(x, channels), channels, 3), 4 * channels)
        x = net.unary("RELU", net.sum(net.convolve(x, 4 * channels), y))
    x = net.softmax(net.dense(net.mean(x), 1000))
    for tensor in net.program.tensors():
        if tensor.const is None:
            tensor.shape = (-1, *tensor.shape[1:])
    return [net.quantize(x)]


def two_images(net: Layers) -> list[T]:
    x = net.input(2, 32, 32, 3)
    x = net.add("RELU", [x], x.shape)
    return [net.add("MAX_POOL_2D", [x], (2, 16, 16, 3), options("Pool2D", filterHeight=2, filterWidth=2))]


def mobilenet_v3(net: Layers) -> list[T]:
    x = net.convolve(net.input(1, 224, 224, 3), 16, 3, 2)
    x = net.convolve(net.unary("HARD_SWISH", x), 16)
    return [net.dense(net.mean(x), 1000)]


def pose(net: Layers) -> list[T]:
    """MoveNet: a pyramid upsampled by 2, and a decoder that looks up the highest point of a heat map."""
    x = net.input(1, 192, 192, 3, dtype=DataType.FLOAT)
    x = net.convolve(net.quantize(x), 32, 3, 2)
    maps = mobilenet_v2_blocks(net, x)
    x = net.convolve(maps[-1], 64)
    for skip in (maps[3], maps[2], maps[1]):
        x = net.sum(net.upsample(x, 2 * x.shape[1], 2 * x.shape[2], "RESIZE_BILINEAR"), net.convolve(skip, 64))
    center = net.unary("LOGISTIC", net.convolve(net.separable(x, 96), 1))
    points = net.unary("LOGISTIC", net.convolve(net.separable(x, 96), 17))
    offsets = net.convolve(net.separable(x, 96), 34)
    weights = net.constant(np.ones((48, 48, 1)), DataType.INT8)
    flat = net.reshape(net.add("MUL", [center, weights], center.shape), 1, 48 * 48)
    best = net.add("ARG_MAX", [flat, net.constant(1)], (1,), options("ArgMax"), dtype=DataType.INT32)
    found = net.add("GATHER_ND", [offsets, best], (1, 34))
    return [net.dequantize(net.add("MUL", [found, found], (1, 34))), net.dequantize(points)]


def sounds(net: Layers) -> list[T]:
    """YAMNet: the spectrogram is computed in float, then everything is int8."""
    x = net.input(1, 96, 64, 1, dtype=DataType.FLOAT)
    x = net.add("LOG", [x], x.shape, dtype=DataType.FLOAT)
    x = net.convolve(net.quantize(x), 32, 3, 2)
    for channels in (64, 128):
        x = net.separable(x, channels, stride=2)
    return [net.dequantize(net.unary("LOGISTIC", net.dense(net.mean(x), 521)))]


def labels(net: Layers) -> list[T]:
    """DeepLab V3: the pooled branch and the result are upsampled far, and the labels taken."""
    x = net.convolve(net.input(1, 513, 513, 3, dtype=DataType.UINT8), 32, 3, 2)
    for channels in (32, 64, 64):
        x = net.separable(x, channels, stride=2)
    kept = options("Pool2D", filterHeight=33, filterWidth=33, strideH=33, strideW=33)
    pooled = net.convolve(net.add("AVERAGE_POOL_2D", [x], (1, 1, 1, 64), kept), 64)
    x = net.concatenate([net.upsample(pooled, 33, 33, "RESIZE_BILINEAR"), net.convolve(x, 64)], 3)
    x = net.upsample(net.convolve(x, 21), 513, 513, "RESIZE_BILINEAR")
    return [net.add("ARG_MAX", [x, net.constant(3)], (1, 513, 513), options("ArgMax"), dtype=DataType.INT32)]


def slices(net: Layers) -> list[T]:
    """SpaghettiNet: channels are taken apart by slices of stride 1 and put together again."""
    x = net.convolve(net.input(1, 320, 320, 3, dtype=DataType.UINT8), 32, 3, 2)
    ones = net.constant([1, 1, 1, 1])
    halves = []
    for begin, end in ((0, 16), (16, 32)):
        start, stop = net.constant([0, 0, 0, begin]), net.constant([1, 160, 160, end])
        halves.append(net.add("STRIDED_SLICE", [x, start, stop, ones], (1, 160, 160, 16), options("StridedSlice")))
    kept = net.add("SLICE", [x, net.constant([0, 0, 0, 0]), net.constant([1, 160, 160, 32])], x.shape)
    x = net.sum(net.concatenate([net.convolve(half, 16, 3) for half in halves], 3), kept)
    return [net.upsample(net.pool(x), 160, 160)]


CASES: dict[str, tuple[Build, dict[tuple[str, str], int]]] = {
    "MobileNet V1, uint8": (mobilenet_v1, {}),
    "MobileNet V2, int8 in and out": (mobilenet_v2, {}),
    "Inception": (inception, {}),
    "ResNet-50 with an open batch": (resnet, {}),
    "SpaghettiNet": (slices, {}),
    "a batch of two": (two_images, {("RELU", "EDG414"): 1, ("MAX_POOL_2D", "EDG414"): 1}),
    "MobileNet V3 with HardSwish": (
        mobilenet_v3,
        {
            ("HARD_SWISH", "EDG411"): 1,
            ("CONV_2D", "EDG419"): 1,
            ("MEAN", "EDG419"): 1,
            ("FULLY_CONNECTED", "EDG419"): 1,
        },
    ),
    "MoveNet": (
        pose,
        {
            ("QUANTIZE", "EDG410"): 1,
            ("ARG_MAX", "EDG411"): 1,
            ("GATHER_ND", "EDG411"): 1,
            ("MUL", "EDG419"): 1,
            ("DEQUANTIZE", "EDG411"): 2,
        },
    ),
    "YAMNet": (sounds, {("LOG", "EDG411"): 1, ("QUANTIZE", "EDG410"): 1, ("DEQUANTIZE", "EDG411"): 1}),
    "DeepLab V3": (
        labels,
        {
            ("RESIZE_BILINEAR", "EDG412"): 2,
            ("CONCATENATION", "EDG419"): 1,
            ("CONV_2D", "EDG419"): 1,
            ("ARG_MAX", "EDG411"): 1,
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_stays_on_the_cpu(name: str, tmp_path: Path) -> None:
    build, expected = CASES[name]
    found = predicted(build, tmp_path)
    assert away(found) == expected
    assert not found.positions(Verdict.UNCERTAIN)


def test_a_computed_shape_is_told(tmp_path: Path) -> None:
    """Keras' Flatten with an open batch: the shape is looked up, and a vector of it is packed."""
    net = Layers()
    x = net.convolve(net.input(1, 8, 8, 4), 4)
    shape = net.add("SHAPE", [x], (4,), dtype=DataType.INT32)
    graph = net.write(tmp_path / "model.tflite", net.add("RESHAPE", [x, shape], (1, 256)))
    model = read(graph)
    found = predict(model.main)
    assert away(found) == {("SHAPE", "EDG411"): 1, ("RESHAPE", "EDG410"): 1}
    assert any(sentence.startswith("SHAPE: ") for sentence in describe(model, found))
