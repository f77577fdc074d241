"""The URL of a storage: its driver, and what of it is shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgec.errors import EdgecError
from edgec.tuner import database
from edgec.tuner.goals import Goals
from edgec.tuner.storage import Mirror

from .synthetic import space

SECRET = "Ge:h@eim/%"


def test_a_bare_url_takes_the_driver_of_the_extra_and_is_shown_without_its_password() -> None:
    found = database.parse("postgresql://me:Ge%3Ah%40eim%2F%25@host:5433/name?sslmode=require&sslpassword=Other")
    assert found.url.startswith("postgresql+psycopg://me:")
    assert found.shown == "postgresql://me@host:5433/name"
    assert set(found.secrets) == {SECRET, "Other"}
    assert found.scrubbed(f"cannot log in as {SECRET} (Ge%3Ah%40eim%2F%25), Other") == "cannot log in as *** (***), ***"


def test_another_driver_is_left_alone() -> None:
    assert database.parse("postgresql+pg8000://host/name").url == "postgresql+pg8000://host/name"
    assert database.parse("sqlite:///study.db") == database.Database("sqlite:///study.db", "sqlite:///study.db")


@pytest.mark.parametrize("text", ["nonsense", "postgresql://me:Geheim@host:port/name", "://Geheim"])
def test_what_is_no_url_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(EdgecError) as caught:
        database.parse(text)
    assert caught.value.code == "EDG814"
    assert "Geheim" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__, "--debug would print it"


def test_a_missing_driver_is_told_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(EdgecError) as caught:
        Mirror(tmp_path, "postgresql://me:Geheim@host/name", "s", space(), Goals(), {})
    assert (caught.value.code, caught.value.exit_code) == ("EDG013", 5)
    assert "pip install 'edgec[fleet]'" in str(caught.value)
    assert "Geheim" not in str(caught.value)
