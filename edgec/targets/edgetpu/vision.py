"""Images in, classes or boxes out: the helpers around a quantized vision model, on an Edge TPU or in LiteRT on the CPU.

    model = VisionModel(open_session("out/model_edgetpu.tflite"), read("out/model_edgetpu.tflite"))
    classify(model, Image.open("parrot.jpg"), top_k=3)

Images are resized with Pillow (extra ``images``).  Results agree with those of pycoral's adapters ``classify``,
``detect`` and ``common``, whose conventions these are.

Source: github.com/google-coral/pycoral, adapters/ and examples/classify_image.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgec.errors import EdgecError, UsageError
from edgec.ir.types import Array
from edgec.runtime.session import Session
from edgec.targets.tflite.graph import FlatModel, FlatTensor

if TYPE_CHECKING:
    from PIL.Image import Image

EVERYTHING: Final = float("-inf")


@dataclass(frozen=True)
class Class:
    """A class and its score."""

    index: int
    score: float


@dataclass(frozen=True)
class Box:
    """A box in pixels of the image that was given; it may reach beyond it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        """Pixels; 0 for an empty box."""
        return max(self.right - self.left, 0) * max(self.bottom - self.top, 0)

    def overlap(self, other: Box) -> float:
        """Intersection over union, 0 to 1."""
        inner = Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )
        union = self.area + other.area - inner.area
        return inner.area / union if union else 0.0


@dataclass(frozen=True)
class Object:
    """A detected object."""

    index: int
    score: float
    box: Box


class VisionModel:
    """A session with one image input [1, height, width, 3] of uint8, int8 or float32.

    Args:
        session: the loaded model.
        model: the file it was loaded from, for the quantization parameters.
        mean, deviation: a pixel p enters the model as the real number (p - mean) / deviation; 128 and 128 by default.

    Raises:
        UsageError: EDG005 when the input is no image.
    """

    def __init__(self, session: Session, model: FlatModel, *, mean: float = 128.0, deviation: float = 128.0) -> None:
        self._session = session
        self._input = model.main.inputs[0]
        self._outputs = model.main.outputs
        self._mean, self._deviation = mean, deviation
        shape = self._input.shape
        if len(session.inputs) != 1 or len(shape) != 4 or shape[0] != 1 or shape[3] not in (1, 3):
            raise UsageError("EDG005", "the model does not take one image", why=f"its input is {list(shape)}")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._input.shape[2], self._input.shape[1]

    def run(self, pixels: Array) -> list[Array]:
        """All outputs in their order as real numbers (float32).

        Args:
            pixels: uint8 [height, width, channels] of the model's size.
        """
        name = self._session.inputs[0].name
        results = self._session.run({name: self._quantized(pixels)[np.newaxis]})
        found = []
        for spec, tensor in zip(self._session.outputs, self._outputs):
            found.append(dequantized(results[spec.name], tensor))
        return found

    def _quantized(self, pixels: Array) -> Array:
        real = (pixels.astype(np.float64) - self._mean) / self._deviation
        if self._input.dtype == "float32":
            return real.astype(np.float32)
        limits = np.iinfo(np.dtype(self._input.dtype))
        stored: Array = np.rint(real / self._input.scales[0]) + self._input.zero_points[0]
        return np.clip(stored, limits.min, limits.max).astype(limits.dtype)


def dequantized(array: Array, tensor: FlatTensor) -> Array:
    """Real numbers (float32) for what a model gave; floats stay what they are."""
    if array.dtype.kind == "f" or not tensor.scales:
        return array.astype(np.float32)
    return ((array.astype(np.int64) - tensor.zero_points[0]) * np.float64(tensor.scales[0])).astype(np.float32)


# images


def resized(image: Image, size: tuple[int, int]) -> Array:
    """The image as uint8 [height, width, 3], stretched to (width, height)."""
    resampling = _pillow().Resampling.LANCZOS
    return np.asarray(image.convert("RGB").resize(size, resampling), np.uint8)


def fitted(image: Image, size: tuple[int, int]) -> tuple[Array, float]:
    """The image in its own proportions in the upper left corner of a black one of (width, height), and its scale."""
    width, height = image.size
    scale = min(size[0] / width, size[1] / height)
    inner = (int(width * scale), int(height * scale))
    made = np.zeros((size[1], size[0], 3), np.uint8)
    made[: inner[1], : inner[0]] = resized(image, inner)
    return made, scale


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise EdgecError(
            "EDG013", "Pillow is not installed", why=str(error), help="pip install 'edgec[images]'"
        ) from error
    return Image


# results


def top_classes(scores: Array, top_k: int | None = None, threshold: float = EVERYTHING) -> list[Class]:
    """The classes with the highest scores, best first; of equal ones the lower index comes first.

    Args:
        scores: any shape; the classes are its elements.
        top_k: how many at most, all by default.
        threshold: lowest score.
    """
    flat = scores.reshape(-1)
    order = np.argsort(-flat, kind="stable")[: flat.size if top_k is None else top_k]
    return [Class(int(index), float(flat[index])) for index in order if flat[index] >= threshold]


def classify(model: VisionModel, image: Image, *, top_k: int | None = 1, threshold: float = EVERYTHING) -> list[Class]:
    """Classes of an image, best first; the first output holds the scores."""
    return top_classes(model.run(resized(image, model.size))[0], top_k, threshold)


def detect(model: VisionModel, image: Image, *, threshold: float = EVERYTHING) -> list[Object]:
    """Objects in an image, in the model's order, boxes in pixels of the image.

    The model ends with ``TFLite_Detection_PostProcess``: boxes, classes, scores and their number, in this order or in
    that of TensorFlow 2 (scores, boxes, number, classes).
    """
    pixels, scale = fitted(image, model.size)
    return objects(model.run(pixels), model.size, scale, threshold)


def objects(outputs: list[Array], size: tuple[int, int], scale: float, threshold: float) -> list[Object]:
    """The same from the outputs themselves.

    Args:
        outputs: four arrays; boxes are [1, n, 4] with top, left, bottom, right from 0 to 1.
        size: of the model's input, width and height.
        scale: of the image in it.

    Raises:
        UsageError: EDG005 when there are no four outputs, or no boxes among them.
    """
    if len(outputs) != 4:
        raise UsageError("EDG005", "the model is no detector", why=f"it has {len(outputs)} outputs, a detector has 4")
    boxes, classes, scores, count = outputs if outputs[3].size == 1 else (outputs[i] for i in (1, 3, 0, 2))
    if boxes.shape[-1] != 4 or count.size != 1:
        raise UsageError("EDG005", "the model is no detector", why=f"its boxes have the shape {list(boxes.shape)}")
    boxes, classes, scores = boxes.reshape(-1, 4), classes.reshape(-1), scores.reshape(-1)
    across, down = size[0] / scale, size[1] / scale
    found = []
    for index in range(min(int(count.reshape(-1)[0]), len(scores))):
        if scores[index] >= threshold:
            top, left, bottom, right = (float(edge) for edge in boxes[index])
            box = Box(int(left * across), int(top * down), int(right * across), int(bottom * down))
            found.append(Object(int(classes[index]), float(scores[index]), box))
    return found
