"""The one reader of LiteRT flatbuffers: what hostile files cost, and that all who read such files refuse them alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import edgec
from edgec.converter.importers import inspect_source, open_source
from edgec.errors import ModelError
from edgec.targets.tflite.facts import inspect
from edgec.targets.tflite.graph import read, read_mapped

READERS: list[Callable[[Path], object]] = [read, read_mapped, inspect, inspect_source, open_source]


def hostile(path: Path, *, operands: int = 1, operators: int = 1, name: str = "x") -> Path:
    """A file in which all operators share one vector of operands, and all tensors one name."""
    b = flatbuffers.Builder(1024)
    shared, label = b.CreateNumpyVector(np.zeros(operands, np.int32)), b.CreateString(name)
    tensors = []
    for _ in range(operators):
        schema.TensorStart(b)
        schema.TensorAddName(b, label)
        tensors.append(schema.TensorEnd(b))
    entries = []
    for _ in range(operators):
        schema.OperatorStart(b)
        schema.OperatorAddInputs(b, shared)
        entries.append(schema.OperatorEnd(b))

    def vector(items: list[int]) -> int:
        b.StartVector(4, len(items), 4)
        for item in reversed(items):
            b.PrependUOffsetTRelative(item)
        return int(b.EndVector())

    tensor_list, operator_list = vector(tensors), vector(entries)
    schema.SubGraphStart(b)
    schema.SubGraphAddTensors(b, tensor_list)
    schema.SubGraphAddOperators(b, operator_list)
    graphs = vector([schema.SubGraphEnd(b)])
    schema.OperatorCodeStart(b)
    codes = vector([schema.OperatorCodeEnd(b)])
    schema.BufferStart(b)
    buffers = vector([schema.BufferEnd(b)])
    schema.ModelStart(b)
    schema.ModelAddVersion(b, 3)
    schema.ModelAddOperatorCodes(b, codes)
    schema.ModelAddSubgraphs(b, graphs)
    schema.ModelAddBuffers(b, buffers)
    b.Finish(schema.ModelEnd(b), b"TFL3")
    path.write_bytes(bytes(b.Output()))
    return path


@pytest.mark.parametrize("reader", READERS)
def test_entries_that_share_their_bytes_are_bounded(reader: Callable[[Path], object], tmp_path: Path) -> None:
    path = hostile(tmp_path / "model.tflite", operands=100_000, operators=500)
    assert path.stat().st_size < 500_000
    begun = time.process_time()
    with pytest.raises(ModelError) as caught:
        reader(path)
    assert caught.value.code == "EDG112"
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("reader", READERS)
def test_names_that_share_their_bytes_are_bounded(reader: Callable[[Path], object], tmp_path: Path) -> None:
    path = hostile(tmp_path / "model.tflite", operators=2_000, name="x" * 100_000)
    assert path.stat().st_size < 300_000
    with pytest.raises(ModelError) as caught:
        reader(path)
    assert caught.value.code == "EDG112"


def test_an_honest_file_of_the_same_kind_is_read(tmp_path: Path) -> None:
    model = read(hostile(tmp_path / "model.tflite", operands=3, operators=5, name="x"))
    assert [operator.inputs[0] for operator in model.main.operators] == [model.main.tensors[0]] * 5


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_not_waited_for(reader: Callable[[Path], object], tmp_path: Path) -> None:
    pipe = tmp_path / "model.tflite"
    os.mkfifo(pipe)
    with pytest.raises(ModelError) as caught:
        reader(pipe)
    assert caught.value.code == "EDG101"


def test_constants_are_those_of_the_file_and_survive_it(tmp_path: Path) -> None:
    """`read` keeps no mapping: a tool may write the file anew."""
    model = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"
    artifact = edgec.convert(model, target="tflite", output=tmp_path).artifact
    kept, mapped = read(artifact), read_mapped(artifact)
    wanted = [np.array(tensor.values()) for tensor in mapped.main.tensors if tensor.constant]
    artifact.unlink()
    found = [np.array(tensor.values()) for tensor in kept.main.tensors if tensor.constant]
    assert len(found) > 4
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(one, other)
