"""The project's own files agree with one another: README, CI and packaging."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from .conftest import ROOT

PROSE = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]


def marked_command(name: str) -> str:
    """The code block behind the marker ``<!-- ci: NAME -->`` in README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^<!-- ci: {name} -->\n```sh\n(.*?)\n```$", readme, flags=re.MULTILINE | re.DOTALL)
    assert found, name
    return found.group(1)


@pytest.mark.parametrize("name", ["quickstart", "tests"])
def test_readme_installs_and_runs_in_one_line(name: str) -> None:
    command = marked_command(name)
    assert "\n" not in command
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")


@pytest.mark.parametrize("name", ["quickstart", "tests"])
def test_continuous_integration_runs_the_commands_of_readme(name: str) -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert f'bash -euc "$(readme_command {name})"' in script
    function = re.search(r"^readme_command\(\) \{.*?^\}", script, flags=re.MULTILINE | re.DOTALL)
    assert function
    extracted = subprocess.run(
        ["bash", "-euc", f'root="$1"; {function.group(0)}; readme_command {name}', "bash", str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert extracted.strip() == marked_command(name)


@pytest.mark.parametrize("document", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
        assert re.match(r"https?://|mailto:", link) or (document.parent / link).exists(), link


def test_readme_lists_the_targets_that_the_package_registers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    working = set(re.findall(r"^\| `(\w+)` \|.*\| works", readme, flags=re.MULTILINE))
    assert working == set(project["entry-points"]["edgec.targets"])


def test_readme_lists_every_exit_code() -> None:
    from edgec import errors

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("### Exit codes")[1].split("###")[0]
    listed = {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", table, flags=re.MULTILINE) for code in row.split(",")
    }
    assert listed == {value for name, value in vars(errors).items() if name.startswith("EXIT_")}


def test_readme_shows_every_command_and_only_options_that_exist() -> None:
    from edgec.cli.main import root

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    usage = readme.split("## Use it")[1].split("##")[0]
    context = click.Context(root)
    assert isinstance(root, click.Group)
    commands = set(root.list_commands(context))
    assert set(re.findall(r"^\$ edgec (\w+)", usage, flags=re.MULTILINE)) == commands
    for name, line in re.findall(r"^\$ edgec (\w+)([^#\n]*)", usage, flags=re.MULTILINE):
        command = root.get_command(context, name)
        assert command is not None
        parts = [command, *getattr(command, "subcommands", {}).values()]
        known = {option for part in parts for parameter in part.params for option in parameter.opts}
        assert set(re.findall(r"(--[a-z][a-z-]+)", line)) <= known, name


def test_the_package_is_marked_as_typed() -> None:
    assert (ROOT / "edgec/py.typed").is_file()


def test_the_package_and_its_metadata_have_one_version() -> None:
    from edgec import _version

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == _version.VERSION


def test_every_folder_of_the_package_is_a_regular_package() -> None:
    """import-linter passes over namespace packages without a word."""
    folders = {path.parent for path in (ROOT / "edgec").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]
