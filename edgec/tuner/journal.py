"""The journal of a study: what happened, one JSON line each, on the disk before anything else is done.

``journal.jsonl`` is only ever appended to, and every line is synchronised to the disk before the next measurement
begins, so a study that is killed at any moment loses at most the measurement that was running.  A last line that was
cut short by the end of the process is removed when the study is opened again.  Everything else in the folder (Optuna's
storage, reports) follows from the journal.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from edgec.errors import EdgecError, UsageError

JOURNAL: Final = "journal.jsonl"
LOCK: Final = ".edgec.lock"
SCHEMA: Final = "edgec-study-1"
ELSEWHERE: Final = "give a folder that can be written with -o; edgec tune report reads this one as it is"
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The entries of a study, from the first one, which describes it; a last line that is cut short is passed over.

    Raises:
        UsageError: EDG810 where there is no study, EDG816 where the journal is damaged.
    """
    return [entry for entry, _ in _entries(_bytes(folder), folder)]


def _bytes(folder: Path) -> bytes:
    try:
        return (folder / JOURNAL).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            "EDG810", f"'{folder}' holds no study", help="make one with edgec tune MODEL --target NAME -o FOLDER"
        ) from None
    except OSError as error:
        raise UsageError("EDG810", f"the study in '{folder}' cannot be read", why=str(error.strerror)) from error


def _entries(content: bytes, folder: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The entries with the offset behind each."""
    end = 0
    for number, line in enumerate(content.splitlines(keepends=True)):
        if not line.endswith(b"\n"):
            return
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise _damaged(folder, number, str(error)) from error
        wanted = "study" if number == 0 else None
        if not isinstance(entry, dict) or (wanted and (entry.get("kind"), entry.get("schema")) != (wanted, SCHEMA)):
            raise _damaged(folder, number, f"it is no entry of {SCHEMA}")
        end += len(line)
        yield entry, end


def _damaged(folder: Path, number: int, why: str) -> UsageError:
    return UsageError(
        "EDG816",
        "the journal of the study is damaged",
        where=f"{folder / JOURNAL}, line {number + 1}",
        why=why,
        help="restore the file from a backup, or begin a new study in another folder",
    )


class Journal:
    """The journal of the one process that measures; use as a context manager.

    Raises:
        UsageError: EDG010 when the folder cannot be written to, EDG012 when another process holds it, EDG816.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.entries: list[dict[str, Any]] = []
        self._file: int | None = None
        self._lock: int | None = None

    def __enter__(self) -> Journal:
        try:
            self._open()
        except OSError as error:
            self.close()
            raise writing_failed(self.folder, error) from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                "EDG012",
                f"another process measures for the study in '{self.folder}'",
                help="wait for it, or choose another folder with -o",
            ) from None
        self._file = os.open(self.folder / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        content = _bytes(self.folder)
        found = list(_entries(content, self.folder))
        self.entries = [entry for entry, _ in found]
        end = found[-1][1] if found else 0
        if end < len(content):
            os.ftruncate(self._file, end)
        self._synchronise_folder()

    def append(self, entry: Mapping[str, Any], *, durable: bool = True) -> None:
        """Write an entry, and return when it is on the disk; one that is not ``durable`` may wait for the next.

        Raises:
            EdgecError: EDG011 on a full disk, EDG010 where it cannot be written; nothing of the entry is left then.
        """
        assert self._file is not None, "the journal is not open"
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        before = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            if durable:
                os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, before)
            raise writing_failed(self.folder / JOURNAL, error) from error
        self.entries.append(json.loads(line))

    def restart(self) -> None:
        """Forget all entries.

        Raises:
            UsageError: EDG010 where the file cannot be written.
        """
        assert self._file is not None, "the journal is not open"
        try:
            os.ftruncate(self._file, 0)
            os.fsync(self._file)
        except OSError as error:
            raise writing_failed(self.folder / JOURNAL, error) from error
        self.entries.clear()

    def close(self) -> None:
        """Release the folder."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def _synchronise_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def writing_failed(place: Path, error: OSError, help: str = ELSEWHERE) -> EdgecError:
    """EDG011 for a full disk, EDG010 for everything else that keeps us from writing."""
    if error.errno in FULL:
        return UsageError(
            "EDG011",
            "no space left on device",
            where=str(place),
            why="what was measured before is kept",
            help="make room and give the same command again: the study goes on",
        )
    return UsageError("EDG010", f"'{place}' cannot be written", why=error.strerror or str(error), help=help)
