"""Every example does what its README says."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from edgec.targets.ethosu import compiler as vela

from .conftest import ROOT, Shell

READMES = sorted((ROOT / "examples").glob("*/README.md"))
NEEDS = {"keras": ("tensorflow", "tf2onnx", "keras", "h5py", "sklearn")}
"""Packages that an example needs besides edgec's own; without them its README is not run."""


def shell_blocks(document: Path) -> list[str]:
    """The ```sh blocks of a Markdown file; ```console and ```text blocks are only shown."""
    return re.findall(r"^```sh\n(.*?)^```$", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def marks(document: Path) -> list[pytest.MarkDecorator]:
    if document.parent.name == "ethosu":
        return [pytest.mark.skipif(vela.find() is None, reason=f"the example needs Vela: {vela.TOOL.install}")]
    packages = NEEDS.get(document.parent.name, ())
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    reason = f"the example needs {', '.join(missing)}, not installed here"
    return [pytest.mark.skipif(bool(missing), reason=reason), *([pytest.mark.tensorflow] if packages else [])]


@pytest.mark.parametrize(
    "document", [pytest.param(path, marks=marks(path)) for path in READMES], ids=[path.parent.name for path in READMES]
)
def test_the_commands_of_a_readme_work_in_the_order_given(document: Path, shell: Shell) -> None:
    blocks = shell_blocks(document)
    assert blocks, "a README without commands shows nothing"
    for block in blocks:
        result = shell(block)
        assert result.returncode == 0, f"{block}\n{result.stdout}\n{result.stderr}"


def test_the_quick_start_keeps_the_accuracy(shell: Shell) -> None:
    result = shell("python examples/digits/quickstart.py --output fresh")
    assert result.returncode == 0, result.stderr
    accuracies = re.findall(r"(\d+\.\d+)%", result.stdout)
    assert len(accuracies) == 2
    assert accuracies[0] == accuracies[1]
    assert float(accuracies[0]) > 97
    assert "360 of 360" in result.stdout


@pytest.mark.parametrize(("target", "artifact"), [("tflite", "model.tflite"), ("onnxruntime", "model.onnx")])
def test_the_pipeline_script_keeps_a_verified_artifact(target: str, artifact: str, shell: Shell, clone: Path) -> None:
    result = shell(f"sh examples/pipelines/convert.sh examples/digits/digits.onnx {target} artifacts")
    assert result.returncode == 0, result.stderr
    document = json.loads((clone / "artifacts/result.json").read_text(encoding="utf-8"))
    assert document["status"] == "ok"
    assert (clone / "artifacts" / artifact).stat().st_size > 0
    assert (clone / "artifacts/manifest.json").is_file()


def test_the_pipeline_script_passes_on_the_exit_code_and_names_the_error(shell: Shell, clone: Path) -> None:
    (clone / "broken.onnx").write_bytes(b"")
    result = shell("sh examples/pipelines/convert.sh broken.onnx tflite artifacts")
    assert result.returncode == 3
    assert "EDG102" in result.stderr
    assert not list(clone.glob("artifacts/model*"))


def test_the_pipeline_script_does_not_trust_an_exit_code_alone(shell: Shell, clone: Path) -> None:
    liar = clone / "liar"
    liar.write_text('#!/bin/sh\necho \'{"status": "error"}\'\n', encoding="utf-8")
    liar.chmod(0o755)
    result = shell("EDGEC=./liar sh examples/pipelines/convert.sh model.onnx tflite artifacts")
    assert result.returncode == 70


def test_the_workflow_runs_the_tested_script() -> None:
    workflow = yaml.safe_load((ROOT / "examples/pipelines/github-actions.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["convert"]["steps"]
    assert any("sh examples/pipelines/convert.sh" in step.get("run", "") for step in steps)


def test_the_committed_model_has_the_accuracy_that_its_readme_states() -> None:
    import onnxruntime

    folder = ROOT / "examples/digits"
    session = onnxruntime.InferenceSession(folder / "digits.onnx", providers=["CPUExecutionProvider"])
    with np.load(folder / "samples.npz") as samples:
        images = samples["x"][:, None]
    labels = np.load(folder / "labels.npy")
    digits = np.array([session.run(None, {"x": image})[0].argmax() for image in images])
    accuracy = f"{(digits == labels).mean():.2%}".replace("%", " %")
    assert f"Both reach {accuracy}" in (folder / "README.md").read_text(encoding="utf-8")


def test_example_files_are_small() -> None:
    assert (ROOT / "examples/digits/digits.onnx").stat().st_size < 300_000
    for path in (ROOT / "examples").rglob("*"):
        assert not path.is_file() or "out" in path.parts or path.stat().st_size < 1_000_000, path
