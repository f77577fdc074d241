"""A compiled model on an Edge TPU: LiteRT with the delegate of ``libedgetpu``."""

from __future__ import annotations

from pathlib import Path

from ai_edge_litert.interpreter import Interpreter, load_delegate

from edgec.errors import EdgecError, VerificationError
from edgec.targets.edgetpu.devices import probe
from edgec.targets.tflite.session import LiteRTSession


class EdgeTPUSession(LiteRTSession):
    """See :class:`edgec.runtime.session.Session`; inputs and outputs are the integers of the model."""


def open_session(path: str | Path, *, threads: int = 1, device: str = "", library: str | None = None) -> EdgeTPUSession:
    """Load a compiled model onto an Edge TPU.

    Args:
        threads: for what was left to the CPU.
        device: ``usb``, ``pci``, ``usb:N``, ``pci:N`` or ``:N``; any Edge TPU by default.
        library: the runtime library, where it is not the system's.

    Raises:
        EdgecError: EDG520 the library is missing or is none, EDG521 no device answers, or not the one that was asked
            for, EDG512 the library is older than the model needs.
        VerificationError: EDG302 LiteRT refuses the file.
    """
    found = probe(library)
    if not found.version:
        raise EdgecError(
            "EDG520", f"'{found.library}' cannot be used", where=str(path), why=found.problem, help=found.help
        )
    if not found.devices:
        raise EdgecError("EDG521", "no Edge TPU answers", where=str(path), why=found.version, help=found.help)
    try:
        delegate = load_delegate(found.library, {"device": device} if device else {})
    except (ValueError, OSError) as error:
        seen = ", ".join(f"{item.kind} {item.path}" for item in found.devices)
        raise EdgecError(
            "EDG521",
            f"the Edge TPU {device or 'that is there'} cannot be opened",
            where=str(path),
            why=f"{str(error).strip()}; devices: {seen}",
            help="end the program that holds it, or choose another: usb:0, pci:0",
        ) from error
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads, experimental_delegates=[delegate])
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise refused(path, str(error).strip()) from error
    return EdgeTPUSession(interpreter)


def refused(path: str | Path, message: str) -> EdgecError:
    """The error for what LiteRT says of a compiled model.

    Source of the texts: libedgetpu's driver (package verification), and LiteRT without the delegate.
    """
    if "requires runtime version" in message:
        return EdgecError(
            "EDG512",
            "libedgetpu is older than the model needs",
            where=str(path),
            why=message,
            help="update libedgetpu, or compile with --option min-runtime-version=13",
        )
    if "edgetpu-custom-op" in message and "unresolved" in message.lower():
        return EdgecError(
            "EDG520",
            "the Edge TPU's delegate did not take the model",
            where=str(path),
            why=message,
            help="install the libedgetpu that belongs to this version of LiteRT",
        )
    return VerificationError("EDG302", "LiteRT cannot load the compiled model", where=str(path), why=message)
