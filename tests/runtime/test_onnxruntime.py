"""ONNX Runtime sessions, and models whose declared extents are placeholders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec.errors import EdgecError
from edgec.runtime.onnxruntime import open_session
from edgec.runtime.redeclare import redeclare


def placeholder_model(folder: Path, *, external: bool = False) -> Path:
    """A Conv whose declared input and output extents are too small to be true, with its weight also an input."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 3, 3, 3], np.ones(108, np.float32).tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
        "placeholders",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [10, 3, 8, 8]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3, 3, 3]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [10, 4, 6, 6])],
        [weight],
        value_info=[helper.make_tensor_value_info("c", TensorProto.FLOAT, [10, 4, 6, 6])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = folder / "model.onnx"
    if external:
        onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    else:
        onnx.save(model, path)
    return path


@pytest.mark.parametrize("external", [False, True])
def test_a_placeholder_shape_is_replaced(tmp_path: Path, external: bool) -> None:
    path = placeholder_model(tmp_path, external=external)
    x = np.ones((1, 3, 16, 20), np.float32)
    with pytest.raises(EdgecError) as caught:
        open_session(path).run({"x": x})
    assert caught.value.code == "EDG303"
    session = open_session(path, input_shapes={"x": (1, 3, 16, 20)})
    assert session.inputs[0].shape == (1, 3, 16, 20)
    y = session.run({"x": x})["y"]
    assert y.shape == (1, 4, 14, 18) and np.all(y == 27)


def test_shapes_that_are_declared_already_change_nothing(tmp_path: Path) -> None:
    path = placeholder_model(tmp_path)
    assert redeclare(path, {"x": (10, 3, 8, 8)}) is None
    assert redeclare(path, {"other": (1,)}) is None


def test_the_rest_of_a_redeclared_model_is_kept(tmp_path: Path) -> None:
    path = placeholder_model(tmp_path)
    changed = redeclare(path, {"x": (1, 3, 9, 9)})
    assert changed is not None
    fresh, old = onnx.load_from_string(changed), onnx.load(path)
    assert list(fresh.graph.node) == list(old.graph.node)
    assert list(fresh.graph.initializer) == list(old.graph.initializer)
    assert fresh.opset_import == old.opset_import and fresh.ir_version == old.ir_version
    assert not fresh.graph.value_info and not fresh.graph.output[0].type.tensor_type.HasField("shape")
    assert [d.dim_value for d in fresh.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 9, 9]
    assert fresh.graph.input[1] == old.graph.input[1]


def test_symbolic_extents_are_left_to_the_runtime(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "symbolic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", None, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", None, 3])],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    assert redeclare(path, {"x": (2, 5, 3)}) is None
    session = open_session(path, input_shapes={"x": (2, 5, 3)}, optimise=False)
    assert session.inputs[0].shape == ("n", None, 3)
    assert session.run({"x": np.ones((2, 5, 3), np.float32)})["y"].shape == (2, 5, 3)
    session.close()


def test_what_does_not_load_is_a_load_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(EdgecError) as caught:
        open_session(path)
    assert caught.value.code == "EDG302" and caught.value.why


def test_a_sequence_output_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "sequence",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with pytest.raises(EdgecError) as caught:
        open_session(model.SerializeToString())
    assert caught.value.code == "EDG204"
