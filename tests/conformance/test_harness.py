"""The suite itself: it must see what is wrong, or its zeros mean nothing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from . import runner
from .binding import bind, parameter_names
from .cases import Case, enumerate_cases
from .judge import CheckVerdict, Identity, Refusal, judge
from .opening import difference
from .report import markdown
from .suite import Results, run_suite

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the suite forks a process per case")

X = np.array([[1.0, -2.0, 3.0]], np.float32)


def write_case(
    folder: Path, name: str, model: onnx.ModelProto, inputs: list[np.ndarray], outputs: list[np.ndarray]
) -> None:
    """A backend test on disk, as the onnx package stores it."""
    data = folder / "node" / name / "test_data_set_0"
    data.mkdir(parents=True)
    onnx.save(model, data.parent / "model.onnx")
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for index, array in enumerate(arrays):
            (data / f"{kind}_{index}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())


def model_of(
    operator: str, inputs: dict[str, list[int]], output: list[int], element: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """A model of one node; inputs named after `shape` or `axes` are int64."""
    values = [
        helper.make_tensor_value_info(n, TensorProto.INT64 if n in ("shape", "axes") else element, s)
        for n, s in inputs.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(operator, list(inputs), ["y"])],
        "g",
        values,
        [helper.make_tensor_value_info("y", element, output)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def relu_case(folder: Path, expected: np.ndarray | None = None) -> Case:
    write_case(
        folder,
        "test_relu",
        model_of("Relu", {"x": [1, 3]}, [1, 3]),
        [X],
        [np.maximum(X, 0) if expected is None else expected],
    )
    return next(enumerate_cases(folder, "node"))


class Scripted(Identity):
    """A compiler that does as it is told."""

    def __init__(self, verdict: str = "ok", rules: tuple[str, ...] = (), refusal: Refusal | None = None) -> None:
        self.verdict, self.rules, self.refusal = verdict, rules, refusal

    def check(self, model: Path, shapes: dict[str, tuple[int, ...]]) -> CheckVerdict:
        return CheckVerdict(self.verdict, self.rules)

    def convert(self, model: Path, output: Path, data: Path | None, shapes: dict[str, tuple[int, ...]]) -> Path:
        if self.refusal:
            raise self.refusal
        return model


class Negating(Identity):
    """A compiler whose artifact computes something else."""

    def convert(self, model: Path, output: Path, data: Path | None, shapes: dict[str, tuple[int, ...]]) -> Path:
        wrong = onnx.load(model)
        wrong.graph.node[0].op_type = "Neg"
        path = output.with_suffix(".onnx")
        onnx.save(wrong, path)
        return path


class Garbling(Identity):
    """A compiler whose artifact does not load."""

    def convert(self, model: Path, output: Path, data: Path | None, shapes: dict[str, tuple[int, ...]]) -> Path:
        output.write_bytes(b"no model")
        return output


class Dying(Identity):
    """A compiler that kills its process."""

    def convert(self, model: Path, output: Path, data: Path | None, shapes: dict[str, tuple[int, ...]]) -> Path:
        os.kill(os.getpid(), signal.SIGSEGV)
        return model


class Hanging(Identity):
    """A compiler that never ends."""

    def convert(self, model: Path, output: Path, data: Path | None, shapes: dict[str, tuple[int, ...]]) -> Path:
        time.sleep(600)
        return model


class Failing(Identity):
    """A compiler with a defect."""

    def convert(self, model: Path, output: Path, data: Path | None, shapes: dict[str, tuple[int, ...]]) -> Path:
        raise KeyError("lost")


UNSUPPORTED = Refusal(4, "EDG231", {"EDG231", "TFL7"}, "no such operator")


@pytest.mark.parametrize(
    ("compiler", "outcome"),
    [
        (Identity(), "pass"),
        (Negating(), "wrong"),
        (Garbling(), "noload"),
        (Dying(), "crash"),
        (Failing(), "crash"),
        (Scripted("unsupported", ("TFL7",), UNSUPPORTED), "unsupported"),
        (Scripted("uncertain", (), UNSUPPORTED), "unsupported"),
        (Scripted("unsupported", ("TFL8",), UNSUPPORTED), "disagree"),
        (Scripted("ok", (), UNSUPPORTED), "disagree"),
        (Scripted("unsupported", ("TFL7",)), "disagree"),
        (Scripted("error", ("EDG109",)), "disagree"),
        (Scripted("ok", (), Refusal(1, "EDG301", {"EDG301"}, "differs")), "refused-verify"),
        (Scripted("ok", (), Refusal(3, "EDG109", {"EDG109"}, "malformed")), "refused-other"),
    ],
)
def test_every_outcome_is_seen_for_what_it_is(tmp_path: Path, compiler: Identity, outcome: str) -> None:
    assert [o.outcome for o in runner.run_cases([relu_case(tmp_path)], compiler)] == [outcome]


def test_a_hanging_case_ends_at_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "TIME_LIMIT_SECONDS", 0.5)
    (outcome,) = runner.run_cases([relu_case(tmp_path)], Hanging())
    assert outcome.outcome == "crash" and "time limit" in outcome.message and outcome.message.startswith("convert")


def test_stored_outputs_that_onnx_runtime_does_not_match_are_listed_apart(tmp_path: Path) -> None:
    (outcome,) = runner.run_cases([relu_case(tmp_path, expected=X)], Identity())
    assert outcome.outcome == "reference" and outcome.reference


def test_a_changed_interface_is_wrong(tmp_path: Path) -> None:
    class Renaming(Identity):
        def convert(self, model: Path, output: Path, data: Path | None, shapes: dict[str, tuple[int, ...]]) -> Path:
            renamed = onnx.load(model)
            renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "z"
            path = output.with_suffix(".onnx")
            onnx.save(renamed, path)
            return path

    outcome = judge(relu_case(tmp_path), Renaming(), tmp_path, with_data=True, stage=lambda name: None)
    assert outcome.outcome == "wrong" and "inputs are" in outcome.message


def test_shape_dtype_order_and_values_all_count() -> None:
    same = {"a": X, "b": np.array([1, 2])}
    assert difference(same, {"a": X * 1.0001, "b": np.array([1, 2])}) is None
    assert difference({"b": same["b"], "a": X}, same)
    assert difference(same, {"a": X[0], "b": same["b"]})
    assert difference(same, {"a": X.astype(np.float64), "b": same["b"]})
    assert difference(same, {"a": X, "b": np.array([1, 3])})
    assert difference({"a": np.array([np.nan], np.float32)}, {"a": np.array([np.nan], np.float32)}) is None
    assert difference({"a": np.array([np.nan], np.float32)}, {"a": np.array([1.0], np.float32)})


def test_binding_makes_parameters_initializers_and_leaves_data_alone() -> None:
    model = model_of("Reshape", {"x": [1, 3], "shape": [1]}, [3])
    assert parameter_names(model) == ["shape"]
    bound = bind(model, ["shape"], {"shape": np.array([3], np.int64)})
    onnx.checker.check_model(bound, full_check=True)
    assert [value.name for value in bound.graph.input] == ["x"]
    assert [tensor.name for tensor in bound.graph.initializer] == ["shape"]


def test_indices_into_a_stored_table_are_data() -> None:
    model = model_of("Gather", {"x": [2, 3], "axes": [1]}, [1, 3])
    assert parameter_names(model) == ["axes"]
    table = bind(model, ["x"], {"x": np.zeros((2, 3), np.float32)})
    assert parameter_names(table) == []


def test_other_element_types_are_out_of_scope(tmp_path: Path) -> None:
    write_case(tmp_path, "test_double", model_of("Relu", {"x": [1, 3]}, [1, 3], TensorProto.DOUBLE), [], [])
    relu_case(tmp_path)
    results = run_suite(tmp_path, "identity", sets=["node"])
    assert results.out_of_scope == {"double": ["node/test_double"]}
    assert [(row.name, row.passed, row.cases) for row in results.rows()] == [
        ("raw", 1, 1),
        ("bound", 1, 1),
        ("core", 1, 1),
    ]


def test_the_report_lists_what_fails(tmp_path: Path) -> None:
    case = relu_case(tmp_path)
    outcomes = runner.run_cases([case], Scripted("unsupported", ("TFL7",), UNSUPPORTED))
    text = markdown(Results("tflite", [case], {o.key: o for o in outcomes}))
    assert "| Relu | 1 | 0 | 1 | 0 | 0 | 1 | 0 |" in text
    assert "EDG231 no such operator: relu" in text
