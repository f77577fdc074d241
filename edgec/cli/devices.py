"""``edgec devices``."""

from __future__ import annotations

import sys

import click

from edgec.cli import options


@click.command(name="devices", short_help="List the devices of this machine: what each can do, and what is missing.")
@click.option("--all", "everything", is_flag=True, help="List the kinds that are absent too.")
@options.reporting
def command(everything: bool, as_json: bool) -> None:
    """List processors, GPUs and NPUs: name, capability, memory, driver; what is there but cannot be used, and why.

    Drivers are asked in processes of their own. The exit code is 0 whatever was found.
    """
    from edgec.execution.devices import discover, to_json

    reports = discover()
    if as_json:
        from edgec.cli.documents import print_document

        print_document(to_json(reports))
        return
    from rich.console import Console

    from edgec.cli.tables import show_table, size
    from edgec.runtime.devices import State

    screen = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    rows = []
    for report in reports:
        for device in report.devices:
            memory = "" if device.memory is None else size(device.memory)
            rows.append([device.address, device.name, device.state, device.capability, memory, device.driver])
        if not report.devices and (everything or report.state is State.UNUSABLE):
            rows.append(["-", report.title, str(report.state), "", "", ""])
    show_table(screen, ("address", "device", "state", "capability", "memory", "driver"), rows)
    for report in reports:
        reasons = dict.fromkeys(device.reason for device in report.devices if device.reason)
        if report.reason and (everything or report.state is not State.ABSENT):
            reasons[report.reason] = None
        for reason in reasons:
            screen.print(f"{report.title}: {reason}", markup=False)
        if reasons and report.help:
            screen.print(f"  Try: {report.help}", markup=False)
    absent = [report.title for report in reports if report.state is State.ABSENT]
    if absent and not everything:
        screen.print(f"absent: {', '.join(absent)} (--all says why)", markup=False)
