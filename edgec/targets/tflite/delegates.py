"""External delegates: shared libraries that take operators of a .tflite model onto a device.

A delegate is a library with the functions ``tflite_plugin_create_delegate`` and ``tflite_plugin_destroy_delegate``,
such as Arm NN's ``libarmnnDelegate.so`` for Mali GPUs.
Source: ``tensorflow/lite/delegates/external/external_delegate_interface.h``.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

from ai_edge_litert.interpreter import load_delegate

from edgec.errors import EdgecError
from edgec.targets.tflite.options import DelegateOption

FUNCTIONS: Final = ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate")


def load(wanted: DelegateOption) -> Any:
    """The delegate of a library.

    Raises:
        EdgecError: EDG520, the library is missing, is damaged, is no delegate, or refuses its options.
    """
    library = wanted.library
    if os.sep in library and not os.path.isfile(library):
        raise EdgecError("EDG520", f"the delegate '{library}' is not there", help="check the path after --delegate")
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
