"""The output folder of a conversion: everything appears in it at once, or not at all.

Files are written into a hidden working folder inside the output folder (so that the final renames stay on one file
system) and moved into place with ``os.replace``.  A lock file held with ``flock`` keeps two runs apart; the kernel
drops the lock with the process, so a stale lock file or working folder of a killed run is no obstacle.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from edgec.errors import EdgecError, UsageError

LOCK: Final = ".edgec.lock"
WORKING: Final = ".edgec-working-"
MANIFEST: Final = "manifest.json"
REJECTED: Final = ".rejected"

ATTEMPTS: Final = 1000
"""How often the folder is made anew while other runs remove it at their end."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class OutputFolder:
    """A locked output folder with a working folder in it; use as a context manager.

    Leaving the context without :meth:`publish` leaves the folder as it was found, and removes it if this run made it.

    Raises:
        UsageError: EDG010 when the folder cannot be created or written to, EDG012 when another run holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._created: list[Path] = []
        self._lock: int | None = None
        self._working: Path | None = None

    @property
    def working(self) -> Path:
        """The folder to write into."""
        if self._working is None:
            raise RuntimeError("the output folder is not open")
        return self._working

    def __enter__(self) -> OutputFolder:
        try:
            try:
                with _uninterrupted():  # what is made is known to have been made
                    self._open()
            except OSError as error:
                raise not_writable(self.path, error) from error
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _open(self) -> None:
        for _ in range(ATTEMPTS):
            if self._create() and self._acquire():
                break
        else:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        for stale in self.path.glob(f"{WORKING}*"):
            shutil.rmtree(stale, ignore_errors=True)
        self._working = Path(tempfile.mkdtemp(prefix=WORKING, dir=self.path))

    def publish(self, files: Iterable[Path], manifest: Path) -> list[Path]:
        """Move finished files from the working folder into place, the manifest last; returns their new paths."""
        with _uninterrupted():
            moved = [self._move(file, file.name) for file in files]
            for file in moved:
                with contextlib.suppress(FileNotFoundError):
                    (self.path / f"{file.name}{REJECTED}").unlink()
            moved.append(self._move(manifest, MANIFEST))
        return moved

    def place(self, files: Iterable[Path]) -> list[Path]:
        """Move finished files from the working folder into place, without a manifest; returns their new paths."""
        with _uninterrupted():
            return [self._move(file, file.name) for file in files]

    def reject(self, artifact: Path) -> Path:
        """Set an artifact aside that did not pass verification; what stood in the folder before stays untouched."""
        return self._move(artifact, f"{artifact.name}{REJECTED}")

    def _move(self, file: Path, name: str) -> Path:
        destination = self.path / name
        try:
            os.replace(file, destination)
        except OSError as error:
            raise not_writable(destination, error) from error
        return destination

    def _create(self) -> bool:
        """Make the folder and those above it; False when another run has just removed one of them under our hands."""
        missing = []
        folder = self.path.absolute()
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        try:
            for folder in reversed(missing):
                with contextlib.suppress(FileExistsError):  # another run was faster
                    folder.mkdir()
                if folder not in self._created:
                    self._created.append(folder)
            mode = self.path.stat().st_mode
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.path))
        return True

    def _acquire(self) -> bool:
        """Lock the folder; False when another run has just removed it or the lock file under our hands."""
        file = self.path / LOCK
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before may have removed the file between our open and our lock: then the lock means nothing.
            with contextlib.suppress(FileNotFoundError):
                if os.stat(file).st_ino == os.fstat(descriptor).st_ino:
                    self._lock = descriptor
                    return True
            return False
        except BlockingIOError:
            raise UsageError(
                "EDG012",
                "another edgec process is writing into the output folder",
                where=f"folder '{self.path}'",
                help="wait for it, or give another folder with -o",
            ) from None
        finally:
            if self._lock is None:
                os.close(descriptor)

    def _release(self) -> None:
        with _uninterrupted():  # all of it goes
            self._remove()

    def _remove(self) -> None:
        if self._working is not None:
            shutil.rmtree(self._working, ignore_errors=True)
            self._working = None
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.path / LOCK).unlink()
            os.close(self._lock)
            self._lock = None
        for folder in reversed(self._created):
            with contextlib.suppress(OSError):  # not empty: it holds what was published
                folder.rmdir()
        self._created.clear()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM (or the alarm that stands for them) back for the few steps that belong together.

    By taking their handlers' place: a mask would hold for this thread only, and any other takes the signal then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread only
        return
    held: list[int] = []
    before: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            before[number] = signal.getsignal(number)
            signal.signal(number, lambda given, frame: held.append(given))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for received in held:
            signal.raise_signal(received)


def not_writable(path: Path, error: OSError) -> EdgecError:
    """The error of a failed write: EDG011 for a full disk, quota or file-size limit, EDG010 for everything else."""
    if is_full(error):
        where, help = f"while writing into '{path}'", "give a folder on another disk with -o"
        other = _other_disk(path)
        if other is not None:
            where += f", or into the temporary folder '{other}'"
            help += ", and another temporary folder with $TMPDIR"
        return UsageError(
            "EDG011", "no space left on device", where=where, why=str(error), help=f"free some space, or {help}"
        )
    return UsageError(
        "EDG010",
        "the output folder cannot be written to",
        where=f"folder '{path}'",
        why=error.strerror or str(error),
        help="give another folder with -o",
    )


def _other_disk(path: Path) -> str | None:
    """The folder for temporary files, where it is on another disk than a path; a failed write does not say which."""
    found = next((place for place in (path, *path.absolute().parents) if place.exists()), None)
    try:
        folder = tempfile.gettempdir()
        same = found is None or os.stat(folder).st_dev == found.stat().st_dev
    except OSError:
        return None
    return None if same else folder


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of space (NumPy's writers report that without an errno)."""
    return error.errno in _FULL or (error.errno is None and "written" in str(error))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk met anywhere inside into EDG011, and a refused write into EDG010."""
    try:
        yield
    except OSError as error:
        if is_full(error) or error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise not_writable(path, error) from error
        raise
