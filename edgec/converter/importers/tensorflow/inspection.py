"""Facts about SavedModels and Keras files for ``edgec inspect``, read from the files alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from edgec.converter.importers.tensorflow.keras_file import KerasFile
from edgec.converter.importers.tensorflow.saved_model import SavedModel, Tensor, dangers
from edgec.converter.importers.tensorflow.trust import find_code


def inspect_saved_model(model: SavedModel, signature: str | None = None) -> dict[str, Any]:
    """``format``, ``producer``, ``tags``, the ``signature`` that is used by default (or null), its ``inputs`` and
    ``outputs``, all ``signatures``, ``nodes``, ``operators`` (those of functions included), ``size`` in bytes, and
    ``code``: what would run code or reach outside the model.

    Raises:
        UsageError: EDG016 for a signature that was asked for and does not exist.
    """
    chosen = None
    if signature is not None or len(model.signatures) == 1 or "serving_default" in model.signatures:
        chosen = model.choose(signature)
    found = model.signatures.get(chosen or "")
    return {
        "format": "saved_model",
        "producer": f"TensorFlow {model.version}".strip(),
        "tags": list(model.tags),
        "signature": chosen,
        "inputs": [_entry(item) for item in found.inputs] if found else [],
        "outputs": [_entry(item) for item in found.outputs] if found else [],
        "signatures": {
            name: {
                "inputs": [_entry(item) for item in item.inputs],
                "outputs": [_entry(item) for item in item.outputs],
            }
            for name, item in model.signatures.items()
        },
        "nodes": model.operators.total(),
        "operators": _counted(model.operators),
        "size": model.size,
        "code": dangers(model),
    }


def inspect_keras(file: KerasFile) -> dict[str, Any]:
    """``format``, ``producer``, ``inputs`` and ``outputs`` (those that the configuration states), ``nodes`` (layers),
    ``operators`` (classes of layers), ``size`` in bytes, and ``code``: what loading the model would run."""
    configuration = file.configuration or {}
    layers = list(_layers(configuration))
    return {
        "format": file.kind,
        "producer": f"Keras {file.version}".strip(),
        "inputs": list(_inputs(configuration)),
        "outputs": list(_outputs(configuration)),
        "nodes": len(layers),
        "operators": _counted(Counter(str(layer.get("class_name")) for layer in layers)),
        "size": file.size,
        "code": [str(item) for item in find_code(configuration)],
    }


def _entry(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": None if tensor.shape is None else list(tensor.shape),
    }


def _counted(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _own_layers(configuration: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    inner = configuration.get("config")
    found = inner.get("layers") if isinstance(inner, Mapping) else inner  # very old Sequential models: a list
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _layers(configuration: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Every layer, those of inner models included, the inner models themselves not."""
    for layer in _own_layers(configuration):
        if depth < 32 and _own_layers(layer):
            yield from _layers(layer, depth + 1)
        else:
            yield layer


def _inputs(configuration: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    layers = _own_layers(configuration)
    given = [layer for layer in layers if layer.get("class_name") == "InputLayer"] or layers[:1]
    for layer in given:
        config = layer.get("config")
        if not isinstance(config, Mapping):
            continue
        shape = config.get("batch_shape", config.get("batch_input_shape"))
        if layer.get("class_name") != "InputLayer" and not isinstance(shape, list):
            continue
        known = isinstance(shape, list) and all(item is None or isinstance(item, int) for item in shape)
        yield {"name": str(config.get("name")), "dtype": _dtype(config), "shape": shape if known else None}


def _dtype(config: Mapping[str, Any]) -> str | None:
    dtype = config.get("dtype")
    if isinstance(dtype, Mapping):  # a policy
        inner = dtype.get("config")
        dtype = inner.get("name") if isinstance(inner, Mapping) else None
    return dtype if isinstance(dtype, str) else None


def _outputs(configuration: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    inner = configuration.get("config")
    stated = inner.get("output_layers") if isinstance(inner, Mapping) else None
    names = list(_names(stated))
    if not names:
        last = _own_layers(configuration)[-1:]
        names = [str(layer["config"].get("name")) for layer in last if isinstance(layer.get("config"), Mapping)]
    for name in names:
        yield {"name": name, "dtype": None, "shape": None}


def _names(stated: Any, depth: int = 0) -> Iterator[str]:
    """Names of layers in nested lists of [name, node, tensor]."""
    if isinstance(stated, list) and stated and isinstance(stated[0], str):
        yield stated[0]
    elif isinstance(stated, list | Mapping) and depth < 32:
        for item in stated.values() if isinstance(stated, Mapping) else stated:
            yield from _names(item, depth + 1)
