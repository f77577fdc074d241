"""ONNX Runtime as a session: on the CPU, and on other execution providers where the installed package has them."""

from edgec.runtime.onnxruntime.options import Options
from edgec.runtime.onnxruntime.session import OnnxRuntimeSession, load_model, open_session

__all__ = ["OnnxRuntimeSession", "Options", "load_model", "open_session"]
