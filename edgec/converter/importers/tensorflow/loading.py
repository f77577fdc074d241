"""Load a model with TensorFlow.  Only child processes of edgec import this module's dependencies.

Whatever the source is, what comes out is one concrete function of TensorFlow, with the names that the source gives to
its inputs and outputs.  The model is judged before it is loaded: code that it brings along is refused unless trusted.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgec.converter.importers.tensorflow.keras_file import (
    HDF5,
    KerasFile,
    is_legacy,
    parse_configuration,
    read_keras_file,
)
from edgec.converter.importers.tensorflow.saved_model import SavedModel, dangers, natural, read_saved_model
from edgec.converter.importers.tensorflow.trust import Finding, find_code, refuse_code
from edgec.errors import EdgecError, ModelError, UnsupportedError, UsageError
from edgec.ir.types import Array, Dim


@dataclass(frozen=True)
class Port:
    """An input or output: the source's name, TensorFlow's tensor name, dtype (NumPy's name) and shape."""

    name: str
    tensor: str
    dtype: str
    shape: tuple[Dim, ...] | None


@dataclass
class LoadedModel:
    """A model in TensorFlow.

    Attributes:
        function: the concrete function; its positional arguments are ``inputs`` in order.
        inputs, outputs: in the order of the source.
        owner: keeps the variables alive.
        signature: the name of the signature it is, empty for Keras models.
        by_name: whether the function takes its inputs by name.
        keys: where each output is in what the function returns.
        keras: the Keras version that loaded it, empty if none did.
        batch_first: whether an unknown first extent is known to be the batch.
    """

    function: Any
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    owner: Any
    signature: str = ""
    by_name: bool = False
    keys: tuple[str, ...] = ()
    keras: str = ""
    batch_first: bool = False
    notes: list[str] = field(default_factory=list)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name."""
        import tensorflow as tf

        tensors = {port.name: tf.constant(feeds[port.name], dtype=port.dtype) for port in self.inputs}
        results = self.function(**tensors) if self.by_name else self.function(*tensors.values())
        return {port.name: results[key].numpy() for port, key in zip(self.outputs, self.keys)}


def prepare_environment() -> None:
    """Keep TensorFlow quiet and off the GPU, and Keras out of the user's home; call it before they are imported."""
    os.environ.update(
        TF_CPP_MIN_LOG_LEVEL="3",
        CUDA_VISIBLE_DEVICES="-1",
        KERAS_BACKEND="tensorflow",
        KERAS_HOME=os.devnull,
        TF_ENABLE_ONEDNN_OPTS=os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
    )


def load_model(path: Path, signature: str | None = None, trust: bool = False) -> LoadedModel:
    """Load a SavedModel folder, a .keras archive or an .h5 file.

    Raises:
        ModelError: EDG115 for code that is not trusted, EDG116 for what TensorFlow does not load, and others.
        UsageError: EDG016.
        UnsupportedError: EDG201 for layers that Keras does not know.
        ImportError: a package is missing.
    """
    prepare_environment()
    if path.is_dir():
        return _load_saved_model(path, read_saved_model(path), signature, trust)
    if signature not in (None, "serving_default"):
        raise UsageError("EDG016", f"a Keras file has no signatures, so none is called '{signature}'")
    return _load_keras(path, read_keras_file(path), trust)


# SavedModel


def _load_saved_model(path: Path, outline: SavedModel, signature: str | None, trust: bool) -> LoadedModel:
    chosen = outline.choose(signature)
    if outline.dangers and not trust:
        raise refuse_code(path.name, dangers(outline))
    import tensorflow as tf

    tags = list(outline.tags) or None
    notes: list[str] = []

    def load() -> Any:
        return tf.saved_model.load(os.fspath(path), tags=tags)

    try:
        owner = load()
    except (ValueError, TypeError, AttributeError, KeyError, OSError, tf.errors.OpError) as first:
        try:  # models that Keras 2 wrote need its classes, some of them at least
            os.environ["TF_USE_LEGACY_KERAS"] = "1"
            import tf_keras  # noqa: F401

            owner = load()
            notes.append("the SavedModel was loaded with Keras 2 (tf_keras)")
        except (ImportError, ValueError, TypeError, AttributeError, KeyError, OSError, tf.errors.OpError):
            raise _refused(path, first) from first
    return _from_signature(path, owner, chosen, notes)


def _from_signature(path: Path, owner: Any, chosen: str, notes: list[str]) -> LoadedModel:
    function = owner.signatures[chosen]
    outputs = function.structured_outputs
    if not isinstance(outputs, dict):
        raise ModelError("EDG116", f"the signature '{chosen}' returns no named outputs", where=str(path))
    names = sorted(function.structured_input_signature[1])
    keys = sorted(outputs)  # TensorFlow flattens dictionaries in the order of their keys
    inputs = [_port(name, tensor) for name, tensor in zip(names, _free_inputs(function), strict=True)]
    found = [_port(key, tensor) for key, tensor in zip(keys, function.outputs, strict=True)]
    found.sort(key=lambda port: natural(port.name))
    ordered = tuple(sorted(inputs, key=lambda port: natural(port.name)))
    keys = [port.name for port in found]
    return LoadedModel(function, ordered, tuple(found), owner, chosen, True, tuple(keys), notes=notes)


def _free_inputs(function: Any) -> list[Any]:
    """The inputs that are no captured variables or tables."""
    captured = {id(placeholder) for _, placeholder in function.graph.captures}
    return [tensor for tensor in function.inputs if id(tensor) not in captured]


def _port(name: str, tensor: Any) -> Port:
    shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    return Port(name, tensor.name, tensor.dtype.name, shape)


# Keras


def _load_keras(path: Path, file: KerasFile, trust: bool) -> LoadedModel:
    version, configuration = file.version, file.configuration
    if file.kind == HDF5:
        version, configuration = read_hdf5(path)
    assert configuration is not None
    findings = find_code(configuration)
    if findings and not trust:
        raise refuse_code(path.name, findings)
    if is_legacy(version):
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        import tf_keras as keras

        settings: dict[str, Any] = {"safe_mode": not trust} if file.kind != HDF5 else {}
    else:
        import keras

        settings = {"safe_mode": not trust}
    with tempfile.TemporaryDirectory() as folder:
        source = path
        suffix = ".h5" if file.kind == HDF5 else ".keras"
        if path.suffix != suffix:  # Keras goes by the name, not by the contents
            source = Path(folder, "model" + suffix)
            source.symlink_to(path.resolve())
        model = _call_keras(path, findings, lambda: keras.models.load_model(source, compile=False, **settings))
    loaded = _from_keras(model, is_legacy(version))
    loaded.keras = str(keras.__version__)
    return loaded


def _call_keras(path: Path, findings: Sequence[Finding], load: Callable[[], Any]) -> Any:
    import tensorflow as tf

    try:
        return load()
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OSError, tf.errors.OpError) as error:
        text = str(error)
        unknown = re.search(r"(Unknown (layer|object)|Could not locate (class|function|object))[^.\n]*", text)
        if unknown:
            raise UnsupportedError(
                "EDG201",
                f"'{path.name}' has a layer or function that Keras does not know",
                where=str(path),
                why=unknown.group(0)[:300],
                help="save the model as a SavedModel where its code is at hand: model.export(FOLDER)",
            ) from error
        if findings:
            raise refuse_code(path.name, findings) from error
        raise _refused(path, error) from error


