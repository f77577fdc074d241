"""Drive the worker process: what it gets, what it may use, and what its end means."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgec.errors import (
    CODES,
    EXIT_MODEL,
    EXIT_UNSUPPORTED,
    EXIT_USAGE,
    EdgecError,
    ModelError,
    UnsupportedError,
    UsageError,
)
from edgec.runtime.process import Outcome, run_process

WORKER = Path(__file__).with_name("worker.py")
EXTRA = "edgec[tensorflow]"
DEFAULT_TIMEOUT_S = 900.0
"""Longest time that an import may take, seconds."""
MAX_RESULT = 1 << 27
"""Most bytes of the worker's answer that are read."""
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "OMP_NUM_THREADS", "SYSTEMROOT")
CHATTER: Final = re.compile(
    r"WARNING: All log messages before absl|To enable the following instructions"
    r"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] |[IW]\d{4} \d\d:\d\d:|.*Unable to register cu"
)
"""What TensorFlow prints whenever it starts: no reason for anything. It stays in ``details["log"]``."""
EXHAUSTED: Final = ("MemoryError", "bad_alloc", "Cannot allocate memory", "Memory allocation still failed")
"""What Python, C++, the system and OpenBLAS say where memory ran out."""


@dataclass(frozen=True)
class Limits:
    """What the worker may use: seconds, and bytes of address space (None: as much as the machine has memory)."""

    timeout_s: float = DEFAULT_TIMEOUT_S
    memory_bytes: int | None = None


def require_packages(packages: Sequence[str], what: str) -> None:
    """Make sure that packages are installed, without importing them.

    Raises:
        EdgecError: EDG013 naming the extra.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise missing(package, what)


def missing(package: str, what: str) -> EdgecError:
    """The error for a package that is not installed."""
    return EdgecError(
        "EDG013",
        f"{what} needs the extra [tensorflow]",
        why=f"the package '{package}' is not installed",
        help=f"pip install '{EXTRA}'",
        details={"extra": "tensorflow", "package": package},
    )


def plan(request: Path) -> list[str]:
    """The command line of the worker: this Python, without user packages and without the current folder."""
    return [sys.executable, "-P", "-s", str(WORKER), str(request)]


def environment(folder: Path) -> dict[str, str]:
    """All environment variables that the worker gets: nothing of the user's that it does not need."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {
        **inherited,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONHASHSEED": "0",  # tf2onnx walks sets: the same model gives the same bytes
        "PYTHONDONTWRITEBYTECODE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
    }


def run_worker(
    folder: Path, name: str, request: dict[str, Any], limits: Limits, log: Path | None = None
) -> dict[str, Any]:
    """Let the worker answer a request.

    Args:
        folder: an empty temporary folder, its own.
        name: of the source, for messages.
        log: a file that receives what the worker and its libraries print.

    Raises:
        EdgecError: what the worker reports; EDG013 for a missing package; EDG501 (failed), EDG502 (took too long),
            EDG503 (killed, out of memory), EDG504 (left no result), with the output in ``details["log"]``.
    """
    result = folder / "result.json"
    document = {**request, "path": [entry or os.getcwd() for entry in sys.path], "parent": os.getpid()}
    asked = folder / "request.json"
    asked.write_text(json.dumps({**document, "result": str(result)}), encoding="utf-8")
    scratch = folder / "scratch"
    scratch.mkdir()
    memory = _physical_memory() if limits.memory_bytes is None else limits.memory_bytes
    try:
        outcome = run_process(
            plan(asked),
            folder=scratch,
            environment=environment(scratch),
            timeout_s=limits.timeout_s,
            memory_limit=memory,
        )
    except OSError as error:
        raise EdgecError("EDG501", "cannot start the process for TensorFlow", why=str(error)) from error
    if log is not None:
        log.write_text(outcome.output, encoding="utf-8")
    answer = _judge(outcome, result, name, limits, memory)
    status = answer.get("status")
    if status == "ok":
        return answer
    if status == "error":
        raise _reported(answer.get("error"), outcome)
    message = str(answer.get("message", ""))[:500]
    if status == "missing":
        raise missing(str(answer.get("package") or message), f"'{name}'")
    if status == "memory":
        raise _out_of_memory(outcome, memory, message)
    raise _failure("EDG501", f"TensorFlow failed on '{name}'", outcome, message)


