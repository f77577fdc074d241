"""A compiled model on an Ethos-U: not from here.

The NPU sits beside a Cortex-M, where LiteRT for Microcontrollers runs the model, or behind a vendor's delegate on the
board's own Linux; neither is something that a host opens.
"""

from __future__ import annotations

from pathlib import Path

from edgec.errors import EdgecError
from edgec.runtime.session import Session


def open_session(path: str | Path, *, threads: int = 1) -> Session:
    """Never opens one.

    Raises:
        EdgecError: EDG521.
    """
    raise EdgecError(
        "EDG521",
        "a model for an Ethos-U runs on its board only",
        where=str(path),
        why="this machine has no Ethos-U that edgec can talk to",
        help="run the .tflite that it was made from on this machine: it computes the same integers",
    )