def _from_keras(model: Any, legacy: bool) -> LoadedModel:
    """The function that a Keras model computes in inference, with the names of its input and output layers."""
    import tensorflow as tf

    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise UnsupportedError(
            "EDG204",
            "the Keras model does not say what its inputs are",
            why="it is a subclass of keras.Model and was never called",
            help="export it as a SavedModel with a signature",
        )
    inner = getattr(model, "_functional", None) or model  # what a Sequential model of Keras 3 is made of
    histories = [getattr(tensor, "node" if legacy else "_keras_history") for tensor in inputs]
    layers = [history.layer if legacy else history.operation for history in histories]
    names = _unique([layer.name for layer in layers])
    output_names = _unique(list(getattr(inner, "output_names", None) or []))
    structure = model._nested_inputs if legacy and hasattr(model, "_nested_inputs") else None
    if not legacy:
        structure = getattr(model, "_inputs_struct", None)
    if legacy:
        pack, flatten = tf.nest.pack_sequence_as, tf.nest.flatten
    else:
        import keras

        pack, flatten = keras.tree.pack_sequence_as, keras.tree.flatten

    def serve(*tensors: Any) -> dict[str, Any]:
        arguments = tensors[0] if structure is None and len(tensors) == 1 else list(tensors)
        packed = arguments if structure is None else pack(structure, list(tensors))
        results = flatten(model(packed, training=False))
        return {f"{index:06d}": tf.identity(result) for index, result in enumerate(results)}

    specs = [tf.TensorSpec(tensor.shape, tensor.dtype, name=f"input_{i}") for i, tensor in enumerate(inputs)]
    function = tf.function(serve, input_signature=specs, autograph=False).get_concrete_function()
    keys = sorted(function.structured_outputs)
    if len(output_names) != len(keys):
        output_names = [f"output_{index}" for index in range(len(keys))]
    taken = tuple(_port(name, tensor) for name, tensor in zip(names, _free_inputs(function), strict=True))
    given = tuple(_port(name, tensor) for name, tensor in zip(output_names, function.outputs, strict=True))
    return LoadedModel(function, taken, given, model, keys=tuple(keys), batch_first=True)


