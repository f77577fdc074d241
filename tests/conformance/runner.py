"""Run many cases, each in its own forked process with a time and a memory limit, and collect the outcomes.

The parent imports everything once and then only forks, so a case costs milliseconds, and a crash of the runtime, a hang
or a memory blow-up takes nothing but its own case down.  POSIX only.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import resource
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import onnx
import onnx.parser

from edgec.targets import registry

from .cases import Case
from .judge import Compiler, Edgec, Outcome, judge

TIME_LIMIT_SECONDS: Final = 60.0
MEMORY_LIMIT_BYTES: Final = 6 << 30  # of data segments; ONNX Runtime and LiteRT stay below 1 GiB on these tests


@dataclass
class _Child:
    case: Case
    process: int
    pipe: int
    folder: Path
    started: float
    received: bytearray = field(default_factory=bytearray)


def run_cases(
    cases: Iterable[Case],
    compiler: Compiler,
    *,
    jobs: int = 2,
    with_data: bool = True,
    progress: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """The outcome of every case, in the order of `cases`; `progress` sees each as it ends."""
    warm_up(compiler)
    gc.freeze()  # a child's collector would copy every page that it looks at
    waiting = iter(cases)
    order: list[str] = []
    outcomes: dict[str, Outcome] = {}
    running: dict[int, _Child] = {}
    with selectors.DefaultSelector() as selector, tempfile.TemporaryDirectory(prefix="conformance-") as root:
        try:
            while True:
                for case in _take(waiting, jobs - len(running)):
                    child = _start(case, compiler, Path(root), with_data)
                    order.append(case.key)
                    running[child.pipe] = child
                    selector.register(child.pipe, selectors.EVENT_READ)
                if not running:
                    break
                for key, _ in selector.select(timeout=1.0):
                    child = running[key.fd]
                    chunk = os.read(child.pipe, 1 << 16)
                    child.received += chunk
                    if not chunk:
                        selector.unregister(child.pipe)
                        outcome = outcomes[child.case.key] = _finish(running.pop(child.pipe))
                        if progress:
                            progress(outcome)
                for child in running.values():
                    if time.monotonic() - child.started > TIME_LIMIT_SECONDS:
                        os.kill(child.process, signal.SIGKILL)  # its pipe closes, and the loop above collects it
        finally:
            for child in running.values():
                os.kill(child.process, signal.SIGKILL)
                os.waitpid(child.process, 0)
            gc.unfreeze()
    return [outcomes[key] for key in order]


def warm_up(compiler: Compiler) -> None:
    """Do in the parent what every child would otherwise do again: imports, and what the first check of a process fills.

    No model is loaded into a runtime here: its threads would be missing in the children.
    """
    names = ["onnx.reference", "onnx.shape_inference", "onnxruntime", "ai_edge_litert.interpreter"]
    if isinstance(compiler, Edgec):
        registry.load(compiler.target)
        for name in ("converter", "execution", "ir", "runtime", f"targets.{compiler.target}"):
            names += _modules(f"edgec.{name}")
    for name in names:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]>' + _SMALL), path)
        compiler.check(path, {})


_SMALL: Final = "small (float[1, 2] x) => (float[1, 2] y) { y = Relu(x) }"


def _modules(package: str) -> list[str]:
    """A package's modules, less those that belong to another framework."""
    path = importlib.import_module(package).__path__
    found = [module.name for module in pkgutil.walk_packages(path, f"{package}.")]
    return [name for name in found if "tensorflow" not in name and not name.endswith("__main__")]


def _take(waiting: Iterator[Case], count: int) -> Iterator[Case]:
    for _ in range(count):
        case = next(waiting, None)
        if case is None:
            return
        yield case


def _start(case: Case, compiler: Compiler, root: Path, with_data: bool) -> _Child:
    folder = Path(tempfile.mkdtemp(dir=root))
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _child(case, compiler, folder, with_data, writing)
    os.close(writing)
    return _Child(case, process, reading, folder, time.monotonic())


def _child(case: Case, compiler: Compiler, folder: Path, with_data: bool, writing: int) -> None:
    """The forked process: judge, report, and leave without running anybody's exit handlers."""
    status = 1
    try:
        faulthandler.disable()  # a test runner's would write a crash that is a finding into its own log
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        log = os.open(folder / "log", os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        with os.fdopen(writing, "w") as pipe:

            def tell(**line: object) -> None:
                _write_line(pipe, line)

            try:
                outcome = judge(case, compiler, folder, with_data=with_data, stage=lambda name: tell(stage=name))
                tell(outcome=outcome.to_json())
                status = 0
            except Exception as error:  # whatever it is, it is the finding
                where = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{Path(where.filename).name}:{where.lineno}"
                tell(error=f"{type(error).__name__} at {place}: {error}")
    finally:
        os._exit(status)


def _write_line(pipe: IO[str], line: dict[str, object]) -> None:
    pipe.write(json.dumps(line) + "\n")
    pipe.flush()


def _finish(child: _Child) -> Outcome:
    """Reap the process and read its lines; a missing last line means that it died at the last stage it named."""
    os.close(child.pipe)
    _, status = os.waitpid(child.process, 0)
    seconds = time.monotonic() - child.started
    stage, error = "start", ""
    result: Outcome | None = None
    for text in child.received.decode(errors="replace").splitlines():
        line = json.loads(text)
        stage = line.get("stage", stage)
        error = line.get("error", error)
        if "outcome" in line:
            result = Outcome(**line["outcome"])
    if result is None:
        if seconds > TIME_LIMIT_SECONDS:
            error = f"time limit of {TIME_LIMIT_SECONDS:.0f} s"
        elif os.WIFSIGNALED(status):
            error = f"{signal.Signals(os.WTERMSIG(status)).name}: {_last_line(child.folder / 'log')}"
        outcome = "reference" if stage == "reference" else "crash"
        result = Outcome(
            child.case.key, outcome, message=f"{stage}: {error}", reference=error if stage == "reference" else None
        )
    result.stage, result.seconds = stage, round(seconds, 3)
    shutil.rmtree(child.folder, ignore_errors=True)
    return result


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""
