"""LiteRT sessions go by the names of the signature and the order of the subgraph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import TensorType

from edgec.errors import EdgecError
from edgec.runtime.isolation import open_isolated
from edgec.targets.tflite.session import open_session

from .litert_files import unary

FACTORY = "edgec.targets.tflite.session:open_session"


@pytest.mark.parametrize("xnnpack", [True, False])
def test_names_come_from_the_signature_and_order_from_the_subgraph(tmp_path: Path, xnnpack: bool) -> None:
    path = unary(tmp_path / "m.tflite", "NEG", [("z:0", (1, 2)), ("a/b", (3,))], ["second", "first"])
    session = open_session(path, xnnpack=xnnpack)
    assert [(spec.name, spec.shape) for spec in session.inputs] == [("z:0", (1, 2)), ("a/b", (3,))]
    assert [spec.name for spec in session.outputs] == ["second", "first"]
    assert session.inputs[0].dtype == np.float32
    z, a = np.array([[1, 2]], np.float32), np.array([3, 4, 5], np.float32)
    results = session.run({"a/b": a, "z:0": z})
    assert list(results) == ["second", "first"]
    np.testing.assert_array_equal(results["second"], -z)
    np.testing.assert_array_equal(results["first"], -a)


def test_scalars_stay_scalars(tmp_path: Path) -> None:
    session = open_isolated(FACTORY, unary(tmp_path / "m.tflite", "NEG", [("x", ())], ["y"], element=TensorType.INT64))
    assert session.inputs[0].shape == () and session.inputs[0].dtype == np.int64
    result = session.run({"x": np.array(7, np.int64)})["y"]
    assert result.shape == () and result.dtype == np.int64 and result == -7
    session.close()


def test_dynamic_inputs_are_resized(tmp_path: Path) -> None:
    session = open_session(unary(tmp_path / "m.tflite", "NEG", [("x", (-1, 3))], ["y"]))
    assert session.inputs[0].shape == (None, 3)
    for rows in (1, 4, 2):
        x = np.random.default_rng(rows).standard_normal((rows, 3)).astype(np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["y"], -x)
    with pytest.raises(EdgecError, match="has shape") as caught:
        session.run({"x": np.ones((2, 4), np.float32)})
    assert caught.value.code == "EDG303"


def test_a_missing_input_is_an_error(tmp_path: Path) -> None:
    session = open_session(unary(tmp_path / "m.tflite", "NEG", [("x", (2,))], ["y"]))
    with pytest.raises(EdgecError, match="no array"):
        session.run({})


def test_what_does_not_load_is_a_load_error(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + b"\x00" * 64)
    with pytest.raises(EdgecError) as caught:
        open_isolated(FACTORY, path)
    assert caught.value.code == "EDG302"


def test_an_operator_that_refuses_its_type_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = unary(tmp_path / "m.tflite", "SIN", [("x", (2,))], ["y"], element=TensorType.INT64)
    with pytest.raises(EdgecError) as caught:
        open_isolated(FACTORY, path).run({"x": np.ones(2, np.int64)})
    assert caught.value.code in ("EDG302", "EDG303")
