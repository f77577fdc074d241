"""Find activation functions that exporters wrote as chains of simpler operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any, ClassVar

from edgec.ir.graph import Graph, Model, Node, Tensor, Value
from edgec.ir.inference import broadcast_shapes
from edgec.ir.passes.base import Pass, register, replace_node, rewrite_each
from edgec.ir.passes.patterns import (
    Constant,
    Match,
    Number,
    Once,
    OneOf,
    Op,
    Pattern,
    Product,
    Scalar,
    Var,
    close,
    find,
    keeps_type,
    scalar_constant,
)

Rewrite = Callable[[Graph, Node, Match], "Value | None"]


@dataclass(frozen=True)
class Rule:
    """Where a node of one of the ``roots`` looks like ``pattern``, ``rewrite`` makes what stands for it."""

    roots: tuple[str, ...]
    pattern: Pattern
    rewrite: Rewrite


@register
@dataclass(frozen=True)
class RecogniseActivations(Pass):
    """Replace chains of operators by the one operator that they compute.

    =============  =====================================================================================
    Relu           max(x, 0); Clip(x, 0)
    Clip           min(max(x, a), b) and Relu and Clip on top of each other
    Sigmoid        1 / (1 + exp(-x))
    Softplus       log(1 + exp(x)), also behind a threshold of 20 or more
    Softsign       x / (1 + abs(x))
    HardSigmoid    clip(a x + b, 0, 1) and c clip(a x + b, 0, 1 / c), thus relu6(x + 3) / 6
    HardSwish      x HardSigmoid(x; 1/6, 1/2) and x relu6(x + 3) / 6 in all groupings
    Mish           x tanh(softplus(x))
    Gelu           x (1 + erf(x / sqrt 2)) / 2, and with tanh(sqrt(2 / pi) (x + 0.044715 x^3)) for erf
    LeakyRelu      max(x, a x); x > 0 ? x : a x
    PRelu          relu(x) - s relu(-x); relu(x) + s (x - abs(x)) / 2
    =============  =====================================================================================

    Constants are scalars or tensors of one element, within 5e-6 of the number they stand for.  Softplus and Mish are
    finite where the chain would overflow.

    Source: ONNX operator specification; Hendrycks and Gimpel 2016 (Gelu), Howard et al. 2019 (HardSwish), Misra 2019
    (Mish).
    """

    name: ClassVar[str] = "recognise-activations"

    def apply(self, model: Model) -> bool:
        return rewrite_each(model, tuple(_BY_ROOT), _rewrite)


def _rewrite(graph: Graph, node: Node) -> bool:
    for rule in _BY_ROOT[node.op]:
        found = find(node, rule.pattern)
        if found is None or not keeps_type(node.output, found.values["x"]):
            continue
        value = rule.rewrite(graph, node, found)
        if value is not None:
            assert value.producer is not None
            value.producer.sources = found.sources
            replace_node(graph, node, value)
            return True
    return False


def _to(op: str, **attributes: float | str) -> Rewrite:
    """Rewrite to a function of x alone; attributes given as the name of a remembered number take that number."""

    def rewrite(graph: Graph, node: Node, found: Match) -> Value:
        given: dict[str, Any] = {
            key: found.numbers.get(item, item) if isinstance(item, str) else item for key, item in attributes.items()
        }
        return graph.build(node, op, [found.values["x"]], hint=node.name, **given).output

    return rewrite


def _clip(graph: Graph, node: Node, found: Match) -> Value | None:
    x, low, high = found.values["x"], found.numbers.get("low"), found.numbers.get("high")
    if "low2" in found.numbers:
        low = max(found.numbers["low2"], float("-inf") if low is None else low)
    if low is not None and high is not None and low > high:
        return None
    if low == 0 and high is None:
        return graph.build(node, "Relu", [x], hint=node.name).output
    bounds = [None if item is None else scalar_constant(graph, item, x, f"{node.name}_bound") for item in (low, high)]
    return graph.build(node, "Clip", [x, *bounds], hint=node.name).output


def _relu_of_clip(graph: Graph, node: Node, found: Match) -> Value | None:
    found.numbers["low2"] = 0.0
    return _clip(graph, node, found)


def _softplus_threshold(graph: Graph, node: Node, found: Match) -> Value | None:
    return _to("Softplus")(graph, node, found) if found.numbers["threshold"] >= 20 else None


def _hard_sigmoid(graph: Graph, node: Node, found: Match) -> Value | None:
    """``scale * clip(a x + b, 0, high)`` where ``scale * high`` is one."""
    numbers = found.numbers
    scale = numbers.get("scale", 1.0)
    if not close(scale * numbers["high"], 1.0, found.values["x"].dtype):
        return None
    alpha, beta = numbers.get("a", 1.0) * scale, numbers.get("b", 0.0) * scale
    if alpha <= 0:
        return None
    return graph.build(node, "HardSigmoid", [found.values["x"]], hint=node.name, alpha=alpha, beta=beta).output


def _leaky(graph: Graph, node: Node, found: Match) -> Value | None:
    if node.op == "Max" and not 0 <= found.numbers["a"] <= 1:
        return None
    return _to("LeakyRelu", alpha="a")(graph, node, found)


def _leaky_sum(graph: Graph, node: Node, found: Match) -> Value | None:
    found.numbers["a"] = -found.numbers["a"]
    return _to("LeakyRelu", alpha="a")(graph, node, found)


def _prelu(sign: float) -> Rewrite:
    def rewrite(graph: Graph, node: Node, found: Match) -> Value | None:
        x, slope = found.values["x"], found.values["slope"]
        tensor = slope.const
        if tensor is None or x.shape is None or broadcast_shapes(x.shape, tensor.shape) != x.shape:
            return None
        if sign != 1:
            slope = graph.constant(
                Tensor.of((tensor.numpy() * sign).astype(tensor.dtype.numpy), tensor.dtype), slope.name
            )
        return graph.build(node, "PRelu", [x, slope], hint=node.name).output

    return rewrite


_x = Var("x")
_HALF = Number(0.5)
_SIXTH = {"alpha": 0.2, "beta": 0.5}  # HardSigmoid's defaults
_CLIPPED = OneOf(Op("Clip", _x, Scalar("low"), Scalar("high")), Op("Clip", _x, Scalar("low")))


def _minimum(inner: Pattern) -> Pattern:
    return Op("Min", inner, Scalar("high"))


_LINE = OneOf(
    Op("Add", Once(Product("a", _x)), Scalar("b")),
    Op("Add", _x, Scalar("b")),
)
_LINE_CLIPPED = OneOf(
    Op("Clip", _LINE, Number(0.0), Scalar("high")),
    Op("Min", Op("Relu", _LINE), Scalar("high")),
)
_RELU6_OF_3 = OneOf(
    Op("Clip", Op("Add", _x, Number(3.0)), Number(0.0), Number(6.0)),
    Op("Min", Op("Relu", Op("Add", _x, Number(3.0))), Number(6.0)),
)
_ERF = Op("Erf", Product(1 / sqrt(2), _x))
_CUBE = OneOf(Product(0.044715, Op("Pow", _x, Number(3.0))), Product(0.044715, _x, _x, _x))
_SQUARE = OneOf(Product(0.044715, Op("Pow", _x, Number(2.0))), Product(0.044715, _x, _x))
_TANH = Op(
    "Tanh",
    OneOf(
        Product(sqrt(2 / pi), Op("Add", _x, _CUBE)),
        Product(sqrt(2 / pi), _x, Op("Add", Number(1.0), _SQUARE)),
    ),
)


def _gelu(inner: Pattern) -> Pattern:
    """``x * (1 + inner) / 2``, also with the half taken inside."""
    return OneOf(
        Product(0.5, _x, Op("Add", inner, Number(1.0))),
        Product(1.0, _x, Op("Add", Product(0.5, inner), _HALF)),
    )


_POSITIVE = OneOf(Op("Greater", _x, Number(0.0)), Op("GreaterOrEqual", _x, Number(0.0)))
_NEGATIVE = OneOf(Op("Less", _x, Number(0.0)), Op("LessOrEqual", _x, Number(0.0)))
_NEGATED_RELU = Op("Relu", Op("Neg", _x))

RULES: tuple[Rule, ...] = (
    Rule(("Max",), Op("Max", _x, Number(0.0)), _to("Relu")),
    Rule(("Clip",), Op("Clip", _x, Number(0.0)), _to("Relu")),
    Rule(("Clip",), Op("Clip", _LINE, Number(0.0), Scalar("high")), _hard_sigmoid),
    Rule(("Min",), _LINE_CLIPPED, _hard_sigmoid),
    Rule(("Min",), OneOf(_minimum(Op("Max", _x, Scalar("low"))), _minimum(Op("Clip", _x, Scalar("low")))), _clip),
    Rule(("Min",), _minimum(Op("Relu", _x)), _relu_of_clip),
    Rule(("Max",), Op("Max", Op("Min", _x, Scalar("high")), Scalar("low")), _clip),
    Rule(("Clip",), Op("Clip", Op("Relu", _x), Scalar("low"), Scalar("high")), _relu_of_clip),
    Rule(("Relu",), Op("Relu", _CLIPPED), _relu_of_clip),
    Rule(
        ("Div", "Reciprocal"),
        OneOf(
            Op("Div", Number(1.0), Op("Add", Op("Exp", Op("Neg", _x)), Number(1.0))),
            Op("Reciprocal", Op("Add", Op("Exp", Op("Neg", _x)), Number(1.0))),
        ),
        _to("Sigmoid"),
    ),
    Rule(("Log",), Op("Log", Op("Add", Op("Exp", _x), Number(1.0))), _to("Softplus")),
    Rule(
        ("Where",),
        Op("Where", Op("Greater", _x, Scalar("threshold")), _x, Op("Softplus", _x)),
        _softplus_threshold,
    ),
    Rule(("Div",), Op("Div", _x, Op("Add", Op("Abs", _x), Number(1.0))), _to("Softsign")),
    Rule(
        ("Mul", "Div"),
        OneOf(
            Product(1 / 6, _x, _RELU6_OF_3),
            Product(1.0, _x, Op("HardSigmoid", _x, alpha=1 / 6, beta=0.5, defaults=_SIXTH)),
        ),
        _to("HardSwish"),
    ),
    Rule(("Mul", "Div"), Product("scale", _LINE_CLIPPED), _hard_sigmoid),
    Rule(("Mul",), Product(1.0, _x, Op("Tanh", Op("Softplus", _x))), _to("Mish")),
    Rule(("Mul", "Div"), _gelu(_ERF), _to("Gelu")),
    Rule(("Mul", "Div"), _gelu(_TANH), _to("Gelu", approximate="tanh")),
    Rule(("Max",), Op("Max", _x, Product("a", _x)), _leaky),
    Rule(("Where",), Op("Where", _POSITIVE, _x, Product("a", _x)), _leaky),
    Rule(("Where",), Op("Where", _NEGATIVE, Product("a", _x), _x), _leaky),
    Rule(("Sub",), Op("Sub", Op("Relu", _x), Product(1.0, Constant("slope"), _NEGATED_RELU)), _prelu(1.0)),
    Rule(("Add",), Op("Add", Op("Relu", _x), Product(1.0, Constant("slope"), _NEGATED_RELU)), _prelu(-1.0)),
    Rule(("Sub",), Op("Sub", Op("Relu", _x), Product("a", _NEGATED_RELU)), _to("LeakyRelu", alpha="a")),
    Rule(("Add",), Op("Add", Op("Relu", _x), Product("a", _NEGATED_RELU)), _leaky_sum),
    Rule(
        ("Add",),
        Op("Add", Op("Relu", _x), Product(0.5, Constant("slope"), Op("Sub", _x, Op("Abs", _x)))),
        _prelu(1.0),
    ),
)

_BY_ROOT: dict[str, tuple[Rule, ...]] = {}
for _rule in RULES:
    for _root in _rule.roots:
        _BY_ROOT[_root] = (*_BY_ROOT.get(_root, ()), _rule)
