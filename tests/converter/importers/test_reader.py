"""What is no model is told apart and refused; what is one is opened without reading its weights."""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from edgec.converter.importers.onnx import import_model
from edgec.converter.importers.onnx.reader import THRESHOLD, open_model
from tests.converter.importers.building import model, refusal, run, saved


def relu(opset: int = 13, **options: object) -> ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"], name="act")], {"x": [2, 3]}, ["y"], opset=opset, **options)


def test_a_missing_file_is_edg101(tmp_path: Path) -> None:
    refusal("EDG101", tmp_path / "none.onnx")


def test_a_folder_is_edg101(tmp_path: Path) -> None:
    refusal("EDG101", tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_edg101_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refusal("EDG101", tmp_path / "pipe")


def test_an_empty_file_is_edg102(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.touch()
    refusal("EDG102", path)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\x1f\x8b\x08\x00" + bytes(60), "gzip"),
        (b"PK\x03\x04" + bytes(60), "zip"),
        (b"hello, this is plain text", ""),
    ],
)
def test_what_is_no_protobuf_is_edg103_and_named(tmp_path: Path, content: bytes, hint: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert hint in str(refusal("EDG103", path))


def test_a_file_cut_off_in_its_graph_is_edg104(tmp_path: Path) -> None:
    content = relu().SerializeToString()
    path = tmp_path / "model.onnx"
    for keep in (len(content) // 2, len(content) - 12):
        path.write_bytes(content[:keep])
        refusal("EDG104", path)


def test_damage_inside_the_graph_is_edg103(tmp_path: Path) -> None:
    content = relu().SerializeToString()
    damaged = content.replace(b"Relu", b"\xff\xff\xff\xff").replace(b"\x0a\x01x", b"\x0a\x7fx")
    path = tmp_path / "model.onnx"
    path.write_bytes(damaged)
    refusal("EDG103", path)


def test_another_protobuf_is_edg105(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0]).SerializeToString())
    refusal("EDG105", path)
    path.write_bytes(ModelProto(ir_version=8, graph=GraphProto(name="g")).SerializeToString())
    assert "opset" in str(refusal("EDG105", path))


def test_a_cycle_is_edg106_and_its_nodes_are_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
    ]
    error = refusal("EDG106", saved(tmp_path, model(nodes, {"x": [2]}, ["b"], opset=13)))
    assert "first" in str(error) and "second" in str(error)


def test_a_value_that_nothing_produces_is_edg106(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["ghost"], ["y"], name="act")]
    assert "ghost" in str(refusal("EDG106", saved(tmp_path, model(nodes, {"x": [2]}, ["y"], opset=13))))


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Neg", ["x"], ["a"])]
    imported = import_model(saved(tmp_path, model(nodes, {"x": [2]}, ["y"], opset=13)))
    assert [(node.op, node.name) for node in imported.model.graph.nodes] == [("Neg", "Neg_1"), ("Relu", "Relu_0")]


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (lambda proto: setattr(proto, "ir_version", 2), "EDG110"),
        (lambda proto: setattr(proto, "ir_version", 99), "EDG110"),
        (lambda proto: setattr(proto.opset_import[0], "version", 99), "EDG110"),
        (lambda proto: setattr(proto.opset_import[0], "version", 0), "EDG110"),
        (lambda proto: setattr(proto.graph.node[0], "op_type", "Rleu"), "EDG201"),
        (lambda proto: setattr(proto.graph.node[0], "domain", "qonnx.custom_op.general"), "EDG201"),
        (lambda proto: setattr(proto.graph.node[0], "op_type", "Gelu"), "EDG201"),
        (lambda proto: setattr(proto.graph.input[0].type.tensor_type, "elem_type", TensorProto.STRING), "EDG109"),
        (lambda proto: setattr(proto.graph.input[0].type.tensor_type, "elem_type", 77), "EDG109"),
        (lambda proto: proto.graph.node[0].input.append("x"), "EDG109"),
        (lambda proto: proto.graph.node[0].attribute.append(helper.make_attribute("alpha", 1.0)), "EDG109"),
        (lambda proto: proto.graph.node.append(proto.graph.node[0]), "EDG109"),
        (lambda proto: proto.graph.output[0].ClearField("name"), "EDG106"),
    ],
)
def test_a_broken_rule_has_its_code(tmp_path: Path, break_it: object, code: str) -> None:
    proto = relu()
    break_it(proto)  # type: ignore[operator]
    refusal(code, saved(tmp_path, proto))


def test_an_unknown_operator_is_named_with_domain_and_node(tmp_path: Path) -> None:
    node = helper.make_node("Quant", ["x"], ["y"], name="Quant_7", domain="qonnx.custom_op.general")
    proto = model([node], {"x": [2]}, ["y"], opset=13, domains={"qonnx.custom_op.general": 1})
    error = refusal("EDG201", saved(tmp_path, proto))
    assert error.details == {"operator": "Quant", "domain": "qonnx.custom_op.general", "node": "Quant_7"}
    assert error.exit_code == 4


