"""Which graph inputs of a test are parameters, and the variant of a test that holds them as initializers.

The ONNX backend tests feed everything at run time, axes and convolution weights included.  Exporters never write such
models: PyTorch, Paddle and TensorFlow emit these values as initializers.  :func:`bind` rewrites a test as an exporter
would have written it.  Source of the positions: the ONNX operator specifications; first data inputs are never bound,
nor are masks, states, grids, regions and operands that a network computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper

#: Operator to the positions of its inputs that exporters emit as initializers.
PARAMETERS: Final[Mapping[str, frozenset[int]]] = {
    operator: frozenset(positions)
    for operator, positions in {
        # shapes, axes and sizes
        "AffineGrid": [1],  # size
        "CenterCropPad": [1],  # shape
        "Col2Im": [1, 2],  # image_shape, block_shape
        "CumSum": [1],  # axis
        "DFT": [1, 2],  # dft_length, axis
        "Expand": [1],  # shape
        "MaxUnpool": [2],  # output_shape
        "MelWeightMatrix": [1, 2, 3, 4],
        "OneHot": [1, 2],  # depth, values
        "Pad": [1, 2, 3],  # pads, constant_value, axes
        "Range": [1, 2],  # limit, delta
        "ReduceL1": [1],
        "ReduceL2": [1],
        "ReduceLogSum": [1],
        "ReduceLogSumExp": [1],
        "ReduceMax": [1],
        "ReduceMean": [1],
        "ReduceMin": [1],
        "ReduceProd": [1],
        "ReduceSum": [1],
        "ReduceSumSquare": [1],
        "Reshape": [1],
        "Resize": [1, 2, 3],  # roi, scales, sizes
        "STFT": [1, 2, 3],  # frame_step, window, frame_length
        "Slice": [1, 2, 3, 4],  # starts, ends, axes, steps
        "Split": [1],
        "Squeeze": [1],
        "Tile": [1],  # repeats
        "TopK": [1],  # K
        "Trilu": [1],  # k
        "Unsqueeze": [1],
        "Upsample": [1],  # scales
        # indices and lengths
        "ArrayFeatureExtractor": [1],
        "Compress": [1],  # condition
        "Gather": [1],
        "GatherElements": [1],
        "GatherND": [1],
        "ReverseSequence": [1],  # sequence_lens
        "Scatter": [1],
        "ScatterElements": [1],
        "ScatterND": [1],
        # weights
        "BatchNormalization": [1, 2, 3, 4],
        "Conv": [1, 2],
        "ConvInteger": [1, 2, 3],
        "ConvTranspose": [1, 2],
        "DeformConv": [1, 3],  # weights and bias; offset and mask are computed by the network
        "GRU": [1, 2, 3, 4],  # W, R, B, sequence_lens; the initial state stays an input
        "Gemm": [1, 2],
        "GroupNormalization": [1, 2],
        "InstanceNormalization": [1, 2],
        "LSTM": [1, 2, 3, 4, 7],  # W, R, B, sequence_lens, P
        "LayerNormalization": [1, 2],
        "MatMulInteger": [1, 2, 3],
        "NegativeLogLikelihoodLoss": [2],
        "PRelu": [1],
        "QLinearConv": [1, 2, 3, 4, 5, 6, 7, 8],
        "QLinearMatMul": [1, 2, 3, 4, 5, 6, 7],
        "RMSNormalization": [1],
        "RNN": [1, 2, 3, 4],
        "RotaryEmbedding": [1, 2],  # cos_cache, sin_cache
        "SoftmaxCrossEntropyLoss": [2],
        # scales, limits and thresholds
        "Clip": [1, 2],
        "DequantizeLinear": [1, 2],
        "Dropout": [1, 2],  # ratio, training_mode
        "NonMaxSuppression": [2, 3, 4],
        "QuantizeLinear": [1, 2],
        # control flow: the trip count and the condition, not the carried values
        "Loop": [0, 1],
    }.items()
}


def parameter_names(model: onnx.ModelProto) -> list[str]:
    """The graph inputs of `model` that every one of its consumers takes as a parameter, in graph order."""
    uses: dict[str, list[bool]] = {}
    held = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        positions = PARAMETERS.get(node.op_type, frozenset())
        if node.input and node.input[0] in held:  # a lookup table: its indices are the data
            positions = frozenset()
        for position, name in enumerate(node.input):
            uses.setdefault(name, []).append(position in positions)
    return [i.name for i in model.graph.input if i.name not in held and i.name in uses and all(uses[i.name])]


def bind(model: onnx.ModelProto, names: Sequence[str], values: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A copy of `model` in which the inputs `names` are initializers that hold `values`."""
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    kept = [value for value in bound.graph.input if value.name not in set(names)]
    del bound.graph.input[:]
    bound.graph.input.extend(kept)
    for name in names:
        bound.graph.initializer.append(numpy_helper.from_array(np.asarray(values[name]), name))
    bound.ir_version = max(bound.ir_version, 4)  # from 4 on an initializer need not be an input too
    return bound
