"""Drive ``vela``: what to run, what it said, and whether what it wrote is right.

Success is an exit status of 0 *and* the expected files *and* command streams for the NPU that was asked for *and* the
interface of the source: of a float model Vela makes a copy in which nothing runs on the NPU, with status 0.

The operators on the CPU are read from the file, and their reasons from the console: ``--show-cpu-operations`` is not
asked for, since Vela 5.2.0 ends with ``KeyError: '0'`` in ``regor_operations_from_database`` on some models with it
(the int8 DeepLab v3 of github.com/google-coral/test_data), and passes over the same models without it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgec.errors import EdgecError, ModelError
from edgec.runtime.process import Outcome
from edgec.targets.ethosu.hardware import CONFIGURATION
from edgec.targets.ethosu.options import VelaOptions
from edgec.targets.ethosu.package import Compiled, decode, is_compiled
from edgec.targets.ethosu.summary import Summary, Transcript, parse, parse_summary
from edgec.targets.tflite.graph import FlatModel, FlatTensor, read
from edgec.targets.toolchain import Tool, ToolPlan, ToolRun, ask_version, last_lines, missing, run_tool

TOOL: Final = Tool("vela", "EDGEC_VELA", "it is the package ethos-u-vela: pip install 'edgec[ethosu]'")
OLDEST: Final = 5
MEMORY_LIMIT: Final = 16 << 30
VERSION_TIMEOUT_S: Final = 60.0


def find(given: str | None = None) -> Path | None:
    """Vela: the one given, the one that $EDGEC_VELA names, the one beside Python, or the one on PATH."""
    if not given and not os.environ.get(TOOL.variable):
        beside = shutil.which(TOOL.name, path=str(Path(sys.executable).parent))
        if beside is not None:
            return Path(beside).absolute()
    return TOOL.find(given)


def plan(model: str, options: VelaOptions) -> ToolPlan:
    """The run of Vela in the folder that holds the model.

    Args:
        model: name of the file, ``STEM.tflite``.
    """
    stem = model.removesuffix(".tflite")
    arguments = [
        *("--accelerator-config", options.accelerator),
        *("--config", CONFIGURATION),
        *("--system-config", options.system_configuration),
        *("--memory-mode", options.memory_mode),
        *("--optimise", options.optimise),
        *("--output-dir", "."),
    ]
    if options.arena_bytes is not None:
        arguments += ["--arena-cache-size", str(options.arena_bytes)]
    return ToolPlan(
        tool=TOOL.name,
        arguments=(*arguments, model),
        inputs=(model,),
        outputs=(f"{stem}_vela.tflite", f"{stem}_summary_{options.system_configuration}.csv"),
        timeout_s=options.timeout_s,
        memory_limit=MEMORY_LIMIT,
    )


def version_of(program: Path, folder: Path) -> str:
    """The version of an installed Vela.

    Raises:
        EdgecError: EDG510 it cannot be started, EDG502 and EDG503 it does not end by itself, EDG512 it is too old or
            does not say.
    """
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    outcome = ask_version(TOOL, program, folder, environment, VERSION_TIMEOUT_S)
    found = re.search(r"^(\d+)\.\d+(?:\.\w+)*\s*$", outcome.output, re.MULTILINE)
    if outcome.status != 0 or found is None or int(found[1]) < OLDEST:
        said = f"it says '{found[0].strip()}'" if found else f"it says: {last_lines(outcome.last_lines) or 'nothing'}"
        raise EdgecError(
            "EDG512",
            f"edgec drives {TOOL.name} {OLDEST} and later",
            where=str(program),
            why=said,
            help="pip install 'ethos-u-vela>=5'",
            details={"log": outcome.output},
        )
    return found[0].strip()


@dataclass(frozen=True)
class Compilation:
    """A compilation that passed its checks.

    Attributes:
        run: the files in their place, and the console's text.
        transcript: the same text, read.
        compiled: what the output holds.
        summary: Vela's estimates.
        left: positions in the source of the operators that stayed on the CPU, with Vela's reason (empty: none given).
        version: of Vela.
    """

    run: ToolRun
    transcript: Transcript
    compiled: Compiled
    summary: Summary
    left: tuple[tuple[int, str], ...]
    version: str

    def to_json(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "operators_on_cpu": self.transcript.on_cpu,
            "operators_on_npu": self.transcript.on_npu,
            "estimate": self.summary.to_json(),
            "warnings": list(self.transcript.warnings),
        }


def compile_model(model: Path, destination: Path, options: VelaOptions) -> Compilation:
    """Compile a model; the results appear in ``destination``.

    Raises:
        EdgecError: EDG510 no Vela, EDG512 another version, EDG511 it refused the model, EDG501 to EDG504 it failed.
    """
    chosen = plan(model.name, options)
    program = find(options.program)
    if program is None:
        raise missing(TOOL, chosen, destination, options.program)
    version = version_of(program, destination)
    source = read(model)
    made: list[tuple[Compiled, Summary]] = []

    def check(folder: Path, output: str) -> None:
        made[:] = [check_outputs(folder, chosen, options, source, parse(output))]

    run = run_tool(chosen, program, sources={model.name: model}, destination=destination, check=check, explain=explain)
    compiled, summary = made[0]
    transcript = parse(run.transcript)
    reasons = {item.result: item.reason for item in transcript.kept}
    left = tuple((position, reasons.get(name, "")) for position, name in leftovers(source, compiled))
    return Compilation(run, transcript, compiled, summary, left, version)


def leftovers(source: FlatModel, compiled: Compiled) -> list[tuple[int, str]]:
    """Which operators of the source the compiled model still has, by the names of their results."""
    positions = {operator.name: operator.index for operator in source.main.operators}
    return [(positions[name], name) for _, _, name in compiled.left if name in positions]


# what went wrong

REFUSALS: Final = ("Compilation failed", "VelaError", "could not run on NPU")
"""What Vela prints of a model that it read but will not compile; the last one of boolean results on U55 and U65."""


def explain(outcome: Outcome) -> EdgecError | None:
    """The error for a failure that Vela names."""
    if outcome.status == 0:
        return None
    found = parse(outcome.output)
    why = "; ".join(found.errors[-2:]) or None
    if "valid TFLite Semantics" in outcome.output or "Failed to parse" in outcome.output:
        return EdgecError("EDG511", "Vela cannot read the model", why=why or last_lines(outcome.last_lines))
    if any(mark in outcome.output for mark in REFUSALS):
        return EdgecError("EDG511", "Vela refused the model", why=why)
    return EdgecError("EDG501", "Vela failed", why=why) if why else None


# what it wrote


def check_outputs(
    folder: Path, chosen: ToolPlan, options: VelaOptions, source: FlatModel, transcript: Transcript
) -> tuple[Compiled, Summary]:
    """Decode the output and compare it with its source, with what was asked for and with what Vela said.

    Raises:
        EdgecError: EDG504.
    """
    name, table = chosen.outputs
    if transcript.on_npu == 0 or not is_compiled(_read(folder / name)):
        raise EdgecError(
            "EDG504",
            "Vela put no operator on the NPU",
            why=_reasons(transcript) or "it reported success, and left every operator to the CPU",
            help="quantize the model to int8: edgec convert MODEL --target ethosu --calibration DATA; "
            "edgec check MODEL --target ethosu says what keeps the operators away",
        )
    try:
        compiled = decode(folder / name)
    except ModelError as error:
        raise _wrong(name, error.why or error.message) from error
    if compiled.accelerators != (options.accelerator,):
        raise _wrong(name, f"it is for {', '.join(compiled.accelerators) or 'nothing'}, not {options.accelerator}")
    _same_tensors(name, "inputs", source.main.inputs, compiled.model.main.inputs)
    _same_tensors(name, "outputs", source.main.outputs, compiled.model.main.outputs)
    if transcript.on_cpu is not None and transcript.on_cpu != len(compiled.left):
        raise _wrong(
            name, f"Vela speaks of {transcript.on_cpu} operators on the CPU, the file has {len(compiled.left)}"
        )
    try:
        summary = parse_summary((folder / table).read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise _wrong(table, str(error)) from error
    if (summary.system, summary.memory_mode) != (options.system_configuration, options.memory_mode):
        raise _wrong(table, f"it is for {summary.system} with {summary.memory_mode}")
    return compiled, summary


def _read(file: Path) -> FlatModel:
    try:
        return read(file)
    except ModelError as error:
        raise _wrong(file.name, error.why or error.message) from error


def _reasons(transcript: Transcript) -> str:
    return "; ".join(f"{item.operator} '{item.result}': {item.reason}" for item in transcript.kept[:3])


def _wrong(name: str, why: str) -> EdgecError:
    return EdgecError("EDG504", f"{TOOL.name} reported success, but '{name}' is not right", why=why)


def _same_tensors(name: str, kind: str, wanted: Sequence[FlatTensor], found: Sequence[FlatTensor]) -> None:
    def describe(tensors: Sequence[FlatTensor]) -> list[tuple[str, str, tuple[int, ...]]]:
        return [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]

    if describe(wanted) != describe(found):
        raise _wrong(name, f"its {kind} are {describe(found)}, the source's are {describe(wanted)}")
