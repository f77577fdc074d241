"""``edgec passes``."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

import click

from edgec.cli import options


@click.command(name="passes", short_help="List the passes and their options.")
@click.argument("name", required=False)
@options.reporting
def command(name: str | None, as_json: bool) -> None:
    """List the passes with what each of them does, or show one pass, NAME, in full."""
    import edgec.ir.passes  # noqa: F401  (registers the passes)
    from edgec.errors import UsageError
    from edgec.ir.passes.base import REGISTRY

    if name is not None and name not in REGISTRY:
        raise UsageError("EDG004", f"there is no pass '{name}'", help="edgec passes")
    found = [_entry(REGISTRY[key]) for key in sorted(REGISTRY) if name in (None, key)]
    if as_json:
        from edgec.cli.documents import print_document

        print_document({"schema": "edgec-passes-1", "status": "ok", "passes": found})
    elif name is not None:
        listed = "".join(f"\n  {option['name']}={option['default']}" for option in found[0]["options"])
        click.echo(f"{name}\n\n{textwrap.indent(found[0]['documentation'], '  ')}")
        click.echo(f"\nOptions:{listed or ' none'}")
    else:
        from edgec.cli.tables import table

        click.echo(table([(entry["name"], _sentence(entry["documentation"])) for entry in found]))


def _entry(cls: Any) -> dict[str, Any]:
    defaults = cls.options()
    return {
        "name": cls.name,
        "documentation": inspect.getdoc(cls) or "",
        "options": [{"name": key, "default": _show(value)} for key, value in defaults.items()],
    }


def _sentence(documentation: str) -> str:
    """The first sentence, on one line; it may end with a colon before an example."""
    paragraph = " ".join(documentation.partition("\n\n")[0].split()).replace("``", "`")
    return re.split(r"(?<=[^.]\.) ", paragraph, maxsplit=1)[0].rstrip(":")


def _show(value: Any) -> str:
    """A default as it would be written in a pipeline."""
    if isinstance(value, tuple | frozenset):
        return "+".join(str(item) for item in (sorted(value) if isinstance(value, frozenset) else value))
    return str(value).lower() if isinstance(value, bool) else str(value)
