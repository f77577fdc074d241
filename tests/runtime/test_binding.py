"""Bound inputs and outputs lie where they were put, and the runtimes compute there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import TensorType

from edgec.errors import EdgecError
from edgec.runtime.memory import HostPool
from edgec.runtime.onnxruntime import OnnxRuntimeSession, Options
from edgec.runtime.onnxruntime import open_session as open_onnx
from edgec.runtime.onnxruntime import session as session_module
from edgec.runtime.onnxruntime.binding import DeviceBinding
from edgec.targets.tflite.session import open_session as open_tflite

from .litert_files import unary
from .nets import sample, save_net
from .process import needs_compiled


class Recording:
    """A pool that remembers the ranges of addresses that it gave."""

    def __init__(self) -> None:
        self.pool = HostPool()
        self.given: list[tuple[int, int]] = []
        self.returned = 0

    def empty(self, shape: object, dtype: object, alignment: int | None = None) -> np.ndarray:
        array = self.pool.empty(shape, dtype, alignment)  # type: ignore[arg-type]
        self.given.append((array.ctypes.data, array.ctypes.data + array.nbytes))
        return array

    def release(self, array: np.ndarray) -> bool:
        self.returned += 1
        return self.pool.release(array)

    def holds(self, array: np.ndarray) -> bool:
        return any(low <= array.ctypes.data and array.ctypes.data + array.nbytes <= high for low, high in self.given)


def test_onnx_runtime_computes_in_the_pool(tmp_path: Path) -> None:
    session, pool = open_onnx(save_net(tmp_path / "m.onnx")), Recording()
    binding = session.bind(pool)
    assert pool.holds(binding.inputs["x"]) and pool.holds(binding.outputs["y"])
    assert binding.inputs["x"].ctypes.data % 64 == 0
    where = {"x": binding.inputs["x"].ctypes.data, "y": binding.outputs["y"].ctypes.data}
    bound = {value.data_ptr() for value in binding._binding.get_outputs()}  # type: ignore[union-attr]
    assert bound == {where["y"]}
    for seed in range(3):
        binding.inputs["x"][...] = sample(seed=seed)
        binding.run()
        np.testing.assert_array_equal(binding.outputs["y"], session.run({"x": sample(seed=seed)})["y"])
    assert {"x": binding.inputs["x"].ctypes.data, "y": binding.outputs["y"].ctypes.data} == where
    session.close()
    assert pool.returned == 2 and pool.pool.statistics().live == 0
    with pytest.raises(EdgecError, match="closed"):
        binding.run()


def test_open_extents_are_bound_to_given_shapes(tmp_path: Path) -> None:
    session, pool = open_onnx(save_net(tmp_path / "m.onnx", batch="n")), Recording()
    with pytest.raises(EdgecError, match="no fixed shape") as caught:
        session.bind(pool)
    assert caught.value.code == "EDG005" and pool.pool.statistics().live == 0
    with pytest.raises(EdgecError, match="has shape"):
        session.bind(pool, {"x": (2, 4, 64, 64)})
    one, three = session.bind(pool, {"x": (1, 8, 64, 64)}), session.bind(pool, {"x": (3, 8, 64, 64)})
    assert one.outputs["y"].shape == (1, 8) and three.outputs["y"].shape == (3, 8)
    three.inputs["x"][...] = sample(3)
    one.inputs["x"][...] = sample(1, seed=5)
    three.run()
    one.run()
    np.testing.assert_array_equal(three.outputs["y"], session.run({"x": sample(3)})["y"])
    np.testing.assert_array_equal(one.outputs["y"], session.run({"x": sample(1, seed=5)})["y"])
    one.close()
    three.run()
    session.close()
    assert pool.pool.statistics().live == 0


def test_a_specialised_session_binds(tmp_path: Path) -> None:
    session = open_onnx(save_net(tmp_path / "m.onnx", batch="n"), specialise=1)
    binding = session.bind(None, {"x": (2, 8, 64, 64)})
    binding.inputs["x"][...] = sample(2)
    session.run({"x": sample(3)})  # lets the session of the binding go
    binding.run()
    np.testing.assert_array_equal(binding.outputs["y"], session.run({"x": sample(2)})["y"])


@pytest.mark.parametrize("kind", ["onnxruntime", "compiled", "interpreter"])
def test_closing_waits_for_the_run_of_a_binding(tmp_path: Path, kind: str) -> None:
    """Otherwise the runtime would write into memory that has gone back to the pool."""
    needs_compiled(kind)
    for _ in range(10):
        pool = HostPool()
        if kind == "onnxruntime":
            session = open_onnx(save_net(tmp_path / "m.onnx"))
        else:
            session = open_tflite(unary(tmp_path / "m.tflite", "SIN", [("x", (64, 1024))], ["y"]), api=kind)
        binding = session.bind(None if kind == "interpreter" else pool)
        began = threading.Event()
        ends: list[str] = []

        def work(binding: Any = binding, began: threading.Event = began, ends: list[str] = ends) -> None:
            try:
                while True:
                    began.set()
                    binding.run()
            except EdgecError as error:
                ends.append(error.message)

        thread = threading.Thread(target=work)
        thread.start()
        began.wait()
        session.close()
        thread.join(30)
        assert ends == ["the binding is closed"] and pool.statistics().live == 0


def test_a_pool_that_is_too_small_says_so_and_keeps_nothing(tmp_path: Path) -> None:
    pool = HostPool(limit=64 * 1024)
    with pytest.raises(MemoryError):
        open_onnx(save_net(tmp_path / "m.onnx")).bind(pool)
    assert pool.statistics().live == 0


@pytest.mark.parametrize("element", [TensorType.FLOAT32, TensorType.INT32, TensorType.INT64])
def test_a_compiled_model_computes_in_the_pool(tmp_path: Path, element: int) -> None:
    needs_compiled()
    path = unary(tmp_path / "m.tflite", "NEG", [("a", (2, 3, 5)), ("b", (7,))], ["y", "z"], element=element)
    session, pool = open_tflite(path, api="compiled"), Recording()
    binding = session.bind(pool)
    arrays = [*binding.inputs.values(), *binding.outputs.values()]
    assert len(arrays) == 4 and all(pool.holds(array) and array.ctypes.data % 64 == 0 for array in arrays)
    for seed in range(3):
        for array in binding.inputs.values():
            array[...] = np.random.default_rng(seed).integers(-9, 9, array.shape)
        binding.run()
        np.testing.assert_array_equal(binding.outputs["y"], -binding.inputs["a"])
        np.testing.assert_array_equal(binding.outputs["z"], -binding.inputs["b"])
    del arrays, array
    session.close()
    assert pool.returned == 4 and pool.pool.statistics().in_use == 0


def test_the_interpreter_shows_its_own_tensors(tmp_path: Path) -> None:
    session = open_tflite(unary(tmp_path / "m.tflite", "NEG", [("x", (-1, 3))], ["y"]))
    with pytest.raises(EdgecError, match="takes none from a pool") as caught:
        session.bind(HostPool())
    assert caught.value.code == "EDG040" and "compiled" in str(caught.value.help)
    binding = session.bind(None, {"x": (4, 3)})
    interpreter = session._interpreter  # type: ignore[union-attr]
    index = interpreter.get_input_details()[0]["index"]
    assert binding.inputs["x"].ctypes.data == interpreter.tensor(index)().ctypes.data
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    for _ in range(3):
        binding.inputs["x"][...] = x
        binding.run()
        np.testing.assert_array_equal(binding.outputs["y"], -x)
        x = x + 1
    with pytest.raises(EdgecError, match="while a binding looks into it"):
        session.run({"x": np.ones((2, 3), np.float32)})
    binding.close()
    assert session.run({"x": np.ones((2, 3), np.float32)})["y"].shape == (2, 3)


def test_arrays_of_a_closed_interpreter_stay_readable(tmp_path: Path) -> None:
    session = open_tflite(unary(tmp_path / "m.tflite", "NEG", [("x", (2, 3))], ["y"]))
    binding = session.bind()
    binding.inputs["x"].fill(3)
    binding.run()
    kept = binding.outputs["y"]
    session.close()
    del session, binding
    assert (kept == -3).all()


def test_outputs_whose_size_depends_on_values_cannot_be_bound(tmp_path: Path) -> None:
    """Never a stale or a foreign piece of memory."""
    text = '<ir_version: 8, opset_import: ["" : 13]> agraph (float[6] x) => (int64[1, n] y) { y = NonZero(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    path = unary(tmp_path / "m.tflite", "WHERE", [("x", (6,))], ["y"])
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    model.subgraphs[0].tensors[1].type, model.subgraphs[0].tensors[1].shape = TensorType.INT64, []
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    for session in (open_onnx(tmp_path / "m.onnx"), open_tflite(path)):
        binding = session.bind()
        assert binding.outputs["y"].size == 0
        binding.inputs["x"][...] = [0, 1, 0, 2, 0, 3]
        with pytest.raises(EdgecError) as caught:
            binding.run()
        assert caught.value.code == "EDG303"
        found = session.run({"x": np.array([0, 1, 0, 2, 0, 3], np.float32)})["y"]
        assert found.reshape(-1).tolist() == [1, 3, 5]


@pytest.mark.parametrize("graph", [False, True])
def test_a_device_binding_copies_in_and_out(tmp_path: Path, graph: bool) -> None:
    """The host stands in for the device: the same calls of ONNX Runtime, on values of its own."""
    session, pool = open_onnx(save_net(tmp_path / "m.onnx", batch="n")), Recording()
    assert isinstance(session, OnnxRuntimeSession)
    shapes = {"x": (2, 8, 64, 64)}
    binding = DeviceBinding(session._session, session.inputs, session.outputs, pool, shapes, kind="cpu", graph=graph)
    assert pool.holds(binding.inputs["x"]) and pool.holds(binding.outputs["y"])
    device = {name: value.data_ptr() for name, value in binding._device_outputs.items()}
    for seed in range(3):
        binding.inputs["x"][...] = sample(2, seed=seed)
        binding.run()
        assert binding._stale
        np.testing.assert_array_equal(binding.outputs["y"], session.run({"x": sample(2, seed=seed)})["y"])
        assert not binding._stale and binding.outputs["y"] is binding.outputs["y"]
    assert {name: value.data_ptr() for name, value in binding._device_outputs.items()} == device
    binding.close()
    assert pool.pool.statistics().live == 0
    with pytest.raises(EdgecError, match="closed"):
        binding.run()


def test_a_session_with_a_graph_keeps_buffers_for_some_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host stands in for the device, and nothing is captured; what is tested is which buffers are used."""
    made: list[DeviceBinding] = []

    class OnHost(DeviceBinding):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **{**options, "kind": "cpu"})  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(session_module, "DeviceBinding", OnHost)
    monkeypatch.setattr(session_module, "BOUND", 2)
    monkeypatch.setattr(session_module, "PageLockedPool", HostPool)
    plain = open_onnx(save_net(tmp_path / "m.onnx", batch="n"))
    assert isinstance(plain, OnnxRuntimeSession)
    session = OnnxRuntimeSession(plain._session, Options(provider="cuda", cuda_graph=True))
    for count in (1, 2, 1, 3, 1, 2):
        x = sample(count, seed=count)
        np.testing.assert_array_equal(session.run({"x": x})["y"], plain.run({"x": x})["y"])
    assert [binding.inputs.get("x", np.empty(0)).shape[0] for binding in made] == [1, 0, 0, 2]
    with pytest.raises(EdgecError, match="no array"):
        session.run({})
    with pytest.raises(EdgecError, match="float32, not float64"):
        session.run({"x": sample(1).astype(np.float64)})
    session.close()
    assert all(not binding.inputs for binding in made)


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="no CUDA execution provider"
)
@pytest.mark.parametrize("graph", [False, True])
def test_cuda_outputs_stay_on_the_device_until_they_are_read(tmp_path: Path, graph: bool) -> None:
    path = save_net(tmp_path / "m.onnx", batch="n")
    session, expected = open_onnx(path, provider="cuda", cuda_graph=graph), open_onnx(path)
    taken = session.assignment()
    assert taken is None or taken.complete
    for count in (1, 3, 1):
        for seed in range(4):
            x = sample(count, seed=seed)
            np.testing.assert_allclose(session.run({"x": x})["y"], expected.run({"x": x})["y"], rtol=1e-2, atol=1e-3)
    binding = session.bind(HostPool(), {"x": (2, 8, 64, 64)})
    for seed in range(4):
        binding.inputs["x"][...] = sample(2, seed=seed)
        binding.run()
        np.testing.assert_allclose(
            binding.outputs["y"], expected.run({"x": sample(2, seed=seed)})["y"], rtol=1e-2, atol=1e-3
        )
    session.close()
