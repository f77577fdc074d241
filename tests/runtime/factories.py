"""Session factories that misbehave, for the tests of isolation.  They run in a worker process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgec.errors import UnsupportedError
from edgec.ir.types import Array
from edgec.runtime.session import TensorSpec


class Misbehaving:
    """Does to its input what the name given as `path` says."""

    def __init__(self, behaviour: str) -> None:
        self.behaviour = behaviour
        self.inputs = (TensorSpec("x", np.dtype(np.float32), (None, 2)),)
        self.outputs = (TensorSpec("y", np.dtype(np.float32), ("n", 2)),)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        match self.behaviour:
            case "abort":
                sys.stderr.write("the sky is falling\n")
                sys.stderr.flush()
                os.abort()
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hang":
                time.sleep(60)
            case "exhaust":
                return {"y": np.ones((1 << 40,), np.uint8)}
            case "chatter":
                os.write(1, b"printed on standard output\n")
            case "fail":
                raise RuntimeError("shapes are wrong")
            case "identify":
                return {"pid": np.array(os.getpid()), "parent": np.array(os.getppid())}
            case "shared":
                return {"pid": np.array(os.getpid()), "parent": np.array(os.getppid()), "by": np.array(shared_by)}
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "leave":
                os._exit(0)
            case "leave-with-7":
                os._exit(7)
            case "complain":
                sys.stderr.write("I do not like it\n")
                sys.stderr.flush()
            case "grandchild":
                child = subprocess.Popen(["sleep", "60"])
                return {"pid": np.array(child.pid)}
        return dict(feeds)

    def close(self) -> None:
        pass


shared_by: list[int] = []
"""The processes that have done what sessions share: this one, and those that it was forked from."""


def share() -> None:
    shared_by.append(os.getpid())


def share_and_fail() -> None:
    raise ImportError("there is no such runtime")


def share_and_start_a_thread() -> None:
    share()
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


def open_session(path: str, *, refuse: bool = False) -> Misbehaving:
    behaviour = Path(path).name
    if behaviour == "abort-at-load":
        os.abort()
    if refuse:
        raise UnsupportedError("EDG204", "not that kind")
    return Misbehaving(behaviour)


class Sleeper:
    """Sleeps as many milliseconds as its name says: a number, or ``restless`` (from 2 to 30 and back)."""

    def __init__(self, behaviour: str) -> None:
        self.behaviour = behaviour
        self.runs = 0
        self.inputs = (TensorSpec("x", np.dtype(np.float32), (None, 2)),)
        self.outputs = (TensorSpec("y", np.dtype(np.float32), ("n", 2)),)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.runs += 1
        match self.behaviour:
            case "restless":
                milliseconds = 30 if self.runs // 8 % 2 else 2
            case _:
                milliseconds = float(self.behaviour)
        time.sleep(milliseconds / 1000)
        return {"y": np.zeros(2, np.float32)}

    def close(self) -> None:
        pass


def open_sleeper(path: str) -> Sleeper:
    return Sleeper(Path(path).name)


class Hoarder(Sleeper):
    """Holds as many bytes as its name says."""

    def __init__(self, size: int) -> None:
        super().__init__("1")
        self.held = np.ones(size, np.uint8)


def open_hoarder(path: str) -> Hoarder:
    return Hoarder(int(Path(path).name))
