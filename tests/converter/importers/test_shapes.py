"""Binding of unknown dimensions."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import ModelProto, TensorProto, helper

from edgec.converter.importers.imported import SourceOptions
from edgec.converter.importers.onnx import import_model, require_static
from edgec.errors import EdgecError
from tests.converter.importers.building import model, refusal, saved


def dynamic(shapes: dict[str, list[int | str | None]] | None = None) -> ModelProto:
    given = shapes or {"x:0": ["N", 3, "H", "W"], "mask": ["N", None]}
    nodes = [helper.make_node("Relu", [name], [f"{name}_out"]) for name in given]
    return model(nodes, given, [f"{name}_out" for name in given], opset=13)


def shapes_of(path: Path, **options: object) -> dict[str, object]:
    imported = import_model(path, SourceOptions(**options))  # type: ignore[arg-type]
    return {value.name: value.shape for value in imported.model.graph.inputs}


def test_a_symbol_bound_at_one_input_is_bound_at_all(tmp_path: Path) -> None:
    path = saved(tmp_path, dynamic())
    assert shapes_of(path, input_shapes={"x:0": [2, 3, 8, 8]}) == {"x:0": (2, 3, 8, 8), "mask": (2, None)}


def test_overrides_name_every_input_that_changed(tmp_path: Path) -> None:
    path = saved(tmp_path, dynamic())
    imported = import_model(path, SourceOptions({"x:0": [2, 3, 8, 8]}))
    assert imported.overrides == {"x:0": (2, 3, 8, 8), "mask": (2, None)}
    assert any("mask" in note for note in imported.notes)


def test_one_symbol_cannot_have_two_values(tmp_path: Path) -> None:
    refusal("EDG001", saved(tmp_path, dynamic()), input_shapes={"x:0": [2, 3, 8, 8], "mask": [3, 4]})


def test_an_unknown_input_is_edg002_and_the_inputs_are_listed(tmp_path: Path) -> None:
    assert "'x:0'" in str(refusal("EDG002", saved(tmp_path, dynamic()), input_shapes={"x": [1]}))


def test_another_rank_is_edg111(tmp_path: Path) -> None:
    refusal("EDG111", saved(tmp_path, dynamic()), input_shapes={"mask": [1, 2, 3]})


def test_batch_replaces_first_dimensions_and_dims_named_so(tmp_path: Path) -> None:
    path = saved(tmp_path, dynamic({"x": [None, 3], "y": ["N", 4], "state": [2, "batch", 8], "fixed": [5, 5]}))
    imported = import_model(path, SourceOptions(batch=4))
    assert {value.name: value.shape for value in imported.model.graph.inputs} == {
        "x": (4, 3),
        "y": (4, 4),
        "state": (2, 4, 8),
        "fixed": (5, 5),
    }
    assert imported.overrides == {"x": (4, 3), "y": (4, 4), "state": (2, 4, 8)}


def test_batch_that_changes_nothing_says_so(tmp_path: Path) -> None:
    imported = import_model(saved(tmp_path, dynamic({"x": [5, 5]})), SourceOptions(batch=4))
    assert "changed nothing" in imported.notes[0]


def test_an_open_batch_is_bound_only_where_nothing_else_is_open(tmp_path: Path) -> None:
    def bound(shapes: dict[str, list[int | str]], **options: object) -> tuple[dict[str, object], list[str]]:
        found = import_model(saved(tmp_path, dynamic(shapes)), SourceOptions(open_batch=1, **options))  # type: ignore[arg-type]
        return {value.name: value.shape for value in found.model.graph.inputs}, found.notes

    shapes, notes = bound({"x": ["batch", 3, 8, 8], "y": ["batch", 4]})
    assert shapes == {"x": (1, 3, 8, 8), "y": (1, 4)}
    assert any("leaves the batch open: 1 is taken" in note for note in notes)
    assert bound({"x": ["batch", 3, 8, 8]}, batch=4)[0] == {"x": (4, 3, 8, 8)}
    for kept in ({"x": ["batch", 3, "height", 8]}, {"x": ["batch"]}, {"x": ["samples", 3]}, {"x": [2, 3]}):
        shapes, notes = bound(kept)  # type: ignore[arg-type]
        assert shapes == {"x": tuple(kept["x"])} and not notes


def test_question_marks_are_no_common_name(tmp_path: Path) -> None:
    path = saved(tmp_path, dynamic({"x": ["?", "?", "-1"]}))
    assert shapes_of(path, batch=2) == {"x": (2, None, None)}


def test_a_replaced_placeholder_drops_the_shapes_declared_inside(tmp_path: Path) -> None:
    proto = dynamic({"x": [10, 3, 32, 32]})
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("x_out", TensorProto.FLOAT, [10, 3, 32, 32]))
    imported = import_model(saved(tmp_path, proto), SourceOptions({"x": [1, 3, 480, 640]}))
    assert imported.model.graph.inputs[0].shape == (1, 3, 480, 640)
    assert imported.model.graph.outputs[0].shape is None
    assert any("dropped" in note for note in imported.notes)


def test_static_targets_refuse_open_dimensions_and_show_the_option(tmp_path: Path) -> None:
    imported = import_model(saved(tmp_path, dynamic()))
    with pytest.raises(EdgecError) as caught:
        require_static(imported)
    assert caught.value.code == "EDG202"
    assert "--input-shape x:0:1,3,1,1" in (caught.value.help or "")
    with pytest.raises(EdgecError, match=r"\[N,3\]") as caught:
        require_static(import_model(saved(tmp_path, dynamic({"x": ["N", 3]}))))
    assert caught.value.help == "--batch 1"
    require_static(import_model(saved(tmp_path, dynamic({"x": ["N", 3]})), SourceOptions(batch=1)))
