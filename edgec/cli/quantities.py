"""Quantities with units on the command line: times, sizes, shares."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import click

_NUMBER: Final = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([^0-9.\s]*)\Z")
TIMES: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
SIZES: Final = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def _read(text: str, units: dict[str, Any], example: str) -> float:
    match = _NUMBER.match(text.strip())
    known = {name.lower(): scale for name, scale in units.items()}
    if match is None or match[2].lower() not in known:
        raise click.BadParameter(
            f"'{text}' is nothing like {example}; units: {', '.join(name for name in units if name)}"
        )
    value: float = float(match[1]) * known[match[2].lower()]
    if not 0 < value < float("inf"):
        raise click.BadParameter(f"'{text}' is not positive")
    return value


def seconds(text: str) -> float:
    """``20ms``, ``10m``: a time with its unit, in seconds.

    Raises:
        click.BadParameter: it is none.
    """
    return _read(text, dict(TIMES), "20ms or 10m")


def size(text: str) -> float:
    """``512MB``, ``1GiB``: a size, in bytes; without a unit bytes.

    Raises:
        click.BadParameter: it is none.
    """
    return _read(text, {"": 1, **SIZES}, "512MB or 1GiB")


def share(text: str) -> float:
    """``0.5%`` or ``0.005``: a share.

    Raises:
        click.BadParameter: it is none, or more than 1.
    """
    text = text.strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise click.BadParameter(f"'{text}' is no share like 0.5%") from None
    if not 0 <= value <= 1:
        raise click.BadParameter(f"'{text}' is not between 0% and 100%")
    return value


def setting(text: str) -> Any:
    """``4``, ``true``, ``null`` as JSON has them; anything else is a word."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str | int | float | bool | None) else text


def named_settings(text: str) -> tuple[str, tuple[Any, ...]]:
    """``NAME=VALUE,VALUE``.

    Raises:
        click.BadParameter: there is no name, or no value.
    """
    name, equals, values = text.partition("=")
    if not equals or not name or not values:
        raise click.BadParameter(f"'{text}' is nothing like threads=1,2")
    return name, tuple(setting(value.strip()) for value in values.split(","))
