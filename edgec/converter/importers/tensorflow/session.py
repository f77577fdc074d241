"""A model of the TensorFlow family as a session; opened in a worker process, never in edgec's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgec.converter.importers.tensorflow.loading import LoadedModel, Port, load_model, prepare_environment
from edgec.ir.types import Array
from edgec.runtime.session import TensorSpec


class TensorFlowSession:
    """See :class:`edgec.runtime.session.Session`."""

    def __init__(self, model: LoadedModel):
        self._model: LoadedModel | None = model
        self.inputs = tuple(_spec(port) for port in model.inputs)
        self.outputs = tuple(_spec(port) for port in model.outputs)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name."""
        assert self._model is not None
        return {name: np.asarray(array) for name, array in self._model.run(feeds).items()}

    def close(self) -> None:
        """Release the model."""
        self._model = None


def import_tensorflow() -> None:
    """Import TensorFlow, which takes several seconds, and start nothing of it."""
    prepare_environment()
    import tensorflow  # noqa: F401


def open_session(
    path: str | Path, *, signature: str | None = None, trust: bool = False, optimise: bool = True
) -> TensorFlowSession:
    """Load a SavedModel folder, a .keras archive or an .h5 file on the CPU.

    Args:
        optimise: whether TensorFlow's graph optimiser (Grappler) may rewrite the graph.

    Raises:
        EdgecError: see :func:`edgec.converter.importers.tensorflow.loading.load_model`.
    """
    import_tensorflow()
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not optimise})
    return TensorFlowSession(load_model(Path(path), signature, trust))


def _spec(port: Port) -> TensorSpec:
    dtype = np.dtype(object) if port.dtype == "string" else np.dtype(port.dtype)
    return TensorSpec(port.name, dtype, port.shape or ())
