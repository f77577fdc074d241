"""``edgec explain``."""

from __future__ import annotations

import textwrap
from typing import Any

import click

from edgec.cli import options
from edgec.errors import CODES, Code, UsageError


@click.command(name="explain", short_help="Explain an error code or a rule.")
@click.argument("code", required=False)
@click.option("--all", "everything", is_flag=True, help="Explain every code and rule.")
@options.reporting
def command(code: str | None, everything: bool, as_json: bool) -> None:
    """Say what CODE (EDG...) means, which exit code it ends with, and what to do."""
    if (code is None) == (not everything):
        raise click.UsageError("give a code, or --all")
    found = sorted(known_codes().values(), key=lambda item: item.code) if code is None else [find(code)]
    if as_json:
        from edgec.cli.documents import print_document

        document = {"schema": "edgec-explain-1", "status": "ok", "codes": [_to_json(item) for item in found]}
        print_document(document)
        return
    click.echo("\n\n".join(_text(item) for item in found))


def known_codes() -> dict[str, Code]:
    """Every code: the errors, and the rules of the targets that can be loaded."""
    from edgec.targets import registry, rules

    for name in registry.names():
        try:
            registry.load(name)
        except UsageError:
            continue  # `edgec doctor` reports a plug-in that cannot be loaded
    return {**CODES, **{code: rules.as_code(entry) for code, entry in rules.RULES.items()}}


def find(code: str) -> Code:
    """The code in any spelling of case; the errors are looked at first, so that no target need be loaded.

    Raises:
        UsageError: EDG014 for a code that nobody defines.
    """
    wanted = code.upper()
    found = CODES.get(wanted) or known_codes().get(wanted)
    if found is None:
        raise UsageError("EDG014", f"there is no code '{code}'", help="edgec explain --all")
    return found


def _to_json(item: Code) -> dict[str, Any]:
    return {"code": item.code, "exit": item.exit, "title": item.title, "explanation": item.explanation}


def _text(item: Code) -> str:
    paragraphs = item.explanation.split("\n\n")
    body = "\n\n".join(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="  ") for text in paragraphs)
    return f"{item.code}  {item.title} (exit code {item.exit})\n\n{body}"
