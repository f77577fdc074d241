"""Normalizations of every rank and attribute equal ONNX Runtime's."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.tflite.random_models import ModelBuilder, assert_holds, examples

OPERATORS = ("Instance", "Layer", "Layer", "Batch", "Training", "LRN", "Lp", "Group", "MeanVariance", "RMS")


@st.composite
def normalizations(draw: st.DrawFn) -> onnx.ModelProto:
    """One normalization, its parameters constants or inputs, ranks 2 to 5."""
    kind = draw(st.sampled_from(OPERATORS))
    rank = draw(st.integers(3, 5))
    dims = [
        draw(st.integers(1, 3)),
        draw(st.sampled_from([2, 4, 5])),
        *(draw(st.integers(1, 4)) for _ in range(rank - 2)),
    ]
    b = ModelBuilder(draw(st.integers(0, 99)), opset=23 if kind == "RMS" else 22)
    x = b.input(dims)
    constant = draw(st.booleans())

    def parameter(*shape: int) -> str:
        return b.weights(*shape) if constant else b.input(shape)

    attributes: dict[str, Any] = {}
    if kind in ("Instance", "Layer", "Batch", "Training", "Group", "RMS") and draw(st.booleans()):
        attributes["epsilon"] = 0.1
    if kind in ("Layer", "RMS"):
        axis = draw(st.integers(-rank, rank - 1))
        shape = dims[axis % rank :]
        operands = [parameter(*shape)]
        if kind == "RMS":
            return b.build(b.add("RMSNormalization", x, *operands, axis=axis, **attributes))
        if draw(st.booleans()):
            operands.append(parameter(*shape))
        count = draw(st.sampled_from([1, 1, 3]))
        y = b.add("LayerNormalization", x, *operands, outputs=count, axis=axis, **attributes)
        return b.build(*[y, f"{y}_1", f"{y}_2"][:count])
    if kind == "Lp":
        return b.build(b.add("LpNormalization", x, axis=draw(st.integers(-rank, rank - 1)), p=draw(st.integers(1, 2))))
    if kind == "LRN":
        size = draw(st.sampled_from([1, 3, 5]))  # ONNX Runtime has no even sizes
        return b.build(b.add("LRN", b.input([*dims, 2][:4], name="i"), size=size, alpha=0.5, beta=0.6, bias=1.5))
    if kind == "MeanVariance":
        axes = [1, *draw(st.lists(st.sampled_from([0, *range(2, rank)]), unique=True))]  # no variance is 0
        return b.build(b.add("MeanVarianceNormalization", x, axes=axes))
    if kind == "Group":
        scale, bias = parameter(dims[1]), parameter(dims[1])
        groups = draw(st.sampled_from([n for n in (1, 2, 4, 5) if dims[1] % n == 0]))
        return b.build(b.add("GroupNormalization", x, scale, bias, num_groups=groups, **attributes))
    scale, bias = parameter(dims[1]), parameter(dims[1])
    if kind == "Instance":
        return b.build(b.add("InstanceNormalization", x, scale, bias, **attributes))
    mean = parameter(dims[1])
    variance = b.constant(b.random.random(dims[1]) + 0.5, np.float32)
    if kind == "Batch":
        return b.build(b.add("BatchNormalization", x, scale, bias, mean, variance, **attributes))
    y = b.add("BatchNormalization", x, scale, bias, mean, variance, outputs=3, training_mode=1, **attributes)
    return b.build(y, f"{y}_1", f"{y}_2")


@examples(60)
@given(normalizations(), st.sampled_from(["ONNX", "NHWC"]))
def test_normalizations(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout, refusal=False, tolerance=1e-3)
