"""``edgec schema``."""

from __future__ import annotations

import json
from importlib.resources import files

import click

from edgec.cli import options


@click.command(name="schema", short_help="Print the JSON schema of a document that edgec writes.")
@click.argument("name", required=False)
@options.reporting
def command(name: str | None, as_json: bool) -> None:
    """Print the schema of the documents of NAME (convert, check, manifest, ...); without NAME, list the names."""
    known = sorted(
        item.name.removesuffix(".json") for item in files("edgec.schemas").iterdir() if item.name.endswith(".json")
    )
    if name is None:
        click.echo(json.dumps({"schemas": known}) if as_json else "\n".join(known))
        return
    if name not in known:
        raise click.UsageError(f"there is no schema '{name}'; known: {', '.join(known)}")
    click.echo((files("edgec.schemas") / f"{name}.json").read_text(encoding="utf-8").rstrip())
