"""The original ``.tflite`` file in LiteRT, for reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgec.converter.importers.tflite.variables import with_explicit_states
from edgec.errors import EdgecError, VerificationError
from edgec.targets.tflite.options import Options
from edgec.targets.tflite.session import LiteRTSession, open_content, open_interpreter


def open_session(
    path: str | Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    states: bool = False,
    xnnpack: bool = True,
    threads: int = 1,
) -> LiteRTSession:
    """Load a file under the names that the importer gave to its inputs and outputs, in the order of its graph.

    Args:
        states: whether variables become inputs and outputs, behind all others.

    Raises:
        VerificationError: EDG302 when LiteRT refuses the file.
    """
    if not states:
        session = open_interpreter(path, Options(threads=threads, xnnpack=xnnpack))
    else:
        try:
            content = with_explicit_states(Path(path).read_bytes())
        except (OSError, ValueError, EdgecError) as error:
            raise VerificationError("EDG302", "the variables cannot be made explicit", why=str(error)) from error
        session = open_content(content, threads=threads, xnnpack=xnnpack)
    session.rename(inputs, outputs)
    return session
