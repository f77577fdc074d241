"""Names, order, types and shapes of inputs and outputs; what is refused, and how it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec
from edgec.converter.importers import family_of, inspect_source, open_source, source_nodes
from edgec.errors import EdgecError

from .building import Builder, assert_same, imported, options


def adder(folder: Path, named: bool, signature: list[int] | None = None) -> Path:
    b = Builder()
    left = b.tensor("serving_default_left:0", (1, 3), signature=signature)
    right = b.tensor("serving_default_right:0", (1, 3), signature=signature)
    total, difference = b.tensor("PartitionedCall:1", (1, 3)), b.tensor("PartitionedCall:0", (1, 3))
    b.op("ADD", [left, right], [total], options("AddOptions"))
    b.op("SUB", [left, right], [difference], options("SubOptions"))
    if named:
        b.signature({"right": right, "left": left}, {"difference": difference, "total": total})
    return b.save(folder, [left, right], [total, difference])


def test_the_signature_names_inputs_and_outputs_in_the_order_of_the_graph(tmp_path: Path) -> None:
    model = assert_same(adder(tmp_path, True))
    assert [value.name for value in model.model.graph.inputs] == ["left", "right"]
    assert model.model.graph.output_names == ["total", "difference"]


def test_without_a_signature_tensors_name_them(tmp_path: Path) -> None:
    model = assert_same(adder(tmp_path, False))
    assert [value.name for value in model.model.graph.inputs] == ["serving_default_left:0", "serving_default_right:0"]
    assert model.model.graph.output_names == ["PartitionedCall:1", "PartitionedCall:0"]


def test_names_that_repeat_or_lack_are_made_up(tmp_path: Path) -> None:
    b = Builder()
    x, z, y = b.tensor("", (2,)), b.tensor("input_0", (2,)), b.tensor("input_0", (2,))
    b.op("ADD", [x, z], [y], options("AddOptions"))
    model = assert_same(b.save(tmp_path, [x, z], [y, y]))
    names = [value.name for value in model.model.graph.inputs] + model.model.graph.output_names
    assert names[:2] == ["input_0", "input_0_1"] and len(set(names)) == 4


def test_an_unknown_batch_is_a_named_dimension(tmp_path: Path) -> None:
    path = adder(tmp_path, True, signature=[-1, 3])
    model = imported(path)
    assert [value.shape for value in model.model.graph.inputs] == [("batch", 3), ("batch", 3)]
    assert [value.shape for value in model.model.graph.outputs] == [("batch", 3), ("batch", 3)]
    model = assert_same(path, batch=4)
    assert model.model.graph.outputs[0].dims == (4, 3)
    assert imported(path, input_shapes={"left": [2, 3], "right": [2, 3]}).overrides["left"] == (2, 3)


def test_a_result_that_is_an_input_or_a_constant_is_handed_out(tmp_path: Path) -> None:
    b = Builder()
    x, c, y = b.tensor("x", (2,)), b.const("c", np.ones(2, np.float32)), b.tensor("y", (2,))
    b.op("ADD", [x, c], [y], options("AddOptions"))
    model = imported(b.save(tmp_path, [x], [y, x, c]))
    assert len(model.model.graph.output_names) == 3


@pytest.mark.parametrize(
    ("code", "custom", "title"),
    [
        ("CUSTOM", "TFLite_Detection_PostProcess", "CUSTOM:TFLite_Detection_PostProcess"),
        ("IF", "", "IF"),
        ("WHILE", "", "WHILE"),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", "", "UNIDIRECTIONAL_SEQUENCE_LSTM"),
    ],
)
def test_an_operator_that_is_not_known_is_named_with_its_place(
    tmp_path: Path, code: str, custom: str, title: str
) -> None:
    b = Builder()
    x, middle, y = b.tensor("x", (2,)), b.tensor("middle", (2,)), b.tensor("y", (2,))
    b.op("ABS", [x], [middle])
    b.op(code, [middle], [y], custom=custom)
    path = b.save(tmp_path, [x], [y])
    with pytest.raises(EdgecError) as caught:
        open_source(path)
    error = caught.value
    assert error.code == "EDG201" and error.exit_code == 4
    assert title in error.message and error.where == "operator 1, 'y'"
    report = edgec.check(path, target="tflite")
    assert [node.verdict for node in report.nodes] == ["uncertain", "unsupported"]
    assert report.nodes[1].operator == title


def test_an_operator_that_the_target_refuses_is_found_by_its_name(tmp_path: Path) -> None:
    b = Builder()
    x, y = b.tensor("x", (2,), np.float32), b.tensor("bits", (2,), np.int32)
    b.op("BITCAST", [x], [y])
    report = edgec.check(b.save(tmp_path, [x], [y]), target="tflite")
    assert [(node.name, node.verdict) for node in report.nodes] == [("bits", "unsupported")]


def test_a_type_that_onnx_has_no_tensor_of_is_refused(tmp_path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    b = Builder()
    x, y = b.tensor("x", (2,), kind=schema.TensorType.RESOURCE), b.tensor("y", (2,))
    b.op("ABS", [x], [y])
    with pytest.raises(EdgecError) as caught:
        open_source(b.save(tmp_path, [x], [y]))
    assert caught.value.code == "EDG204"


def test_the_facts_of_a_file(tmp_path: Path) -> None:
    b = Builder()
    x = b.tensor("x", (1, 4), np.int8, scale=0.5, zero_point=3, signature=[-1, 4])
    w = b.const("w", np.ones((2, 4), np.int8), scale=[0.1, 0.2])
    y = b.tensor("y", (1, 2), np.int8, scale=0.25)
    b.op("FULLY_CONNECTED", [x, w, -1], [y], options("FullyConnectedOptions"))
    path = b.save(tmp_path, [x], [y])
    facts: dict[str, Any] = inspect_source(path)
    assert facts["format"] == "tflite" and facts["size"] == path.stat().st_size
    assert facts["operators"] == {"FULLY_CONNECTED": 1} and facts["dynamic_dims"] == {"x": [0]}
    assert facts["inputs"][0]["shape"] == [None, 4]
    assert facts["inputs"][0]["quantization"] == {"scale": 0.5, "zero_point": 3}
    assert facts["quantization"] == {"int8 per_axis": 1, "int8 per_tensor": 2}
    assert facts["parameters"] == 8 and facts["parameter_bytes"] == 8
    assert [(node.index, node.name, node.operator) for node in source_nodes(path).nodes] == [
        (0, "y", "FULLY_CONNECTED")
    ]


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "EDG102"), (b"abc", "EDG114"), (b"version https://git-lfs", "EDG114"), (b"\0\1\0\0TFL3", "EDG109")],
)
def test_files_that_are_something_else_are_named(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    for reader in (open_source, inspect_source):
        with pytest.raises(EdgecError) as caught:
            reader(path)
        assert caught.value.code == code and caught.value.exit_code == 3


def test_the_content_decides_which_importer_reads_a_file(tmp_path: Path) -> None:
    path = adder(tmp_path, True).rename(tmp_path / "model.bin")
    assert family_of(path) == "tflite"
    assert family_of(tmp_path / "missing.tflite") == "tflite"  # where the suffix is all there is
    with pytest.raises(EdgecError) as caught:
        open_source(tmp_path / "missing.tflite")
    assert caught.value.code == "EDG101"


def test_a_file_is_converted_and_verified_against_litert(tmp_path: Path) -> None:
    source = adder(tmp_path, True)
    for target in ("tflite", "onnxruntime"):
        result = edgec.convert(source, target=target, output=tmp_path / target)
        assert result.document["verification"]["reference"]["runtime"] == "ai-edge-litert"
        report = edgec.verify(tmp_path / target, against=source)
        assert report.passed
