"""The URL of a study's storage: which driver it takes, and what of it may be shown.

A password may stand in the URL, and belongs nowhere else: not into the study's folder, a document, a message or a
worker's command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, quote_plus

import optuna

from edgec.errors import EdgecError, UsageError

EXTRA: Final = "edgec[fleet]"
PSYCOPG: Final = "postgresql+psycopg"
"""The driver of that extra. Which one a bare ``postgresql://`` means depends on the version of SQLAlchemy."""
BARE: Final = ("postgresql", "postgres")
SECRET_OPTIONS: Final = ("password", "sslpassword")
"""Options behind the question mark that hold a password, too."""
HIDDEN: Final = "***"


@dataclass(frozen=True)
class Database:
    """Where a storage is.

    Attributes:
        url: for SQLAlchemy, with its password.
        shown: for people: dialect, user, host, port and name, never a password or an option.
        secrets: what must not be shown.
    """

    url: str
    shown: str
    secrets: tuple[str, ...] = ()

    def scrubbed(self, text: str) -> str:
        """A text without the secrets, whatever a driver quoted."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            for form in {secret, quote(secret, safe=""), quote_plus(secret)}:
                text = text.replace(form, HIDDEN)
        return text


def parse(text: str) -> Database:
    """A storage from what stands behind ``--storage``.

    Raises:
        UsageError: EDG814 where that is no URL of a database; it is not quoted, as a password may be in it.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
        port = f":{url.port}" if url.port is not None else ""
    except (ArgumentError, ValueError):
        raise UsageError(
            "EDG814",
            "what is given as --storage is no URL of a database",
            why="it is not shown, as a password may be in it",
            help="postgresql://USER@HOST:PORT/DATABASE with the password in $PGPASSWORD or ~/.pgpass, or sqlite:///FILE",
        ) from None
    if url.drivername in BARE:
        url = url.set(drivername=PSYCOPG)
    dialect = url.get_backend_name()
    user = f"{quote(url.username)}@" if url.username else ""
    shown = f"{dialect}://{user}{url.host or ''}{port}/{url.database or ''}"
    found = [str(url.password)] if url.password is not None else []
    for name in SECRET_OPTIONS:
        value = url.query.get(name, ())
        found.extend([value] if isinstance(value, str) else value)
    return Database(url.render_as_string(hide_password=False), shown, tuple(secret for secret in found if secret))


def open_storage(database: Database, **engine: Any) -> optuna.storages.RDBStorage:
    """Optuna's storage there; its tables are made where they are missing.

    Args:
        engine: arguments of SQLAlchemy's ``create_engine``.

    Raises:
        EdgecError: EDG013 where the driver is not installed; whatever else goes wrong is SQLAlchemy's.
    """
    from sqlalchemy.exc import IntegrityError, NoSuchModuleError, ProgrammingError

    attempts = 5
    while True:
        try:
            return optuna.storages.RDBStorage(database.url, engine_kwargs=engine)
        except (ImportError, NoSuchModuleError) as error:
            raise _missing(database, error) from error
        except (IntegrityError, ProgrammingError):
            # Another coordinator made the same tables in an empty database at the same moment: they are there now.
            attempts -= 1
            if not attempts:
                raise


def _missing(database: Database, error: Exception) -> EdgecError:
    reason = str(error.__cause__ or error).strip().splitlines()
    driver = database.url.partition("://")[0]
    return EdgecError(
        "EDG013",
        "the driver of the database is not installed",
        where=database.shown,
        why=f"{driver}: {reason[0] if reason else type(error).__name__}",
        help=f"pip install '{EXTRA}'" if driver == PSYCOPG else "install SQLAlchemy's driver for it",
    )
