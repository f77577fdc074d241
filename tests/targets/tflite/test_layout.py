"""The layout analysis: what it keeps from being transposed."""

from __future__ import annotations

import pytest

from tests.targets.tflite.lowered import assert_equivalent, counts

HEADER = '<ir_version: 10, opset_import: ["" : 22]>\n'


def weights(*dims: int) -> str:
    """The elements of a constant, small and varied, in ONNX text."""
    count = 1
    for dim in dims:
        count *= dim
    numbers = ", ".join(f"{((i * 7) % 11 - 5) / 10}" for i in range(count))
    return f"{{{numbers}}}"


def test_a_chain_of_image_operators_is_transposed_only_at_its_ends() -> None:
    text = (
        HEADER
        + f"""
    g (float[1,3,8,8] x) => (float[1,4,4,4] y) <float[4,3,3,3] w = {weights(4, 3, 3, 3)},
      float[4,1,3,3] d = {weights(4, 1, 3, 3)}> {{
      a = Conv <pads = [1,1,1,1]> (x, w)
      b = Relu (a)
      c = Conv <group = 4, pads = [1,1,1,1]> (b, d)
      e = Add (c, b)
      y = MaxPool <kernel_shape = [2,2], strides = [2,2]> (e)
    }}"""
    )
    assert counts(assert_equivalent(text))["TRANSPOSE"] == 2
    assert counts(assert_equivalent(text, io_layout="NHWC"))["TRANSPOSE"] == 0


def test_a_head_that_flattens_space_and_transposes_is_free() -> None:
    text = (
        HEADER
        + f"""
    g (float[1,3,4,4] x) => (float[1,16,6] y) <float[6,3,1,1] w = {weights(6, 3, 1, 1)},
      int64[3] s = {{1, 6, 16}}> {{
      a = Conv (x, w)
      b = Reshape (a, s)
      y = Transpose <perm = [0,2,1]> (b)
    }}"""
    )
    assert counts(assert_equivalent(text, io_layout="NHWC"))["TRANSPOSE"] == 0


def test_a_flattened_image_before_a_matrix_product_reorders_the_weights_instead() -> None:
    text = (
        HEADER
        + f"""
    g (float[1,2,4,4] x) => (float[1,5] y) <float[3,2,3,3] w = {weights(3, 2, 3, 3)},
      float[5,12] m = {weights(5, 12)}> {{
      a = Conv (x, w)
      b = Flatten (a)
      y = Gemm <transB = 1> (b, m)
    }}"""
    )
    assert counts(assert_equivalent(text, io_layout="NHWC"))["TRANSPOSE"] == 0


def test_the_transposed_key_of_attention_costs_nothing() -> None:
    text = (
        HEADER
        + """
    g (float[1,2,5,4] q, float[1,2,5,4] k) => (float[1,2,5,5] y) {
      t = Transpose <perm = [0,1,3,2]> (k)
      m = MatMul (q, t)
      y = Softmax <axis = -1> (m)
    }"""
    )
    assert counts(assert_equivalent(text))["TRANSPOSE"] == 0


def test_an_activation_stays_with_the_convolution_that_it_fuses_into() -> None:
    text = (
        HEADER
        + f"""
    g (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[2,3,1,1] w = {weights(2, 3, 1, 1)}> {{
      a = Conv (x, w)
      y = Relu (a)
    }}"""
    )
    lowered = assert_equivalent(text)
    assert counts(lowered) == {"TRANSPOSE": 2, "CONV_2D": 1}


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_reductions_follow_the_layout_along_every_axis(axis: int) -> None:
    keep = {0: "1,2,4,4", 1: "1,1,4,4", 2: "1,2,1,4", 3: "1,2,4,1"}[axis]
    text = (
        HEADER
        + f"""
    g (float[1,3,4,4] x) => (float[{keep}] y) <float[2,3,1,1] w = {weights(2, 3, 1, 1)},
      int64[1] axes = {{{axis}}}> {{
      a = Conv (x, w)
      y = ReduceMax (a, axes)
    }}"""
    )
    assert_equivalent(text, io_layout="NHWC")


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_reductions_that_drop_an_axis_follow_the_layout(axis: int) -> None:
    dims = [1, 2, 4, 5]
    kept = ",".join(str(dim) for number, dim in enumerate(dims) if number != axis)
    text = (
        HEADER
        + f"""
    g (float[1,3,4,5] x) => (float[{kept}] y) <float[2,3,1,1] w = {weights(2, 3, 1, 1)},
      int64[1] axes = {{{axis}}}> {{
      a = Conv (x, w)
      y = ReduceSum <keepdims = 0> (a, axes)
    }}"""
    )
    assert_equivalent(text)


def test_a_constant_of_lower_rank_broadcasts_in_channels_last() -> None:
    text = (
        HEADER
        + f"""
    g (float[1,3,4,5] x) => (float[1,2,4,5] y) <float[2,3,1,1] w = {weights(2, 3, 1, 1)},
      float[2,1,5] c = {weights(2, 1, 5)}> {{
      a = Conv (x, w)
      y = Mul (a, c)
    }}"""
    )
    assert_equivalent(text)


def test_a_computed_operand_of_lower_rank_broadcasts_in_channels_last() -> None:
    text = (
        HEADER
        + f"""
    g (float[1,3,4,5] x, float[2,4,5] z) => (float[1,2,4,5] y) <float[2,3,1,1] w = {weights(2, 3, 1, 1)}> {{
      a = Conv (x, w)
      s = Sigmoid (z)
      b = Mul (a, s)
      y = Relu (b)
    }}"""
    )
    assert_equivalent(text)


def test_no_two_tensors_share_a_name() -> None:
    text = (
        HEADER
        + """
    g (float[1,3,4,5] x) => (float[1,3,4,5] y) {
      s = Softplus (x)
      y = Mish (s)
    }"""
    )
    names = [tensor.name for tensor in assert_equivalent(text).payload.tensors()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("shape", "first", "inner"),
    [("1,8,6,3", "t = Transpose <perm = [0,3,1,2]> (x)", 3), ("1,8,6,1", "t = Reshape (x, s)", 1)],
)
def test_inputs_that_are_channels_last_already_are_not_turned(shape: str, first: str, inner: int) -> None:
    text = f"""<ir_version: 10, opset_import: ["" : 22]>
    g (float[{shape}] x, float[1,{inner},8,6] z) => (float[1,8,6,{inner}] y, float[1,{inner},8,6] w)
      <int64[4] s = {{1, {inner}, 8, 6}}> {{
      {first}
      p = AveragePool <kernel_shape = [1,1]> (t)
      w = Add (p, z)
      y = Transpose <perm = [0,2,3,1]> (w)
    }}"""
    lowered = assert_equivalent(text, "NHWC")
    assert set(lowered.layouts) == {"z", "w"} and counts(lowered)["TRANSPOSE"] == 0
