"""LiteRT's compiled model: on the CPU, with XNNPACK's weight cache, and on a GPU (a software Vulkan device will do)."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import ai_edge_litert
import numpy as np
import onnx
import pytest

from edgec.errors import EdgecError
from edgec.runtime.isolation import open_isolated
from edgec.targets.tflite import TARGET
from edgec.targets.tflite.session import open_session

from .lowered import lower

compiled = pytest.importorskip(
    "edgec.targets.tflite.compiled",
    reason="this version of LiteRT has no compiled model with options",
    exc_type=ImportError,
)

FACTORY = "edgec.targets.tflite.session:open_session"
GPU = {"api": "compiled", "accelerator": "gpu"}
SOFTWARE = (Path("/usr/lib/chromium"), Path("/opt/google/chrome"), Path("/usr/lib/chromium-browser"))
"""Where Chromium keeps SwiftShader, a Vulkan driver in software."""


def network(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    return TARGET.compile(lower(text), folder, "model").main


def convolution(folder: Path) -> Path:
    weight = np.random.default_rng(0).standard_normal((16, 3, 3, 3)).astype(np.float32)
    model = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["" : 13]>
    agraph (float[1, 3, 32, 32] x, float[16, 3, 3, 3] w) => (float[1, 16, 32, 32] y) {
        c = Conv <pads = [1, 1, 1, 1]> (x, w)
        y = Relu(c)
    }""")
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    del model.graph.input[1]
    return network(folder, onnx.printer.to_text(model))


INTEGERS = """
<ir_version: 8, opset_import: ["" : 13]>
agraph (float[1, 64] x) => (float[1, 64] y, int64[1, 64] z) {
    s = Sigmoid(x)
    y = Add(s, x)
    z = Cast <to = 7> (x)
}
"""
"""Has an operator on int64, which no GPU takes."""


def image() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).standard_normal((1, 3, 32, 32)).astype(np.float32)}


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Vulkan device: the machine's own, or SwiftShader where Chromium has brought it along."""
    folder = tmp_path_factory.mktemp("gpu")
    path = convolution(folder / "m")
    with pytest.MonkeyPatch.context() as environment:
        problem = unavailable(path)
        software = next((item for item in SOFTWARE if (item / "libvk_swiftshader.so").exists()), None)
        if problem and software is not None:
            driver = {"library_path": str(software / "libvk_swiftshader.so"), "api_version": "1.1.0"}
            (folder / "icd.json").write_text(json.dumps({"file_format_version": "1.0.0", "ICD": driver}))
            environment.setenv("VK_ICD_FILENAMES", str(folder / "icd.json"))
            loader = folder / "loader"
            loader.mkdir()
            if (software / "libvulkan.so.1").exists():
                (loader / "libvulkan.so.1").symlink_to(software / "libvulkan.so.1")
                environment.setenv("LD_LIBRARY_PATH", str(loader), prepend=os.pathsep)
            problem = unavailable(path)
        if problem:
            pytest.skip(f"LiteRT finds no GPU: {problem}")
        yield


def unavailable(path: Path) -> str | None:
    """Why LiteRT cannot use a GPU; None where it can."""
    try:
        open_isolated(FACTORY, path, GPU).close()
    except EdgecError as error:
        if error.code != "EDG522":
            raise
        lines = error.details.get("stderr") or [str(error.why)]
        return next((line for line in lines if "adapter" in line), lines[-1])
    return None


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"xnnpack": False}], ids=str)
def test_the_compiled_model_computes_what_the_interpreter_does(tmp_path: Path, options: dict[str, object]) -> None:
    path = convolution(tmp_path / "m")
    session = open_session(path, api="compiled", **options)
    expected = open_session(path)
    assert session.inputs == expected.inputs and session.outputs == expected.outputs
    for _ in range(2):
        np.testing.assert_allclose(session.run(image())["y"], expected.run(image())["y"], rtol=1e-4, atol=1e-5)
    with pytest.raises(EdgecError, match="no array for the input") as caught:
        session.run({})
    assert caught.value.code == "EDG303"
    with pytest.raises(EdgecError, match="float32"):
        session.run({"x": image()["x"].astype(np.float64)})
    session.close()
    with pytest.raises(EdgecError, match="closed"):
        session.run(image())


def test_the_weight_cache_is_written_and_read(tmp_path: Path) -> None:
    path, cache = convolution(tmp_path / "m"), tmp_path / "weights.cache"
    expected = open_session(path).run(image())["y"]
    for _ in range(2):
        session = open_session(path, api="compiled", weight_cache=str(cache))
        np.testing.assert_allclose(session.run(image())["y"], expected, rtol=1e-4, atol=1e-5)
        session.close()
    assert cache.stat().st_size > 16 * 3 * 3 * 3 * 4


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(convolution(tmp_path / "m").read_bytes()[:200])
    with pytest.raises(EdgecError) as caught:
        open_isolated(FACTORY, path, {"api": "compiled"})
    assert caught.value.code == "EDG302"


@pytest.mark.parametrize("api", ["interpreter", "compiled"])
def test_several_threads_may_use_a_session(tmp_path: Path, api: str) -> None:
    session = open_session(convolution(tmp_path / "m"), api=api)
    expected = session.run(image())["y"]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            if not np.allclose(session.run({"x": image()["x"] * number})["y"], expected * number, rtol=1e-3, atol=1e-4):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_missing_npu_is_an_error_and_no_fallback(tmp_path: Path) -> None:
    if not compiled.missing_npu_libraries(Path(ai_edge_litert.__file__).parent / "vendors"):
        pytest.skip("the libraries of an NPU's vendor are here")
    with pytest.raises(EdgecError) as caught:
        open_session(convolution(tmp_path / "m"), api="compiled", accelerator="npu")
    assert caught.value.code == "EDG522" and caught.value.exit_code == 5 and "npu" in caught.value.message


def test_plug_ins_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    assert "no vendor's plug-in" in compiled.missing_npu_libraries(tmp_path)[0]
    library = tmp_path / "acme" / "dispatch" / "libLiteRtDispatch_Acme.so"
    library.parent.mkdir(parents=True)
    library.write_text("no library")
    (problem,) = compiled.missing_npu_libraries(tmp_path)
    assert problem.startswith("acme/dispatch/libLiteRtDispatch_Acme.so: ")


@pytest.mark.usefixtures("gpu")
def test_the_gpu_computes_the_same(tmp_path: Path) -> None:
    path = convolution(tmp_path / "m")
    session = open_isolated(FACTORY, path, {**GPU, "require_delegate": True})
    taken = session.assignment()
    assert taken is not None and taken.runner == "gpu" and taken.complete
    for _ in range(2):
        np.testing.assert_allclose(
            session.run(image())["y"], open_session(path).run(image())["y"], rtol=1e-3, atol=1e-3
        )
    session.close()


@pytest.mark.usefixtures("gpu")
def test_what_the_gpu_leaves_is_told_and_can_be_refused(tmp_path: Path) -> None:
    path = network(tmp_path / "m", INTEGERS)
    feeds = {"x": np.linspace(-9, 9, 64, dtype=np.float32)[None]}
    session = open_isolated(FACTORY, path, GPU)
    taken = session.assignment()
    assert taken is not None and not taken.complete and "did not take all" in taken.describe()
    expected = open_session(path).run(feeds)
    found = session.run(feeds)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(found["z"], expected["z"])
    session.close()
    with pytest.raises(EdgecError) as caught:
        open_isolated(FACTORY, path, {**GPU, "require_delegate": True})
    assert caught.value.code == "EDG523"
