"""What `check` says of each node, and that `convert` says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgec
from edgec.errors import EdgecError
from edgec.targets.base import Refusal, Verdict
from edgec.targets.onnxruntime import TARGET as ORT
from tests.faults import graphs


def chain(*operators: str) -> onnx.ModelProto:
    """Nodes one after the other, all without names but the first."""
    nodes = []
    names = ["x", *(f"t{n}" for n in range(len(operators) - 1)), "y"]
    for position, operator in enumerate(operators):
        node = helper.make_node(operator, [names[position]], [names[position + 1]])
        if position == 0:
            node.name = "first"
        nodes.append(node)
    return graphs.model(nodes)


def test_every_node_is_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = graphs.save(chain("Relu", "Identity", "Sigmoid"), tmp_path / "model.onnx")
    report = edgec.check(path, target="onnxruntime")
    assert [(node.index, node.name, node.operator) for node in report.nodes] == [
        (0, "first", "Relu"),
        (1, "Identity_1", "Identity"),
        (2, "Sigmoid_2", "Sigmoid"),
    ]
    assert report.verdict is Verdict.OK
    assert report.summary["ok"] == 3


def test_a_refusal_finds_the_way_back_to_every_source_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = graphs.save(chain("Relu", "Sigmoid", "Tanh"), tmp_path / "model.onnx")
    refusal = Refusal("fused", "Strange", ("Sigmoid_1", "Tanh_2"), "EDG231", "made for this test", "nothing helps")
    monkeypatch.setattr(ORT, "refusals", lambda model, options: [refusal])
    report = edgec.check(path, target="onnxruntime")
    assert [node.verdict for node in report.nodes] == ["ok", "unsupported", "unsupported"]
    assert report.nodes[1].help == "nothing helps"
    assert report.summary["rules"] == {"EDG231": 2}
    with pytest.raises(EdgecError) as caught:
        edgec.convert(path, target="onnxruntime", output=tmp_path / "out", plan=True)
    assert caught.value.exit_code == 4
    assert caught.value.code == "EDG231"
    assert caught.value.details["node"] == "Sigmoid_1"


def test_a_refusal_of_the_whole_model_promises_no_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = graphs.save(chain("Relu", "Tanh"), tmp_path / "model.onnx")
    monkeypatch.setattr(ORT, "refusals", lambda model, options: [Refusal("", "", (), "EDG232", "too large")])
    report = edgec.check(path, target="onnxruntime")
    assert report.verdict is Verdict.UNSUPPORTED
    assert {node.verdict for node in report.nodes} == {Verdict.UNCERTAIN}
    assert [item.rule for item in report.general] == ["EDG232"]


def test_a_node_inside_a_body_is_reported_at_the_node_around_it(tmp_path: Path) -> None:
    """A Loop whose trip count is an input stays a Loop, which LiteRT does not have."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["go"]),
            helper.make_node("Relu", ["state"], ["next"], name="inner"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 4]),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1, 4]),
        ],
    )
    proto = graphs.model(
        [
            helper.make_node("Neg", ["x"], ["n"]),
            helper.make_node("Loop", ["trips", "", "n"], ["y"], name="l", body=body),
        ]
    )
    proto.graph.input.append(helper.make_tensor_value_info("trips", TensorProto.INT64, []))
    path = graphs.save(proto, tmp_path / "model.onnx")
    report = edgec.check(path, target="tflite")
    assert [node.verdict for node in report.nodes][1] == "unsupported"
    with pytest.raises(EdgecError) as caught:
        edgec.convert(path, target="tflite", output=tmp_path / "out")
    assert caught.value.exit_code == 4
    assert caught.value.code == report.nodes[1].rule
    assert edgec.check(path, target="onnxruntime").verdict is Verdict.OK


def test_an_operator_without_a_kernel_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """ONNX Runtime's CPU provider has no Conv for float64 weights of type int64 inputs: here a bfloat16 Conv."""
    weight = numpy_helper.from_array(np.zeros((1, 1, 1, 1), np.float32), "w")
    weight.CopyFrom(helper.make_tensor("w", TensorProto.BFLOAT16, [1, 1, 1, 1], [1.0]))
    value = helper.make_tensor_value_info("x", TensorProto.BFLOAT16, [1, 1, 4, 4])
    result = helper.make_tensor_value_info("y", TensorProto.BFLOAT16, [1, 1, 4, 4])
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")]
    graph = helper.make_graph(nodes, "bfloat16", [value], [result], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    path = graphs.save(proto, tmp_path / "model.onnx")
    report = edgec.check(path, target="onnxruntime")
    assert [(node.verdict, node.rule) for node in report.nodes] == [("unsupported", "EDG231")]
    assert "kernel" in report.nodes[0].reason
    with pytest.raises(EdgecError) as caught:
        edgec.convert(path, target="onnxruntime", output=tmp_path / "out")
    assert caught.value.code == "EDG231"
    assert not (tmp_path / "out").exists()
