"""The child process that runs sessions for :mod:`edgec.runtime.isolation`.

Started as ``python -P worker.py SETTINGS``, or forked (:mod:`edgec.runtime.spare`) and given SETTINGS as the first
message, a JSON object with ``path`` (the parent's ``sys.path``)
``memory_limit`` (bytes of address space, or null), ``processors`` (those to run on, or null) and ``forking``.  Requests
arrive on standard input, replies leave on what was standard output; the descriptor 1 itself is pointed at standard
error, so that a chatty library cannot break the protocol.

With ``forking``, which needs Linux, this process loads no runtime: it forks for every session, and the copy answers
until the session is closed.  So each has a process of its own, but NumPy is imported once.  It does so only if it has a
single thread, because a lock that another one holds would stay locked in the copy; else it hosts sessions itself, and
``forked`` in its reply is false.  What a request names as ``shared`` (``module:function``) it calls before it forks:
the imports of a runtime that takes seconds for them, and starts nothing by them.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import time
from typing import Any

PRELOADED = ("edgec.runtime.memory", "edgec.runtime.specialised", "edgec.targets.base")
"""What sessions of most kinds import and that loads no runtime: imported once, before the first fork."""


def _prepare(settings: dict[str, Any]) -> int:
    """Take the reply channel out of the way, die with the parent, apply the memory limit; returns the channel."""
    channel = os.dup(1)
    os.dup2(2, 1)
    die_with(settings["parent"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited where the program ignores it: copies are waited for
    if settings["memory_limit"]:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = int(settings["memory_limit"])
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    if settings["processors"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, settings["processors"])  # threads that are started later inherit it
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return channel


def die_with(parent: int) -> None:
    """Have the kernel end this process with its parent."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG; a fork does not inherit it
        if os.getppid() != parent:
            os._exit(0)


def has_one_thread() -> bool:
    """Whether this process is known to have a single thread; Linux only, where ``/proc`` tells."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except FileNotFoundError:  # not mounted
        return False


def _fork() -> int | None:
    """Go on as a copy of this process; it writes a byte to the returned descriptor before it ends in order.

    In the process itself this returns None after the copy has ended in order.  If it ended otherwise, this process ends
    in the same way, so that the parent sees how.
    """
    itself = os.getpid()
    ended, ending = os.pipe()
    child = os.fork()
    if not child:
        os.close(ended)
        die_with(itself)
        return ending
    os.close(ending)
    _, status = os.waitpid(child, 0)
    in_order = os.read(ended, 1)
    os.close(ended)
    if in_order:
        return None
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _give_memory_back() -> None:
    """Return what the closed session's allocator kept to the system, so that the next one does not stand on top."""
    import ctypes

    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


def _reader(descriptor: int) -> Any:
    def read(buffer: memoryview) -> None:
        while buffer:
            count = os.readv(descriptor, [buffer])
            if not count:
                os._exit(0)  # the parent is gone or has finished
            buffer = buffer[count:]

    return read


def _writer(descriptor: int) -> Any:
    def write(buffer: memoryview) -> None:
        while buffer:
            try:
                buffer = buffer[os.write(descriptor, buffer) :]
            except BrokenPipeError:
                os._exit(0)

    return write


def _open(factory: str, path: str, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The session, how long loading it took (imports not counted), and the memory held before it, bytes."""
    module, separator, function = factory.partition(":")
    if not separator:
        raise ValueError(f"'{factory}' is not module:function")
    make = getattr(importlib.import_module(module), function)

    from edgec.runtime.resident import reset_peak, resident

    reset_peak()
    before = resident().current
    start = time.perf_counter()
    session = make(path, **options)
    return session, {"load_s": time.perf_counter() - start, "base_bytes": before}


def _share(shared: str) -> str:
    """Do the imports that sessions of one kind have in common, for every copy that is forked from now on."""
    module, _, function = shared.partition(":")
    with contextlib.suppress(Exception):  # the copy meets it again, and reports it
        getattr(importlib.import_module(module), function)()
    gc.freeze()
    return shared


def _describe(error: BaseException) -> dict[str, Any]:
    from edgec.errors import EdgecError

    if isinstance(error, EdgecError):
        described = {"code": error.code, "message": error.message, "where": error.where, "why": error.why}
        return {**described, "help": error.help, "details": json.loads(json.dumps(error.details, default=str))}
    if isinstance(error, MemoryError):
        return {"code": None, "message": "out of memory", "where": None, "why": str(error) or None}
    return {"code": None, "message": str(error) or type(error).__name__, "where": None, "why": type(error).__name__}


def main() -> None:
    """Serve requests until the parent closes the pipe, with the settings of the command line."""
    settings = json.loads(sys.argv[1])
    sys.path[:] = settings["path"]
    serve(settings)


def serve(settings: dict[str, Any] | None = None) -> None:
    """Serve requests until the parent closes the pipe; where there are no settings, they are the first message."""
    from edgec.runtime.framing import dtype_name, receive, send

    if settings is None:
        settings, _ = receive(_reader(0))
        sys.path[:] = settings["path"]
    channel = _prepare(settings)
    gc.set_threshold(50_000, 20, 10)  # what imports make stays
    if settings["forking"]:
        for name in PRELOADED:
            importlib.import_module(name)
        gc.freeze()  # a copy's collections leave what it shares with this process alone
    forking = settings["forking"] and has_one_thread()
    ending: int | None = None
    """Where the copy that was forked for the one session says that it ends in order."""
    shared: str | None = None
    read, write = _reader(0), _writer(channel)
    sessions: dict[int, Any] = {}
    timings: dict[int, Any] = {}

    def specs(items: Any) -> list[dict[str, Any]]:
        return [{"name": item.name, "dtype": dtype_name(item.dtype), "shape": list(item.shape)} for item in items]

    while True:
        request, arrays = receive(read)
        if forking and ending is None and request["call"] == "open" and request["shared"] not in (None, shared):
            shared = _share(request["shared"])
            forking = has_one_thread()
        if forking and ending is None and request["call"] == "open":
            ending = _fork()
            if ending is None:
                continue
        reply: dict[str, Any] = {}
        results: dict[str, Any] = {}
        try:
            number = int(request["session"])
            match request["call"]:
                case "open":
                    session, opening = _open(request["factory"], request["path"], request["options"])
                    sessions[number] = session
                    reply = {"inputs": specs(session.inputs), "outputs": specs(session.outputs), "opening": opening}
                    reply["forked"] = ending is not None
                case "run":
                    results = sessions[number].run(arrays)
                case "assignment":
                    found = sessions[number].assignment() if hasattr(sessions[number], "assignment") else None
                    reply = {"assignment": None if found is None else found.to_json()}
                case "measure":
                    from edgec.runtime.measurement.loop import serve

                    reply, results = serve(request, sessions[number], arrays, timings)
                case "close":
                    session = sessions.pop(number)
                    timings.pop(number, None)
                    if ending is None:  # a copy only has to end
                        session.close()
                        del session
                        _give_memory_back()
        except Exception as error:  # whatever a runtime raises is reported, not fatal
            reply, results = {"error": _describe(error)}, {}
        send(write, reply, results)
        if ending is not None and not sessions:  # closed, or it did not load
            os.write(ending, b".")
            os._exit(0)
        del arrays, results


if __name__ == "__main__":
    main()
