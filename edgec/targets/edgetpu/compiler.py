"""Drive ``edgetpu_compiler``, versions 14 to 16: what to run, what it said, and whether what it wrote is right.

Success is an exit status of 0 *and* the expected files *and* a program in each of them that decodes *and* the interface
of the source: the compiler is known to report success over files that it could not write, and callers are known to ship
the stubs that it left.

Source: coral.ai/docs/edgetpu/compiler (options and file names); github.com/google-coral/edgetpu issues 211 (the same
input fails twice, then succeeds), 400 (success reported, file not written), 411 (-n prints the version and stops), 557
(names of segments), 643 (the wrapper script reports a crash).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgec.errors import EdgecError, ModelError, UsageError
from edgec.runtime.process import Outcome
from edgec.targets.edgetpu.package import Compiled, decode, leftovers
from edgec.targets.edgetpu.transcript import Transcript, parse, parse_log
from edgec.targets.tflite.graph import FlatModel, FlatTensor, read
from edgec.targets.toolchain import Tool, ToolPlan, ToolRun, ask_version, last_lines, missing, run_tool

TOOL: Final = Tool(
    "edgetpu_compiler",
    "EDGEC_EDGETPU_COMPILER",
    "it is the package edgetpu-compiler of Google's Coral repository for Debian, x86-64 only "
    "(coral.ai/docs/edgetpu/compiler)",
)
OLDEST: Final = 14
NEWEST: Final = 16
ATTEMPTS: Final = 2
RUNTIME_VERSIONS: Final = range(10, 15)
"""Values of --min_runtime_version; libedgetpu 16.0 of 2024 is runtime 14."""
MARGIN_S: Final = 60.0
"""How much longer than its own limit the compiler may take before it is stopped."""
MEMORY_LIMIT: Final = 16 << 30


@dataclass(frozen=True)
class CompilerOptions:
    """What can be asked of the compiler.

    Attributes:
        segments: into how many pipeline segments the model is cut, one Edge TPU each.
        minimum_runtime_version: oldest runtime that has to run the result.
        intermediate_tensors: names of tensors that become outputs of the Edge TPU's part.
        search_delegate: cut operators off the end until the rest compiles (version 16).
        timeout_s: the compiler's own limit, seconds.
        program: the compiler's path, where it is not on PATH.
    """

    segments: int = 1
    minimum_runtime_version: int | None = None
    intermediate_tensors: tuple[str, ...] = ()
    search_delegate: bool = False
    timeout_s: int = 180
    program: str | None = None

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> CompilerOptions:
        """From ``--option KEY=VALUE`` pairs.

        Raises:
            UsageError: EDG001 for an unknown key or a value of the wrong form.
        """
        found: dict[str, Any] = {}
        for key, value in given.items():
            if key not in OPTIONS:
                raise UsageError("EDG001", f"edgetpu has no option '{key}'", why=f"known: {', '.join(sorted(OPTIONS))}")
            name, reader = OPTIONS[key]
            try:
                found[name] = reader(value)
            except (TypeError, ValueError) as error:
                raise UsageError("EDG001", f"'{value}' is no value of the option '{key}'", why=str(error)) from error
        options = cls(**found)
        options.require_sound(1)
        return options

    def require_sound(self, models: int, version: int = NEWEST) -> None:
        """Refuse what the compiler does not take together.

        Raises:
            UsageError: EDG001.
        """
        problem = ""
        if self.segments < 1:
            problem = f"{self.segments} segments"
        elif self.segments > 1 and models > 1:
            problem = "segments of several models at once"
        elif self.intermediate_tensors and (self.segments > 1 or models > 1):
            problem = "intermediate tensors together with segments or several models"
        elif self.minimum_runtime_version is not None and self.minimum_runtime_version not in RUNTIME_VERSIONS:
            problem = f"runtime version {self.minimum_runtime_version} (known: 10 to 14)"
        elif self.search_delegate and version < NEWEST:
            problem = f"search-delegate with version {version} of the compiler (it needs {NEWEST})"
        elif self.timeout_s < 1:
            problem = f"a time limit of {self.timeout_s} s"
        if problem:
            raise UsageError("EDG001", f"edgetpu_compiler does not take {problem}")


def _names(value: Any) -> tuple[str, ...]:
    names = tuple(value.split(",")) if isinstance(value, str) else tuple(str(item) for item in value)
    if not all(names):
        raise ValueError("an empty name")
    return names


def _boolean(value: Any) -> bool:
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return known[str(value).lower()] if str(value).lower() in known else _refuse(value)


def _refuse(value: Any) -> bool:
    raise ValueError(f"'{value}' is neither true nor false")


OPTIONS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "segments": ("segments", int),
    "min-runtime-version": ("minimum_runtime_version", int),
    "intermediate-tensors": ("intermediate_tensors", _names),
    "search-delegate": ("search_delegate", _boolean),
    "timeout": ("timeout_s", int),
    "compiler": ("program", str),
}
"""Keys of ``--option KEY=VALUE``, the attribute that each sets, and how its text is read."""


def stems(models: Sequence[str], segments: int) -> list[str]:
    """The names of what is compiled, without suffix: the models, or the segments of the one model."""
    names = [name.removesuffix(".tflite") for name in models]
    if segments == 1:
        return names
    return [f"{names[0]}_segment_{index}_of_{segments}" for index in range(segments)]


def plan(models: Sequence[str], options: CompilerOptions, version: int = NEWEST) -> ToolPlan:
    """The run of the compiler in the folder that holds the models.

    Args:
        models: file names; several are compiled together so that they share the chip's memory.
        version: major version of the compiler; 16 where there is none to ask.

    Raises:
        UsageError: EDG001 for options that exclude each other.
    """
    options.require_sound(len(models), version)
    arguments = ["--out_dir", ".", "--show_operations"]
    if options.minimum_runtime_version is not None:
        arguments += ["--min_runtime_version", str(options.minimum_runtime_version)]
    if options.segments > 1:
        arguments += ["--num_segments", str(options.segments)]
    if options.intermediate_tensors:
        arguments += ["--intermediate_tensors", ",".join(options.intermediate_tensors)]
    if options.search_delegate:
        arguments += ["--search_delegate"]
    if version >= NEWEST:
        arguments += ["--timeout_sec", str(options.timeout_s)]
    names = stems(models, options.segments)
    runs = len(names)
    return ToolPlan(
        tool=TOOL.name,
        arguments=(*arguments, *models),
        inputs=tuple(models),
        outputs=tuple(f"{name}_edgetpu.tflite" for name in names),
        extras=tuple(f"{name}_edgetpu.log" for name in names),
        timeout_s=options.timeout_s * runs + MARGIN_S,
        memory_limit=MEMORY_LIMIT,
        attempts=ATTEMPTS,
    )


def version_of(program: Path, folder: Path) -> str:
    """The version of an installed compiler.

    Raises:
        EdgecError: EDG510 it cannot be started, EDG502 and EDG503 it does not end by itself, EDG512 it is too old or
            does not say.
    """
    outcome = ask_version(
        TOOL, program, folder, {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}, timeout_s=MARGIN_S
    )
    found = parse(outcome.output)
    if outcome.status != 0 or found.major < OLDEST:
        said = (
            f"it says '{found.version}'" if found.version else f"it says: {last_lines(outcome.last_lines) or 'nothing'}"
        )
        raise EdgecError(
            "EDG512",
            f"edgec drives {TOOL.name} {OLDEST} to {NEWEST}",
            where=str(program),
            why=said,
            help="install version 16.0.384591198",
            details={"log": outcome.output},
        )
    return found.version


@dataclass(frozen=True)
class Compilation:
    """A compilation that passed its checks.

    Attributes:
        run: the files in their place, and the transcript's text.
        transcript: the same text, read.
        compiled: what each output holds.
        left: positions in the source of the operators that stayed on the CPU; None with segments or several models.
        version: of the compiler.
    """

    run: ToolRun
    transcript: Transcript
    compiled: tuple[Compiled, ...]
    left: tuple[int, ...] | None
    version: str


def compile_models(models: Sequence[Path], destination: Path, options: CompilerOptions) -> Compilation:
    """Compile one model, or several together; the results appear in ``destination``.

    Raises:
        EdgecError: EDG510 no compiler, EDG512 another version, EDG511 it refused the model, EDG501 to EDG504 it failed.
        UsageError: EDG001 for options that exclude each other, or two models of one name.
    """
    names = [model.name for model in models]
    if len(set(names)) != len(names):
        raise UsageError("EDG001", "two models have the same file name", why=", ".join(names))
    program = TOOL.find(options.program)
    if program is None:
        raise missing(TOOL, plan(names, options), destination, options.program)
    version = version_of(program, destination)
    chosen = plan(names, options, int(version.split(".")[0]))
    sources = {model.name: read(model) for model in models}
    compiled: list[Compiled] = []

    def check(folder: Path, output: str) -> None:
        compiled[:] = check_outputs(folder, chosen, options, sources, parse(output))

    run = run_tool(
        chosen,
        program,
        sources=dict(zip(names, models)),
        destination=destination,
        check=check,
        explain=explain,
        may_pass=may_pass,
    )
    left = None
    if len(models) == 1 and options.segments == 1:
        left = tuple(leftovers(sources[names[0]], compiled))
    return Compilation(run, parse(run.transcript), tuple(compiled), left, version)


# what went wrong


def explain(outcome: Outcome) -> EdgecError | None:
    """The error for a failure that the transcript names; a status of 0 proves nothing."""
    found = parse(outcome.output)
    reasons = found.failures
    why = "; ".join(reasons[:3]) or None
    if any("Model not quantized" in line for line in reasons):
        return EdgecError(
            "EDG511",
            "the Edge TPU takes int8 models only",
            why=why,
            help="quantize it: edgec convert MODEL.onnx --target edgetpu --calibration DATA",
        )
    if any(
        "Invalid model" in line or "could not be parsed" in line or "unresolved custom op" in line for line in reasons
    ):
        return EdgecError("EDG511", "the Edge TPU compiler cannot read the model", why=why)
    if any("large activation tensors" in line for line in reasons) and not found.models:
        return EdgecError(
            "EDG511",
            "the model's activations are too large for the Edge TPU",
            why=why,
            help="use a smaller input, --option search-delegate=true, or --option intermediate-tensors=NAMES",
        )
    if any("timed out" in line for line in reasons):
        return EdgecError(
            "EDG502", "the Edge TPU compiler ran out of its own time", why=why, help="--option timeout=600"
        )
    if reasons and (outcome.status != 0 or not found.models):
        return EdgecError("EDG501", "the Edge TPU compiler failed", why=why)
    return None


def may_pass(outcome: Outcome) -> bool:
    """Whether the same run may end otherwise the next time: internal errors and crashes were seen to."""
    crashed = outcome.signal is not None or (outcome.status or 0) > 128
    return not outcome.timed_out and (crashed or "Internal compiler error" in outcome.output)


# what it wrote


def check_outputs(
    folder: Path,
    chosen: ToolPlan,
    options: CompilerOptions,
    sources: Mapping[str, FlatModel],
    transcript: Transcript,
) -> list[Compiled]:
    """Decode every output and compare it with its source and with what the compiler said.

    Raises:
        EdgecError: EDG504.
    """
    compiled = []
    for name in chosen.outputs:
        try:
            compiled.append(decode(folder / name))
        except ModelError as error:
            raise _wrong(name, error.why or error.message) from error
    if options.segments == 1:
        for name, source, item in zip(chosen.outputs, sources.values(), compiled):
            extra = bool(options.intermediate_tensors)
            _same_interface(name, source, item.model, more_outputs=extra)
    else:
        source = next(iter(sources.values()))
        _same_tensors(chosen.outputs[0], "inputs", source.main.inputs, compiled[0].model.main.inputs)
        last = compiled[-1].model.main.outputs
        _same_tensors(chosen.outputs[-1], "outputs", source.main.outputs, last)
    for report in transcript.models:
        name = Path(report.output).name
        if name in chosen.outputs and report.on_cpu is not None:
            found = len(compiled[chosen.outputs.index(name)].left)
            if found != report.on_cpu:
                raise _wrong(name, f"the compiler speaks of {report.on_cpu} operators on the CPU, the file has {found}")
    for name in chosen.extras:
        log = folder / name
        if log.is_file() and not parse_log(log.read_text(encoding="utf-8", errors="replace")):
            raise _wrong(name, "it lists no operators")
    return compiled


def _wrong(name: str, why: str) -> EdgecError:
    return EdgecError("EDG504", f"{TOOL.name} reported success, but '{name}' is not right", why=why)


def _same_interface(name: str, source: FlatModel, compiled: FlatModel, *, more_outputs: bool) -> None:
    _same_tensors(name, "inputs", source.main.inputs, compiled.main.inputs)
    if not more_outputs:
        _same_tensors(name, "outputs", source.main.outputs, compiled.main.outputs)


def _same_tensors(name: str, kind: str, wanted: Sequence[FlatTensor], found: Sequence[FlatTensor]) -> None:
    def describe(tensors: Sequence[FlatTensor]) -> list[tuple[str, str, tuple[int, ...]]]:
        return [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]

    if describe(wanted) != describe(found):
        raise _wrong(name, f"its {kind} are {describe(found)}, the source's are {describe(wanted)}")
