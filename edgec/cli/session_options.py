"""The options of every command that opens an artifact: on what it runs, and how."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

import click

from edgec.cli.options import Command, collect, named_option


def named_delegate(text: str) -> dict[str, Any]:
    """``LIBRARY,KEY=VALUE,...`` as the session option holds it; a value ends at the next ``,KEY=``.

    Raises:
        click.BadParameter: there is no library, or a part after it has no key.
    """
    library, *parts = text.split(",")
    if not library or "=" in library:
        raise click.BadParameter(f"'{text}' has no library in front, write libfoo.so,key=value")
    options: dict[str, str] = {}
    last = ""
    for part in parts:
        key, equals, value = part.partition("=")
        if equals and key:
            if key in options:
                raise click.BadParameter(f"'{key}' is given twice in '{text}'")
            options[key], last = value, key
        elif last:
            options[last] += f",{part}"
        else:
            raise click.BadParameter(f"'{part}' is no key=value")
    return {"library": library, "options": options}


def session(command: Command) -> Command:
    """``--delegate``, ``--accelerator``, ``--provider``, ``--require-delegate`` and ``--session-option``.

    The command gets them as one argument ``session``: the keyword arguments of the target's session factory.
    """

    @functools.wraps(command)
    def collected(*arguments: Any, **given: Any) -> Any:
        given["session"] = settings(
            given.pop("delegates"),
            given.pop("accelerator"),
            given.pop("provider"),
            given.pop("require_delegate"),
            given.pop("session_options"),
        )
        return command(*arguments, **given)

    wrapped: Any = collected
    for option in (
        click.option(
            "--session-option",
            "session_options",
            type=named_option,
            multiple=True,
            metavar="KEY=VALUE",
            help="Any other option of the session; docs/running.md lists them. Repeat per option.",
        ),
        click.option(
            "--require-delegate",
            is_flag=True,
            help="Refuse an artifact of which an operator would run on the CPU instead.",
        ),
        click.option(
            "--provider", metavar="NAME", help="ONNX Runtime's execution provider, such as cuda.  [default: cpu]"
        ),
        click.option(
            "--accelerator",
            type=click.Choice(["cpu", "gpu", "npu"], case_sensitive=False),
            help="Run a .tflite as LiteRT's compiled model on this.",
        ),
        click.option(
            "--delegate",
            "delegates",
            type=named_delegate,
            multiple=True,
            metavar="LIBRARY[,KEY=VALUE...]",
            help="An external delegate for a .tflite, with its options. Repeat per delegate.",
        ),
    ):
        wrapped = option(wrapped)
    found: Command = wrapped
    return found


def threads(command: Command) -> Command:
    """``--threads``."""
    return click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads inside an operator.")(
        command
    )


def settings(
    delegates: Iterable[dict[str, Any]],
    accelerator: str | None,
    provider: str | None,
    require_delegate: bool,
    others: Iterable[tuple[str, str]],
) -> dict[str, Any]:
    """The options as keyword arguments of a session factory, only those that were given; values as JSON holds them."""
    found: dict[str, Any] = {}
    if delegates:
        found["delegates"] = list(delegates)
    if accelerator:
        found.update(api="compiled", accelerator=accelerator.lower())
    if provider:
        found["provider"] = provider
    if require_delegate:
        found["require_delegate"] = True
    for name, value in collect(others, "--session-option").items():
        key = name.replace("-", "_")
        if key in found and key != "api":
            raise click.BadParameter(f"'{name}' is given twice", param_hint="--session-option")
        found[key] = plain(value)
    return found


def plain(text: str) -> Any:
    """A value as JSON reads it: a number, true, false, a list, an object; else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
