"""Operators between convolutions find their axes in the channels-last layout that the analysis chose for them."""

from __future__ import annotations

import pytest

from ..lowered import assert_equivalent, counts

HEADER = '<ir_version: 10, opset_import: ["" : 22]>'
WEIGHTS = (
    "w = Constant <value_floats = ["
    + ", ".join(f"{(n * 7 % 11 - 5) / 8}" for n in range(16))
    + "]> ()\nshape = Constant <value_ints = [4, 4, 1, 1]> ()\nweights = Reshape (w, shape)\n"
)


def around(body: str, result: str) -> str:
    """A convolution, ``body`` from ``h`` to ``y``, with the result's type given."""
    return f"{HEADER} g (float[1,4,6,5] x) => ({result} y) {{\n{WEIGHTS}h = Conv (x, weights)\n{body}\n}}"


CASES = {
    "gather one channel": ("i = Constant <value_int = -1> ()\ny = Gather <axis = 1> (h, i)", "float[1,6,5]"),
    "gather one row": ("i = Constant <value_int = 2> ()\ny = Gather <axis = 2> (h, i)", "float[1,4,5]"),
    "gather the batch": ("i = Constant <value_int = 0> ()\ny = Gather (h, i)", "float[4,6,5]"),
    "gather channels": ("i = Constant <value_ints = [3, 0, -2]> ()\ny = Gather <axis = 1> (h, i)", "float[1,3,6,5]"),
    "gather neighbours": ("i = Constant <value_ints = [1, 2]> ()\ny = Gather <axis = 1> (h, i)", "float[1,2,6,5]"),
    "argmax of channels": ("y = ArgMax <axis = 1, keepdims = 0> (h)", "int64[1,6,5]"),
    "argmin of rows kept": ("y = ArgMin <axis = 2> (h)", "int64[1,4,1,5]"),
    "last argmax": ("y = ArgMax <axis = 1, select_last_index = 1> (h)", "int64[1,1,6,5]"),
    "hardmax": ("y = Hardmax <axis = 1> (h)", "float[1,4,6,5]"),
    "cumulative sum": ("a = Constant <value_int = 1> ()\ny = CumSum (h, a)", "float[1,4,6,5]"),
    "exclusive sum": (
        "a = Constant <value_int = -1> ()\ny = CumSum <exclusive = 1, reverse = 1> (h, a)",
        "float[1,4,6,5]",
    ),
    "trilu": ("y = Trilu <upper = 0> (h)", "float[1,4,6,5]"),
    "upper trilu": ("k = Constant <value_int = 1> ()\ny = Trilu (h, k)", "float[1,4,6,5]"),
    "top of channels": (
        "k = Constant <value_ints = [2]> ()\ny, j = TopK <axis = 1> (h, k)\n",
        "float[1,2,6,5]",
    ),
    "reduction": ("a = Constant <value_ints = [1]> ()\ny = ReduceSum <keepdims = 0> (h, a)", "float[1,6,5]"),
    "log sum exp": ("a = Constant <value_ints = [2, 3]> ()\ny = ReduceLogSumExp <keepdims = 0> (h, a)", "float[1,4]"),
    "per-channel quantization": (
        "s = Constant <value_floats = [0.1, 0.2, 0.3, 0.4]> ()\nq = QuantizeLinear <axis = 1> (h, s)\n"
        "y = DequantizeLinear <axis = 1> (q, s)",
        "float[1,4,6,5]",
    ),
    "error function": ("y = Erf (h)", "float[1,4,6,5]"),
    "arctangent": ("y = Atan (h)", "float[1,4,6,5]"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("io_layout", ["ONNX", "NHWC"])
def test_after_a_convolution(name: str, io_layout: str) -> None:
    assert_equivalent(around(*CASES[name]), io_layout)


UNMOVED = ["gather channels", "gather neighbours", "cumulative sum", "error function", "hardmax"]


@pytest.mark.parametrize("name", UNMOVED)
def test_between_convolutions_nothing_is_transposed(name: str) -> None:
    body, result = CASES[name]
    channels = int(result.split(",")[1])
    pick = f"one = Constant <value_floats = [{', '.join(['0.5'] * channels)}]> ()\n"
    pick += f"to = Constant <value_ints = [1, {channels}, 1, 1]> ()\nlast = Reshape (one, to)\n"
    text = around(body.replace("y =", "z =") + f"\n{pick}y = Conv (z, last)", "float[1,1,6,5]")
    lowered = assert_equivalent(text, "NHWC")
    assert counts(lowered)["TRANSPOSE"] == 0
