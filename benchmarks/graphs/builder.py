"""A small builder of ONNX graphs with seeded random weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FloatArray = NDArray[np.float32]


class GraphBuilder:
    """Collects nodes and initializers; value names and node names follow PyTorch's exporter.

    Parameters are drawn in call order from one seeded generator, so the same calls give the same bytes.
    """

    def __init__(self, name: str, seed: int = 0, opset: int = 17) -> None:
        self.name = name
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._counts: dict[str, int] = {}

    def input(self, name: str, shape: Sequence[int]) -> str:
        """Declare a float32 graph input."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return name

    def output(self, value: str, shape: Sequence[int], name: str) -> None:
        """Declare a float32 graph output; the node that makes `value` is changed to write `name`."""
        for node in self.nodes:
            for index, output in enumerate(node.output):
                if output == value:
                    node.output[index] = name
            for index, read in enumerate(node.input):
                if read == value:
                    node.input[index] = name
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def parameter(self, name: str, array: NDArray[np.generic]) -> str:
        """Store an array as an initializer with raw data."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def integers(self, values: Sequence[int] | int) -> str:
        """Store int64 values as a Constant node, as PyTorch's exporter does for shapes and axes."""
        array = np.asarray(values, dtype=np.int64)
        return self.node("Constant", [], value=numpy_helper.from_array(array))

    def scalar(self, value: float) -> str:
        """Store one float32 as a Constant node."""
        return self.node("Constant", [], value=numpy_helper.from_array(np.asarray(value, dtype=np.float32)))

    def node(self, operator: str, inputs: Sequence[str], **attributes: object) -> str:
        """Append a node with one output; returns the output's name."""
        return self.nodes_with(operator, inputs, 1, **attributes)[0]

    def nodes_with(self, operator: str, inputs: Sequence[str], output_count: int, **attributes: object) -> list[str]:
        """Append a node with several outputs; returns their names."""
        number = self._counts.get(operator, 0)
        self._counts[operator] = number + 1
        name = f"/{operator}" + (f"_{number}" if number else "")
        outputs = [f"{name}_output_{index}" for index in range(output_count)]
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, name=name, **attributes))
        return outputs

    def normal(self, shape: Sequence[int], deviation: float) -> FloatArray:
        """Normally distributed float32 values around 0."""
        return (self.random.standard_normal(tuple(shape), dtype=np.float32) * np.float32(deviation)).astype(np.float32)

    def convolution(
        self,
        value: str,
        name: str,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = True,
        gain: float = 2.0,
    ) -> str:
        """A square Conv, weights of variance gain / fan-in (He et al. 2015); padding defaults to kernel // 2."""
        fan_in = channels_in // groups * kernel * kernel
        weight = self.normal((channels_out, channels_in // groups, kernel, kernel), math.sqrt(gain / fan_in))
        inputs = [value, self.parameter(f"{name}.weight", weight)]
        if bias:
            inputs.append(self.parameter(f"{name}.bias", self.normal((channels_out,), 0.1)))
        pad = kernel // 2 if padding is None else padding
        return self.node(
            "Conv",
            inputs,
            dilations=[1, 1],
            group=groups,
            kernel_shape=[kernel, kernel],
            pads=[pad] * 4,
            strides=[stride, stride],
        )

    def batch_normalization(self, value: str, name: str, channels: int, shift: float = 0.1) -> str:
        """An inference BatchNormalization with parameters like a trained network's; `shift` spreads the means."""
        scale = 1.0 + self.normal((channels,), 0.1)
        variance = 1.0 + np.abs(self.normal((channels,), 0.2))
        names = [
            self.parameter(f"{name}.weight", scale),
            self.parameter(f"{name}.bias", self.normal((channels,), shift)),
            self.parameter(f"{name}.running_mean", self.normal((channels,), shift)),
            self.parameter(f"{name}.running_var", variance),
        ]
        return self.node("BatchNormalization", [value, *names], epsilon=1e-5, momentum=0.9)

    def convolution_block(
        self,
        value: str,
        name: str,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        batch_norm: bool = False,
        gain: float = 2.0,
    ) -> str:
        """Conv with the BatchNormalization folded into its bias, as PyTorch exports in eval mode, or left after it."""
        result = self.convolution(
            value,
            f"{name}.conv",
            channels_in,
            channels_out,
            kernel,
            stride=stride,
            groups=groups,
            bias=not batch_norm,
            gain=gain,
        )
        return self.batch_normalization(result, f"{name}.bn", channels_out) if batch_norm else result

    def gemm(self, value: str, name: str, features_in: int, features_out: int) -> str:
        """A Gemm with transB = 1, as torch.nn.Linear on a matrix is exported."""
        weight = self.parameter(
            f"{name}.weight", self.normal((features_out, features_in), math.sqrt(1.0 / features_in))
        )
        bias = self.parameter(f"{name}.bias", self.normal((features_out,), 0.1))
        return self.node("Gemm", [value, weight, bias], alpha=1.0, beta=1.0, transB=1)

    def linear(self, value: str, name: str, features_in: int, features_out: int) -> str:
        """MatMul and Add, as torch.nn.Linear on a tensor of rank 3 is exported."""
        weight = self.parameter(
            f"{name}.MatMul", self.normal((features_in, features_out), math.sqrt(1.0 / features_in))
        )
        bias = self.parameter(f"{name}.bias", self.normal((features_out,), 0.1))
        return self.node("Add", [bias, self.node("MatMul", [value, weight])])

    def model(self) -> onnx.ModelProto:
        """The finished model, without value_info, as the exporters leave it."""
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.initializers)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], producer_name="edgec-benchmarks"
        )
        model.ir_version = 8
        return model

    def save(self, path: Path) -> None:
        """Write the model to one file."""
        path.write_bytes(self.model().SerializeToString())
