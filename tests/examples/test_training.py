"""The training script of the digits example: its gradients are right and its export is the network it trained."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import onnxruntime
import pytest

from .conftest import ROOT


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """The example's modules ``network`` and ``train``, which import each other as scripts do."""
    monkeypatch.syspath_prepend(str(ROOT / "examples/digits"))
    for name in ("network", "train"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import network
    import train

    yield network, train
    for name in ("network", "train"):
        sys.modules.pop(name, None)


def test_gradients_agree_with_finite_differences(digits: tuple[ModuleType, ModuleType]) -> None:
    network, train = digits
    random = np.random.default_rng(0)
    layers = train.build(random)
    images = random.random((4, 8, 8, 1), dtype=np.float32)
    direction = random.standard_normal((4, 10)).astype(np.float32)

    def loss() -> float:
        return float((network.forward(layers, images, training=True) * direction).sum(dtype=np.float64))

    for layer in network.flatten(layers):  # float64, so that a small step is still exact enough
        layer.parameters = {name: value.astype(np.float64) for name, value in layer.parameters.items()}
    loss()
    network.backward(layers, direction)
    for layer in network.flatten(layers):
        for name, value in layer.parameters.items():
            index = np.unravel_index(int(np.abs(layer.gradients[name]).argmax()), value.shape)
            expected = float(layer.gradients[name][index])
            start, step = value[index], 1e-5
            value[index] = start + step
            above = loss()
            value[index] = start - step
            below = loss()
            value[index] = start
            assert (above - below) / (2 * step) == pytest.approx(expected, rel=2e-2, abs=1e-3), (type(layer), name)


def test_the_exported_model_is_the_trained_network(digits: tuple[ModuleType, ModuleType]) -> None:
    network, train = digits
    random = np.random.default_rng(0)
    layers = train.build(random)
    images = random.integers(0, 17, (128, 8, 8, 1)).astype(np.float32)
    train.train(layers, images, random.integers(0, 10, 128), 2, random)
    session = onnxruntime.InferenceSession(train.export(layers).SerializeToString(), providers=["CPUExecutionProvider"])
    expected = network.forward(layers, images[:8] / 16)
    for image, logits in zip(images[:8], expected, strict=True):
        (actual,) = session.run(None, {"x": image.transpose(2, 0, 1)[None]})
        np.testing.assert_allclose(actual[0], logits, rtol=1e-4, atol=1e-4)
