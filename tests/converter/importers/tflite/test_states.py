"""Variables become inputs and outputs; fed back, the model does what the original does from call to call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import edgec
from edgec.converter.importers.tflite.importer import STATES
from edgec.errors import EdgecError
from edgec.ir.proto import model_to_proto
from edgec.runtime.onnxruntime import open_session
from tests.models import source_model

from .building import Builder, assert_same, imported, options


def counter(folder: Path, initial: Any = 2.0, reader: str = "ASSIGN_VARIABLE") -> Path:
    """y = state + x; the state becomes y."""
    b = Builder()
    x, handle = b.tensor("x", (1, 3)), b.tensor("handle", (), kind=schema.TensorType.RESOURCE)
    state, y = b.tensor("state", (1, 3)), b.tensor("y", (1, 3))
    b.op("CALL_ONCE", [], [], options("CallOnceOptions", initSubgraphIndex=1))
    b.op("VAR_HANDLE", [], [handle], options("VarHandleOptions", container="", sharedName="total"))
    b.op("READ_VARIABLE", [handle], [state], options("ReadVariableOptions"))
    b.op("ADD", [state, x], [y], options("AddOptions"))
    b.op("ASSIGN_VARIABLE", [handle, y], [], options("AssignVariableOptions"))
    once = Builder(model=schema.ModelT())
    inner = once.tensor("handle", (), kind=schema.TensorType.RESOURCE)
    once.model, before = b.model, once.model.buffers
    assert len(before) == 1
    start = once.const("start", np.full((1, 3), initial, np.float32))
    once.op("VAR_HANDLE", [], [inner], options("VarHandleOptions", container="", sharedName="total"))
    once.op(reader, [inner, start], [] if reader == "ASSIGN_VARIABLE" else [start])
    once.graph.inputs, once.graph.outputs = [], []
    b.model.subgraphs.append(once.graph)
    return b.save(folder, [x], [y])


def test_a_variable_is_an_input_and_an_output(tmp_path: Path) -> None:
    model = assert_same(counter(tmp_path))
    assert [value.name for value in model.model.graph.inputs] == ["x", "total"]
    assert model.model.graph.output_names == ["y", "total_next"]
    states = json.loads(model.model.metadata[STATES])
    assert states == [{"input": "total", "output": "total_next", "initial": 2.0}]
    assert any("at first all 2.0" in note for note in model.notes)


def test_fed_back_it_counts_as_the_original_does(tmp_path: Path) -> None:
    path = counter(tmp_path)
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    session = open_session(model_to_proto(imported(path).model).SerializeToString())
    state = np.full((1, 3), 2.0, np.float32)
    for step in range(3):
        x = np.full((1, 3), step + 1, np.float32)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        found = session.run({"x": x, "total": state})
        state = found["total_next"]
        np.testing.assert_array_equal(found["y"], interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def test_variables_that_something_else_initialises_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        imported(counter(tmp_path, reader="ADD"))
    assert caught.value.code == "EDG201" and "ADD" in caught.value.message


def test_a_conversion_carries_the_states_along(tmp_path: Path) -> None:
    result = edgec.convert(counter(tmp_path), target="tflite", output=tmp_path / "out")
    assert result.report is not None and result.report.passed
    assert any("total_next" in note for note in result.notes)


@pytest.mark.download
def test_a_wake_word_model_hears_the_same_from_call_to_call() -> None:
    path = source_model("okay_nabu.tflite")
    model = imported(path)
    session = open_session(model_to_proto(model.model).SerializeToString(), optimise=False)
    states = json.loads(model.model.metadata[STATES])
    assert len(states) == 6
    shapes = {value.name: (value.dims, value.dtype.numpy) for value in model.model.graph.inputs}
    held = {
        state["input"]: np.full(shapes[state["input"]][0], state["initial"], shapes[state["input"]][1])
        for state in states
    }
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    generator = np.random.default_rng(0)
    heard = []
    for step in range(90):
        if step % 15 == 0:  # the same sound for a while
            sound = generator.integers(-128, 128, 40)
        audio = np.broadcast_to(sound, (1, 3, 40)).astype(np.int8)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], audio)
        interpreter.invoke()
        wanted = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        found = session.run({"input_audio": audio, **held})
        held = {state["input"]: found[state["output"]] for state in states}
        heard.append((int(wanted.item()), int(found["dense_1"].item())))
    assert max(abs(one - other) for one, other in heard) <= 1
    assert len(set(heard)) > 1
