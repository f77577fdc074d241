"""Find the code that a Keras model would run, by reading its configuration as data: nothing is imported or executed.

Keras keeps Lambda layers as Python bytecode (``marshal``), custom objects as names of modules to import, and some
layers as pickles or paths.  Loading such a model runs what its author wrote, or what somebody put there since.
Source: keras.src.saving.serialization_lib (Keras 3), tf_keras.src.saving.legacy.serialization (Keras 2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgec.errors import ModelError

MAX_DEPTH = 200
"""Deepest nesting of a configuration that is read."""
MAX_SHOWN = 5
"""Most findings that a message lists."""

_BUILTIN_MODULES = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras", "keras_core")
_CODE_CLASSES = {"__lambda__": "Python bytecode", "Lambda": "a Python function (Lambda)"}
_BYTECODE = re.compile(r"(?:4[w-z]|Y[w-z])[A-Za-z0-9+/\s]{60,}={0,2}\s*$")
"""Base64 of what ``marshal`` writes for a code object: its first byte is 0x63, or 0xE3 with the flag for references."""
_NOT_LOADED = frozenset({"compile_config", "training_config"})
"""Parts of a configuration that serve training; edgec loads models without them."""
_PICKLE_CLASSES = {
    "TorchModuleWrapper": "a pickled torch module",
    "FlaxLayer": "a Python function",
    "JaxLayer": "a Python function",
}
_PATH_CLASSES = {"TFSMLayer": "filepath"}
_VOCABULARY_CLASSES = frozenset("StringLookup IntegerLookup IndexLookup TextVectorization".split())
_SYMBOL_CLASSES = frozenset({"TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty"})
_HARMLESS_SYMBOLS = (
    "math.", "nn.", "linalg.", "image.", "signal.", "bitwise.", "quantization.", "random.", "strings.", "sparse.",
    "sets.", "dtypes.", "ragged.", "audio.", "__operators__.", "keras.backend.", "keras.activations.",
    "compat.v1.nn.", "compat.v1.math.", "compat.v1.image.",
)  # fmt: skip
"""Parts of TensorFlow whose functions compute and do nothing else."""
_HARMFUL_SYMBOLS = frozenset("py_function numpy_function load_library load_op_library print".split())
"""Functions at TensorFlow's top level that do something else."""


@dataclass(frozen=True)
class Finding:
    """Something that loading the model would run: the layer's name, and what it is."""

    layer: str
    what: str

    def __str__(self) -> str:
        return f"layer '{self.layer}' holds {self.what}" if self.layer else f"the model holds {self.what}"


def find_code(configuration: Any) -> list[Finding]:
    """Everything in a Keras configuration (as parsed from JSON) that would run code or reach for files.

    Raises:
        ModelError: EDG112 for a configuration that is nested too deeply.
    """
    found = list(dict.fromkeys(_walk(configuration, "", 0)))
    bytecode = {item.layer for item in found if item.what == _CODE_CLASSES["__lambda__"]}
    return [item for item in found if not (item.what == _CODE_CLASSES["Lambda"] and item.layer in bytecode)]


def refuse_code(name: str, findings: Sequence[Finding | str]) -> ModelError:
    """The error that says what would run."""
    listed = "; ".join(str(item) for item in findings[:MAX_SHOWN])
    if len(findings) > MAX_SHOWN:
        listed += f"; and {len(findings) - MAX_SHOWN} more"
    return ModelError(
        "EDG115",
        f"'{name}' would run code that it brings along",
        why=listed,
        help="save the model without it, or give --trust if you trust its author as you would trust a program",
        details={"code": [str(item) for item in findings]},
    )


def _walk(value: Any, layer: str, depth: int) -> Iterator[Finding]:
    if depth > MAX_DEPTH:
        raise ModelError("EDG112", f"the model's configuration is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        name = _layer_name(value) or layer
        yield from _judge(value, name)
        for key, item in value.items():
            if key not in _NOT_LOADED:
                yield from _walk(item, name, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, layer, depth + 1)
    elif isinstance(value, str) and _BYTECODE.match(value):
        yield Finding(layer, _CODE_CLASSES["__lambda__"])


def _layer_name(value: Mapping[str, Any]) -> str:
    config = value.get("config")
    found = config.get("name") if isinstance(config, Mapping) else None
    return found if isinstance(found, str) and "class_name" in value else ""


def _judge(value: Mapping[str, Any], layer: str) -> Iterator[Finding]:
    kind = value.get("class_name")
    if not isinstance(kind, str):
        return
    module = value.get("module")
    config = value.get("config")
    plain = kind.rpartition(">")[2]
    if kind in _CODE_CLASSES:
        yield Finding(layer, _CODE_CLASSES[kind])
    elif plain in _PICKLE_CLASSES:
        yield Finding(layer, f"{_PICKLE_CLASSES[plain]} ({plain})")
    elif plain in _PATH_CLASSES:
        path = config.get(_PATH_CLASSES[plain]) if isinstance(config, Mapping) else None
        yield Finding(layer, f"a path to another model, '{path}' ({plain})")
    elif plain in _SYMBOL_CLASSES:
        yield from _symbol(config, plain, layer)
    elif plain in _VOCABULARY_CLASSES and isinstance(config, Mapping) and isinstance(config.get("vocabulary"), str):
        yield Finding(layer, f"the path of a file to read, '{config['vocabulary']}' ({plain})")
    if isinstance(module, str) and not _is_builtin(module) and isinstance(config, Mapping | str | type(None)):
        what = "function" if kind == "function" else "object"
        subject = config if kind == "function" and isinstance(config, str) else kind
        yield Finding(layer, f"the custom {what} '{subject}' of the Python module '{module}'")
    elif ">" in kind or (kind == "function" and not isinstance(module, str)):
        yield Finding(layer, f"the custom object '{config if kind == 'function' else kind}'")
    registered = value.get("registered_name")
    is_own = not isinstance(module, str) or _is_builtin(module)
    if is_own and isinstance(registered, str) and ">" in registered:
        yield Finding(layer, f"the custom object '{registered}'")


def _symbol(config: Any, kind: str, layer: str) -> Iterator[Finding]:
    """A layer that calls a function of TensorFlow by its name."""
    symbol = config.get("function") if isinstance(config, Mapping) else None
    if kind != "TFOpLambda":
        symbol = None if kind == "SlicingOpLambda" else symbol or config
        if symbol is None:
            return
    if not isinstance(symbol, str):
        yield Finding(layer, f"a call of unknown origin ({kind})")
        return
    harmless = symbol.startswith(_HARMLESS_SYMBOLS) if "." in symbol else symbol not in _HARMFUL_SYMBOLS
    if not harmless:
        yield Finding(layer, f"a call of TensorFlow's '{symbol}' ({kind})")


def _is_builtin(module: str) -> bool:
    return any(module == known or module.startswith(known + ".") for known in _BUILTIN_MODULES)
