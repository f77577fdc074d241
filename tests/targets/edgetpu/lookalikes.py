"""Models that look like published ones, operator for operator, with weights of zero: what the predictor is asked about.

The topologies are those of the papers and of the converters' output; what the compiler did with the real ones is in
test_published_logs.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.ir.types import DataType
from edgec.targets.tflite.program import T
from tests.targets.edgetpu.synthetic import Net


def options(kind: str, **members: Any) -> Any:
    made = getattr(schema, f"{kind}OptionsT")()
    for name, value in members.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    return made


@dataclass
class Layers(Net):
    """A graph that grows layer by layer; maps are [1, height, width, channels]."""

    def weights(self, *shape: int, dtype: DataType = DataType.INT8) -> T:
        return self.constant(np.zeros(shape), dtype)

    def convolve(self, x: T, channels: int, kernel: int = 1, stride: int = 1) -> T:
        _, height, width, inputs = x.shape
        kept = options("Conv2D", strideH=stride, strideW=stride, dilationHFactor=1, dilationWFactor=1)
        operands = [x, self.weights(channels, kernel, kernel, inputs), self.weights(channels, dtype=DataType.INT32)]
        return self.add("CONV_2D", operands, (1, -(-height // stride), -(-width // stride), channels), kept)

    def depthwise(self, x: T, kernel: int = 3, stride: int = 1) -> T:
        _, height, width, channels = x.shape
        kept = options("DepthwiseConv2D", strideH=stride, strideW=stride, dilationHFactor=1, dilationWFactor=1)
        operands = [x, self.weights(1, kernel, kernel, channels), self.weights(channels, dtype=DataType.INT32)]
        return self.add("DEPTHWISE_CONV_2D", operands, (1, -(-height // stride), -(-width // stride), channels), kept)

    def separable(self, x: T, channels: int, kernel: int = 3, stride: int = 1) -> T:
        return self.convolve(self.depthwise(x, kernel, stride), channels)

    def unary(self, code: str, x: T) -> T:
        return self.add(code, [x], x.shape)

    def sum(self, x: T, y: T) -> T:
        return self.add("ADD", [x, y], x.shape)

    def pool(self, x: T, kernel: int = 2, code: str = "MAX_POOL_2D") -> T:
        _, height, width, channels = x.shape
        kept = options("Pool2D", filterHeight=kernel, filterWidth=kernel, strideH=2, strideW=2)
        return self.add(code, [x], (1, -(-height // 2), -(-width // 2), channels), kept)

    def reshape(self, x: T, *shape: int) -> T:
        return self.add("RESHAPE", [x, self.constant(list(shape))], shape)

    def mean(self, x: T) -> T:
        return self.add("MEAN", [x, self.constant([1, 2])], (1, x.shape[-1]))

    def dense(self, x: T, outputs: int) -> T:
        operands = [x, self.weights(outputs, x.shape[-1]), self.weights(outputs, dtype=DataType.INT32)]
        return self.add("FULLY_CONNECTED", operands, (*x.shape[:-1], outputs), options("FullyConnected"))

    def softmax(self, x: T) -> T:
        return self.add("SOFTMAX", [x], x.shape, options("Softmax", beta=1.0))

    def concatenate(self, parts: Sequence[T], axis: int) -> T:
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return self.add("CONCATENATION", parts, shape, options("Concatenation", axis=axis))

    def upsample(self, x: T, height: int, width: int, code: str = "RESIZE_NEAREST_NEIGHBOR") -> T:
        return self.add(code, [x, self.constant([height, width])], (1, height, width, x.shape[-1]))

    def pad(self, x: T) -> T:
        _, height, width, channels = x.shape
        amounts = self.constant([[0, 0], [0, 1], [0, 1], [0, 0]])
        return self.add("PAD", [x, amounts], (1, height + 1, width + 1, channels))

    def quantize(self, x: T) -> T:
        return self.add("QUANTIZE", [x], x.shape)

    def dequantize(self, x: T) -> T:
        return self.add("DEQUANTIZE", [x], x.shape, dtype=DataType.FLOAT)

    def custom(self, name: str, inputs: Sequence[T], *shape: int) -> T:
        return self.add("CUSTOM", inputs, shape, custom=name, dtype=DataType.FLOAT)

    def transposed(self, x: T, channels: int) -> T:
        """A transposed convolution of 3 x 3 and stride 2."""
        _, height, width, inputs = x.shape
        shape = (1, 2 * height, 2 * width, channels)
        operands = [self.constant(list(shape)), self.weights(channels, 3, 3, inputs), x]
        return self.add("TRANSPOSE_CONV", operands, shape, options("TransposeConv", strideH=2, strideW=2))


def mobilenet_v2_blocks(net: Layers, x: T, *, pads: bool = False) -> list[T]:
    """The blocks of MobileNet V2 behind its first layer; the last map of every resolution, and the expanded map of the
    first block at 1/32.

    Args:
        pads: whether strided layers come with a PAD of their own, as Keras writes them.
    """
    kept: list[T] = []
    channels = 32
    for factor, outputs, count, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for index in range(count):
            step = stride if index == 0 else 1
            y = net.convolve(x, factor * channels) if factor > 1 else x
            if step == 2:
                kept.append(y)
            y = net.pad(y) if pads and step == 2 else y
            y = net.convolve(net.depthwise(y, stride=step), outputs)
            x = net.sum(x, y) if index else y
            channels = outputs
    return [*kept, x]


def mobilenet_v2(net: Layers, *, float_io: bool = False, size: int = 224, classes: int = 1000) -> list[T]:
    """Keras' MobileNet V2, after post-training quantization."""
    x = net.input(1, size, size, 3, dtype=DataType.FLOAT if float_io else DataType.INT8)
    x = net.pad(net.quantize(x) if float_io else x)
    x = net.convolve(x, 32, 3, 2)
    x = net.convolve(mobilenet_v2_blocks(net, x, pads=True)[-1], 1280)
    x = net.softmax(net.dense(net.mean(x), classes))
    return [net.dequantize(x) if float_io else x]


