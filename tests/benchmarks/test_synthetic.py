"""The benchmark graphs are valid, reproducible, and their outputs depend on their inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks import synthetic
from benchmarks.graphs.chain import chain


@pytest.mark.parametrize("name", ["mobilenetv2", "mobilenetv2-bn", "vit-tiny", "yolov8n"])
def test_outputs_are_finite_and_follow_the_input(name: str) -> None:
    data = synthetic.BUILDERS[name](0).model().SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    noise = np.random.default_rng(1).standard_normal(entry.shape, dtype=np.float32)
    first, second = (session.run(None, {entry.name: noise * np.float32(scale)})[0] for scale in (0.0, 1.0))
    assert np.isfinite(first).all()
    assert np.abs(first - second).max() > 1e-3 * np.abs(first).max()


@pytest.mark.download
@pytest.mark.parametrize("name", sorted(synthetic.TOPOLOGIES))
def test_the_topologies_of_the_onnx_wheel_no_longer_give_a_constant(name: str, tmp_path: Path) -> None:
    synthetic.write(name, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    noise = np.random.default_rng(1).standard_normal(entry.shape, dtype=np.float32)
    first, second = (session.run(None, {entry.name: noise * np.float32(scale)})[0] for scale in (0.0, 1.0))
    assert np.abs(first - second).max() > 1e-2 * np.abs(first).max()


def test_a_chain_has_the_asked_number_of_nodes_and_passes_the_checker() -> None:
    model = chain(500).model()
    assert len(model.graph.node) == 500
    onnx.checker.check_model(model)


def test_a_chain_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 20"):
        chain(510)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        synthetic.write("chain", tmp_path / name, nodes=100)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_large_model_takes_almost_no_room(tmp_path: Path) -> None:
    synthetic.write("large", tmp_path / "large.onnx")
    data = (tmp_path / "large.onnx.data").stat()
    assert data.st_size > 2_680_000_000
    assert data.st_blocks * 512 < 1_000_000
    onnx.checker.check_model(tmp_path / "large.onnx")
