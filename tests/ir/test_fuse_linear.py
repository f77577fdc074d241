"""BatchNormalization, scales and biases go into the weights of the linear operator before them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.ir.graph import Graph, Model, Node, Tensor, Value
from edgec.ir.inference import CANONICAL_OPSET
from edgec.ir.passes.affine import EAGER
from edgec.ir.types import DataType
from tests.ir.equivalence import apply, model_of, node_of, ops_of, random_feeds, rewritten, run

PIPELINE = "fuse-batchnorm,fuse-gemm,fuse-scale"
STATISTICS = (
    "float[4] s = {0.5, -2, 1, 3}, float[4] o = {1, 2, 3, 4}, "
    "float[4] m = {0.1, 0.2, 0.3, -1}, float[4] v = {1, 2, 0.5, 0.1}"
)
CONV = "float[4,2,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8}"
HEAD = "g (float[2,2,5,5] x) => (float[2,4,5,5] y)"


def test_batchnorm_goes_into_a_convolution() -> None:
    text = f"{HEAD} <{CONV}, {STATISTICS}> {{ c = Conv(x, w) y = BatchNormalization(c, s, o, m, v) }}"
    model = rewritten(text, PIPELINE)
    assert ops_of(model) == ["Conv"]
    assert node_of(model, "Conv").sources == ("Conv_0", "BatchNormalization_1")


def test_batchnorm_of_a_shared_convolution_becomes_multiplication_and_addition() -> None:
    text = (
        f"g (float[2,2,5,5] x) => (float[2,4,5,5] y, float[2,4,5,5] c) <{CONV}, {STATISTICS}> "
        "{ c = Conv(x, w) y = BatchNormalization(c, s, o, m, v) }"
    )
    assert ops_of(rewritten(text, PIPELINE)) == ["Conv", "Mul", "Add"]


def test_batchnorm_alone() -> None:
    text = f"g (float[2,4] x) => (float[2,4] y) <{STATISTICS}> {{ y = BatchNormalization(x, s, o, m, v) }}"
    assert ops_of(rewritten(text, PIPELINE)) == ["Mul", "Add"]


def test_batchnorm_in_training_mode_stays() -> None:
    text = (
        f"g (float[2,4] x) => (float[2,4] y, float[4] a, float[4] b) <{STATISTICS}> "
        "{ y, a, b = BatchNormalization<training_mode = 1>(x, s, o, m, v) }"
    )
    assert ops_of(apply(model_of(text), PIPELINE)) == ["BatchNormalization"]


def test_batchnorm_over_another_axis_than_the_columns_of_a_product_stays_apart() -> None:
    text = (
        f"g (float[2,4,3] x) => (float[2,4,4] y) <float[3,4] w = {{1,2,3,4,5,6,7,8,9,10,11,12}}, {STATISTICS}> "
        "{ c = MatMul(x, w) y = BatchNormalization(c, s, o, m, v) }"
    )
    assert ops_of(rewritten(text, PIPELINE)) == ["MatMul", "Mul", "Add"]


@pytest.mark.parametrize(
    "step",
    ["Add(c, k)", "Add(k, c)", "Sub(c, k)", "Sub(k, c)", "Mul(c, k)", "Mul(k, c)", "Div(c, k)"],
)
@pytest.mark.parametrize(
    "shape", ["float[4,1,1] k = {1, -2, 3, 0.5}", "float k = {1.5}", "float[1,4,1,1] k = {9,8,7,6}"]
)
def test_constants_per_channel_go_into_a_convolution(step: str, shape: str) -> None:
    text = f"{HEAD} <{CONV}, {shape}, float[4] b = {{1,2,3,4}}> {{ c = Conv(x, w, b) y = {step} }}"
    assert ops_of(rewritten(text, PIPELINE)) == ["Conv"]


@pytest.mark.parametrize("constant", ["float[5] k = {1,2,3,4,5}", "float[2,1,1,1] k = {1,2}"])
def test_constants_along_other_axes_stay(constant: str) -> None:
    text = f"{HEAD} <{CONV}, {constant}> {{ c = Conv(x, w) y = Mul(c, k) }}"
    assert ops_of(rewritten(text, PIPELINE)) == ["Conv", "Mul"]


def test_division_of_a_constant_stays() -> None:
    text = f"{HEAD} <{CONV}, float k = {{2}}> {{ c = Conv(x, w) y = Div(k, c) }}"
    assert ops_of(rewritten(text, PIPELINE)) == ["Conv", "Div"]


def test_a_scale_that_would_overflow_the_weights_stays() -> None:
    text = f"{HEAD} <{CONV}, float k = {{1e38}}> {{ c = Conv(x, w) y = Mul(c, k) }}"
    assert ops_of(apply(model_of(text), f"fold-constants,{PIPELINE}")) == ["Conv", "Mul"]


def test_a_scale_that_would_sink_the_weights_stays() -> None:
    text = f"{HEAD} <{CONV}, float k = {{1e-37}}> {{ c = Conv(x, w) y = Mul(c, k) }}"
    assert ops_of(apply(model_of(text), f"fold-constants,{PIPELINE}")) == ["Conv", "Mul"]


def test_product_and_bias_become_gemm_with_its_scale() -> None:
    text = (
        "g (float[3,2] x) => (float[3,4] y) <float[2,4] w = {1,2,3,4,5,6,7,8}, float[4] b = {1,2,3,4}, float k = {3}> "
        "{ p = MatMul(x, w) a = Add(b, p) y = Mul(a, k) }"
    )
    model = rewritten(text, PIPELINE)
    assert ops_of(model) == ["Gemm"]
    assert node_of(model, "Gemm").operand(2).shape == (4,)


def test_product_of_rank_three_keeps_its_addition() -> None:
    text = (
        "g (float[3,1,2] x) => (float[3,1,4] y) <float[2,4] w = {1,2,3,4,5,6,7,8}, float[4] b = {1,2,3,4}> "
        "{ p = MatMul(x, w) y = Add(p, b) }"
    )
    assert ops_of(rewritten(text, PIPELINE)) == ["MatMul", "Add"]


def test_gemm_keeps_alpha_beta_and_transposition() -> None:
    text = (
        "g (float[2,3] x) => (float[3,4] y) "
        f"<float[4,2] w = {{1,2,3,4,5,6,7,8}}, float[3,1] b = {{1,2,3}}, {STATISTICS}> "
        "{ p = Gemm<alpha = 0.5, beta = 2.0, transA = 1, transB = 1>(x, w, b) y = BatchNormalization(p, s, o, m, v) }"
    )
    assert ops_of(rewritten(text, PIPELINE)) == ["Gemm"]


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Model, int]:
    """A Conv or ConvTranspose of any rank and group count, then BatchNormalization, then a scale."""
    transposed, axes = draw(st.booleans()), draw(st.integers(1, 3))
    groups, each_in, each_out = draw(st.sampled_from([1, 2, 3])), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    seed = draw(st.integers(0, 2**31))
    random = np.random.default_rng(seed)
    graph = Graph("g")
    channels, result = groups * each_in, groups * each_out
    x = Value("x", DataType.FLOAT, (1, channels, *(5,) * axes))
    graph.inputs.append(x)
    shape = (channels, each_out, *kernel) if transposed else (result, each_in, *kernel)

    def constant(array: object, name: str) -> Value:
        return graph.constant(Tensor.of(np.asarray(array, np.float32)), name)

    operands = [x, constant(random.normal(size=shape), "w")]
    if draw(st.booleans()):
        operands.append(constant(random.normal(size=result), "b"))
    conv = Node(
        "ConvTranspose" if transposed else "Conv", operands, [Value("c")], {"group": groups}, name="c", sources=["c"]
    )
    graph.append(conv)
    statistics = [
        constant(random.normal(size=result), "scale"),
        constant(random.normal(size=result), "offset"),
        constant(random.normal(size=result), "mean"),
        constant(random.uniform(0.1, 2, size=result), "variance"),
    ]
    norm = Node("BatchNormalization", [conv.output, *statistics], [Value("n")], name="n", sources=["n"])
    graph.append(norm)
    factor = constant(random.uniform(0.5, 2, size=(result, *(1,) * axes)), "factor")
    graph.append(Node("Mul", [norm.output, factor], [Value("y")], name="m", sources=["m"]))
    last = graph._last
    assert last is not None
    graph.add_output("y", last.output)
    last.output.dtype = DataType.FLOAT
    return Model(graph, CANONICAL_OPSET), seed


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_any_convolution_takes_up_batchnorm_and_scale(case: tuple[Model, int]) -> None:
    model, seed = case
    feeds = random_feeds(model, seed)
    expected = run(model, feeds)
    apply(model, f"fold-constants,{PIPELINE}")
    assert ops_of(model) in (["Conv"], ["ConvTranspose"])
    np.testing.assert_allclose(run(model, feeds)[0], expected[0], rtol=1e-4, atol=1e-4)


def test_large_weights_are_scaled_when_they_are_read() -> None:
    columns = EAGER // 2
    graph = Graph("g")
    x = Value("x", DataType.FLOAT, (1, 3))
    graph.inputs.append(x)
    weights = np.random.default_rng(0).normal(size=(3, columns)).astype(np.float32)
    product = Node("MatMul", [x, graph.constant(weights, "w")], [Value("p")], name="p", sources=["p"])
    graph.append(product)
    scaled = Node(
        "Mul", [product.output, graph.constant(np.array(2.5, np.float32), "k")], [Value("y")], name="y", sources=["y"]
    )
    graph.append(scaled)
    graph.add_output("y", scaled.output)
    model = apply(Model(graph, CANONICAL_OPSET), f"fold-constants,{PIPELINE}")
    np.testing.assert_array_equal(node_of(model, "MatMul").operand(1).numpy(), weights * np.float32(2.5))
