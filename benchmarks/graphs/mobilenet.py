"""MobileNetV2 1.0 at 224 x 224 (Sandler et al. 2018), as torchvision's model is exported: 3.5 M parameters, 14 MB."""

from __future__ import annotations

from benchmarks.graphs.builder import GraphBuilder

# expansion, output channels, repeats, stride of the first (table 2 of the paper)
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenetv2(seed: int = 0, batch_norm: bool = False) -> GraphBuilder:
    """Input float32 [1, 3, 224, 224], output [1, 1000]; ReLU6 is Clip with its bounds as constants."""
    graph = GraphBuilder("mobilenetv2", seed)
    low, high = graph.scalar(0.0), graph.scalar(6.0)

    def block(value: str, name: str, channels_in: int, channels_out: int, kernel: int, stride: int, groups: int) -> str:
        convolved = graph.convolution_block(
            value, name, channels_in, channels_out, kernel, stride=stride, groups=groups, batch_norm=batch_norm
        )
        return graph.node("Clip", [convolved, low, high])

    value = block(graph.input("input", (1, 3, 224, 224)), "features.0", 3, 32, 3, 2, 1)
    channels, number = 32, 1
    for expansion, channels_out, repeats, first_stride in STAGES:
        for repeat in range(repeats):
            name = f"features.{number}"
            number += 1
            stride = first_stride if repeat == 0 else 1
            hidden, source = channels * expansion, value
            if expansion != 1:
                value = block(value, f"{name}.expand", channels, hidden, 1, 1, 1)
            value = block(value, f"{name}.depthwise", hidden, hidden, 3, stride, hidden)
            value = graph.convolution_block(
                value, f"{name}.project", hidden, channels_out, 1, batch_norm=batch_norm, gain=1.0
            )
            if stride == 1 and channels == channels_out:
                value = graph.node("Add", [source, value])
            channels = channels_out
    value = block(value, "features.18", channels, 1280, 1, 1, 1)
    value = graph.node("Flatten", [graph.node("GlobalAveragePool", [value])], axis=1)
    graph.output(graph.gemm(value, "classifier.1", 1280, 1000), (1, 1000), "output")
    return graph
