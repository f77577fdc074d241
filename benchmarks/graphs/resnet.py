"""ResNet-50 v1.5 at 224 x 224 (He et al. 2015), as torchvision's model is exported: 25.6 M parameters, 102 MB."""

from __future__ import annotations

from benchmarks.graphs.builder import GraphBuilder

# width, blocks, stride of the first
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))


def resnet50(seed: int = 0, batch_norm: bool = False) -> GraphBuilder:
    """Input float32 [1, 3, 224, 224], output [1, 1000]."""
    graph = GraphBuilder("resnet50", seed)

    def block(value: str, name: str, channels_in: int, channels_out: int, kernel: int, stride: int, gain: float) -> str:
        return graph.convolution_block(
            value, name, channels_in, channels_out, kernel, stride=stride, batch_norm=batch_norm, gain=gain
        )

    value = graph.node("Relu", [block(graph.input("input", (1, 3, 224, 224)), "stem", 3, 64, 7, 2, 2.0)])
    value = graph.node("MaxPool", [value], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], ceil_mode=0)
    channels = 64
    for stage, (width, blocks, first_stride) in enumerate(STAGES, 1):
        for index in range(blocks):
            name = f"layer{stage}.{index}"
            stride = first_stride if index == 0 else 1
            hidden = graph.node("Relu", [block(value, f"{name}.1", channels, width, 1, 1, 2.0)])
            hidden = graph.node("Relu", [block(hidden, f"{name}.2", width, width, 3, stride, 2.0)])
            # The gains of the two summands keep the variance near 1 from block to block.
            hidden = block(hidden, f"{name}.3", width, width * 4, 1, 1, 0.3)
            if index == 0:
                value = block(value, f"{name}.downsample", channels, width * 4, 1, stride, 1.0)
            channels = width * 4
            value = graph.node("Relu", [graph.node("Add", [hidden, value])])
    value = graph.node("Flatten", [graph.node("GlobalAveragePool", [value])], axis=1)
    graph.output(graph.gemm(value, "fc", 2048, 1000), (1, 1000), "output")
    return graph