def _judge(outcome: Outcome, result: Path, name: str, limits: Limits, memory: int | None) -> dict[str, Any]:
    """The worker's answer, if its end deserves that one looks for it."""
    if outcome.timed_out:
        raise _failure(
            "EDG502",
            f"importing '{name}' took longer than {limits.timeout_s:g} s and was stopped",
            outcome,
            help="--timeout SECONDS of edgec import, or a smaller model",
        )
    if outcome.signal is not None:
        if "bad_alloc" in outcome.output or outcome.signal == "SIGKILL":
            raise _out_of_memory(outcome, memory)
        raise _failure("EDG503", f"TensorFlow was ended by {outcome.signal} on '{name}'", outcome)
    if outcome.status != 0:
        if any(text in outcome.output for text in EXHAUSTED):
            raise _out_of_memory(outcome, memory)
        raise _failure("EDG501", f"TensorFlow ended with status {outcome.status} on '{name}'", outcome)
    try:
        if result.stat().st_size > MAX_RESULT:
            raise ValueError("the answer is too long")
        answer = json.loads(result.read_text(encoding="utf-8"))
        if not isinstance(answer, dict):
            raise ValueError("the answer is no object")
    except (OSError, ValueError, RecursionError) as error:
        why = "it wrote no answer" if isinstance(error, FileNotFoundError) else f"its answer is no JSON: {error}"
        raise _failure("EDG504", f"the process for '{name}' ended without a result", outcome, why) from error
    return answer


def _failure(code: str, message: str, outcome: Outcome, why: str = "", help: str | None = None) -> EdgecError:
    lines = outcome.last_lines
    telling = [line for line in lines if not CHATTER.match(line)]
    return EdgecError(
        code,
        message,
        why=why or " / ".join(telling[-3:]) or None,
        help=help or "--json shows all that it printed",
        details={"lines": lines, "log": outcome.output, "seconds": round(outcome.seconds, 1)},
    )


def _out_of_memory(outcome: Outcome, memory: int | None, why: str = "") -> EdgecError:
    limit = "" if memory is None else f" (limit: {memory / 2**30:.1f} GiB)"
    cause = "was killed, usually because memory ran out" if outcome.signal == "SIGKILL" else "ran out of memory"
    help = "a larger --memory-limit of edgec import, or a machine with more memory"
    return _failure("EDG503", f"TensorFlow {cause}{limit}", outcome, why, help)


def _reported(entry: Any, outcome: Outcome) -> EdgecError:
    """The error that the worker raised; it may only say what edgec itself could have said."""
    if not isinstance(entry, dict) or entry.get("code") not in CODES:
        return _failure("EDG504", "the process for TensorFlow answered nonsense", outcome)
    kinds: dict[int, type[EdgecError]] = {
        EXIT_MODEL: ModelError,
        EXIT_UNSUPPORTED: UnsupportedError,
        EXIT_USAGE: UsageError,
    }
    code = str(entry["code"])
    details = entry.get("details")
    where, why, help = (None if entry.get(key) is None else str(entry[key]) for key in ("where", "why", "help"))
    error = kinds.get(CODES[code].exit, EdgecError)(
        code, str(entry.get("message", "")), where, why, help, dict(details) if isinstance(details, dict) else {}
    )
    if code.startswith("EDG5"):
        error.details["log"] = outcome.output
    return error


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that is removed with all that is in it, whatever happens."""
    return tempfile.TemporaryDirectory(prefix="edgec-")
