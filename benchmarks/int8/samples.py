"""Inputs to calibrate with and others to compare on: photographs and faces of foolbox and scikit-image, drawn text.

Calibration and comparison never share a photograph, except for faces and digits, of which there is one set each.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tests.models import FOOLBOX, SCIKIT_IMAGE, fetch_wheel

Floats = NDArray[np.float32]
Picture = Image.Image

PHOTOGRAPHS = (
    "astronaut",
    "chelsea",
    "coffee",
    "color",
    "hubble_deep_field",
    "ihc",
    "motorcycle_left",
    "motorcycle_right",
    "retina",
    "rocket",
)
"""Of scikit-image; foolbox has 20 of ImageNet and 20 each of CIFAR-10 and CIFAR-100."""
MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
WORDS = (
    "invoice total street 2024 coffee ORDER No. 1187 paid by card thank you device shipping address Berlin Tokyo "
    "42.50 EUR"
).split()


@dataclass(frozen=True)
class Samples:
    """Inputs of one model, [samples, 1, ...] float32."""

    calibration: Floats
    comparison: Floats


def samples(model: str, examples: Path) -> Samples:
    """The samples of a model of :mod:`benchmarks.int8_agreement`.

    Raises:
        ModelUnavailable: a wheel cannot be fetched.
    """
    if model == "resnet8-cifar":
        small = [_pixels(item) for item in _foolbox("cifar100_")] + _crops(_photographs(), 32, 2)
        tested = [_pixels(item) for item in _foolbox("cifar10_")] + _crops(_foolbox("imagenet_"), 32, 5, 100)
        return Samples(*((_stack(items) - 128) / 128 for items in (small, tested)))
    if model == "mobilenetv1-vww":
        return Samples(_stack(_crops(_photographs(), 96, 4)), _stack(_crops(_foolbox("imagenet_"), 96, 5, 100)))
    if model == "mini-xception":
        faces = _faces()
        return Samples(faces[:32], faces[32:])
    if model == "digits":
        with np.load(examples / "digits" / "samples.npz") as archive:
            digits = archive["x"].reshape(-1, 1, 1, 8, 8)
        return Samples(digits[:100], digits[100:])
    if model == "ppocr-det":
        first, second = _drawn(_photographs(), 16, 1), _drawn(_foolbox("imagenet_"), 16, 2)
        scans = [_placed(picture, 320) for picture in _scikit("page.")]
        return Samples(_normalised(_stack(first)), _normalised(_stack(second + scans)))
    if model in ("mobilenetv2", "resnet50"):
        calibration, comparison = _crops(_photographs(), 224, 2)[:16], _crops(_foolbox("imagenet_"), 224, 2, 100)[:32]
        return Samples(_normalised(_stack(calibration)), _normalised(_stack(comparison)))
    if model == "yolov8n":
        calibration, comparison = _crops(_photographs(), 320, 2)[:16], _crops(_foolbox("imagenet_"), 320, 1, 100)[:16]
        return Samples(*(_stack(items).transpose(0, 1, 4, 2, 3) / 255 for items in (calibration, comparison)))
    raise SystemExit(f"no samples for '{model}'")


def _open(package: Path, prefix: str) -> list[Picture]:
    with zipfile.ZipFile(package) as archive:
        names = [
            name for name in sorted(archive.namelist()) if name.startswith(prefix) and name[-4:] in (".png", ".jpg")
        ]
        return [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]


def _foolbox(prefix: str) -> list[Picture]:
    return _open(fetch_wheel(FOOLBOX), f"foolbox/data/{prefix}")


def _scikit(prefix: str) -> list[Picture]:
    return _open(fetch_wheel(SCIKIT_IMAGE), f"skimage/data/{prefix}")


def _photographs() -> list[Picture]:
    return [picture for name in PHOTOGRAPHS for picture in _scikit(f"{name}.")]


def _pixels(picture: Picture) -> Floats:
    return np.asarray(picture, np.float32)


def _crops(pictures: list[Picture], size: int, count: int, seed: int = 0) -> list[Floats]:
    """The middle of each picture and random squares of it, [size, size, 3], 0 to 255."""
    found = []
    for number, picture in enumerate(pictures):
        random = np.random.default_rng(seed + number)
        width, height = picture.size
        for index in range(count):
            side = int(min(width, height) * (random.uniform(0.4, 1.0) if index else 1.0))
            left = int(random.integers(0, width - side + 1)) if index else (width - side) // 2
            top = int(random.integers(0, height - side + 1)) if index else (height - side) // 2
            square = picture.crop((left, top, left + side, top + side))
            found.append(_pixels(square.resize((size, size), Image.Resampling.BILINEAR)))
    return found


def _placed(picture: Picture, size: int) -> Floats:
    """The upper left part of a picture on white, in its own resolution, [size, size, 3]."""
    sheet = Image.new("RGB", (size, size), "white")
    sheet.paste(picture, (0, 0))
    return _pixels(sheet)


def _faces() -> Floats:
    """The 100 faces of scikit-image's LFW subset as mini-Xception takes them, -1 to 1."""
    with zipfile.ZipFile(fetch_wheel(SCIKIT_IMAGE)) as archive:
        faces = np.load(io.BytesIO(archive.read("skimage/data/lfw_subset.npy")), allow_pickle=False)[:100]
    sized = [
        Image.fromarray((face * 255).astype(np.uint8)).resize((64, 64), Image.Resampling.BILINEAR) for face in faces
    ]
    return (np.stack([np.asarray(item, np.float32) for item in sized]) / 255 * 2 - 1)[:, None, :, :, None]


def _drawn(backgrounds: list[Picture], count: int, seed: int) -> list[Floats]:
    """Dark lines of text on plain colours and on bright, blurred photographs, [320, 320, 3]."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        if number % 3 == 0:
            blurred = backgrounds[number % len(backgrounds)].resize((320, 320)).filter(ImageFilter.GaussianBlur(6))
            picture = Image.blend(blurred, Image.new("RGB", blurred.size, "white"), 0.5)
        else:
            red, green, blue = (int(value) for value in random.integers(180, 256, 3))
            picture = Image.new("RGB", (320, 320), (red, green, blue))
        pen, top = ImageDraw.Draw(picture), int(random.integers(5, 25))
        while top < 290:
            size = int(random.integers(14, 34))
            line = " ".join(random.choice(WORDS, int(random.integers(1, 4))))
            dark, darker, darkest = (int(value) for value in random.integers(0, 90, 3))
            place = (int(random.integers(4, 80)), top)
            pen.text(place, line, fill=(dark, darker, darkest), font=ImageFont.load_default(size))
            top += size + int(random.integers(6, 40))
        found.append(_pixels(picture))
    return found


def _stack(items: list[Floats]) -> Floats:
    return np.stack(items)[:, None].astype(np.float32)


def _normalised(pixels: Floats) -> Floats:
    """[N, 1, height, width, 3] of 0 to 255 as [N, 1, 3, height, width] with ImageNet's mean and deviation."""
    return ((pixels.transpose(0, 1, 4, 2, 3) / 255 - MEAN) / DEVIATION).astype(np.float32)
