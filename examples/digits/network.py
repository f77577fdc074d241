"""A small depthwise-separable CNN in NumPy: layers that know their own gradient, and Adam.

Arrays are NHWC float32 inside this file, because a pointwise convolution is then one matrix product; the exporter in
``train.py`` turns the weights into ONNX's NCHW order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass
class Layer:
    """One step of the network: ``forward`` keeps what ``backward`` needs; ``gradients`` mirrors ``parameters``."""

    parameters: dict[str, Array] = field(default_factory=dict)
    gradients: dict[str, Array] = field(default_factory=dict)

    def forward(self, x: Array, training: bool) -> Array:
        raise TypeError("a layer defines forward")

    def backward(self, gradient: Array) -> Array:
        raise TypeError("a layer defines backward")


def _windows(x: Array, stride: int) -> list[Array]:
    """The nine shifted views of a padded [N,H,W,C] array that a 3x3 convolution with padding 1 reads."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return [padded[:, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)]


class Conv3x3(Layer):
    """A dense 3x3 convolution, padding 1, stride 1, no bias: weights [9, inputs, outputs]."""

    def __init__(self, inputs: int, outputs: int, random: np.random.Generator) -> None:
        scale = np.sqrt(2.0 / (9 * inputs))
        super().__init__({"weight": (random.standard_normal((9, inputs, outputs)) * scale).astype(np.float32)})

    def forward(self, x: Array, training: bool) -> Array:
        self.patches = np.concatenate(_windows(x, 1), axis=-1)
        return self.patches @ self.parameters["weight"].reshape(-1, self.parameters["weight"].shape[2])

    def backward(self, gradient: Array) -> Array:
        weight = self.parameters["weight"]
        flat = self.patches.reshape(-1, self.patches.shape[-1])
        self.gradients["weight"] = (flat.T @ gradient.reshape(-1, weight.shape[2])).reshape(weight.shape)
        return np.zeros(0, np.float32)  # always the first layer: nobody needs the gradient of the image


class Depthwise3x3(Layer):
    """A depthwise 3x3 convolution, padding 1, no bias: weights [9, channels]."""

    def __init__(self, channels: int, stride: int, random: np.random.Generator) -> None:
        weight = random.standard_normal((9, channels)) * np.sqrt(2.0 / 9)
        super().__init__({"weight": weight.astype(np.float32)})
        self.stride = stride

    def forward(self, x: Array, training: bool) -> Array:
        self.shape = x.shape
        self.windows = _windows(x, self.stride)
        result = self.windows[0] * self.parameters["weight"][0]
        for window, weight in zip(self.windows[1:], self.parameters["weight"][1:], strict=True):
            result += window * weight
        return result

    def backward(self, gradient: Array) -> Array:
        batch, height, width, channels = self.shape
        padded = np.zeros((batch, height + 2, width + 2, channels), np.float32)
        self.gradients["weight"] = np.stack([np.einsum("nhwc,nhwc->c", w, gradient) for w in self.windows])
        for index, weight in enumerate(self.parameters["weight"]):
            i, j = divmod(index, 3)
            padded[:, i : i + height : self.stride, j : j + width : self.stride] += gradient * weight
        return padded[:, 1:-1, 1:-1]


class Linear(Layer):
    """A matrix product over the last axis: a pointwise convolution on images, a dense layer on vectors."""

    def __init__(self, inputs: int, outputs: int, random: np.random.Generator, bias: bool = False) -> None:
        weight = random.standard_normal((inputs, outputs)) * np.sqrt(2.0 / inputs)
        super().__init__({"weight": weight.astype(np.float32)})
        if bias:
            self.parameters["bias"] = np.zeros(outputs, np.float32)

    def forward(self, x: Array, training: bool) -> Array:
        self.x = x
        result = x @ self.parameters["weight"]
        return result + self.parameters["bias"] if "bias" in self.parameters else result

    def backward(self, gradient: Array) -> Array:
        inputs, outputs = self.parameters["weight"].shape
        flat = gradient.reshape(-1, outputs)
        self.gradients["weight"] = self.x.reshape(-1, inputs).T @ flat
        if "bias" in self.parameters:
            self.gradients["bias"] = flat.sum(0)
        return gradient @ self.parameters["weight"].T


