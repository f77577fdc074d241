"""``edgec doctor``."""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict

import click

from edgec.cli import options
from edgec.errors import EXIT_TOOL_MISSING, UsageError
from edgec.targets.base import Finding

PACKAGES = ("onnx", "onnxruntime", "ai-edge-litert", "numpy", "flatbuffers", "click", "rich", "optuna")
EXTRAS = {
    "tensorflow": (("tensorflow", "tf2onnx", "tf-keras"), "to read SavedModel folders and Keras files"),
    "images": (("pillow",), "to calibrate with folders of images"),
}
"""Extras that belong to no target: their packages, and what they are needed for."""


@click.command(name="doctor", short_help="Look at this machine: is everything here that the targets need?")
@options.reporting
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Look at Python, the packages, the temporary folder and what each target needs.

    The exit code is 5 when something is missing.
    """
    findings = list(examine())
    healthy = all(finding.ok for finding in findings)
    if as_json:
        from edgec.cli.documents import print_document

        document = {"schema": "edgec-doctor-1", "status": "ok" if healthy else "error"}
        print_document({**document, "findings": [asdict(finding) for finding in findings]})
    else:
        from edgec.cli.tables import table

        click.echo(table([("ok" if item.ok else "BAD", item.subject, item.detail) for item in findings]))
        for item in findings:
            if not item.ok and item.help:
                click.echo(f"Try: {item.help}")
    context.exit(0 if healthy else EXIT_TOOL_MISSING)


def examine() -> Iterator[Finding]:
    """Every finding, the general ones first."""
    from edgec._version import VERSION
    from edgec.runtime.packages import described
    from edgec.targets import registry

    yield Finding("edgec", True, VERSION)
    enough = sys.version_info >= (3, 11)
    yield Finding("python", enough, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in PACKAGES:
        found = described(package)
        yield Finding(package, found is not None, found or "not installed", f"pip install {package}")
    yield _temporary()
    for extra in EXTRAS:
        yield _extra(extra)
    for name in registry.names():
        try:
            target = registry.load(name)
        except UsageError as error:
            yield Finding(f"target {name}", False, error.why or error.message, "reinstall the package it came with")
            continue
        for finding in target.doctor():
            yield Finding(f"target {name}: {finding.subject}", finding.ok, finding.detail, finding.help)


def _extra(name: str) -> Finding:
    """Whether an extra is there; nothing is wrong without it."""
    from edgec.runtime.packages import described

    packages, purpose = EXTRAS[name]
    found = {package: described(package) for package in packages}
    install = f"pip install 'edgec[{name}]'"
    missing = [package for package, version in found.items() if version is None]
    detail = ", ".join(f"{package} {version}" for package, version in found.items() if version is not None)
    if missing:
        lacking = f"{' and '.join(missing)} not installed (needed {purpose}: {install})"
        detail = f"{detail}; {lacking}" if detail else lacking
    return Finding(f"extra {name}", True, detail, install if missing else "")


def _temporary() -> Finding:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"edgec")
    except OSError as error:
        return Finding("temporary folder", False, str(error), "point TMPDIR at a folder with free space")
    return Finding("temporary folder", True, "can be written to")