def _unique(names: Sequence[str]) -> list[str]:
    """The names, those that occur again numbered."""
    found: list[str] = []
    for name in names:
        candidate, number = name, 0
        while candidate in found:
            number += 1
            candidate = f"{name}_{number}"
        found.append(candidate)
    return found


def read_hdf5(path: Path) -> tuple[str, dict[str, Any]]:
    """The Keras version and the configuration of an .h5 file; h5py reads it, nothing of it is executed.

    Raises:
        ModelError: EDG116 for a damaged file or one without a model, EDG117 for one that points to other files.
        ImportError: h5py is missing.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            _check_hdf5(path, file)
            text = file.attrs.get("model_config")
            version = file.attrs.get("keras_version", "2")
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ModelError(
            "EDG116", f"'{path.name}' is a damaged HDF5 file", where=str(path), why=str(error)[:300]
        ) from error
    if text is None:
        raise ModelError(
            "EDG116",
            f"'{path.name}' holds no model",
            where=str(path),
            why="it has no model_config: these are only weights",
            help="save the whole model: model.save(PATH)",
        )
    if isinstance(version, bytes):
        version = version.decode("utf-8", "replace")
    return str(version), parse_configuration(path, text)


def _check_hdf5(path: Path, file: Any) -> None:
    """Refuse what makes HDF5 read other files: external links, external storage and virtual datasets."""
    import h5py

    groups, seen = [file], {file.id.__hash__()}
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ModelError("EDG117", f"'{path.name}' links to the file '{link.filename}'", where=str(path))
            if isinstance(link, h5py.SoftLink):
                continue
            item = group[name]
            if isinstance(item, h5py.Group):
                if item.id.__hash__() not in seen:
                    seen.add(item.id.__hash__())
                    groups.append(item)
            elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise ModelError("EDG117", f"'{path.name}' keeps '{name}' in another file", where=str(path))


def _refused(path: Path, error: Exception) -> EdgecError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return ModelError(
        "EDG116",
        f"TensorFlow does not load '{path.name}'",
        where=str(path),
        why=f"{type(error).__name__}: {' '.join(lines)[:500]}",
    )
