"""Every operator that moves or compares elements, in every element type that ONNX Runtime has it for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.targets.tflite.random_models import ModelBuilder, outcome

TYPES = (np.float32, np.float16, np.int32, np.int64, np.uint8, np.int8, np.bool_)


def _ints(b: ModelBuilder, *values: int) -> str:
    return b.constant(list(values), np.int64)


def _zero(b: ModelBuilder, number: Any) -> str:
    return b.constant(np.ones((), number))


Case = Callable[[ModelBuilder, str, Any], str]

CASES: dict[str, Case] = {
    "Transpose": lambda b, x, t: b.add("Transpose", x, perm=[1, 0, 3, 2]),
    "Reshape": lambda b, x, t: b.add("Reshape", x, _ints(b, 4, -1)),
    "Slice": lambda b, x, t: b.add("Slice", x, _ints(b, 1, 1), _ints(b, 2, 3), _ints(b, 1, 2)),
    "Slice with steps": lambda b, x, t: b.add("Slice", x, _ints(b, 3), _ints(b, -9), _ints(b, 2), _ints(b, -2)),
    "Pad": lambda b, x, t: b.add("Pad", x, _ints(b, 0, 1, 0, 1, 0, 0, 2, 0)),
    "Pad with a value": lambda b, x, t: b.add("Pad", x, _ints(b, 0, 1, 0, 1, 0, 0, 2, 0), _zero(b, t)),
    "Pad by reflection": lambda b, x, t: b.add("Pad", x, _ints(b, 0, 1, 0, 1, 0, 0, 2, 0), mode="reflect"),
    "Pad by the edge": lambda b, x, t: b.add("Pad", x, _ints(b, 0, 1, 0, 1, 0, 0, 2, 0), mode="edge"),
    "Tile": lambda b, x, t: b.add("Tile", x, _ints(b, 1, 2, 1, 3)),
    "Expand": lambda b, x, t: b.add("Expand", x, _ints(b, 3, 2, 3, 4, 4)),
    "Concat": lambda b, x, t: b.add("Concat", x, b.input((2, 1, 4, 4), t), axis=1),
    "Split equally": lambda b, x, t: b.add("Split", x, outputs=2, axis=2, num_outputs=2),
    "Split": lambda b, x, t: b.add("Split", x, _ints(b, 1, 3), outputs=2, axis=2),
    "Gather": lambda b, x, t: b.add("Gather", x, _ints(b, -1, 0, 2), axis=1),
    "Gather by an input": lambda b, x, t: b.add("Gather", x, b.add("Shape", b.input((1, 2))), axis=1),
    "GatherElements": lambda b, x, t: b.add("GatherElements", x, b.constant(np.ones((2, 3, 4, 2), np.int64)), axis=3),
    "GatherND": lambda b, x, t: b.add("GatherND", x, b.constant([[0, 1], [1, 2]], np.int64)),
    "ScatterND": lambda b, x, t: b.add("ScatterND", x, b.constant([[0, 1], [1, 2]], np.int64), b.input((2, 4, 4), t)),
    "ScatterElements": lambda b, x, t: b.add(
        "ScatterElements", x, b.constant(np.full((1, 2, 1, 1), 2, np.int64)), b.input((1, 2, 1, 1), t), axis=3
    ),
    "Where": lambda b, x, t: b.add("Where", b.input((2, 1, 1, 4), np.bool_), x, b.input((4,), t)),
    "Equal": lambda b, x, t: b.add("Equal", x, b.input((4,), t)),
    "Less": lambda b, x, t: b.add("Less", x, b.input((4,), t)),
    "Cast": lambda b, x, t: b.add("Cast", x, to=1),
    "Max": lambda b, x, t: b.add("Max", x, b.input((3, 1, 4), t)),
    "Abs": lambda b, x, t: b.add("Abs", x),
    "Sign": lambda b, x, t: b.add("Sign", x),
    "Add": lambda b, x, t: b.add("Add", x, b.input((3, 1, 4), t)),
    "ArgMax": lambda b, x, t: b.add("ArgMax", x, axis=1),
    "TopK": lambda b, x, t: b.add("TopK", x, _ints(b, 2), outputs=2, axis=-1),
    "CumSum": lambda b, x, t: b.add("CumSum", x, _ints(b, 2)),
    "ReduceSum": lambda b, x, t: b.add("ReduceSum", x, _ints(b, 2)),
    "ReduceMax": lambda b, x, t: b.add("ReduceMax", x, _ints(b, 1)),
    "ReduceProd": lambda b, x, t: b.add("ReduceProd", x, _ints(b, 1)),
    "ReduceMean": lambda b, x, t: b.add("ReduceMean", x, _ints(b, 1, 3)),
    "Clip": lambda b, x, t: b.add("Clip", x, b.constant(1, t), b.constant(5, t)),
    "Resize": lambda b, x, t: b.add("Resize", x, "", b.constant([1, 1, 2, 0.5], np.float32), mode="nearest"),
    "MaxPool": lambda b, x, t: b.add("MaxPool", x, kernel_shape=[2, 2], pads=[1, 0, 1, 0]),
    "DepthToSpace": lambda b, x, t: b.add("DepthToSpace", b.add("Concat", x, x, x, x, axis=1), blocksize=2, mode="CRD"),
    "SpaceToDepth": lambda b, x, t: b.add("SpaceToDepth", x, blocksize=2),
    "ReverseSequence": lambda b, x, t: b.add("ReverseSequence", x, _ints(b, 1, 3), batch_axis=0, time_axis=1),
    "OneHot": lambda b, x, t: b.add("OneHot", b.add("Cast", x, to=7), b.constant(5, np.int64), b.constant([0, 1], t)),
    "Trilu": lambda b, x, t: b.add("Trilu", x, upper=1),
    "EyeLike": lambda b, x, t: b.add("EyeLike", b.add("Reshape", x, _ints(b, 8, 12))),
    "NonZero": lambda b, x, t: b.add("Shape", b.add("NonZero", x)),
    "Range": lambda b, x, t: b.add("Range", b.constant(0, t), b.constant(6, t), b.constant(2, t)),
    "MatMul": lambda b, x, t: b.add("MatMul", x, b.input((1, 4, 2), t)),
    "Mod": lambda b, x, t: b.add("Mod", x, b.constant([1, 2, 3, 4], t), fmod=int(np.dtype(t).kind == "f")),
    "Pow": lambda b, x, t: b.add("Pow", b.add("Abs", x), b.constant([0, 1, 2, 3], t)),
    "Einsum": lambda b, x, t: b.add("Einsum", x, b.input((4, 2), t), equation="bhij,jk->bkhi"),
    "Identity": lambda b, x, t: b.add("Identity", x),
}


@pytest.mark.parametrize("case", CASES)
def test_every_element_type(case: str) -> None:
    findings = {}
    for number in TYPES:
        b = ModelBuilder()
        model = b.build(CASES[case](b, b.input((2, 3, 4, 4), number), number))
        found = outcome(model)
        if found.kind not in ("ok", "invalid"):
            findings[np.dtype(number).name] = f"{found.kind}: {found.detail}"
    assert not findings
