"""A PostgreSQL server of the tests' own: a new cluster in a temporary folder, on the loopback, with a password."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")
"""Where packages put the server's programs, which are seldom on PATH."""
HINT = "needs a PostgreSQL server: apt-get install postgresql, or name its bin folder in $EDGEC_TEST_POSTGRESQL"
USERS = ("postgres", "nobody")
"""The server refuses to run as root; these are tried then."""


def find_server() -> Path | None:
    """The folder of ``initdb`` and ``postgres``, from $EDGEC_TEST_POSTGRESQL, PATH or where packages put them."""
    candidates = []
    if named := os.environ.get("EDGEC_TEST_POSTGRESQL"):
        candidates.append(Path(named))
    if found := shutil.which("postgres"):
        candidates.append(Path(found).resolve().parent)
    for pattern in PLACES:
        candidates.extend(sorted(Path("/").glob(pattern.lstrip("/")), reverse=True))
    return next((place for place in candidates if (place / "initdb").exists() and (place / "postgres").exists()), None)


class Server:
    """A cluster with one database ``studies`` and one user ``edgec``; use as a context manager.

    Attributes:
        password: the user's, new each time.
        port: on 127.0.0.1.
    """

    def __init__(self, programs: Path):
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="edgec-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._user = next((name for name in USERS if _exists(name)), None) if os.geteuid() == 0 else None
        self.password = f"Secret{secrets.token_hex(6)}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def url(self, password: str | None = None, database: str = "studies") -> str:
        """With a password where one is given."""
        secret = "" if password is None else f":{password}"
        return f"postgresql://edgec{secret}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        arguments = ["-D", str(self._folder / "data"), "-h", "127.0.0.1", "-p", str(self.port)]
        arguments += ["-k", str(self._folder), "-c", "fsync=off"]
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                user=self._user,
                cwd=self._folder,
            )
        deadline = time.monotonic() + 60
        while self.query("select 1", "postgres") is None:
            assert self._process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server at once, connections and all."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def query(self, statement: str, database: str = "studies") -> list[Any] | None:
        """The rows that a statement gives; None where nobody answers.

        Raises:
            psycopg.Error: whatever else is wrong.
        """
        import psycopg

        try:
            with psycopg.connect(self.url(self.password, database), autocommit=True, connect_timeout=5) as connection:
                cursor = connection.execute(statement)
                return cursor.fetchall() if cursor.description is not None else []
        except psycopg.OperationalError:
            return None

    def log(self) -> str:
        """What the server said."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Server:
        try:
            self._create()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _create(self) -> None:
        secret = self._folder / "password"
        secret.write_text(self.password, encoding="utf-8")
        if self._user is not None:
            for path in (self._folder, secret):
                shutil.chown(path, self._user)
        initdb = [str(self._programs / "initdb"), "-D", str(self._folder / "data"), "-U", "edgec", "-N"]
        initdb += ["--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C"]
        done = subprocess.run(initdb, capture_output=True, text=True, check=False, user=self._user, cwd=self._folder)
        assert done.returncode == 0, done.stdout + done.stderr
        self.start()
        assert self.query("create database studies", "postgres") is not None

    def __exit__(self, *_: object) -> None:
        self.stop()
        with contextlib.suppress(OSError):
            shutil.rmtree(self._folder)


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
