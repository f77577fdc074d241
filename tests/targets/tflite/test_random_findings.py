"""What the random tests found, each as a case of its own."""

from __future__ import annotations

import numpy as np

from tests.targets.tflite.random_models import ModelBuilder, assert_holds, outcome


def test_the_larger_half_of_padding_implied_by_output_shape_goes_in_front() -> None:
    b = ModelBuilder()
    y = b.add("ConvTranspose", b.input((1, 2, 5, 3)), b.weights(2, 2, 3, 3), output_shape=[14, 6], strides=[3, 2])
    assert_holds(b.build(y), refusal=False)


def test_weights_of_a_dilated_transposed_convolution_may_be_computed() -> None:
    b = ModelBuilder()
    x, w = b.input((1, 4, 3, 4)), b.input((4, 3, 2, 3))
    y = b.add("ConvTranspose", x, w, group=2, dilations=[3, 2], strides=[1, 2])
    assert_holds(b.build(y), refusal=False)


def test_align_corners_counts_whole_positions_where_scales_are_fractional() -> None:
    b = ModelBuilder()
    x, scales = b.input((1, 1, 3, 6)), b.constant([1, 1, 1.5, 1.3], np.float32)
    for mode in ("linear", "nearest", "cubic"):
        y = b.add("Resize", x, "", scales, mode=mode, coordinate_transformation_mode="align_corners")
        assert_holds(b.build(y), refusal=False)


def test_a_position_exactly_on_the_border_is_not_extrapolated() -> None:
    b = ModelBuilder()
    roi = b.constant([0, 0, 0.2, 0.2, 1, 1, 0.6, 1.2], np.float32)
    sizes = b.constant([2, 2, 6, 6], np.int64)
    y = b.add(
        "Resize",
        b.input((2, 2, 1, 4)),
        roi,
        "",
        sizes,
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
    )
    assert_holds(b.build(y), refusal=False)


def test_products_over_four_batch_axes() -> None:
    b = ModelBuilder()
    whole = b.add("MatMul", b.input((2, 1, 3, 2, 3, 4)), b.input((2, 3, 1, 2, 4, 2)))
    shared = b.add("MatMul", b.input((2, 2, 3, 2, 3, 4)), b.input((4,)))
    assert_holds(b.build(whole, shared), refusal=False)


def test_ranks_that_pads_and_the_delegate_do_not_take() -> None:
    b = ModelBuilder()
    x = b.input((2, 1, 2, 2, 1, 3, 2, 2))
    padded = b.add("Pad", x, b.constant([1, 0, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 2], np.int64))
    joined = b.add("Concat", x, x, axis=-3)
    largest = b.add("ReduceMax", x, b.constant([4, 5, 7], np.int64), keepdims=0)
    shares = b.add("Softmax", x, axis=2)
    assert_holds(b.build(padded, joined, largest, shares), refusal=False)


def test_more_than_eight_axes_are_refused() -> None:
    b = ModelBuilder()
    y = b.add("Expand", b.input((1, 2, 1, 1, 1, 1, 1, 1)), b.constant([2, 1, 2, 1, 1, 1, 1, 1, 1], np.int64))
    found = outcome(b.build(y))
    assert found.kind == "refused" and "rank 9" in found.detail


def test_expanding_to_a_higher_rank_in_channels_last() -> None:
    b = ModelBuilder()
    y = b.add("Expand", b.input((3, 1, 3)), b.constant([2, 1, 3, 1], np.int64))
    assert_holds(b.build(y), io_layout="NHWC", refusal=False)


def test_softmax_and_products_of_nothing() -> None:
    b = ModelBuilder()
    shares = b.add("Softmax", b.input((2, 0)))
    sums = b.add("MatMul", b.input((2, 0)), b.input((0, 3)))
    assert_holds(b.build(shares, sums), refusal=False)


def test_a_tensor_behind_a_reshape_is_not_overwritten_before_its_last_use() -> None:
    b = ModelBuilder()
    y = b.add("Add", b.add("Mul", b.input((1, 2, 3, 4)), b.weights(4)), b.weights(4))
    flat = b.add("Softmax", b.add("Reshape", y, b.constant([12, 2], np.int64)))
    sum_of_both = b.add("Add", y, b.add("Reshape", b.add("Tanh", flat), b.constant([1, 2, 3, 4], np.int64)))
    assert assert_holds(b.build(sum_of_both), refusal=False).operators["SLICE"] == 1


def test_no_copy_is_made_where_memory_is_shared_safely() -> None:
    b = ModelBuilder()
    y = b.add("Add", b.add("Mul", b.input((1, 2, 3, 4)), b.weights(4)), b.weights(4))
    turned = b.add("Transpose", y, perm=[0, 2, 3, 1])
    flat = b.add("Softmax", b.add("Reshape", y, b.constant([12, 2], np.int64)))
    assert "SLICE" not in assert_holds(b.build(turned, flat), refusal=False).operators


def test_scales_that_leave_every_extent_resize_nothing() -> None:
    b = ModelBuilder()
    x, scales = b.input((1, 1, 2, 3)), b.constant([1, 1, 1.2, 1.3], np.float32)
    for mode in ("nearest", "linear", "cubic"):
        assert_holds(b.build(b.add("Resize", x, "", scales, mode=mode)), refusal=False)


def test_one_slope_for_every_channel() -> None:
    b = ModelBuilder()
    x = b.input((1, 2, 3, 3))
    model = b.build(b.add("PRelu", x, b.constant(1.5, np.float32)), b.add("PRelu", x, b.weights(1, 1, 1)))
    assert assert_holds(model, refusal=False).operators["LEAKY_RELU"] == 2
