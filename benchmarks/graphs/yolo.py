"""A detector shaped like YOLOv8n at 320 x 320 (C2f, SPPF, decoupled head with distribution focal loss), as exported."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper

from benchmarks.graphs.builder import GraphBuilder

SIZE, CLASSES, BINS = 320, 80, 16
STRIDES = (8, 16, 32)
ANCHORS = sum((SIZE // stride) ** 2 for stride in STRIDES)


class _Yolo(GraphBuilder):
    def block(
        self, value: str, name: str, channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1
    ) -> str:
        """Conv with folded BatchNormalization and SiLU, exported as Sigmoid and Mul."""
        convolved = self.convolution(value, f"{name}.conv", channels_in, channels_out, kernel, stride=stride, gain=2.5)
        return self.node("Mul", [convolved, self.node("Sigmoid", [convolved])])

    def c2f(self, value: str, name: str, channels_in: int, channels_out: int, repeats: int, shortcut: bool) -> str:
        """Cross-stage partial block: split in two, chain bottlenecks on one half, concatenate all of them."""
        half = channels_out // 2
        split = self.nodes_with(
            "Split",
            [self.block(value, f"{name}.cv1", channels_in, channels_out), self.integers([half, half])],
            2,
            axis=1,
        )
        parts = list(split)
        for index in range(repeats):
            hidden = self.block(parts[-1], f"{name}.m.{index}.cv1", half, half, 3)
            hidden = self.block(hidden, f"{name}.m.{index}.cv2", half, half, 3)
            parts.append(self.node("Add", [parts[-1], hidden]) if shortcut else hidden)
        joined = self.node("Concat", parts, axis=1)
        return self.block(joined, f"{name}.cv2", half * (2 + repeats), channels_out)

    def sppf(self, value: str, name: str, channels: int) -> str:
        """Three chained 5 x 5 max pools, concatenated with their input."""
        parts = [self.block(value, f"{name}.cv1", channels, channels // 2)]
        for _ in range(3):
            parts.append(
                self.node("MaxPool", [parts[-1]], kernel_shape=[5, 5], pads=[2, 2, 2, 2], strides=[1, 1], ceil_mode=0)
            )
        return self.block(self.node("Concat", parts, axis=1), f"{name}.cv2", channels * 2, channels)

    def double(self, value: str) -> str:
        """Nearest-neighbour upsampling by 2 as torch.nn.Upsample exports it."""
        scales = self.node("Constant", [], value=numpy_helper.from_array(np.asarray([1, 1, 2, 2], dtype=np.float32)))
        return self.node(
            "Resize",
            [value, "", scales],
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
            cubic_coeff_a=-0.75,
        )

    def head(self, features: list[str], channels: tuple[int, ...]) -> str:
        """Boxes (centre, size in pixels) and class scores, [1, 84, anchors]."""
        levels = []
        for index, (feature, width) in enumerate(zip(features, channels, strict=True)):
            sides = 4 * BINS
            box = self.block(feature, f"head.cv2.{index}.0", width, 64, 3)
            box = self.block(box, f"head.cv2.{index}.1", 64, 64, 3)
            box = self.convolution(box, f"head.cv2.{index}.2", 64, sides, 1, gain=0.02)
            score = self.block(feature, f"head.cv3.{index}.0", width, CLASSES, 3)
            score = self.block(score, f"head.cv3.{index}.1", CLASSES, CLASSES, 3)
            score = self.convolution(score, f"head.cv3.{index}.2", CLASSES, CLASSES, 1, gain=0.02)
            joined = self.node("Concat", [box, score], axis=1)
            levels.append(self.node("Reshape", [joined, self.integers([1, sides + CLASSES, -1])]))
        joined = self.node("Concat", levels, axis=2)
        box, score = self.nodes_with("Split", [joined, self.integers([4 * BINS, CLASSES])], 2, axis=1)
        box = self.node("Reshape", [box, self.integers([1, 4, BINS, ANCHORS])])
        box = self.node("Softmax", [self.node("Transpose", [box], perm=[0, 2, 1, 3])], axis=1)
        bins = self.parameter("head.dfl.conv.weight", np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1))
        box = self.node(
            "Conv", [box, bins], dilations=[1, 1], group=1, kernel_shape=[1, 1], pads=[0] * 4, strides=[1, 1]
        )
        box = self.node("Reshape", [box, self.integers([1, 4, ANCHORS])])
        points, strides = _anchors()
        ends = []
        for start, stop in ((0, 2), (2, 4)):
            ends.append(self.node("Slice", [box, self.integers([start]), self.integers([stop]), self.integers([1])]))
        centre = self.parameter("head.anchors", points)
        first = self.node("Sub", [centre, ends[0]])
        second = self.node("Add", [centre, ends[1]])
        middle = self.node("Div", [self.node("Add", [first, second]), self.scalar(2.0)])
        box = self.node("Concat", [middle, self.node("Sub", [second, first])], axis=1)
        box = self.node("Mul", [box, self.parameter("head.strides", strides)])
        return self.node("Concat", [box, self.node("Sigmoid", [score])], axis=1)


def yolov8n(seed: int = 0) -> GraphBuilder:
    """Input float32 [1, 3, 320, 320], output [1, 84, 2100]; 3.2 M parameters, 12.6 MB."""
    graph = _Yolo("yolov8n", seed)
    value = graph.block(graph.input("images", (1, 3, SIZE, SIZE)), "model.0", 3, 16, 3, 2)
    value = graph.c2f(graph.block(value, "model.1", 16, 32, 3, 2), "model.2", 32, 32, 1, True)
    third = graph.c2f(graph.block(value, "model.3", 32, 64, 3, 2), "model.4", 64, 64, 2, True)
    fourth = graph.c2f(graph.block(third, "model.5", 64, 128, 3, 2), "model.6", 128, 128, 2, True)
    fifth = graph.c2f(graph.block(fourth, "model.7", 128, 256, 3, 2), "model.8", 256, 256, 1, True)
    fifth = graph.sppf(fifth, "model.9", 256)
    joined = graph.node("Concat", [graph.double(fifth), fourth], axis=1)
    middle = graph.c2f(joined, "model.12", 384, 128, 1, False)
    joined = graph.node("Concat", [graph.double(middle), third], axis=1)
    small = graph.c2f(joined, "model.15", 192, 64, 1, False)
    joined = graph.node("Concat", [graph.block(small, "model.16", 64, 64, 3, 2), middle], axis=1)
    middle = graph.c2f(joined, "model.18", 192, 128, 1, False)
    joined = graph.node("Concat", [graph.block(middle, "model.19", 128, 128, 3, 2), fifth], axis=1)
    large = graph.c2f(joined, "model.21", 384, 256, 1, False)
    graph.output(graph.head([small, middle, large], (64, 128, 256)), (1, 4 + CLASSES, ANCHORS), "output0")
    return graph


def _anchors() -> tuple[np.ndarray, np.ndarray]:
    points, strides = [], []
    for stride in STRIDES:
        side = SIZE // stride
        rows, columns = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5, indexing="ij")
        points.append(np.stack([columns.ravel(), rows.ravel()]))
        strides.append(np.full((1, side * side), stride))
    return (
        np.concatenate(points, axis=1).astype(np.float32)[None],
        np.concatenate(strides, axis=1).astype(np.float32),
    )
