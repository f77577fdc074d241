"""Stands for a device: runs the int8 model that lies beside a compiled one in LiteRT on the CPU."""

from __future__ import annotations

from pathlib import Path

from edgec.runtime.session import Session
from edgec.targets.tflite.session import open_session as open_litert


def open_session(path: str | Path, *, threads: int = 1) -> Session:
    artifact = Path(path)
    return open_litert(artifact.with_name(artifact.name.replace("_edgetpu", "")), threads=threads)
