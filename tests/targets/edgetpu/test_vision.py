"""Classes and boxes out of images; the conventions of pycoral."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.errors import EdgecError
from edgec.targets.edgetpu.vision import Box, Class, VisionModel, classify, fitted, objects, resized, top_classes
from edgec.targets.tflite.graph import read
from edgec.targets.tflite.session import open_session
from tests.targets.edgetpu.pairs import pair
from tests.targets.edgetpu.synthetic import Net

Image = pytest.importorskip("PIL.Image")


def picture(width: int, height: int):  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8))


def test_the_best_classes_come_first() -> None:
    scores = np.float32([[0.1, 0.7, 0.7, 0.3]])
    assert top_classes(scores, 2) == [Class(1, np.float32(0.7)), Class(2, np.float32(0.7))]
    assert [item.index for item in top_classes(scores)] == [1, 2, 3, 0]
    assert [item.index for item in top_classes(scores, threshold=0.2)] == [1, 2, 3]
    assert top_classes(scores, 0) == []


def test_images_are_stretched_or_fitted() -> None:
    image = picture(40, 20)
    assert resized(image, (10, 30)).shape == (30, 10, 3)
    made, scale = fitted(image, (20, 20))
    assert (made.shape, scale) == ((20, 20, 3), 0.5)
    assert made[:10].any()
    assert not made[10:].any()
    assert resized(image.convert("L"), (4, 4)).shape == (4, 4, 3)


def test_boxes_are_in_pixels_of_the_image() -> None:
    boxes = np.float32([[[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1]]])
    outputs = [boxes, np.float32([[3, 4]]), np.float32([[0.9, 0.2]]), np.float32([2])]
    found = objects(outputs, (300, 300), 0.5, 0.5)
    assert [(item.index, round(item.score, 2), item.box) for item in found] == [(3, 0.9, Box(120, 60, 360, 300))]
    second = [outputs[2], outputs[0], outputs[3], outputs[1]]
    assert objects(second, (300, 300), 0.5, 0.5) == found
    assert len(objects(outputs, (300, 300), 0.5, 0.0)) == 2
    for wrong in (outputs[:3], [outputs[1], outputs[1], outputs[1], outputs[3]]):
        with pytest.raises(EdgecError) as caught:
            objects(wrong, (300, 300), 0.5, 0.5)
        assert caught.value.code == "EDG005"


def test_boxes_overlap() -> None:
    assert Box(0, 0, 10, 10).overlap(Box(5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert Box(0, 0, 10, 10).overlap(Box(20, 20, 30, 30)) == 0
    assert Box(0, 0, 0, 0).overlap(Box(0, 0, 0, 0)) == 0


def test_a_real_classifier() -> None:
    """Compared with LiteRT fed by hand: uint8 pixels are this model's input as they are."""
    path = pair("mobilenet_v1").source
    session = open_session(path)
    image = picture(200, 150)
    pixels = np.asarray(image.resize((128, 128), Image.Resampling.LANCZOS))
    raw = next(iter(session.run({session.inputs[0].name: pixels[np.newaxis]}).values()))[0]
    found = classify(VisionModel(session, read(path)), image, top_k=3)
    best = np.argsort(-raw.astype(int), kind="stable")[:3]
    assert [item.index for item in found] == best.tolist()
    tensor = read(path).main.outputs[0]
    assert found[0].score == pytest.approx((int(raw[best[0]]) - tensor.zero_points[0]) * tensor.scales[0])


def test_a_model_without_an_image(tmp_path: Path) -> None:
    net = Net()
    path = net.write(tmp_path / "model.tflite", net.add("RELU", [net.input(1, 4)], (1, 4)))
    with pytest.raises(EdgecError) as caught:
        VisionModel(open_session(path), read(path))
    assert caught.value.code == "EDG005"


def test_int8_inputs_are_moved(tmp_path: Path) -> None:
    net = Net()
    x = net.input(1, 2, 2, 3)
    x.scale, x.zero_point = np.float32([1 / 128]), np.int64([0])
    result = net.add("RELU", [x], (1, 2, 2, 3))
    result.scale, result.zero_point = np.float32([1 / 128]), np.int64([0])
    path = net.write(tmp_path / "model.tflite", result)
    model = VisionModel(open_session(path), read(path))
    pixels = np.uint8([[[0, 128, 255]] * 2] * 2)
    assert model.run(pixels)[0][0, 0, 0].tolist() == [0.0, 0.0, 127 / 128]
