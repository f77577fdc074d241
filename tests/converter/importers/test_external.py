"""External data: found beside the model, mapped when used, never read from elsewhere."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from edgec.converter.importers.onnx import import_model
from edgec.converter.inspect import inspect_model
from tests.converter.importers.building import model, refusal, saved

WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4)


def outside(
    location: str, *, offset: str | None = None, length: str | None = None, dims: tuple[int, ...] = (3, 4)
) -> ModelProto:
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"], name="dense")], {"x": [1, 3]}, ["y"], opset=13)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    proto.graph.initializer.append(tensor)
    return proto


def weights_of(path: Path) -> np.ndarray:
    return import_model(path).model.graph.constants()[0].numpy()


@pytest.mark.parametrize(("offset", "length"), [(None, None), ("0", "48"), ("64", "48"), ("4096", None)])
def test_data_beside_the_model_is_read_from_its_offset(tmp_path: Path, offset: str | None, length: str | None) -> None:
    (tmp_path / "w.bin").write_bytes(b"\xff" * int(offset or 0) + WEIGHTS.tobytes() + b"tail")
    np.testing.assert_array_equal(weights_of(saved(tmp_path, outside("w.bin", offset=offset, length=length))), WEIGHTS)


def test_data_may_lie_in_a_folder_below_and_in_several_files(tmp_path: Path) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    proto = outside("data/deep/w.bin")
    (tmp_path / "data" / "deep" / "w.bin").write_bytes(WEIGHTS.tobytes())
    other = outside("./data/b.bin", dims=(4,)).graph.initializer[0]
    other.name = "b"
    (tmp_path / "data" / "b.bin").write_bytes(np.ones(4, np.float32).tobytes())
    proto.graph.initializer.append(other)
    proto.graph.node[0].output[0] = "m"
    proto.graph.node.append(helper.make_node("Add", ["m", "b"], ["y"]))
    first, second = import_model(saved(tmp_path, proto)).model.graph.constants()
    np.testing.assert_array_equal(first.numpy(), WEIGHTS)
    np.testing.assert_array_equal(second.numpy(), np.ones(4, np.float32))


def test_hundreds_of_data_files_do_not_exhaust_file_handles(tmp_path: Path) -> None:
    proto = model([helper.make_node("Sum", [f"w{i}" for i in range(1500)], ["y"])], {}, ["y"], opset=13)
    for index in range(1500):
        (tmp_path / f"{index}.bin").write_bytes(np.float32(index).tobytes())
        tensor = outside(f"{index}.bin", dims=()).graph.initializer[0]
        tensor.name = f"w{index}"
        proto.graph.initializer.append(tensor)
    constants = import_model(saved(tmp_path, proto)).model.graph.constants()
    assert sum(float(value.numpy()) for value in constants) == sum(range(1500))


def test_a_missing_file_is_edg107(tmp_path: Path) -> None:
    error = refusal("EDG107", saved(tmp_path, outside("w.bin")))
    assert "w.bin" in error.message and error.where == "tensor 'w'"


@pytest.mark.parametrize(("offset", "size"), [(None, 47), ("4", 48)])
def test_a_short_file_is_edg107(tmp_path: Path, offset: str | None, size: int) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(size))
    refusal("EDG107", saved(tmp_path, outside("w.bin", offset=offset)))


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../w.bin",
        "data/../../w.bin",
        "C:\\w.bin",
        "c:w.bin",
        "..\\w.bin",
        "data\\w.bin",
        "\\\\host\\w.bin",
        "~/w.bin",
        ".",
        "w\0.bin",
    ],
)
def test_a_path_outside_the_folder_is_edg108(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    refusal("EDG108", saved(folder, outside(location)))


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links on this system")
def test_a_symbolic_link_is_edg108(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    (folder / "w.bin").symlink_to(tmp_path / "w.bin")
    refusal("EDG108", saved(folder, outside("w.bin")))
    (folder / "data").symlink_to(tmp_path)
    refusal("EDG108", saved(folder, outside("data/w.bin")))


@pytest.mark.parametrize(
    ("offset", "length"), [("-4", None), ("x", None), ("1" * 30, None), (None, "47"), (None, "1e3")]
)
def test_a_malformed_entry_is_edg109(tmp_path: Path, offset: str | None, length: str | None) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(4096))
    refusal("EDG109", saved(tmp_path, outside("w.bin", offset=offset, length=length)))


def test_a_folder_or_pipe_as_data_is_edg107(tmp_path: Path) -> None:
    (tmp_path / "w.bin").mkdir()
    refusal("EDG107", saved(tmp_path, outside("w.bin")))


def bytes_read() -> int:
    """What this process has read through system calls; 0 where the kernel does not tell."""
    counts = Path("/proc/self/io")
    return int(counts.read_text().split()[1]) if counts.exists() else 0


def test_a_model_of_several_gigabytes_opens_without_reading_them(tmp_path: Path) -> None:
    with open(tmp_path / "w.bin", "wb") as stream:
        stream.truncate(5 << 30)  # sparse: takes no space
    proto = outside("w.bin", dims=(3, (5 << 30) // 12))
    path = saved(tmp_path, proto)
    read, faults = bytes_read(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    imported = import_model(path)
    assert bytes_read() - read < 1 << 20
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    assert faults < 20_000, "a fault brings at most 16 pages: 82,000 for all of it"
    assert imported.model.graph.constants()[0].dims == (3, (5 << 30) // 12)
    facts = inspect_model(path)
    assert facts["external_data"] == {"w.bin": 5 << 30}
    assert facts["parameters"] == 3 * ((5 << 30) // 12)


def test_onnx_writes_what_is_read(tmp_path: Path) -> None:
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [1, 3]}, ["y"], opset=13, constants={"w": WEIGHTS}
    )
    path = tmp_path / "model.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="model.data", size_threshold=0)
    np.testing.assert_array_equal(weights_of(path), WEIGHTS)
