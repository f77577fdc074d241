"""SqueezeNet, ResNet-50 and ShuffleNet as Caffe2 exported them at opset 9, with seeded random weights.

The onnx wheel holds these topologies with every weight equal to 0.02, so that each output is the same for any input and
proves nothing. Here the weights are drawn as in the other graphs. As in the original files they are listed as graph
inputs too.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

FloatArray = NDArray[np.float32]

# Position of a BatchNormalization parameter to (mean, deviation) of its values; a scale before a Sum is smaller.
BATCH_NORM = {1: (1.0, 0.1), 2: (0.0, 0.1), 3: (0.0, 0.1), 4: (1.0, 0.1)}
RESIDUAL_SCALE = 0.4
# Keeps the logits small enough for a Softmax that is not all in one class.
CLASSIFIER_GAIN = 0.1
# A Conv that reads what a Relu left needs twice the variance (He et al. 2015); these pass on what they read.
PASSING = ("AveragePool", "Concat", "Dropout", "GlobalAveragePool", "MaxPool", "Reshape", "Transpose")


def with_random_weights(path: Path, seed: int = 0) -> onnx.ModelProto:
    """The model of a `light_*.onnx` file with its constant weights replaced."""
    model = onnx.load(path)
    graph = model.graph
    random = np.random.default_rng(seed)
    old = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shapes = {name: array.shape for name, array in old.items() if array.dtype == np.float32}
    filled = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "ConstantOfShape"}
    shapes |= {name: tuple(int(size) for size in old[source]) for name, source in filled.items()}
    before_sum = {name for node in graph.node if node.op_type == "Sum" for name in node.input}
    weights: dict[str, FloatArray] = {}
    rectified: set[str] = set()
    for node in graph.node:
        if node.op_type == "Relu" or (node.op_type in PASSING and node.input[0] in rectified):
            rectified.update(node.output)
        gain = CLASSIFIER_GAIN if node.op_type == "Gemm" else 2.0 if node.input[0] in rectified else 1.0
        for position, name in enumerate(node.input):
            if name in shapes and name not in weights:
                weights[name] = _draw(random, node, position, shapes[name], gain, node.output[0] in before_sum)
    kept = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    used = {name for node in kept for name in node.input}
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    initializers += [tensor for tensor in graph.initializer if tensor.name in used and tensor.name not in weights]
    inputs = [value for value in graph.input if value.name not in old]
    inputs += [helper.make_tensor_value_info(item.name, item.data_type, list(item.dims)) for item in initializers]
    rebuilt = helper.make_graph(kept, graph.name, inputs, list(graph.output), initializers)
    result = helper.make_model(rebuilt, opset_imports=list(model.opset_import), producer_name="edgec-benchmarks")
    result.ir_version = model.ir_version
    return result


def _draw(
    random: np.random.Generator,
    node: onnx.NodeProto,
    position: int,
    shape: tuple[int, ...],
    gain: float,
    residual: bool,
) -> FloatArray:
    if node.op_type == "BatchNormalization":
        mean, deviation = BATCH_NORM[position]
        values = mean + random.standard_normal(shape) * deviation
        if position == 1 and residual:
            values *= RESIDUAL_SCALE
        return np.asarray(np.abs(values) if position == 4 else values, dtype=np.float32)
    if position == 1:
        fan_in = math.prod(shape[1:])
        return np.asarray(random.standard_normal(shape) * math.sqrt(gain / fan_in), dtype=np.float32)
    return np.asarray(random.standard_normal(shape) * 0.1, dtype=np.float32)
