"""Operators that the standard defines as functions become their bodies."""

from __future__ import annotations

import onnx.defs
import pytest

from edgec.ir.inference import CANONICAL_OPSET
from edgec.ir.passes.expand_functions import NEVER, is_function
from edgec.ir.proto import all_nodes
from tests.ir.equivalence import ops_of, rewritten

X = "float[2,3,4] x"
CASES = {
    "Celu": (f"{X}", "float[2,3,4] y", "", "y = Celu<alpha = 2.0>(x)"),
    "CenterCropPad": (f"{X}", "float[2,5,2] y", "int64[2] s = {5, 2}", "y = CenterCropPad<axes = [1, 2]>(x, s)"),
    "DynamicQuantizeLinear": (f"{X}", "uint8[2,3,4] y, float s, uint8 z", "", "y, s, z = DynamicQuantizeLinear(x)"),
    "Elu": (f"{X}", "float[2,3,4] y", "", "y = Elu<alpha = 0.5>(x)"),
    "Gelu": (f"{X}", "float[2,3,4] y", "", 'y = Gelu<approximate = "tanh">(x)'),
    "GroupNormalization": (
        "float[2,4,3] x", "float[2,4,3] y", "float[4] s = {1, 2, 3, 4}, float[4] b = {4, 3, 2, 1}",
        "y = GroupNormalization<num_groups = 2>(x, s, b)",
    ),
    "HannWindow": ("float[5] x", "float[5] y", "int64 n = {5}", "w = HannWindow(n) y = Mul(x, w)"),
    "HardSwish": (f"{X}", "float[2,3,4] y", "", "y = HardSwish(x)"),
    "LayerNormalization": (f"{X}", "float[2,3,4] y", "float[4] s = {1, 2, 3, 4}", "y = LayerNormalization(x, s)"),
    "LogSoftmax": (f"{X}", "float[2,3,4] y", "", "y = LogSoftmax<axis = 1>(x)"),
    "MeanVarianceNormalization": ("float[2,3,4,4] x", "float[2,3,4,4] y", "", "y = MeanVarianceNormalization(x)"),
    "Mish": (f"{X}", "float[2,3,4] y", "", "y = Mish(x)"),
    "NegativeLogLikelihoodLoss": (
        "float[2,3,4] x", "float y", "int64[2,4] t = {0, 1, 2, 0, 1, 2, 0, 1}",
        'y = NegativeLogLikelihoodLoss<reduction = "mean">(x, t)',
    ),
    "RMSNormalization": (f"{X}", "float[2,3,4] y", "float[4] s = {1, 2, 3, 4}", "y = RMSNormalization(x, s)"),
    "ReduceL1": (f"{X}", "float[2,1,4] y", "int64[1] a = {1}", "y = ReduceL1(x, a)"),
    "ReduceLogSumExp": (f"{X}", "float[2,4] y", "int64[1] a = {1}", "y = ReduceLogSumExp<keepdims = 0>(x, a)"),
    "ReduceSumSquare": (f"{X}", "float[2,3,1] y", "int64[1] a = {-1}", "y = ReduceSumSquare(x, a)"),
    "Selu": (f"{X}", "float[2,3,4] y", "", "y = Selu(x)"),
    "Shrink": (f"{X}", "float[2,3,4] y", "", "y = Shrink<bias = 0.5, lambd = 1.0>(x)"),
    "SoftmaxCrossEntropyLoss": (
        "float[2,3] x", "float y, float[2,3] p", "int64[2] t = {0, 2}", "y, p = SoftmaxCrossEntropyLoss(x, t)",
    ),
    "Softsign": (f"{X}", "float[2,3,4] y", "", "y = Softsign(x)"),
    "ThresholdedRelu": (f"{X}", "float[2,3,4] y", "", "y = ThresholdedRelu<alpha = 0.5>(x)"),
}  # fmt: skip


@pytest.mark.parametrize("op", CASES)
def test_expands_to_an_equal_graph_of_static_shapes(op: str) -> None:
    inputs, outputs, constants, nodes = CASES[op]
    model = rewritten(f"g ({inputs}) => ({outputs}) <{constants}> {{ {nodes} }}", f"expand-functions{{ops={op}}}")
    assert op not in ops_of(model)
    assert all(value.is_static for node in all_nodes(model.graph) for value in node.outputs)
    assert all(node.sources[0].startswith((op, "Mul")) for node in all_nodes(model.graph))


@pytest.mark.parametrize("softcap", [0.0, 2.0])
def test_attention_expands(softcap: float) -> None:
    text = (
        "g (float[1,2,5,4] q, float[1,2,6,4] k, float[1,2,6,4] v, float[5,6] m) => (float[1,2,5,4] y) "
        f"{{ y = Attention<softcap = {softcap}>(q, k, v, m) }}"
    )
    model = rewritten(text, "expand-functions,fold-constants")
    assert "Attention" not in ops_of(model) and "If" not in ops_of(model)
    assert all(value.is_static for node in all_nodes(model.graph) for value in node.outputs)


def test_rotary_embedding_expands() -> None:
    text = "g (float[1,2,3,4] x, float[1,3,2] c, float[1,3,2] s) => (float[1,2,3,4] y) { y = RotaryEmbedding(x, c, s) }"
    assert "RotaryEmbedding" not in ops_of(rewritten(text, "expand-functions"))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("align", [0, 1])
def test_affine_grid_of_constant_size_expands_without_control_flow(batch: int, align: int) -> None:
    text = (
        f"g (float[{batch},2,3] x) => (float[{batch},4,5,2] y) <int64[4] n = {{{batch}, 1, 4, 5}}> "
        f"{{ y = AffineGrid<align_corners = {align}>(x, n) }}"
    )
    model = rewritten(text, "expand-functions")
    assert not {"AffineGrid", "If"} & set(ops_of(model))


def test_keep_wins_over_ops() -> None:
    text = f"g ({X}) => (float[2,3,4] y) {{ a = Mish(x) y = Softsign(a) }}"
    found = ops_of(rewritten(text, "expand-functions{ops=Mish+Softsign+Softplus,keep=Softplus}"))
    assert "Softplus" in found and "Mish" not in found and "Softsign" not in found


def test_every_function_of_the_standard_has_a_body_or_is_named() -> None:
    names = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    functions = {name for name in names if onnx.defs.has(name, CANONICAL_OPSET) and is_function(name)}
    assert functions >= set(CASES) and functions >= NEVER
