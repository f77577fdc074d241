"""``edgec tune``, with ``edgec tune report`` and ``edgec tune apply``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from edgec.cli import options, quantities

STORAGE: Final = "EDGEC_STORAGE"
"""Variable of the environment that holds the URL of a storage."""
PAGE: Final = "report.html"


class WithSubcommands(click.Command):
    """A command that takes a model, except where the first argument is the name of one of its subcommands.

    A model that is called like one is given as ``./report``.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.subcommands: dict[str, click.Command] = {}

    def subcommand(self, name: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
        """Decorate the function of a subcommand."""

        def decorate(function: Callable[..., Any]) -> click.Command:
            made = click.decorators.command(name, click.Command, **settings)(function)
            self.subcommands[name] = made
            return made

        return decorate

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """That of the subcommand where its name comes first."""
        if args and args[0] in self.subcommands:
            return self.subcommands[args[0]].make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The subcommands."""
        with formatter.section("Subcommands"):
            formatter.write_dl(
                [(f"{name} STUDY", item.get_short_help_str()) for name, item in self.subcommands.items()]
            )


@click.command(name="tune", cls=WithSubcommands, short_help="Find the fastest way to run a model on this machine.")
@click.argument("model", type=click.Path())
@options.target
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    default="study",
    show_default=True,
    help="Folder of the study; made, or gone on with.",
)
@click.option(
    "--objective",
    "objectives",
    type=click.Choice(["latency", "throughput", "memory"]),
    multiple=True,
    help="What to make better; several give a Pareto front, the first one chooses the winner. Default: latency.",
)
@click.option("--max-latency", type=quantities.seconds, metavar="TIME", help="Longest time of one run, such as 20ms.")
@click.option(
    "--max-memory", type=quantities.size, metavar="SIZE", help="Most memory that a session may take, such as 512MB."
)
@click.option(
    "--max-device-memory",
    type=quantities.size,
    metavar="SIZE",
    help="Most memory that a session may hold on the NVIDIA GPU, such as 2GB.",
)
@click.option(
    "--max-drop",
    type=quantities.share,
    metavar="SHARE",
    help="How much of the quality may be lost, such as 0.5%; without it no other precision is tried.",
)
@click.option(
    "--budget",
    type=quantities.seconds,
    metavar="TIME",
    help="Time for measuring, all runs of the study together. Default: 10m, or none with --trials.",
)
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help="End after so many trials.")
@click.option(
    "--knob",
    "knobs",
    type=quantities.named_settings,
    multiple=True,
    metavar="NAME=VALUES",
    help="The only values of a knob that are tried, such as threads=1,2. Repeat per knob.",
)
@click.option("--provider", metavar="NAME", help="Execution provider of ONNX Runtime, such as cuda. Default: cpu.")
@click.option(
    "--sampler",
    type=click.Choice(["surrogate", "tpe", "nsga2", "random"]),
    default="surrogate",
    show_default=True,
    help="What proposes configurations: edgec's model of the knobs, or one of Optuna's samplers.",
)
@click.option(
    "--storage",
    metavar="URL",
    envvar=STORAGE,
    show_envvar=True,
    help="Optuna storage, such as postgresql://user@host/name with the password in PGPASSWORD or ~/.pgpass. "
    "Default: SQLite in the folder.",
)
@click.option("--no-wait", is_flag=True, help="Refuse to wait for a device that another process measures on.")
@options.source
@options.shapes
@options.samples
@click.option("--precision", metavar="NAME", help="The default precision.")
@options.calibration
@options.images
@options.layout
@options.passes
@options.target_options
@options.reporting
def command(
    model: str,
    target: str,
    output: str,
    objectives: tuple[str, ...],
    max_latency: float | None,
    max_memory: float | None,
    max_device_memory: float | None,
    max_drop: float | None,
    budget: float | None,
    trials: int | None,
    knobs: tuple[Any, ...],
    provider: str | None,
    sampler: str,
    storage: str | None,
    no_wait: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Measure how MODEL runs best on this machine: batch, precision, threads, memory, compiler options.

    Every configuration is converted, verified, and raced in interleaved blocks against the default; the winner is
    measured again, fresh. The same command on the same folder goes on with the study.

    `edgec tune report STUDY` shows a study, `edgec tune apply STUDY -o OUT` makes the winner's artifact.
    """
    keywords = options.keywords(given)
    from edgec.cli.documents import print_document
    from edgec.cli.interruption import advise
    from edgec.cli.studies import following, kept, show_study
    from edgec.errors import EXIT_FAILED, EXIT_OK
    from edgec.tuner.study import tune

    _warn_of_password(storage)
    advise(lambda: kept(output))
    with following() as (progress, watch):
        result = tune(
            model,
            target=target,
            output=output,
            objectives=objectives or ("latency",),
            max_latency_ms=None if max_latency is None else max_latency * 1e3,
            max_memory=max_memory,
            max_device_memory=max_device_memory,
            max_drop=max_drop,
            budget_s=budget,
            trials=trials,
            sampler=sampler,
            knobs=options.collect(knobs, "--knob"),
            session={} if provider is None else {"provider": provider},
            storage=storage,
            wait=not no_wait,
            progress=progress,
            watch=watch,
            **keywords,
        )
    if as_json:
        print_document(result.to_json())
    else:
        show_study(result)
    return EXIT_OK if result.winner is not None else EXIT_FAILED


def _warn_of_password(storage: str | None) -> None:
    """Say that everybody on the machine can read what stands on a command line."""
    source = click.get_current_context().get_parameter_source("storage")
    if storage is None or source is not click.core.ParameterSource.COMMANDLINE:
        return
    from edgec.tuner.database import parse

    if parse(storage).secrets:
        click.echo(
            "note: the list of processes shows the password after --storage while this runs; "
            f"PGPASSWORD, ~/.pgpass or the whole URL in {STORAGE} keep it out",
            err=True,
        )


@command.subcommand("report", short_help="Show a study, or write it as one HTML file.")
@click.argument("study", type=click.Path())
@click.option(
    "--html",
    type=click.Path(),
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help=f"Write a self-contained HTML file; {PAGE} in the study's folder where no FILE is given.",
)
@options.reporting
def report(study: str, html: str | None, as_json: bool) -> int:
    """Show the study in the folder STUDY, finished or not; its journal is only read."""
    from pathlib import Path

    from edgec.cli.documents import print_document
    from edgec.cli.studies import show_study
    from edgec.tuner.outcome import read_study

    result = read_study(study)
    if html is not None:
        from edgec.tuner.report import write_html

        written = write_html(result, Path(html) if html else Path(study) / PAGE)
        click.echo(f"report: {written}", err=as_json)
    if as_json:
        print_document(result.to_json())
    elif html is None:
        show_study(result)
    return 0


@command.subcommand("apply", short_help="Make the artifact of a study's winner.")
@click.argument("study", type=click.Path())
@click.option("-o", "--output", type=click.Path(), default="out", show_default=True, help="Folder for the artifact.")
@options.reporting
def apply(study: str, output: str, as_json: bool) -> int:
    """Put the artifact of the winner of STUDY, which the study has verified, into a folder with its session options."""
    from edgec.cli.documents import print_document
    from edgec.cli.studies import described
    from edgec.tuner.applying import apply_study

    result = apply_study(study, output)
    if as_json:
        print_document(result.to_json())
        return 0
    click.echo(f"artifact: {result.artifact}")
    click.echo(f"session:  {described(result.tuned.session)}")
    click.echo(f"manifest: {result.manifest}")
    return 0
