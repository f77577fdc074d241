"""The child process that loads a TensorFlow model and writes it as ONNX.

Started as ``python -P -s worker.py REQUEST`` where REQUEST is a JSON file: ``path`` (the parent's ``sys.path``),
``parent`` (its process), ``action`` (``convert`` or ``inspect``), ``source``, ``signature``, ``trust``, ``opset``,
``model`` (the ONNX file to write) and ``result`` (the JSON file to write).  Whatever the libraries print goes to the
standard output; the parent keeps it.  Nothing is said through the exit status but that it ended.  Where the kernel
can, the process gives up writing outside of the folder of the result, and the network, before it looks at the model.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

NO_MEMORY = (
    "bad_alloc",
    "ResourceExhausted",
    "Resource exhausted",
    "RESOURCE_EXHAUSTED",
    "annot allocate memory",
    "failed to map segment",
)


def main() -> None:
    """Answer one request."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    _die_with_parent(int(request["parent"]))
    sys.path[:] = request["path"]
    from edgec.runtime.confine import confine

    confine([Path(request["result"]).parent])
    result = _answer(request)
    written = Path(request["result"])
    partial = written.with_suffix(".partial")
    partial.write_text(json.dumps(result), encoding="utf-8")
    partial.replace(written)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # TensorFlow's own threads may take long to end, or crash


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
        if os.getppid() != parent:
            os._exit(1)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    from edgec.errors import EdgecError

    try:
        return {"status": "ok", **_act(request)}
    except EdgecError as error:
        return {"status": "error", "error": error.to_json()}
    except ModuleNotFoundError as error:
        return {"status": "missing", "package": (error.name or "").partition(".")[0], "message": str(error)}
    except MemoryError as error:
        return {"status": "memory", "message": str(error)}
    except Exception as error:  # the parent reports it with the lines that lead to it
        import traceback

        traceback.print_exc()
        status = "memory" if any(text in str(error) for text in NO_MEMORY) else "failed"
        return {"status": status, "message": f"{type(error).__name__}: {error}"}


def _act(request: dict[str, Any]) -> dict[str, Any]:
    from edgec.converter.importers.tensorflow.loading import load_model, read_hdf5

    source = Path(request["source"])
    if request["action"] == "inspect":
        version, configuration = read_hdf5(source)
        return {"version": version, "configuration": configuration}
    from edgec.converter.importers.tensorflow.exporting import export_onnx

    loaded = load_model(source, request["signature"], bool(request["trust"]))
    export_onnx(loaded, Path(request["model"]), int(request["opset"]))
    import tensorflow
    import tf2onnx

    versions = {"tensorflow": str(tensorflow.__version__), "tf2onnx": str(tf2onnx.__version__)}
    return {
        "versions": {**versions, "keras": loaded.keras} if loaded.keras else versions,
        "signature": loaded.signature,
        "notes": loaded.notes,
    }


if __name__ == "__main__":
    main()
