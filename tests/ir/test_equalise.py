"""Channels are multiplied so that they use one scale alike, and the function stays the same."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.ir.graph import Model
from edgec.ir.passes.base import parse_pipeline
from edgec.ir.passes.equalise import Equalise, _median
from edgec.ir.types import Array
from tests.ir.equivalence import model_of, ops_of, random_feeds, run

CHANNELS = 4
WEIGHTS = (
    "float[4,3,1,1] w = {9.0,-8.0,7.0, 0.5,0.25,-0.5, 0.1,0.2,0.1, 1.0,-1.0,1.5}, float[4] b = {1.0,0.5,0.25,-1.0}"
)
DENSE = "float[2,4,1,1] v = {1.0,2.0,-3.0,4.0, -0.5,0.25,8.0,1.0}, float[2] e = {0.5,-0.5}"
DEPTHWISE = "float[4,1,3,3] d = {" + ",".join(str(round(0.1 * number - 1.5, 1)) for number in range(36)) + "}"


def body(middle: str, constants: str = "", *, shape: str = "float[1,2,6,6]") -> str:
    """A convolution, something in between that makes ``m`` of ``c``, and a convolution that reads it."""
    given = ", ".join(item for item in (WEIGHTS, DENSE, DEPTHWISE, constants) if item)
    return f"g (float[1,3,6,6] x) => ({shape} y) <{given}> {{ c = Conv (x, w, b) {middle} }}"


def typed(text: str) -> Model:
    """A model whose values have shapes."""
    model = model_of(text)
    for item in parse_pipeline("fold-constants"):
        item.apply(model)
    return model


def extents(model: Model) -> dict[str, Array]:
    """The largest absolute number of every channel of every value, by ONNX Runtime on random inputs."""
    watched = model_of_outputs(model)
    names = [value.name for node in model.graph.nodes for value in node.outputs]
    found: dict[str, Array] = {}
    for seed in range(3):
        for name, array in zip(names, run(watched, random_feeds(model, seed)), strict=True):
            if array.ndim >= 2:
                seen = np.abs(array).max(axis=tuple(axis for axis in range(array.ndim) if axis != 1))
                found[name] = np.maximum(found.get(name, 0.0), seen)
    return found


def model_of_outputs(model: Model) -> Model:
    from edgec.ir.copy_model import copy_model

    copied = copy_model(model)
    copied.graph.clear_outputs()
    for node in copied.graph.nodes:
        for value in node.outputs:
            copied.graph.add_output(value.name, value)
    return copied


CASES = {
    "nothing": ("y = Conv (c, v, e)", "", ["Conv", "Conv"]),
    "relu": ("m = Relu (c) y = Conv (m, v, e)", "", ["Conv", "Relu", "Conv"]),
    "depthwise": (
        "m = LeakyRelu <alpha = 0.1> (c) n = Conv <group = 4, pads = [1,1,1,1]> (m, d) y = Conv (n, v, e)",
        "",
        ["Conv", "LeakyRelu", "Conv", "Conv"],
    ),
    "pooling and a sum": (
        "m = MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> (c) n = Add (m, k) y = Conv (n, v, e)",
        "float[4,1,1] k = {1.0,-2.0,3.0,4.0}",
        ["Conv", "MaxPool", "Add", "Conv"],
    ),
    "two readers": (
        "p = Conv (c, v, e) q = Relu (c) r = Conv (q, v) y = Add (p, r)",
        "",
        ["Conv", "Conv", "Relu", "Conv", "Add"],
    ),
    "squeeze and excitation": (
        "g = GlobalAveragePool (c) h = Conv <group = 4> (g, t) s = Sigmoid (h) m = Mul (c, s) y = Conv (m, v, e)",
        "float[4,1,1,1] t = {1.0,-2.0,3.0,4.0}",
        ["Conv", "GlobalAveragePool", "Conv", "Sigmoid", "Mul", "Conv"],
    ),
    "hard swish": ("m = HardSwish (c) y = Conv (m, v, e)", "", ["Conv", "Conv", "Clip", "Mul", "Conv"]),
    "hard swish in parts": (
        "a = Add (c, t) r = Clip (a, l, h) m = Mul (c, r) y = Conv (m, v, e)",
        "float t = {3.0}, float l = {0.0}, float h = {6.0}",
        ["Conv", "Conv", "Clip", "Mul", "Conv"],
    ),
    "silu": ("s = Sigmoid (c) m = Mul (c, s) y = Conv (m, v, e)", "", ["Conv", "Conv", "Sigmoid", "Mul", "Conv"]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_function_stays_and_the_channels_come_together(name: str) -> None:
    middle, constants, expected = CASES[name]
    before, after = typed(body(middle, constants)), typed(body(middle, constants))
    assert Equalise(extents=extents(before)).apply(after)
    assert ops_of(after) == expected
    for seed in range(3):
        feeds = random_feeds(before, seed)
        for old, new in zip(run(before, feeds), run(after, feeds), strict=True):
            np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-4)
    old, new = extents(before)["c"], extents(after)
    changed = next(value for value in new if value.startswith("c_equalised"))
    assert new[changed].max() / new[changed].min() < 0.6 * old.max() / old.min()
    assert new[changed].max() <= old.max() * 1.001, "the largest channel keeps its extent"


@pytest.mark.parametrize("name", CASES)
def test_what_keeps_its_name_keeps_its_numbers_and_the_rest_is_named_as_multiples(name: str) -> None:
    """The calibration takes the statistics of the model before for both."""
    middle, constants, _ = CASES[name]
    before, after = typed(body(middle, constants)), typed(body(middle, constants))
    scaled = Equalise(extents=extents(before)).rewrite(after)
    old, new = arrays_of(before), arrays_of(after)
    assert scaled and set(scaled) <= set(new) and not set(scaled) & set(old)
    for value in new.keys() & old.keys():
        np.testing.assert_allclose(new[value], old[value], rtol=1e-4, atol=1e-4)
    for value, found in scaled.items():
        factors = found.numbers.reshape(-1, *(1,) * (old[found.name].ndim - 2))
        np.testing.assert_allclose(new[value], old[found.name] * factors, rtol=1e-4, atol=1e-4)


def arrays_of(model: Model) -> dict[str, Array]:
    """What every computed value takes on random inputs."""
    names = [value.name for node in model.graph.nodes for value in node.outputs]
    return dict(zip(names, run(model_of_outputs(model), random_feeds(model, 0)), strict=True))


@pytest.mark.parametrize(
    ("middle", "shape"),
    [
        ("m = Tanh (c) y = Conv (m, v, e)", "float[1,2,6,6]"),
        ("m = Mul (c, c) y = Conv (m, v, e)", "float[1,2,6,6]"),
        ("y = Relu (c)", "float[1,4,6,6]"),
        ("m = Concat <axis = 1> (c, c) n = Slice (m, z, o, a) y = Conv (n, v, e)", "float[1,2,6,6]"),
    ],
    ids=["tanh", "square", "output", "other channels"],
)
def test_what_does_not_commute_is_left(middle: str, shape: str) -> None:
    constants = "int64[1] z = {0}, int64[1] o = {4}, int64[1] a = {1}" if "Slice" in middle else ""
    model = typed(body(middle, constants, shape=shape))
    assert not Equalise(extents=extents(model)).apply(model)


def test_channels_that_are_alike_are_left() -> None:
    model = typed(body("m = Relu (c) y = Conv (m, v, e)"))
    assert not Equalise(extents={"c": np.ones(4), "m": np.ones(4)}).apply(model)


def test_a_channel_that_is_always_zero_stays_finite() -> None:
    before, after = (typed(body("m = Relu (c) y = Conv (m, v, e)")) for _ in range(2))
    assert Equalise(extents={"m": np.array([0.0, 1.0, 5.0, 1.0])}).apply(after)
    feeds = random_feeds(before, 0)
    np.testing.assert_allclose(run(after, feeds)[0], run(before, feeds)[0], rtol=1e-4, atol=1e-4)


def test_a_product_with_numbers_along_another_axis_is_left() -> None:
    constants = "float[4,1,1,1] f = {1.0,2.0,3.0,4.0}"
    model = typed(body("y = Mul (c, f)", constants, shape="float[4,4,6,6]"))
    assert not Equalise(extents=extents(model)).apply(model)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_the_median_is_numpys(count: int) -> None:
    numbers = np.random.default_rng(count).normal(size=count)
    assert _median(numbers) == np.median(numbers)