class BatchNorm(Layer):
    """Normalise every channel over batch and position; running mean and variance are kept for inference."""

    epsilon = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__({"scale": np.ones(channels, np.float32), "bias": np.zeros(channels, np.float32)})
        self.mean = np.zeros(channels, np.float32)
        self.variance = np.ones(channels, np.float32)

    def forward(self, x: Array, training: bool) -> Array:
        mean, variance = self.mean, self.variance
        if training:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            self.mean = 0.9 * self.mean + 0.1 * mean
            self.variance = 0.9 * self.variance + 0.1 * variance
        self.inverse = 1 / np.sqrt(variance + self.epsilon)
        self.normal = (x - mean) * self.inverse
        return self.normal * self.parameters["scale"] + self.parameters["bias"]

    def backward(self, gradient: Array) -> Array:
        axes = (0, 1, 2)
        self.gradients["bias"] = gradient.sum(axes)
        self.gradients["scale"] = (gradient * self.normal).sum(axes)
        count = gradient.size // gradient.shape[-1]
        centred = gradient - self.gradients["bias"] / count - self.normal * (self.gradients["scale"] / count)
        return centred * (self.parameters["scale"] * self.inverse)


class Relu(Layer):
    """max(x, 0)."""

    def forward(self, x: Array, training: bool) -> Array:
        self.mask = x > 0
        return x * self.mask

    def backward(self, gradient: Array) -> Array:
        return gradient * self.mask


class HardSwish(Layer):
    """x * clip(x / 6 + 1/2, 0, 1), as ONNX HardSwish-14 defines it."""

    def forward(self, x: Array, training: bool) -> Array:
        self.x = x
        return x * np.clip(x / 6 + 0.5, 0, 1)

    def backward(self, gradient: Array) -> Array:
        slope = np.where(self.x <= -3, 0, np.where(self.x >= 3, 1, self.x / 3 + 0.5))
        return gradient * slope.astype(np.float32)


class GlobalAverage(Layer):
    """[N,H,W,C] to [N,C]."""

    def forward(self, x: Array, training: bool) -> Array:
        self.shape = x.shape
        return x.mean((1, 2))

    def backward(self, gradient: Array) -> Array:
        _, height, width, _ = self.shape
        return np.broadcast_to(gradient[:, None, None] / (height * width), self.shape).astype(np.float32)


class Residual(Layer):
    """x + inner(x): the skip connection of MobileNetV2's blocks."""

    def __init__(self, inner: list[Layer]) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Array, training: bool) -> Array:
        return x + forward(self.inner, x, training)

    def backward(self, gradient: Array) -> Array:
        return gradient + backward(self.inner, gradient)


def forward(layers: list[Layer], x: Array, training: bool = False) -> Array:
    """Run the layers in order."""
    for layer in layers:
        x = layer.forward(x, training)
    return x


def backward(layers: list[Layer], gradient: Array) -> Array:
    """Run the layers' gradients in reverse order."""
    for layer in reversed(layers):
        gradient = layer.backward(gradient)
    return gradient


def flatten(layers: list[Layer]) -> list[Layer]:
    """Every layer, with residual blocks opened."""
    return [leaf for layer in layers for leaf in (flatten(layer.inner) if isinstance(layer, Residual) else [layer])]


class Adam:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    def __init__(self, layers: list[Layer], decay: float = 1e-2) -> None:
        self.layers = flatten(layers)
        self.decay = decay
        self.count = 0
        self.moments = [{k: (np.zeros_like(v), np.zeros_like(v)) for k, v in x.parameters.items()} for x in self.layers]

    def step(self, rate: float) -> None:
        """Move every parameter against its gradient."""
        self.count += 1
        for layer, moments in zip(self.layers, self.moments, strict=True):
            for name, value in layer.parameters.items():
                gradient = layer.gradients[name]
                first, second = moments[name]
                first += 0.1 * (gradient - first)
                second += 0.001 * (gradient * gradient - second)
                update = (first / (1 - 0.9**self.count)) / (np.sqrt(second / (1 - 0.999**self.count)) + 1e-8)
                value -= (rate * (update + self.decay * value)).astype(np.float32)
