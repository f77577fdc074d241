"""``edgec verify``."""

from __future__ import annotations

from typing import Any

import click

from edgec.cli import options


@click.command(name="verify", short_help="Compare an artifact with the model it was made from.")
@click.argument("folder", type=click.Path())
@click.option("--against", required=True, type=click.Path(), metavar="MODEL", help="The original model.")
@click.option("--trust", is_flag=True, help="Let the original run code of its own (Lambda layers, custom objects).")
@options.samples
@options.session
@options.reporting
def command(
    folder: str,
    against: str,
    trust: bool,
    data: str | None,
    ranges: tuple[Any, ...],
    seed: int,
    session: dict[str, Any],
    as_json: bool,
) -> None:
    """Run the artifact in FOLDER (which holds manifest.json) and the original MODEL on the same inputs and compare.

    The exit code is 1 when an output differs by more than the threshold.
    """
    bounds = options.collect(ranges, "--range")
    from edgec.runtime.spare import prepare

    prepare()
    from edgec.cli.documents import print_document
    from edgec.cli.progress import steps
    from edgec.converter.verify import verify_folder

    with steps() as progress:
        progress("verifying")
        report = verify_folder(
            folder, against=against, trust=trust, data=data, ranges=bounds, seed=seed, session=session
        )
    if as_json:
        document = {"schema": "edgec-verify-1", "status": "ok", "folder": folder, "against": against}
        print_document({**document, "verification": report.to_json(), "error": None})
        return
    from edgec.cli.tables import show_verification

    show_verification(report.to_json())
