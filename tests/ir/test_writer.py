"""Models are written by streaming, byte for byte the same each time, and load again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import pytest

from edgec.ir.graph import Attribute, Graph, Model, Node, Tensor, Value
from edgec.ir.inference import CANONICAL_OPSET
from edgec.ir.proto import node_to_proto
from edgec.ir.types import Array, DataType
from edgec.ir.writer import write_model

from .equivalence import model_of

LARGE = np.arange(5000, dtype=np.float32)


def sums(*tensors: Tensor) -> Model:
    """A model that hands out its constants."""
    graph = Graph("sums")
    for position, tensor in enumerate(tensors):
        value = graph.constant(tensor, f"w{position}")
        node = Node("Identity", [value], [Value(f"y{position}", tensor.dtype, tensor.shape)], name=f"copy{position}")
        graph.append(node)
        graph.add_output(f"y{position}", node.output)
    return Model(graph, CANONICAL_OPSET)


def stored(path: Path) -> dict[str, Array]:
    proto = onnx.load(str(path))
    onnx.checker.check_model(str(path))
    return {item.name: onnx.numpy_helper.to_array(item) for item in proto.graph.initializer}


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = [LARGE, LARGE.reshape(50, 100).T, np.zeros((0, 3), np.int64), np.array(True), np.float16([1.5, -2])]
    (path,) = write_model(sums(*(Tensor.of(array) for array in arrays)), tmp_path / "model.onnx")
    for position, array in enumerate(arrays):
        found = stored(path)[f"w{position}"]
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("dtype", [DataType.INT4, DataType.UINT4, DataType.INT2, DataType.UINT2, DataType.FLOAT4E2M1])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_packed_types_come_back_as_they_were(tmp_path: Path, dtype: DataType, count: int) -> None:
    array = np.array([0, 1, 1, 0, 1, 1, 1][:count], np.float32).astype(dtype.numpy)
    (path,) = write_model(sums(Tensor.of(array, dtype)), tmp_path / "model.onnx")
    np.testing.assert_array_equal(stored(path)["w0"].astype(np.float32), array.astype(np.float32))


def test_strings_come_back_as_they_were(tmp_path: Path) -> None:
    strings = np.array(["a", "ü"], dtype=object)
    (path,) = write_model(sums(Tensor(DataType.STRING, (2,), lambda: strings)), tmp_path / "model.onnx")
    assert [str(item) for item in stored(path)["w0"]] == ["a", "ü"]


def test_two_writes_are_byte_identical(tmp_path: Path) -> None:
    files = [write_model(sums(Tensor.of(LARGE)), tmp_path / f"{index}.onnx")[0] for index in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_model_that_is_written_again_is_byte_identical_though_a_value_needs_another_name(tmp_path: Path) -> None:
    """A name that an output has is taken from the inner value that has it, too."""
    model = model_of("g (float[2] x) => (float[2] y) { y = Relu (x) z = Neg (y) }")
    graph = model.graph
    graph.set_output(0, next(node for node in graph.nodes if node.op == "Neg").output)
    files = [write_model(model, tmp_path / f"{index}.onnx")[0] for index in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [list(node.output) for node in onnx.load(str(files[0])).graph.node] == [["y_inner"], ["y"]]


def test_beyond_the_limit_weights_go_into_an_aligned_file_beside(tmp_path: Path) -> None:
    small = np.ones(3, np.float32)
    model = sums(Tensor.of(LARGE), Tensor.of(small), Tensor.of(LARGE[:4000]))
    model_file, data = write_model(model, tmp_path / "model.onnx", limit=1000)
    assert data == tmp_path / "model.onnx.data"
    assert model_file.stat().st_size < 1000
    proto = onnx.load(str(model_file), load_external_data=False)
    entries = [{item.key: item.value for item in tensor.external_data} for tensor in proto.graph.initializer]
    assert [entry.get("location") for entry in entries] == ["model.onnx.data", None, "model.onnx.data"]
    assert all(int(entry["offset"]) % 64 == 0 for entry in entries if entry)
    arrays = stored(model_file)
    np.testing.assert_array_equal(arrays["w0"], LARGE)
    np.testing.assert_array_equal(arrays["w1"], small)
    np.testing.assert_array_equal(arrays["w2"], LARGE[:4000])


@pytest.mark.parametrize("given", [3, -1, 2**40, [1, 2], [0], 2.5, [1.5, 2.0], [1, 2.5], "a", ["a", "b"]])
def test_attributes_are_written_as_onnx_does(given: Attribute) -> None:
    written = node_to_proto(Node("Op", [], [], {"key": given}))
    assert list(written.attribute) == [onnx.helper.make_attribute("key", given)]
