"""Facts about a model without reading its weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.converter.inspect import inspect_model
from edgec.errors import EdgecError
from tests.converter.importers.building import model, saved


def test_the_facts_of_a_small_model(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(4, np.int64), "c")),
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("Reshape", ["r", "c"], ["y"]),
    ]
    proto = model(
        nodes, {"x": ["N", None, 3], "w": [3, 4]}, ["y"], opset=13, constants={"w": np.ones((3, 4), np.float16)}
    )
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1, 1, "?", 4]))
    facts = inspect_model(saved(tmp_path, proto))
    assert facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["N", None, 3]}]
    assert facts["outputs"] == [{"name": "y", "dtype": "float16", "shape": [1, 1, None, 4]}]
    assert facts["dynamic_dims"] == {"x": ["N", None]}
    assert facts["opset"] == 13
    assert facts["nodes"] == 4
    assert facts["operators"] == {"Constant": 1, "MatMul": 1, "Relu": 1, "Reshape": 1}
    assert facts["parameters"] == 16
    assert facts["by_dtype"] == {"float16": {"elements": 12, "bytes": 24}, "int64": {"elements": 4, "bytes": 32}}
    assert facts["parameter_bytes"] == 56
    assert facts["size"] == (tmp_path / "model.onnx").stat().st_size
    json.dumps(facts)


def test_bodies_of_control_flow_are_counted(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["b"])], "b", [], [helper.make_empty_tensor_value_info("b")]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    proto = model([node], {"x": [1]}, ["y"], opset=13)
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    facts = inspect_model(saved(tmp_path, proto))
    assert facts["control_flow"] == {"If": 1}
    assert facts["operators"] == {"Neg": 2, "If": 1}
    assert facts["nodes"] == 1


def test_missing_external_data_is_a_fact_and_a_path_outside_an_error(tmp_path: Path) -> None:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [1]}, ["y"], opset=13)
    tensor = proto.graph.initializer.add(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    assert inspect_model(saved(tmp_path, proto))["external_data"] == {"w.bin": None}
    tensor.external_data[0].value = "/etc/passwd"
    with pytest.raises(EdgecError, match="not inside") as caught:
        inspect_model(saved(tmp_path, proto))
    assert caught.value.code == "EDG108"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from the kernel's accounting")
def test_a_model_of_several_gigabytes_is_not_read_and_takes_150_megabytes(tmp_path: Path) -> None:
    with open(tmp_path / "w.bin", "wb") as stream:
        stream.truncate(3 << 30)
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [1, 3]}, ["y"], opset=13)
    tensor = proto.graph.initializer.add(name="w", data_type=1, dims=[3, 1 << 28], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    program = (
        "import sys\n"
        "from edgec.converter.inspect import inspect_model\n"
        "assert inspect_model(sys.argv[1])['parameters'] == 3 << 28\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "read = open('/proc/self/io').read().split()[1]\n"
        "status = open('/proc/self/status').read().split()\n"  # ru_maxrss includes the forking process
        "print(read, int(status[status.index('VmHWM:') + 1]) / 1024)\n"
    )
    path = saved(tmp_path, proto)
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    read, megabytes = map(float, done.stdout.split())
    assert read <= 100e6  # the code of what is imported; mapped pages count as memory
    assert megabytes <= 150
