"""Resize in every mode equals ONNX Runtime's."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.tflite.random_models import ModelBuilder, assert_holds, examples

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)


@st.composite
def resizes(draw: st.DrawFn) -> onnx.ModelProto:
    """Every interpolation and coordinate mode, up and down, by scales or sizes, over all or some axes."""
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"]))
    attributes: dict[str, object] = {
        "mode": mode,
        # ONNX Runtime crops otherwise than the specification says where it picks the nearest element
        "coordinate_transformation_mode": draw(st.sampled_from(COORDINATES[: 5 if mode == "nearest" else 6])),
    }
    if mode == "nearest":
        attributes["nearest_mode"] = draw(st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]))
    if mode == "cubic":
        attributes["cubic_coeff_a"] = draw(st.sampled_from([-0.75, -0.5]))
    if mode != "nearest" and draw(st.sampled_from([False, False, True])):
        attributes["antialias"] = 1
    if mode == "cubic" and draw(st.booleans()):
        attributes["exclude_outside"] = 1
    b = ModelBuilder()
    rank = draw(st.sampled_from([3, 4, 4, 4, 4, 5])) if mode != "cubic" else 4
    dims = [draw(st.integers(1, 2)), draw(st.integers(1, 3)), *(draw(st.integers(1, 7)) for _ in range(rank - 2))]
    spatial = list(range(2, rank))
    named = draw(st.booleans())
    axes = spatial if named else list(range(rank))
    if named:
        attributes["axes"] = [axis - rank for axis in axes] if draw(st.booleans()) else axes
    dtypes = [np.float32] * 4 + [np.int32, np.uint8, np.int8] * (mode == "nearest")
    x = b.input(dims, draw(st.sampled_from(dtypes)))
    roi = ""
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        starts = [draw(st.sampled_from([0.0, 0.2, 0.4])) if axis in spatial else 0.0 for axis in axes]
        ends = [draw(st.sampled_from([0.6, 1.0, 1.2])) if axis in spatial else 1.0 for axis in axes]
        roi = b.constant(starts + ends, np.float32)
        attributes["extrapolation_value"] = draw(st.sampled_from([0.0, 7.5]))
    if roi:
        sizes = [draw(st.integers(1, 14)) if axis in spatial else dims[axis] for axis in axes]
        return b.build(b.add("Resize", x, roi, "", b.constant(sizes, np.int64), **attributes))
    kind = (attributes["coordinate_transformation_mode"], attributes.get("nearest_mode"))
    # with fractional scales these two round some halves in ONNX Runtime alone
    uneven = mode == "nearest" and (kind[0] == "half_pixel_symmetric" or kind == ("asymmetric", "round_prefer_ceil"))
    if not uneven and draw(st.booleans()):
        factors = (0.3, 0.5, 0.6, 0.8, 1.0, 1.3, 2.0, 2.5, 3.0)
        scales = [draw(st.sampled_from(factors)) if axis in spatial else 1.0 for axis in axes]
        return b.build(b.add("Resize", x, roi, b.constant(scales, np.float32), **attributes))
    sizes = [draw(st.integers(1, 14)) if axis in spatial else dims[axis] for axis in axes]
    if named and draw(st.booleans()):
        attributes["keep_aspect_ratio_policy"] = draw(st.sampled_from(["stretch", "not_larger", "not_smaller"]))
        attributes["axes"] = axes  # ONNX Runtime ignores the policy where axes are negative
    return b.build(b.add("Resize", x, roi, "", b.constant(sizes, np.int64), **attributes))


@examples(80)
@given(resizes(), st.sampled_from(["ONNX", "NHWC"]))
def test_resizes(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout, tolerance=1e-3)