def ssd_mobilenet_v2(net: Layers, *, size: int = 300, classes: int = 91) -> list[T]:
    """TensorFlow's SSD MobileNet V2, trained quantized, with its custom operator at the end."""
    x = net.convolve(net.input(1, size, size, 3, dtype=DataType.UINT8), 32, 3, 2)
    maps = mobilenet_v2_blocks(net, x)
    x = net.convolve(maps[-1], 1280)
    features = [maps[3], x]
    for inner, outputs in ((256, 512), (128, 256), (128, 256), (64, 128)):
        x = net.convolve(net.convolve(x, inner), outputs, 3, 2)
        features.append(x)
    boxes, scores = [], []
    for index, feature in enumerate(features):
        anchors = 6 if index else 3
        cells = feature.shape[1] * feature.shape[2] * anchors
        boxes.append(net.reshape(net.convolve(feature, anchors * 4), 1, cells, 1, 4))
        scores.append(net.reshape(net.convolve(feature, anchors * classes), 1, cells, classes))
    box, score = net.concatenate(boxes, 1), net.unary("LOGISTIC", net.concatenate(scores, 1))
    return [net.custom("TFLite_Detection_PostProcess", [net.reshape(box, 1, box.shape[1], 4), score], 1, 10, 4)]


def efficientdet_lite0(net: Layers, *, classes: int = 90, size: int = 320) -> list[T]:
    """EfficientDet-Lite0 as Model Maker exports it: uint8 in, the outputs in float behind a custom operator."""
    x = net.quantize(net.input(1, size, size, 3, dtype=DataType.UINT8))
    x = net.convolve(x, 32, 3, 2)
    found, channels = [], 32
    for factor, outputs, count, stride, kernel in (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    ):
        for index in range(count):
            y = net.convolve(x, factor * channels) if factor > 1 else x
            y = net.convolve(net.depthwise(y, kernel, stride if index == 0 else 1), outputs)
            x = net.sum(x, y) if index else y
            channels = outputs
        if outputs in (40, 112, 320):
            found.append(x)
    levels = _pyramid(net, found)
    boxes = [_head(net, level, 4) for level in levels]
    scores = [_head(net, level, classes) for level in levels]
    score = net.dequantize(net.unary("LOGISTIC", net.concatenate(scores, 1)))
    box = net.dequantize(net.concatenate(boxes, 1))
    return [net.custom("TFLite_Detection_PostProcess", [box, score], 1, 25, 4)]


