"""The onnxruntime target: which opset it writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgec.converter.prepare import prepare
from edgec.targets import registry
from edgec.targets.base import TargetOptions
from tests.ir.equivalence import model_of
from tests.ir.test_lowest_opset import IMAGE


def lower_text(nodes: str, folder: Path, outputs: str = "float[a,b,c,d] y", constants: str = "") -> onnx.ModelProto:
    """The artifact of a graph text, written and read back."""
    from edgec.ir.writer import write_model

    source = write_model(model_of(f"g ({IMAGE}) => ({outputs}) <{constants}> {{ {nodes} }}"), folder / "source.onnx")[0]
    target = registry.load("onnxruntime")
    lowered = prepare(source, target, options=TargetOptions()).lower()
    artifact = target.compile(lowered, folder, "model")
    return onnx.load(str(artifact.main))


@pytest.mark.parametrize(
    ("nodes", "opset", "ir_version"),
    [("y = Relu(x)", 13, 7), ("y = Gelu(x)", 20, 9), ("y = HardSwish(x)", 14, 7)],
)
def test_the_artifact_has_the_lowest_versions(nodes: str, opset: int, ir_version: int, tmp_path: Path) -> None:
    written = lower_text(nodes, tmp_path)
    assert [(entry.domain, entry.version) for entry in written.opset_import] == [("", opset)]
    assert written.ir_version == ir_version


def test_the_opset_is_one_that_has_kernels(tmp_path: Path) -> None:
    # ONNX Runtime 1.31 has RoiAlign up to opset 16 only, and no Swish.
    constants = "float[2,4] r = {0, 0, 3, 3, 1, 1, 4, 4}, int64[2] b = {0, 0}"
    assert lower_text("y = RoiAlign(x, r, b)", tmp_path, constants=constants).opset_import[0].version == 16
    assert "Swish" not in {node.op_type for node in lower_text("y = Swish(x)", tmp_path).graph.node}


def test_the_user_is_told_the_versions(tmp_path: Path) -> None:
    from edgec.ir.writer import write_model

    source = write_model(model_of(f"g ({IMAGE}) => (float[1,4,7,7] y) {{ y = Relu(x) }}"), tmp_path / "m.onnx")[0]
    target = registry.load("onnxruntime")
    lowered = prepare(source, target, options=TargetOptions()).lower()
    assert lowered.notes == ["written at opset 13, IR version 7"]
    facts = target.inspect(target.compile(lowered, tmp_path, "model").main)
    assert (facts["opset"], facts["ir_version"]) == (13, 7)
