"""Train the digits classifier with NumPy alone and write ``digits.onnx`` and its samples beside this file.

    python -m pip install scikit-learn
    python examples/digits/train.py

The data are scikit-learn's 1,797 handwritten digits of 8 x 8 pixels (UCI "Optical Recognition of Handwritten Digits").
A fifth of them, drawn with a fixed seed and never trained on, become ``samples.npz`` (360 samples of the input ``x``:
float32 [360, 1, 8, 8], values 0 to 16) and ``labels.npy`` (int64 [360]).  The graph looks like what PyTorch's
exporter writes before any simplification: BatchNormalization behind every convolution, the scaling inside the graph.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from network import (
    Adam,
    Array,
    BatchNorm,
    Conv3x3,
    Depthwise3x3,
    GlobalAverage,
    HardSwish,
    Layer,
    Linear,
    Relu,
    Residual,
    backward,
    forward,
)
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent


def build(random: np.random.Generator) -> list[Layer]:
    """The network: a stem, three depthwise-separable blocks (one strided, one residual), pooling and a classifier."""
    block: list[Layer] = [
        Depthwise3x3(48, 1, random), BatchNorm(48), HardSwish(), Linear(48, 48, random), BatchNorm(48),
    ]  # fmt: skip
    return [
        Conv3x3(1, 16, random), BatchNorm(16), HardSwish(),
        Depthwise3x3(16, 1, random), BatchNorm(16), Relu(), Linear(16, 32, random), BatchNorm(32), Relu(),
        Depthwise3x3(32, 2, random), BatchNorm(32), HardSwish(), Linear(32, 48, random), BatchNorm(48), HardSwish(),
        Residual(block),
        GlobalAverage(), Linear(48, 10, random, bias=True),
    ]  # fmt: skip


def load() -> tuple[Array, np.ndarray, Array, np.ndarray]:
    """Training and test images [N,8,8,1] (0 to 16) and labels [N], split with a fixed seed."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    images = digits.images[order, :, :, None].astype(np.float32)
    labels = digits.target[order].astype(np.int64)
    return images[360:], labels[360:], images[:360], labels[:360]


def shifted(images: Array, random: np.random.Generator) -> Array:
    """Move every image by up to one pixel: the only augmentation."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = random.integers(0, 3, (2, len(images)))
    return np.stack([padded[n, r : r + 8, c : c + 8] for n, (r, c) in enumerate(zip(rows, columns, strict=True))])


def train(layers: list[Layer], images: Array, labels: np.ndarray, epochs: int, random: np.random.Generator) -> None:
    """Cross-entropy with Adam and a cosine schedule, batches of 64."""
    optimizer = Adam(layers)
    batches = len(images) // 64
    for epoch in range(epochs):
        order = random.permutation(len(images))
        loss = 0.0
        for index in range(batches):
            chosen = order[index * 64 : (index + 1) * 64]
            logits = forward(layers, shifted(images[chosen], random) / 16, training=True)
            exponentials = np.exp(logits - logits.max(1, keepdims=True))
            gradient = exponentials / exponentials.sum(1, keepdims=True)
            picked = np.arange(len(chosen)), labels[chosen]
            loss -= float(np.log(gradient[picked] + 1e-12).mean())
            gradient[picked] -= 1
            backward(layers, gradient / len(chosen))
            optimizer.step(0.004 * (1 + np.cos(np.pi * (epoch + index / batches) / epochs)) / 2)
        print(f"epoch {epoch + 1}/{epochs}  loss {loss / batches:.4f}", flush=True)


class Exporter:
    """Collects ONNX nodes and initializers while it walks the layers."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, operator: str, inputs: list[str], **attributes: object) -> str:
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [f"{name}_output"], name=name, **attributes))
        return f"{name}_output"

    def walk(self, layers: list[Layer], value: str) -> str:
        for layer in layers:
            value = self.layer(layer, value)
        return value

    def layer(self, layer: Layer, value: str) -> str:
        number = len(self.nodes)
        weight = layer.parameters.get("weight")
        padding = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        match layer:
            case Conv3x3():
                kernel = layer.parameters["weight"].reshape(3, 3, *layer.parameters["weight"].shape[1:])
                name = self.constant(f"conv_{number}.weight", kernel.transpose(3, 2, 0, 1))
                return self.node("Conv", [value, name], strides=[1, 1], group=1, **padding)
            case Depthwise3x3():
                kernel = layer.parameters["weight"].T.reshape(-1, 1, 3, 3)
                name = self.constant(f"conv_{number}.weight", kernel)
                strides = [layer.stride, layer.stride]
                return self.node("Conv", [value, name], strides=strides, group=len(kernel), **padding)
            case Linear() if "bias" in layer.parameters:
                names = [self.constant(f"fc.{key}", layer.parameters[key].T) for key in ("weight", "bias")]
                return self.node("Gemm", [value, *names], transB=1)
            case Linear() if weight is not None:
                name = self.constant(f"conv_{number}.weight", weight.T[:, :, None, None])
                return self.node("Conv", [value, name], kernel_shape=[1, 1], strides=[1, 1], group=1)
            case BatchNorm():
                statistics = {**layer.parameters, "running_mean": layer.mean, "running_var": layer.variance}
                names = [self.constant(f"bn_{number}.{key}", array) for key, array in statistics.items()]
                return self.node("BatchNormalization", [value, *names], epsilon=layer.epsilon, momentum=0.9)
            case GlobalAverage():
                return self.node("Flatten", [self.node("GlobalAveragePool", [value])], axis=1)
            case Residual():
                return self.node("Add", [value, self.walk(layer.inner, value)])
            case Relu() | HardSwish():
                return self.node(type(layer).__name__, [value])
        raise TypeError(f"no export for {type(layer).__name__}")


def export(layers: list[Layer]) -> onnx.ModelProto:
    """The trained network as ONNX: opset 17, IR 8, input ``x`` [1,1,8,8], output ``logits`` [1,10]."""
    exporter = Exporter()
    scaled = exporter.node("Div", ["x", exporter.constant("pixel_range", np.float32(16))])
    exporter.walk(layers, scaled)
    exporter.nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        exporter.nodes,
        "digits",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        exporter.initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="edgec examples/digits/train.py"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train, report test accuracy, write the three files."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args()
    random = np.random.default_rng(1)
    layers = build(random)
    images, labels, test_images, test_labels = load()
    train(layers, images, labels, options.epochs, random)
    logits = forward(layers, test_images / 16)
    print(f"test accuracy {(logits.argmax(1) == test_labels).mean():.4f} on {len(test_labels)} digits")
    model = export(layers)
    options.output.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, options.output / "digits.onnx")
    np.savez_compressed(options.output / "samples.npz", x=test_images.transpose(0, 3, 1, 2))
    np.save(options.output / "labels.npy", test_labels)


if __name__ == "__main__":
    main()
