"""Verification accepts the same function and nothing else."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgec.converter.verification.reference import InProcess
from edgec.converter.verification.report import CONSTANT, FAILED, PASSED, UNVERIFIED
from edgec.errors import EdgecError
from edgec.runtime.isolation import Worker
from edgec.targets.base import SessionSpec

from .support import ORT, compare, save

MLP = """
agraph (float[2, 3] x) => (float[2, 4] y)
<float[3, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, -1, -2, -3}>
{ h = MatMul(x, w)  y = Tanh(h) }
"""
COUNTED = MLP.replace("y)", "y, int64[2] n)").replace("}\n", "n = ArgMax<axis = 1, keepdims = 0>(h) }\n")
DISTURBED = "tests.converter.verification.support:open_disturbed"


def disturbed(change: str) -> SessionSpec:
    return SessionSpec(DISTURBED, {"change": change})


def failure(path: Path, artifact: Path, spec: SessionSpec = ORT, **options: object) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        compare(path, artifact, spec, **options)
    return caught.value


@pytest.mark.parametrize("isolate", [False, True])
def test_the_same_function_is_verified(tmp_path: Path, isolate: bool) -> None:
    path = save(tmp_path, MLP)
    report = compare(path, path, isolate=isolate)
    assert report.passed and report.samples == 3 and report.precision == "float32"
    assert report.levels == {"artifact-structure": "passed", "artifact-numerics": "passed"}
    (output,) = report.outputs
    assert output.status == PASSED and output.difference.argmax_agreement == 1.0
    assert output.threshold == pytest.approx(1e-4, abs=1e-3)


def test_the_same_seed_gives_the_same_report(tmp_path: Path) -> None:
    path = save(tmp_path, MLP)
    first, second = (json.dumps(compare(path, path, seed=3).to_json()) for _ in range(2))
    assert first == second
    assert "seed" in first and json.loads(first)["seed"] == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("scale", "relative L2 0.001 > 0.0001"),
        ("one pixel", "relative L2"),
        ("nan", "infinite or NaN"),
        ("shape", "shape [1, 2, 4] instead of [2, 4]"),
    ],
)
def test_another_function_is_rejected(tmp_path: Path, change: str, words: str) -> None:
    path = save(tmp_path, MLP)
    error = failure(path, path, disturbed(change))
    assert error.code == "EDG301" and error.exit_code == 1
    assert words in (error.why or "")
    found = error.details["verification"]
    assert not found["passed"] and found["outputs"][0]["status"] == FAILED
    assert found["levels"]["artifact-numerics"] == "failed"
    json.dumps(error.to_json(), allow_nan=False)


def test_int8_precision_goes_by_signal_to_noise(tmp_path: Path) -> None:
    path = save(tmp_path, MLP)
    assert failure(path, path, disturbed("noise")).code == "EDG301"
    report = compare(path, path, disturbed("noise"), precision="int8")
    assert report.passed and report.outputs[0].difference.sqnr_db > 15


def test_int8_measures_the_floor_only_for_outputs_that_are_judged_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = InProcess.open

    def counting(self: InProcess, factory: str, *rest: Any, **options: Any) -> Any:
        opened.append(factory)
        return real(self, factory, *rest, **options)

    monkeypatch.setattr(InProcess, "open", counting)
    path = save(tmp_path, MLP)
    (output,) = compare(path, path, precision="int8").outputs
    assert output.status == PASSED and output.floor is None and len(opened) == 2
    opened.clear()
    counted = save(tmp_path, COUNTED, name="counted.onnx")
    first, second = compare(counted, counted, precision="int8").outputs
    assert first.floor is not None and second.status == PASSED and len(opened) == 3


def test_the_worst_channel_is_named(tmp_path: Path) -> None:
    path = save(tmp_path, MLP)
    error = failure(path, path, disturbed("one pixel"))
    assert error.details["verification"]["outputs"][0]["worst_channel"]["index"] == 0


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (MLP.replace(" x)", " z)").replace("(x,", "(z,"), "inputs"),
        (MLP.replace(") => (float[2, 4] y)", ") => (float[2, 4] other)").replace("  y =", "  other ="), "outputs"),
        (MLP.replace("float[2, 3] x", "float[4, 3] x").replace("float[2, 4] y", "float[4, 4] y"), "shape"),
        (MLP.replace("float[2, 4] y", "double[2, 4] y").replace("y = Tanh(h)", "t = Tanh(h) y = Cast<to=11>(t)"), "is"),
    ],
)
def test_a_changed_interface_is_rejected(tmp_path: Path, graph: str, words: str) -> None:
    error = failure(save(tmp_path, MLP), save(tmp_path, graph, name="other.onnx"))
    assert error.code == "EDG304" and words in (error.why or "")
    assert error.details["verification"]["interface"]


def test_layouts_that_were_asked_for_are_undone(tmp_path: Path) -> None:
    path = save(tmp_path, "agraph (float[1, 3, 5, 4] x) => (float[1, 3, 5, 4] y) { y = Sigmoid(x) }")
    spec = SessionSpec("tests.converter.verification.support:open_channels_last")
    layout = [0, 2, 3, 1]
    assert compare(path, path, spec, layouts={"x": layout, "y": layout}).passed
    assert failure(path, path, spec).code == "EDG304"


def test_an_output_that_never_changes_is_unverified(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        """agraph (float[2, 3] x) => (float[2, 3] y, float[2, 3] z)
        <float zero = {0}> { y = Mul(x, zero) z = Neg(x) }""",
    )
    report = compare(path, path)
    assert [output.status for output in report.outputs] == [UNVERIFIED, PASSED]
    assert report.samples == 8  # more are drawn before it is given up
    assert "does not change over the 8 inputs" in report.outputs[0].why
    assert report.passed


def test_a_model_with_no_output_that_changes_is_not_verified(tmp_path: Path) -> None:
    path = save(tmp_path, "agraph (float[2, 3] x) => (float[2, 3] y) <float zero = {0}> { y = Mul(x, zero) }")
    error = failure(path, path)
    assert error.code == "EDG305" and error.exit_code == 1 and "--data" in (error.help or "")


def test_an_output_that_no_input_reaches_is_verified_by_value(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        """agraph (float[2, 3] x) => (int64[2] y, float[2] z)
        <float[2] c = {1, 2}> { y = Shape(x) z = Neg(c) }""",
    )
    report = compare(path, path)
    assert [output.status for output in report.outputs] == [CONSTANT, CONSTANT] and report.passed
    other = save(
        tmp_path,
        """agraph (float[2, 3] x) => (int64[2] y, float[2] z)
        <float[2] c = {1, 3}> { y = Shape(x) z = Neg(c) }""",
        name="other.onnx",
    )
    assert failure(path, other).code == "EDG301"


def test_integers_must_be_equal(tmp_path: Path) -> None:
    path = save(tmp_path, "agraph (int32[4] x) => (int32[4] y) <int32 c = {2}> { y = Mul(x, c) }")
    other = save(tmp_path, "agraph (int32[4] x) => (int32[4] y) <int32 c = {3}> { y = Mul(x, c) }", name="o.onnx")
    assert compare(path, path).outputs[0].why == "equal"
    error = failure(path, other)
    assert error.code == "EDG301" and "elements differ" in (error.why or "")


def test_float16_models_have_the_float16_limit(tmp_path: Path) -> None:
    path = save(tmp_path, "agraph (float16[8] x) => (float16[8] y) { y = Tanh(x) }")
    report = compare(path, path)
    assert report.precision == "float16" and (report.outputs[0].threshold or 0) >= 1e-2


def test_nan_and_infinity_must_be_met(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        "agraph (float[4] x) => (float[4] y) <float[4] c = {-1, 1, 0, 2}> "
        "{ s = Sub(x, x) d = Add(s, c) l = Sqrt(d) y = Add(l, x) }",
    )
    report = compare(path, path)
    assert report.passed and report.outputs[0].difference.infinities == 0


def test_an_artifact_that_does_not_load_is_a_load_error(tmp_path: Path) -> None:
    path, artifact = save(tmp_path, MLP), tmp_path / "broken.onnx"
    artifact.write_bytes(b"\x08\x01")
    for isolate in (False, True):
        assert failure(path, artifact, isolate=isolate).code == "EDG302"


@pytest.mark.parametrize("behaviour", ["abort", "hang"])
def test_a_crash_or_hang_of_the_artifact_is_a_run_error(
    tmp_path: Path, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Worker.open

    def impatient(self: Worker, factory: str, *rest: Any, **options: Any) -> Any:
        session = opened(self, factory, *rest, **options)
        if factory == spec.factory:
            self._timeout_s = 1.0  # starting it may take longer on a busy machine
        return session

    monkeypatch.setattr(Worker, "open", impatient)
    graph = "agraph (float[n, 2] x) => (float[n, 2] y) { y = Neg(x) }"
    spec = SessionSpec("tests.runtime.factories:open_session")
    error = failure(save(tmp_path, graph), tmp_path / behaviour, spec, isolate=True)
    assert error.code == "EDG303"


def test_a_model_that_the_reference_refuses_is_named_so(tmp_path: Path) -> None:
    path = save(tmp_path, "agraph (float[2] x) => (float[2] y) <int64[1] s = {3}> { y = Reshape(x, s) }")
    model = save(tmp_path, "agraph (float[2] x) => (float[2] y) { y = Neg(x) }", name="fine.onnx")
    from dataclasses import replace

    from edgec.converter.verify import verify

    from .support import imported

    source = imported(model)
    source.original = replace(source.original, path=path)
    with pytest.raises(EdgecError) as caught:
        verify(model, ORT, imported=source, isolate=False)
    assert caught.value.code == "EDG113" and caught.value.exit_code == 3


def test_placeholder_shapes_are_replaced_in_the_reference(tmp_path: Path) -> None:
    conv = "agraph (float[10, 1, 4, 4] x) => (float[10, 1, 4, 4] y) <float[1, 1, 1, 1] w = {2}> { y = Conv(x, w) }"
    real = conv.replace("10, 1, 4, 4", "1, 1, 8, 6")
    path, artifact = save(tmp_path, conv), save(tmp_path, real, name="artifact.onnx")
    report = compare(path, artifact, input_shapes={"x": (1, 1, 8, 6)})
    assert report.passed and report.outputs[0].shape == (1, 1, 8, 6)


def test_models_older_than_the_reference_runtime_are_upgraded(tmp_path: Path) -> None:
    # PRelu of opset 6 matches its slope to axis 1
    slope = onnx.helper.make_tensor("s", onnx.TensorProto.FLOAT, [3], [0.1, 0.2, 0.3])
    info = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("PRelu", ["x", "s"], ["y"])
    shape = [1, 3, 4, 5]
    inputs = [info("x", 1, shape), info("s", 1, [3])]
    graph = onnx.helper.make_graph([node], "old", inputs, [info("y", 1, shape)], [slope])
    path = tmp_path / "old.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 6)], ir_version=3), path)
    fresh = save(
        tmp_path,
        """agraph (float[1, 3, 4, 5] x) => (float[1, 3, 4, 5] y)
        <float[3, 1, 1] s = {0.1, 0.2, 0.3}> { y = PRelu(x, s) }""",
        name="fresh.onnx",
    )
    report = compare(path, fresh)
    assert report.passed and "version_converter" in report.notes[0]


def test_a_dynamic_model_is_tried_at_several_sizes(tmp_path: Path) -> None:
    graph = """agraph (float[n, c, h, w] x) => (float[n, c, h, w] y)
    <float[1, 1, 1, 1] k = {3}> { y = Conv(x, k) }"""
    path = save(tmp_path, graph.replace("n, c, h, w", "n, 1, h, w"))
    report = compare(path, path)
    assert report.inputs[0].shape == (1, 1, 64, 64) and report.passed


def test_the_table_shows_every_output(tmp_path: Path) -> None:
    from rich.console import Console

    from edgec.converter.verify import render

    path = save(tmp_path, MLP)
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(render(compare(path, path)))
    text = console.export_text()
    assert "float32[2,4]" in text and "passed" in text and "seed 0" in text


def test_data_is_used_instead_of_random_numbers(tmp_path: Path) -> None:
    path = save(tmp_path, MLP)
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32))
    report = compare(path, path, data=tmp_path / "samples.npz")
    assert report.samples == 5 and report.seed is None and report.inputs[0].values == "data"
