"""When an output counts as the same, and when an interface does."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from edgec.converter.verification.metrics import Difference
from edgec.converter.verification.report import CONSTANT, FAILED, PASSED, UNVERIFIED, OutputReport
from edgec.ir.graph import Graph, Value
from edgec.ir.quantization import Affine
from edgec.ir.types import Array, DataType, Shape
from edgec.runtime.session import Session

FLOAT32_LIMIT = 1e-4
FLOAT16_LIMIT = 1e-2
QUANTIZED_LIMIT = 1e-2
"""For float artifacts of models that round to integers inside, where a tie may fall to either side."""

FLOOR_FACTOR = 3.0
INT8_SQNR_DB = 15.0

ZERO_LIMIT = {"float32": 1e-6, "float16": 1e-3, "quantized": 1e-3, "int8": 1e-2}
"""Largest absolute value where the reference is all zeros."""

TIE_FRACTION = 1e-4
"""Share of whole numbers that may differ when they come out of comparing or rounding floats."""

_ROUNDING = frozenset("QuantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul".split())
_DECIDING = frozenset(
    "ArgMax ArgMin TopK Greater GreaterOrEqual Less LessOrEqual Round Floor Ceil Cast NonZero NonMaxSuppression "
    "QuantizeLinear DynamicQuantizeLinear Hardmax Sign".split()
)
_CARRYING = frozenset(
    "Identity Cast Reshape Squeeze Unsqueeze Flatten Transpose Concat Slice Split Gather Not And Or Where "
    "ReduceMean".split()
)


def precision_of(graph: Graph) -> str:
    """``float16`` or ``quantized`` when a value that is computed at run time is so, else ``float32``."""
    precision = "float32"
    for node in graph.nodes:
        if node.op in _ROUNDING or (node.domain == "com.microsoft" and node.op.startswith("QLinear")):
            precision = "quantized"
        if any(value.dtype is DataType.FLOAT16 for value in node.outputs):
            return "float16"
    return precision


def dependent_outputs(graph: Graph, varying: Collection[str] | None = None) -> set[str]:
    """Names of the outputs whose elements some input can change.

    Args:
        varying: names of the inputs that count; all by default.
    """
    depends = {value for value in graph.inputs if (varying is None or value.name in varying) and not _is_empty(value)}

    def sweep(inner: Graph) -> None:
        for node in inner.nodes:
            reached = any(value in depends for value in node.inputs if value is not None)
            for body in node.subgraphs:
                if reached:
                    depends.update(body.inputs)
                sweep(body)
            if reached and node.op in _SHAPE_ONLY and not node.domain:
                continue
            if reached or any(value in depends for body in node.subgraphs for value in body.outputs):
                depends.update(value for value in node.outputs if not _is_empty(value))

    sweep(graph)
    return {name for name, value in zip(graph.output_names, graph.outputs) if value in depends}


_SHAPE_ONLY = frozenset({"Shape", "Size", "EyeLike"})
"""Operators that read nothing of their operand but its shape."""


def _is_empty(value: Value) -> bool:
    return value.is_static and 0 in value.dims


def interface_problems(
    graph: Graph,
    session: Session,
    layouts: Mapping[str, Sequence[int]],
    quantized_io: Mapping[str, Affine] | None = None,
) -> list[str]:
    """What differs between the model's inputs and outputs and the artifact's; empty when nothing does.

    Args:
        quantized_io: inputs and outputs that are to be integers instead of the model's floats.
    """
    problems: list[str] = []
    model_inputs = [(value.name, value) for value in graph.inputs]
    model_outputs = list(zip(graph.output_names, graph.outputs))
    for kind, wanted, found in (("inputs", model_inputs, session.inputs), ("outputs", model_outputs, session.outputs)):
        names = [name for name, _ in wanted]
        if names != [spec.name for spec in found]:
            problems.append(f"the {kind} are {[spec.name for spec in found]}, the model's are {names}")
            continue
        for (name, value), spec in zip(wanted, found):
            if value.dtype is DataType.UNDEFINED:
                continue
            dtype = np.dtype(object) if value.dtype is DataType.STRING else value.dtype.numpy
            if quantized_io and name in quantized_io:
                dtype = quantized_io[name].dtype.numpy
            if spec.dtype != dtype:
                problems.append(f"'{name}' is {spec.dtype}, the model's is {dtype}")
            if kind == "inputs" and value.shape is not None:
                shape: Shape = value.shape
                if name in layouts:
                    shape = tuple(shape[axis] for axis in layouts[name])
                if not _compatible(shape, spec.shape):
                    problems.append(f"'{name}' has shape {list(spec.shape)}, the model's is {list(shape)}")
    return problems


def _compatible(wanted: Shape, found: Shape) -> bool:
    return len(wanted) == len(found) and all(
        not isinstance(w, int) or not isinstance(f, int) or w == f for w, f in zip(wanted, found)
    )


def judge(
    name: str,
    graph: Graph,
    example: Array,
    difference: Difference,
    floor: Difference | None,
    precision: str,
    *,
    depends: bool,
    constant: bool,
    steps: int = 0,
    departure: Difference | None = None,
) -> OutputReport:
    """Decide about one output.

    Args:
        example: the reference of the first sample.
        difference: artifact against reference.
        floor: optimised against unoptimised reference.
        depends: whether some input that takes several values can change the output.
        constant: whether the reference was the same for all of several samples.
        steps: how far integers that stand for real numbers may be apart, in units.
        departure: what the artifact is meant to compute against the reference, where that differs: by the triangle
            inequality its error is allowed on top, and no more.
    """
    floats = _is_float(example)
    floor_l2 = floor.relative_l2 if floor is not None and floats else None
    threshold: float | None = None
    if floats and precision == "int8":
        threshold = INT8_SQNR_DB
    elif floats:
        threshold = max(limit_of(precision), FLOOR_FACTOR * (floor_l2 or 0.0))
        threshold += departure.relative_l2 if departure is not None else 0.0
    quantized = bool(steps) and not floats and _comes_from(graph, name, _ROUNDING)
    if threshold is not None:
        why = _failure_of_floats(difference, precision, threshold)
    elif quantized:
        why = _failure_of_quantized(difference, floor, steps, departure)
    else:
        decision = _comes_from(graph, name, _DECIDING, floats=True)
        why = _failure_of_integers(difference, floor, decision, departure)
    status = PASSED
    if why:
        status = FAILED
    elif not difference.elements:
        status, why = CONSTANT, "empty, as in the reference"
    elif not depends:
        status, why = CONSTANT, "no input can change it; compared by value"
    elif constant:
        status, why = UNVERIFIED, f"does not change over the {difference.samples} inputs that were tried"
    elif floats and difference.elements and not difference.finite:
        status, why = UNVERIFIED, "the reference holds no finite number"
    elif threshold is not None and precision == "int8":
        why = f"SQNR {difference.sqnr_db:.3g} dB >= {threshold:.3g} dB"
    elif threshold is not None:
        why = f"relative L2 {difference.relative_l2:.3g} <= {threshold:.3g}"
    elif quantized and difference.max_abs > 0:
        why = f"up to {difference.max_abs:g} steps apart ({difference.equal_fraction:.4%} equal)"
    else:
        why = "equal" if difference.equal_fraction == 1 else f"equal but for ties ({difference.equal_fraction:.4%})"
    return OutputReport(name, str(example.dtype), example.shape, status, why, difference, floor_l2, threshold)


def floors_matter(outputs: Mapping[str, Array], precision: str) -> bool:
    """Whether :func:`judge` looks at the floor of any of these outputs: not at that of floats that 8 bits stand for."""
    return precision != "int8" or not all(_is_float(array) for array in outputs.values())


def limit_of(precision: str) -> float:
    """The relative L2 that a precision is held to, before the floor."""
    return {"float32": FLOAT32_LIMIT, "float16": FLOAT16_LIMIT, "quantized": QUANTIZED_LIMIT}[precision]


def _is_float(array: Array) -> bool:
    return array.dtype.kind in "fc" or array.dtype.name == "bfloat16"


def _failure_of_floats(difference: Difference, precision: str, threshold: float) -> str:
    if difference.shapes is not None:
        return f"shape {list(difference.shapes[1])} instead of {list(difference.shapes[0])}"
    if difference.infinities:
        return f"{difference.infinities} elements are infinite or NaN in one of the two only"
    if not difference.reference_energy:
        largest = difference.max_abs
        return f"up to {largest:.3g} where the reference is all zeros" if largest > ZERO_LIMIT[precision] else ""
    if precision == "int8":
        sqnr = difference.sqnr_db
        return f"SQNR {sqnr:.3g} dB < {threshold:.3g} dB" if sqnr < threshold else ""
    if difference.relative_l2 > threshold:
        worst = difference.worst_channel
        channel = f", worst in channel {worst[0]}" if worst is not None else ""
        return f"relative L2 {difference.relative_l2:.3g} > {threshold:.3g}{channel}"
    return ""


def _failure_of_integers(
    difference: Difference, floor: Difference | None, decision: bool, departure: Difference | None
) -> str:
    if difference.shapes is not None:
        return f"shape {list(difference.shapes[1])} instead of {list(difference.shapes[0])}"
    wrong = 1.0 - difference.equal_fraction
    allowed = FLOOR_FACTOR * (1.0 - floor.equal_fraction) if floor is not None else 0.0
    if decision:
        allowed = max(allowed, TIE_FRACTION)
    allowed += 1.0 - departure.equal_fraction if departure is not None else 0.0
    if wrong <= allowed:
        return ""
    count = difference.elements - difference.equal
    return f"{count} of {difference.elements} elements differ, by up to {difference.max_abs:g}"


def _failure_of_quantized(
    difference: Difference, floor: Difference | None, steps: int, departure: Difference | None
) -> str:
    if difference.shapes is not None:
        return f"shape {list(difference.shapes[1])} instead of {list(difference.shapes[0])}"
    allowed = max(float(steps), FLOOR_FACTOR * floor.max_abs if floor is not None else 0.0)
    allowed += departure.max_abs if departure is not None else 0.0
    if difference.max_abs <= allowed:
        return ""
    return f"up to {difference.max_abs:g} steps apart, {allowed:g} allowed"


def _comes_from(graph: Graph, name: str, ops: frozenset[str], *, floats: bool = False) -> bool:
    """Whether an output holds results of one of these operators, moved or averaged at most.

    Args:
        floats: only if the operator reads floats.
    """
    pending = [graph.outputs[graph.output_names.index(name)]]
    seen: set[Value] = set()
    while pending:
        value = pending.pop()
        node = value.producer
        if value in seen or node is None:
            continue
        seen.add(value)
        if node.op in ops and (not floats or any(v is not None and v.dtype.is_float for v in node.inputs)):
            return True
        if node.op in _CARRYING:
            pending.extend(item for item in node.inputs if item is not None)
    return False
