"""External delegates: shared libraries that take operators of a .tflite model onto a device.

A delegate is a library with the functions ``tflite_plugin_create_delegate`` and ``tflite_plugin_destroy_delegate``,
such as Arm NN's ``libarmnnDelegate.so`` for Mali GPUs.
Source: ``tensorflow/lite/delegates/external/external_delegate_interface.h``.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ai_edge_litert.interpreter import load_delegate

from edgec.errors import EdgecError
from edgec.runtime.session import Assignment
from edgec.targets.tflite.options import DelegateOption

FUNCTIONS: Final = ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate")

DELEGATE: Final = "DELEGATE"
LOADED: Final = 1
"""``PT_LOAD``: a part of a library that is mapped into memory."""


def load(wanted: DelegateOption) -> Any:
    """The delegate of a library.

    Raises:
        EdgecError: EDG520, the library is missing, is damaged, is no delegate, or refuses its options.
    """
    library = wanted.library
    if os.sep in library and not os.path.isfile(library):
        raise EdgecError("EDG520", f"the delegate '{library}' is not there", help="check the path after --delegate")
    if os.path.isfile(library) and is_cut_off(Path(library)):
        raise EdgecError("EDG520", f"the delegate '{library}' is cut off", help="copy the library again")
    try:
        functions = ctypes.CDLL(library)
        for name in FUNCTIONS:  # before LiteRT tries, which prints a traceback of its own
            getattr(functions, name)
        return load_delegate(library, dict(wanted.options))
    except OSError as error:
        message = str(error).strip()
        missing = "No such file" in message and os.sep not in library
        problem = "is not on the loader's path" if missing else "cannot be loaded"
        raise EdgecError(
            "EDG520",
            f"the delegate '{library}' {problem}",
            why=message,
            help="give the whole path, or a library built for this machine",
        ) from error
    except AttributeError as error:
        raise EdgecError(
            "EDG520",
            f"'{library}' is a library, but no LiteRT delegate",
            why=str(error).strip(),
            help=f"it needs the functions {' and '.join(FUNCTIONS)}",
        ) from error
    except ValueError as error:
        told = ", ".join(f"{key}={value}" for key, value in wanted.options.items()) or "no options"
        raise EdgecError(
            "EDG520",
            f"the delegate '{library}' refused to start",
            why=str(error).strip(),
            where=f"options: {told}",
            help="its documentation says which options and devices it takes",
        ) from error


def is_cut_off(path: Path) -> bool:
    """Whether a shared library is shorter than what its header says is loaded of it; loading it would end the process.

    Source: elf(5), the program header table of 32- and 64-bit files.
    """
    with path.open("rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF" or len(head) < 52 or head[4] not in (1, 2) or head[5] not in (1, 2):
            return False  # the loader says what is wrong with it
        order, wide = "<" if head[5] == 1 else ">", head[4] == 2
        if wide and len(head) < 64:
            return True
        start = struct.unpack_from(f"{order}Q", head, 32)[0] if wide else struct.unpack_from(f"{order}I", head, 28)[0]
        size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
        file.seek(start)
        table = file.read(size * count)
        length = path.stat().st_size
    if len(table) < size * count or size < (56 if wide else 32):
        return True
    for at in range(0, size * count, size):
        kind = struct.unpack_from(f"{order}I", table, at)[0]
        offset = struct.unpack_from(f"{order}Q" if wide else f"{order}I", table, at + (8 if wide else 4))[0]
        stored = struct.unpack_from(f"{order}Q" if wide else f"{order}I", table, at + (32 if wide else 16))[0]
        if kind == LOADED and offset + stored > length:
            return True
    return False


def assignment(runner: str, operators: Sequence[Mapping[str, Any]]) -> Assignment:
    """Which operators of the main graph the delegates took, from what the interpreter lists after they were applied.

    The interpreter appends a node ``DELEGATE`` for every part of the graph that a delegate took, and keeps the
    operators that it stands for.  Those are the ones between the inputs of that node and its outputs.

    Args:
        operators: ``Interpreter._get_ops_details()``: the file's own operators first, in their order.
    """
    own = [item for item in operators if item["op_name"] != DELEGATE]
    producers = {int(tensor): at for at, item in enumerate(own) for tensor in item["outputs"]}
    taken: set[int] = set()
    for node in operators:
        if node["op_name"] != DELEGATE:
            continue
        border = {int(tensor) for tensor in node["inputs"]}
        open_tensors = [int(tensor) for tensor in node["outputs"]]
        while open_tensors:
            tensor = open_tensors.pop()
            producer = producers.get(tensor)
            if producer is None or producer in taken or tensor in border:
                continue
            taken.add(producer)
            open_tensors += [int(tensor) for tensor in own[producer]["inputs"]]
    left = tuple(f"#{at} {item['op_name']}" for at, item in enumerate(own) if at not in taken)
    return Assignment(runner, len(taken), left, not left)


def left_behind(found: Assignment) -> EdgecError:
    """EDG523 for a model of which a part stays on the CPU."""
    some = ", ".join(found.left[:5]) + (f" and {len(found.left) - 5} more" if len(found.left) > 5 else "")
    return EdgecError(
        "EDG523",
        f"{found.runner} does not take the whole model",
        why=f"left to the CPU: {some}" if found.left else "LiteRT does not tell which operators are left to the CPU",
        help="leave --require-delegate out to run the rest on the CPU",
        details=found.to_json(),
    )
