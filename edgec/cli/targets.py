"""``edgec targets``."""

from __future__ import annotations

from typing import Any

import click

from edgec.cli import options


@click.command(name="targets", short_help="List the targets.")
@options.reporting
def command(as_json: bool) -> None:
    """List what can be converted to: built-in targets, and those that installed packages register."""
    from edgec.targets import registry

    found = [_entry(name) for name in registry.names()]
    if as_json:
        from edgec.cli.documents import print_document

        print_document({"schema": "edgec-targets-1", "status": "ok", "targets": found})
        return
    from edgec.cli.tables import table

    rows = [
        (entry["name"], entry["artifact"] or "-", entry["shapes"] or "-", entry["title"] or entry["error"])
        for entry in found
    ]
    click.echo(table(rows, ("target", "artifact", "shapes", "what it is")))


def _entry(name: str) -> dict[str, Any]:
    from edgec.errors import UsageError
    from edgec.targets import registry

    entry: dict[str, Any] = {"name": name, "built_in": name in registry.BUILT_IN}
    try:
        target = registry.load(name)
    except UsageError as error:
        return {
            **entry,
            "title": None,
            "artifact": None,
            "shapes": None,
            "pipeline": None,
            "error": error.why or error.message,
        }
    return {
        **entry,
        "title": target.title,
        "artifact": f"model{target.suffix}",
        "shapes": "static" if target.static_shapes else "static or dynamic",
        "pipeline": target.pipeline,
        "error": None,
    }
