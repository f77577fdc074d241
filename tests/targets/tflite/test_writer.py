"""The flatbuffer writer: alignment, sharing, determinism, limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgec.errors import UnsupportedError
from edgec.ir.graph import Tensor
from edgec.ir.types import DataType
from edgec.targets.tflite.builder import Builder
from edgec.targets.tflite.program import T
from edgec.targets.tflite.writer import ALIGNMENT, write


def adder(*constants: np.ndarray) -> Builder:
    """x plus each constant in turn."""
    builder = Builder()
    x = T("x", DataType.FLOAT, constants[0].shape)
    builder.program.inputs, builder.program.input_names = [x], ["x"]
    for number, array in enumerate(constants):
        x = builder.add(x, T(f"c{number}", DataType.FLOAT, array.shape, Tensor.of(array)))
    builder.program.outputs, builder.program.output_names = [x], ["y"]
    return builder


def test_a_written_program_runs(tmp_path: Path) -> None:
    first, second = np.arange(6, dtype=np.float32), np.full(6, 2, np.float32)
    write(adder(first, second).program, tmp_path / "m.tflite", "test")
    runner = Interpreter(str(tmp_path / "m.tflite")).get_signature_runner()
    np.testing.assert_array_equal(runner(x=np.ones(6, np.float32))["y"], first + 3)


def test_constant_data_is_aligned_and_equal_constants_are_stored_once(tmp_path: Path) -> None:
    array = np.arange(7, dtype=np.float32)
    write(adder(array, array.copy(), array + 1).program, tmp_path / "m.tflite", "test")
    data = (tmp_path / "m.tflite").read_bytes()
    model = schema.Model.GetRootAsModel(data, 0)
    held = [model.Buffers(index) for index in range(1, model.BuffersLength())]
    assert len(held) == 2
    for buffer in held:
        assert data.find(buffer.DataAsNumpy().tobytes()) % ALIGNMENT == 0


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(adder(np.ones(4, np.float32), np.zeros(4, np.float32)).program, tmp_path / name, "test")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_more_than_two_gibibytes_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    def load() -> np.ndarray:
        raise AssertionError("the data must not be read")

    builder = Builder()
    x = T("x", DataType.FLOAT, (2**15, 2**15))
    huge = T("w", DataType.FLOAT, x.shape, Tensor(DataType.FLOAT, x.shape, load))
    builder.program.inputs, builder.program.input_names = [x], ["x"]
    builder.program.outputs, builder.program.output_names = [builder.add(x, huge)], ["y"]
    with pytest.raises(UnsupportedError) as caught:
        write(builder.program, tmp_path / "m.tflite", "test")
    assert caught.value.code == "EDG232"
    assert not (tmp_path / "m.tflite").exists()