def _pyramid(net: Layers, found: list[T]) -> list[T]:
    """Three cells of a BiFPN of 64 channels over five levels."""
    sixth = net.pool(net.convolve(found[-1], 64), 3)
    levels = [*found, sixth, net.pool(sixth, 3)]
    for cell in range(3):
        first = cell == 0

        def narrowed(level: T) -> T:
            return net.convolve(level, 64) if level.shape[-1] != 64 else level

        down = [levels[4]]
        for level in reversed(levels[:4]):
            larger = net.upsample(down[0], level.shape[1], level.shape[2])
            down.insert(0, net.separable(net.sum(narrowed(level), larger), 64))
        up = [down[0]]
        for index in range(1, 5):
            smaller = net.pool(up[-1], 3)
            if index < 4:
                other = narrowed(levels[index]) if first else levels[index]
                up.append(net.separable(net.sum(net.sum(other, down[index]), smaller), 64))
            else:
                up.append(net.separable(net.sum(levels[4], smaller), 64))
        levels = up
    return levels


def _head(net: Layers, level: T, values: int) -> T:
    x = level
    for _ in range(3):
        x = net.separable(x, 64)
    x = net.separable(x, 9 * values)
    return net.reshape(x, 1, 9 * level.shape[1] * level.shape[2], values)


def tiny_yolo(net: Layers, *, activation: str = "") -> list[T]:
    """Tiny YOLO v3 at 416 x 416: two outputs, one of them behind an upsampled map."""
    x = net.quantize(net.input(1, 416, 416, 3, dtype=DataType.UINT8))

    def layer(x: T, channels: int, kernel: int = 3) -> T:
        x = net.convolve(x, channels, kernel)
        return net.unary(activation, x) if activation else x

    for channels in (16, 32, 64, 128):
        x = net.pool(layer(x, channels))
    route = layer(x, 256)
    x = layer(net.pool(route), 512)
    x = net.add("MAX_POOL_2D", [x], x.shape, options("Pool2D", filterHeight=2, filterWidth=2, strideH=1, strideW=1))
    x = layer(layer(x, 1024), 256, 1)
    first = net.quantize(net.convolve(layer(x, 512), 255))
    x = net.quantize(net.upsample(layer(x, 128, 1), 26, 26))
    second = net.convolve(layer(net.concatenate([x, route], 3), 256), 255)
    return [first, net.quantize(second)]


def segmentation(net: Layers, *, size: int = 128, softmax: bool = False) -> list[T]:
    """A U-Net on MobileNet V2 with transposed convolutions, three classes."""
    x = net.convolve(net.quantize(net.input(1, size, size, 3, dtype=DataType.UINT8)), 32, 3, 2)
    maps = mobilenet_v2_blocks(net, x)
    x = maps[-1]
    for channels, skip in zip((512, 256, 128, 64), reversed(maps[:-1])):
        x = net.concatenate([net.unary("RELU", net.transposed(x, channels)), skip], 3)
    x = net.transposed(x, 3)
    return [net.quantize(net.softmax(x) if softmax else x)]


def fpnlite(net: Layers, *, size: int = 320, classes: int = 91) -> list[T]:
    """TensorFlow's SSD MobileNet V2 FPNLite: upsampling is written as PACK and RESHAPE, and towers are shared."""
    x = net.convolve(net.quantize(net.input(1, size, size, 3, dtype=DataType.UINT8)), 32, 3, 2)
    maps = mobilenet_v2_blocks(net, x)
    top = net.convolve(maps[-1], 1280)
    fifth, fourth, third = (net.convolve(x, 128) for x in (top, maps[3], maps[2]))
    levels = [fifth]
    for lateral in (fourth, third):
        levels.append(net.sum(lateral, _packed(net, levels[-1])))
    levels = [net.separable(levels[2], 128), net.separable(levels[1], 128), fifth]
    for _ in range(2):
        levels.append(net.separable(levels[-1], 128, stride=2))
    boxes, scores = [], []
    for level in levels:
        x = level
        for _ in range(4):
            x = net.separable(x, 128)
        cells = 6 * level.shape[1] * level.shape[2]
        boxes.append(net.reshape(net.separable(x, 24), 1, cells, 4))
        scores.append(net.reshape(net.separable(x, 6 * classes), 1, cells, classes))
    box, score = net.concatenate(boxes, 1), net.unary("LOGISTIC", net.concatenate(scores, 1))
    return [net.custom("TFLite_Detection_PostProcess", [net.dequantize(box), net.dequantize(score)], 1, 10, 4)]


def _packed(net: Layers, x: T) -> T:
    """Twice the height and width, by stacking."""
    _, height, width, channels = x.shape
    x = net.add("PACK", [x, x], (1, height, width, 2, channels), options("Pack", axis=3, valuesCount=2))
    x = net.add("PACK", [x, x], (1, height, 2, width, 2, channels), options("Pack", axis=2, valuesCount=2))
    return net.reshape(x, 1, 2 * height, 2 * width, channels)