@pytest.mark.parametrize("size", [3, THRESHOLD])
def test_tensor_data_that_does_not_fill_its_shape_is_edg109(tmp_path: Path, size: int) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[size + 1], raw_data=bytes(4 * size))
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [1]}, ["y"], opset=13)
    proto.graph.initializer.append(tensor)
    refusal("EDG109", saved(tmp_path, proto))


def test_bodies_nested_too_deeply_are_edg112(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y0"])], "g0", [], [helper.make_empty_tensor_value_info("y0")]
    )
    for depth in range(1, 20):
        node = helper.make_node(
            "If", ["c"], [f"y{depth}"], then_branch=graph, else_branch=graph if depth == 1 else relu().graph
        )
        graph = helper.make_graph([node], f"g{depth}", [], [helper.make_empty_tensor_value_info(f"y{depth}")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    proto.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]))
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    refusal("EDG112", saved(tmp_path, proto))


def test_initializers_among_the_inputs_are_constants(tmp_path: Path) -> None:
    proto = model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        {"x": [2, 3], "w": [3]},
        ["y"],
        opset=9,
        constants={"w": np.ones(3, np.float32)},
        ir_version=3,
    )
    imported = import_model(saved(tmp_path, proto))
    assert [value.name for value in imported.model.graph.inputs] == ["x"]
    assert [value.name for value in imported.model.graph.constants()] == ["w"]


@pytest.mark.parametrize("field", ["raw", "packed", "attribute"])
def test_large_tensors_stay_in_the_file_and_have_their_values(tmp_path: Path, field: str) -> None:
    array = np.arange(2 * THRESHOLD, dtype=np.float32)
    tensor = numpy_helper.from_array(array, "w")
    if field == "packed":
        tensor = helper.make_tensor("w", TensorProto.FLOAT, array.shape, array.tolist())
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    if field == "attribute":
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    proto = model(nodes, {"x": [1]}, ["y"], opset=13)
    if field != "attribute":
        proto.graph.initializer.append(tensor)
    path = saved(tmp_path, proto)
    assert len(open_model(path).proto.SerializeToString()) < 500
    feeds = {"x": np.zeros(1, np.float32)}
    imported = import_model(path)
    if field == "attribute":
        held = next(iter(imported.model.graph.nodes)).attributes["value"]
    else:
        held = imported.model.graph.constants()[0].const
    np.testing.assert_array_equal(held.numpy(), array)
    np.testing.assert_array_equal(run(proto, feeds)[0], array)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_model_is_not_copied(tmp_path: Path) -> None:
    def anonymous() -> int:
        text = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("RssAnon"))

    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [1]}, ["y"], opset=13)
    proto.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1 << 24], raw_data=bytes(1 << 26))
    path = saved(tmp_path, proto)
    del proto
    before = anonymous()
    import_model(path)
    assert anonymous() - before < 8192  # KiB, of a file of 65536


def chain(folder: Path, count: int) -> Path:
    """A file with a chain of nodes with two initializers each, one of which is used."""
    nodes, constants = [], {}
    for index in range(count):
        nodes.append(helper.make_node("Mul" if index % 2 else "Add", [f"v{index}", f"w{index}"], [f"v{index + 1}"]))
        constants[f"w{index}"] = constants[f"u{index}"] = np.ones(1, np.float32)
    folder.mkdir(exist_ok=True)
    return saved(folder, model(nodes, {"v0": [1]}, [f"v{count}"], opset=17, constants=constants))


def instructions_to_load(folder: Path, count: int) -> int:
    """How many of Python's instructions the import of a chain executes: the same number on every machine."""
    path, executed = chain(folder, count), 0

    def follow(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal executed
        frame.f_trace_opcodes = True
        executed += event == "opcode"
        return follow

    before = sys.gettrace()
    sys.settrace(follow)
    try:
        import_model(path)
    finally:
        sys.settrace(before)
    return executed


def test_a_model_of_many_nodes_and_initializers_is_loaded_in_linearly_many_instructions(tmp_path: Path) -> None:
    """Eight times as many nodes take eight times as many instructions; what is quadratic would take 64 times."""
    instructions_to_load(tmp_path, 10)  # what is imported or filled at the first use
    few, many = instructions_to_load(tmp_path, 100), instructions_to_load(tmp_path, 800)
    assert 7 * few < many < 8.1 * few


def seconds_to_load(path: Path) -> float:
    """CPU time of an import, without the garbage collector's: how much else is in its memory is not edgec's doing."""
    gc.collect()
    gc.disable()
    try:
        before = time.process_time()
        import_model(path)
        return time.process_time() - before
    finally:
        gc.enable()


def test_no_search_through_all_names_hides_in_one_instruction(tmp_path: Path) -> None:
    """Such as ``name in list``: with one for each node, 32 times as many nodes would take far more than 128 times.

    The bound is four times what is linear, the best of three counts: however busy the machine, it is not met by chance.
    """
    few, many = chain(tmp_path / "few", 1000), chain(tmp_path / "many", 32000)
    bound = 4 * 32 * min(seconds_to_load(few) for _ in range(3))
    assert any(seconds_to_load(many) < bound for _ in range(3))
