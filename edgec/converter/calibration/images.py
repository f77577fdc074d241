"""A folder of images as samples of a model with one image input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgec.converter.verification.data import Feeds
from edgec.errors import UsageError
from edgec.ir.types import Array
from edgec.runtime.session import TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
RESIZES: Final = ("stretch", "crop", "pad")
LAYOUTS: Final = ("NCHW", "NHWC")
PIXELS: Final = 1 << 26
"""Larger images are refused before they are decoded."""


@dataclass(frozen=True)
class ImageOptions:
    """How an image becomes an input: resized, then ``(pixel - mean) * scale`` with pixels from 0 to 255.

    Attributes:
        mean, scale: one number, or one per channel.
        resize: ``stretch`` to the input's size; ``crop`` the middle after filling it; ``pad`` with zeros after fitting.
        layout: ``NCHW`` or ``NHWC``; by default the one whose channel axis of the input has 1 or 3 entries.
    """

    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    resize: str = "stretch"
    layout: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return {"mean": list(self.mean), "scale": list(self.scale), "resize": self.resize, "layout": self.layout}


def image_files(path: Path) -> list[Path]:
    """The images of a folder in the order of their names; empty where it is no folder of images."""
    if not path.is_dir():
        return []
    return sorted(item for item in path.iterdir() if item.suffix.lower() in SUFFIXES)


def load_images(path: Path, inputs: Sequence[TensorSpec], options: ImageOptions) -> Iterator[Feeds]:
    """One sample per image, or per batch of images; the last batch is filled up with the first images.

    Raises:
        UsageError: EDG005 where the model does not take images, or the options do not fit its channels; EDG006 for a
            file that is no image, or without Pillow.
    """
    spec, layout = _image_input(inputs, options)
    files = image_files(path)
    batch = spec.shape[0]
    assert isinstance(batch, int)
    for start in range(0, len(files), batch):
        chosen = [files[place % len(files)] for place in range(start, start + batch)]
        yield {spec.name: np.concatenate([_read(file, spec, layout, options) for file in chosen])}


def load_image(file: Path, spec: TensorSpec, options: ImageOptions) -> Array:
    """The array of one input that an image file makes.

    Raises:
        UsageError: see :func:`load_images`.
    """
    found, layout = _image_input([spec], options, single=True)
    return _read(file, found, layout, options)


def _read(file: Path, spec: TensorSpec, layout: str, options: ImageOptions) -> Array:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise UsageError(
            "EDG006", "reading images needs Pillow", help="pip install 'edgec[images]', or give .npz files"
        ) from None
    try:
        with Image.open(file) as image:
            if image.width * image.height > PIXELS:
                raise UsageError("EDG006", f"'{file.name}' has more than {PIXELS} pixels")
            return prepared(image, spec, layout, options)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UsageError("EDG006", f"'{file.name}' cannot be read as an image", why=str(error)) from error


def _image_input(
    inputs: Sequence[TensorSpec], options: ImageOptions, *, single: bool = False
) -> tuple[TensorSpec, str]:
    shape = inputs[0].shape if inputs else ()
    static = [dim for dim in shape if isinstance(dim, int)]
    layout = options.layout or ("NHWC" if len(static) == 4 and static[1] not in (1, 3) else "NCHW")
    fits = len(inputs) == 1 and len(static) == 4 and (static[0] == 1 or (static[0] > 1 and not single))
    channels = static[1 if layout == "NCHW" else 3] if fits else 0
    if channels not in (1, 3):
        described = ", ".join(f"{spec.name}: {list(spec.shape)}" for spec in inputs)
        raise UsageError(
            "EDG005",
            "the model does not take one image of 1 or 3 channels",
            where=f"inputs: {described}",
            help="give the inputs as an .npz file, or the layout with --layout",
        )
    for name, numbers in (("mean", options.mean), ("scale", options.scale)):
        if len(numbers) not in (1, channels):
            raise UsageError("EDG005", f"--{name} has {len(numbers)} numbers, the input has {channels} channels")
    return inputs[0], layout


def prepared(image: Image, spec: TensorSpec, layout: str, options: ImageOptions) -> Array:
    """The input that an image makes."""
    from PIL import Image as images
    from PIL import ImageOps

    dims = [int(dim) for dim in spec.shape if isinstance(dim, int)]
    channels, height, width = dims[1:] if layout == "NCHW" else (dims[3], dims[1], dims[2])
    upright = ImageOps.exif_transpose(image).convert("RGB" if channels == 3 else "L")
    bilinear = images.Resampling.BILINEAR
    if options.resize == "crop":
        sized = ImageOps.fit(upright, (width, height), bilinear)
    elif options.resize == "pad":
        sized = ImageOps.pad(upright, (width, height), bilinear)
    else:
        sized = upright.resize((width, height), bilinear)
    pixels = np.asarray(sized, np.float32).reshape(height, width, channels)
    numbers = (pixels - np.array(options.mean, np.float32)) * np.array(options.scale, np.float32)
    if spec.dtype.kind in "iu":
        limits = np.iinfo(spec.dtype)
        numbers = np.clip(np.round(numbers), limits.min, limits.max)
    ordered = numbers.transpose(2, 0, 1) if layout == "NCHW" else numbers
    return np.ascontiguousarray(ordered[None].astype(spec.dtype))
